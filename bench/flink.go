package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// What Flink and Wellhead are given. Flink's own warm-up is what it took in bench/peers/flink to reach its pace.
const (
	flinkDevices     = 10_000
	flinkRowsTotal   = 3_000_000
	flinkRowsWarm    = 12 // seconds
	flinkOnTheirWay  = 256
	flinkMillions    = 1_000_000
	flinkMemoryWarm  = 80 // seconds
	flinkMemoryFor   = 60 // seconds
	millionFill      = 6  // readings of each device before the clock starts; full windows would take half an hour today
	millionReadings  = 3  // of each device that count
	flinkChunksTimes = 3  // times as many readings into chunks as into rows
)

// javaFlags open to Flink what its own scripts open on Java 17.
func javaFlags(heap string) []string {
	flags := []string{"-Xms" + heap, "-Xmx" + heap, "-XX:+UseG1GC"}
	for _, m := range []string{
		"java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch",
		"java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util",
		"java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks",
	} {
		flags = append(flags, "--add-opens", m+"=ALL-UNNAMED")
	}
	return flags
}

// flinkResult is what our programs on Flink print.
type flinkResult struct {
	Readings   int64   `json:"readings"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpuSeconds"`
	PeakMiB    float64 `json:"peakMiB"`
	All        int64   `json:"all"` // with what was done while it warmed up
	AllSeconds float64 `json:"allSeconds"`
}

// flink runs one of our programs on Flink. Its last argument is a folder for checkpoints.
func (b *bench) flink(ctx context.Context, module, class, heap string, args ...string) (r flinkResult, err error) {
	target, err := b.peer("flink", module, "target")
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(b.dir, "flink-")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(target, "classes") + ":" + filepath.Join(target, "lib", "*")
	flags := append(javaFlags(heap), "-Djava.io.tmpdir="+dir, "-cp", path, class)
	cmd := exec.CommandContext(ctx, "java", append(append(flags, args...), filepath.Join(dir, "checkpoints"))...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%s: %w\n%s", class, err, tail(complaint.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("%s printed %q: %w", class, out.Bytes(), err)
	}
	return r, nil
}

// shorter is how long something takes when only a share of the readings is sent.
func (b *bench) shorter(seconds int) string {
	return strconv.Itoa(max(1, int(float64(seconds)*min(1, b.scale))))
}

// tail is the end of what a program said.
func tail(said []byte) []byte { return said[max(0, len(said)-2000):] }

func (r flinkResult) outcome(load string) outcome {
	return outcome{readings: r.Readings, seconds: r.Seconds, cpu: r.CPU, peak: r.PeakMiB, load: load}
}

// flinkRows compares with Flink and its Cassandra connector, and then with chunks. Wellhead has the readings in its
// log and its windows as well; Flink makes them itself.
func flinkRows(ctx context.Context, b *bench) ([]figure, error) {
	m, err := b.startOnCassandra(ctx)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	m.kill() // it must not run beside the peer
	chunks := *b
	chunks.layout, chunks.warmUp = "chunks", 10*time.Second // Cassandra is warm by then
	site := 0
	once := func(ctx context.Context, m *member, times int) (outcome, error) {
		if err := m.again(ctx); err != nil {
			return outcome{}, err
		}
		defer m.kill()
		site++
		readings := max(1, int(float64(flinkRowsTotal/flinkDevices*times)*b.scale))
		return m.simulated(ctx, "--site", fmt.Sprint("site", site), "--devices", strconv.Itoa(flinkDevices), "--readings", strconv.Itoa(readings))
	}
	var c *member
	defer func() {
		if c != nil {
			c.remove()
		}
	}()
	return b.compare(ctx, "flink-rows", []line{
		{what: "Flink 1.20.5 to rows", run: b.flinkRowsOnce},
		{what: "Wellhead to rows", than: []int{0}, run: func(ctx context.Context) (outcome, error) { return once(ctx, m, 1) }},
		{what: "Wellhead to chunks", than: []int{0}, run: func(ctx context.Context) (outcome, error) {
			if c == nil {
				if c, err = chunks.startOnCassandra(ctx); err != nil {
					return outcome{}, err
				}
				c.kill()
			}
			return once(ctx, c, flinkChunksTimes)
		}},
	}, min(b.runs, 2), false) // each takes minutes
}

// flinkRowsOnce has Flink write its rows, and counts them. What it did while it warmed up has no part in the rate.
func (b *bench) flinkRowsOnce(ctx context.Context) (got outcome, err error) {
	server, err := cassandraServer()
	if err != nil {
		return got, err
	}
	keyspace, err := peerTable(ctx, server, "bigint")
	if err != nil {
		return got, err
	}
	host, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		return got, err
	}
	rows, load := max(1, int(flinkRowsTotal*b.scale)), loadAverage()
	r, err := b.flink(ctx, "cassandra", "wellhead.peers.Rows", "1g", strconv.Itoa(flinkDevices), strconv.Itoa(rows),
		b.shorter(flinkRowsWarm), strconv.Itoa(flinkOnTheirWay), host, port, keyspace+".readings")
	if err != nil {
		return got, err
	}
	fmt.Fprintf(os.Stderr, "flink-rows: Flink with its start: %.0f readings/s\n", float64(r.All)/r.AllSeconds)
	got = r.outcome(load)
	got.checked = r.All
	return got, wantRows(ctx, server, keyspace+".readings", "device, bucket", r.All)
}

// simulated sends readings as fast as they are taken, and reads each back.
func (m *member) simulated(ctx context.Context, flags ...string) (outcome, error) {
	return measured(ctx, []*member{m}, func() (sent, error) { return m.simulate(ctx, append(flags, "--rate", "max")...) })
}

// measured has something sent that members take in together, and reads each reading back. CPU and memory are theirs, added up.
func measured(ctx context.Context, all []*member, send func() (sent, error)) (got outcome, err error) {
	got.load = loadAverage()
	before, err := usageOfAll(all)
	if err != nil {
		return got, err
	}
	s, err := send()
	if err != nil {
		return got, err
	}
	after, err := usageOfAll(all)
	if err != nil {
		return got, err
	}
	got.readings, got.seconds = s.Sent, float64(s.Sent)/s.StoredRate
	got.cpu, got.peak = after.cpu-before.cpu, after.peak
	got.checked, err = all[0].verify(ctx, s)
	return got, err
}

// flinkMillion compares what a million devices cost: Flink keeps state only, and Wellhead the log and the archive too.
func flinkMillion(ctx context.Context, b *bench) ([]figure, error) {
	devices := max(1000, int(flinkMillions*min(1, b.scale)))
	return b.compare(ctx, "flink-million", []line{
		{what: "Flink 2.3.0, heap state, checkpoint every 10 s", run: func(ctx context.Context) (outcome, error) {
			load := loadAverage()
			r, err := b.flink(ctx, "memory", "wellhead.peers.Memory", "16g", strconv.Itoa(devices), b.shorter(flinkMemoryWarm), b.shorter(flinkMemoryFor))
			return r.outcome(load), err
		}},
		{what: "Wellhead, log, archive and windows", than: []int{0}, run: func(ctx context.Context) (outcome, error) {
			return b.filled(ctx, devices, millionFill, millionReadings)
		}},
	}, 1, false)
}
