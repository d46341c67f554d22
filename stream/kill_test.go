package stream

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// killed names the folder of a server that a test of another process kills.
const killed = "WELLHEAD_TEST_KILLED_SERVER"

// TestKilledServer is the other process of TestKillKeepsAcknowledged: it publishes and says what is
// acknowledged, until it is killed.
func TestKilledServer(t *testing.T) {
	dir := os.Getenv(killed)
	if dir == "" {
		t.Skip("only runs as the other process of TestKillKeepsAcknowledged")
	}
	server, err := StartServer(t.Context(), ServerOptions{DataDir: dir, Shards: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Server: server, Shards: 1, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.NewPublisher(PublisherOptions{Producer: "test", MaxInFlight: 256})
	if err != nil {
		t.Fatal(err)
	}
	for {
		key := counterKey{"site", 0}
		if err := p.publishAdmitted(t.Context(), key, someBlocks(10), 0, false, func(uint64, error) {}); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		sequence := p.counters[key].last
		p.mu.Unlock()
		switch sequence % 1000 {
		case 0:
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(os.Stdout, "acknowledged", sequence)
		case 300:
			fmt.Fprintln(os.Stdout, "under way")
		}
	}
}

func TestKillKeepsAcknowledged(t *testing.T) {
	dir := t.TempDir()
	command := exec.CommandContext(shortly(t), os.Args[0], "-test.run=^TestKilledServer$")
	command.Env = append(os.Environ(), killed+"="+dir)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if lines.Text() == "under way" && acknowledged >= 5000 {
			command.Process.Kill()
		}
		fmt.Sscanf(lines.Text(), "acknowledged %d", &acknowledged)
	}
	command.Wait() // says that it was killed
	if acknowledged < 5000 {
		t.Fatalf("acknowledged %d, want at least 5000", acknowledged)
	}
	s := openStreams(t, startServer(t, dir, func(o *ServerOptions) { o.Shards = 1 }), nil)
	state, err := s.Log().State(shortly(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := sequencesOf(t, s, 0, int(state.Last))
	for i := 1; i <= acknowledged; i++ {
		if seen[uint64(i)] == 0 {
			t.Fatalf("producer sequence %d of %d acknowledged ones is lost", i, acknowledged)
		}
	}
	t.Log("acknowledged " + strconv.Itoa(acknowledged) + ", kept " + strconv.FormatUint(state.Last, 10))
}
