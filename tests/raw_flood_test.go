package tests

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a flood by a plain NATS client may cost another site and the member.
const (
	rawFloodP99    = time.Second // until the acknowledgement; what waits before the streams when it is cut must be taken first
	rawFloodMemory = 1 << 30
)

// TestRawFlood has a plain NATS client publish as fast as it can without asking for acknowledgements, and connect
// again whenever it is cut. It is cut, another site's requests are acknowledged all the while, and memory stays
// bounded.
func TestRawFlood(t *testing.T) {
	m := startMember(t, t.TempDir())
	m.postsFor(time.Second, "") // warm
	quit := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() { m.rawFlood(quit) })
	took := m.postsFor(outage(t, 10*time.Second), "")
	close(quit)
	flood.Wait()
	slices.Sort(took)
	p99, memory := took[len(took)*99/100], m.peakMemory()
	t.Logf("acknowledged in a raw flood: p50 %v p99 %v (%d); VmHWM %d MiB", took[len(took)/2], p99, len(took), memory>>20)
	if p99 > rawFloodP99 {
		t.Errorf("p99 of another site is %v in a raw flood, want at most %v", p99, rawFloodP99)
	}
	if memory > rawFloodMemory {
		t.Errorf("the member took %d MiB, want at most %d", memory>>20, rawFloodMemory>>20)
	}
	if m.counter("wellhead_flow_cut_total") == 0 {
		t.Error("the client was never cut")
	}
}

// rawFlood publishes until quit is closed. It speaks the protocol itself: a client
// library would hold it back.
func (m *member) rawFlood(quit chan struct{}) {
	var chunk bytes.Buffer
	chunk.WriteString("CONNECT {\"verbose\":false,\"name\":\"raw\"}\r\n")
	hello := chunk.Len()
	for i := range 512 {
		payload := fmt.Sprintf(`{"values":[%d,1.5,2.5],"note":"%s"}`, i, strings.Repeat("x", 200))
		fmt.Fprintf(&chunk, "PUB readings.raw.d-%d %d\r\n%s\r\n", i, len(payload), payload)
	}
	for {
		select {
		case <-quit:
			return
		case <-time.After(50 * time.Millisecond): // it may be barred
		}
		nc, err := net.DialTimeout("tcp", strings.TrimPrefix(m.nats, "nats://"), 5*time.Second)
		if err != nil {
			m.t.Errorf("the stream's server takes no connection: %v", err)
			return
		}
		go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with the connection
		data := chunk.Bytes()
		for err == nil {
			select {
			case <-quit:
				nc.Close()
				return
			default:
			}
			_ = nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
			_, err = nc.Write(data)
			data = chunk.Bytes()[hello:]
		}
		nc.Close()
	}
}

// peakMemory is the most that the member has had resident; bytes.
func (m *member) peakMemory() int64 {
	m.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if err != nil || found == nil {
		m.t.Fatalf("the member's memory is not known: %v", err)
	}
	kilobytes, _ := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10
}
