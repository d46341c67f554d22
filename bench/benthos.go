package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// What waits in the streams of both: one JSON reading a message, preloaded.
const (
	preloadDevices  = 10_000
	preloadReadings = 30 // of each device
	preloadBatched  = 150
	preloadWithin   = 3 * time.Minute
	// preloadPoll is how often it is asked how far the work is: an error of 1 to 2 % of a run.
	preloadPoll = 100 * time.Millisecond
)

// benthos compares with Benthos: preloaded messages out of a NATS server of its own, into rows of Cassandra.
func benthos(ctx context.Context, b *bench) ([]figure, error) {
	m, err := b.startOnCassandra(ctx) // for the warm-up of Cassandra alone
	if err != nil {
		return nil, err
	}
	m.remove()
	readings := max(1, int(preloadReadings*b.scale))
	batched := max(1, int(preloadBatched*b.scale))
	return b.compare(ctx, "benthos", []line{
		{what: "Benthos 4.24.0, an insert each", run: func(ctx context.Context) (outcome, error) {
			return b.benthosOnce(ctx, "single.yaml", readings)
		}},
		{what: "Benthos 4.24.0, unlogged batches of 100", run: func(ctx context.Context) (outcome, error) {
			return b.benthosOnce(ctx, "batched.yaml", readings)
		}},
		{what: "Wellhead, the same messages", than: []int{0, 1}, run: func(ctx context.Context) (outcome, error) {
			return b.preloadedOnce(ctx, readings, (*outside).fillJSON)
		}},
		{what: "Wellhead, 100 readings a message: different work", run: func(ctx context.Context) (outcome, error) {
			return b.preloadedOnce(ctx, batched, (*outside).fillBatches)
		}},
	}, b.runs, true)
}

// A fill publishes readings of devices into a server's streams.
type fill func(o *outside, ctx context.Context, devices, readings int) (sent, error)

// preload starts a server, has a member make its streams with these settings, and fills them.
func (b *bench) preload(ctx context.Context, shards, readings int, settings string, how fill) (o *outside, m *member, s sent, err error) {
	if o, err = b.startOutside(ctx, shards); err != nil {
		return o, nil, s, err
	}
	if m, err = o.member(ctx, settings); err != nil {
		return o, m, s, err
	}
	m.kill()
	s, err = how(o, ctx, preloadDevices, readings)
	return o, m, s, err
}

// benthosOnce has Benthos write what waits in one stream. Its clock runs from before the first delivery until all is acknowledged.
func (b *bench) benthosOnce(ctx context.Context, config string, readings int) (got outcome, err error) {
	server, err := cassandraServer()
	if err != nil {
		return got, err
	}
	o, m, s, err := b.preload(ctx, 1, readings, "", (*outside).fillJSON)
	if o != nil {
		defer o.remove()
	}
	if m != nil {
		m.remove()
	}
	if err != nil {
		return got, err
	}
	keyspace, err := peerTable(ctx, server, "text")
	if err != nil {
		return got, err
	}
	program, err := b.peer("benthos")
	if err != nil {
		return got, err
	}
	if config, err = b.peer(config); err != nil {
		return got, err
	}
	log, err := os.Create(filepath.Join(o.dir, "benthos.log"))
	if err != nil {
		return got, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, program, "-c", config)
	cmd.Env = append(os.Environ(), "NATS_URL="+o.url, "STREAM=READINGS_0", "SUBJECT=shard.0.>", "CASSANDRA="+server.Addr, "KEYSPACE="+keyspace)
	cmd.Stdout, cmd.Stderr = log, log
	got.load, got.readings = loadAverage(), s.Sent
	if err := cmd.Start(); err != nil {
		return got, fmt.Errorf("start Benthos: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: there is always an error
	}()
	err = got.clock(ctx, cmd.Process.Pid, func(ctx context.Context) (begun, done bool, err error) {
		delivered, acknowledged, err := o.consumed(ctx, "benthos")
		return delivered > 0, acknowledged == s.Sent, err
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return got, fmt.Errorf("%w\n%s", err, said[max(0, len(said)-2000):])
	}
	got.checked = s.Sent
	return got, wantRows(ctx, server, keyspace+".readings", "device, bucket", s.Sent)
}

// preloadedOnce has a member take in what waits in its shards' streams. Its clock runs from before the first reading
// is taken in until all is stored; then every value is read back, and the rows are counted.
func (b *bench) preloadedOnce(ctx context.Context, readings int, how fill) (got outcome, err error) {
	server, err := cassandraServer()
	if err != nil {
		return got, err
	}
	keyspace := testenv.Unique("bench")
	settings, err := b.onServers(keyspace)
	if err != nil {
		return got, err
	}
	o, m, s, err := b.preload(ctx, 64, readings, settings, how)
	if o != nil {
		defer o.remove()
	}
	if m != nil {
		defer m.remove()
	}
	if err != nil {
		return got, err
	}
	got.load, got.readings = loadAverage(), s.Sent
	if err := m.launch(); err != nil {
		return got, err
	}
	err = got.clock(ctx, m.cmd.Process.Pid, func(ctx context.Context) (begun, done bool, err error) {
		taken, unstored, err := m.taken(ctx)
		listens := err == nil // it needs a moment; if it never does, the deadline ends this
		return listens && taken > 0, listens && taken == s.Sent && unstored == 0, nil
	})
	if err != nil {
		return got, err
	}
	if got.checked, err = m.verify(ctx, s); err != nil {
		return got, err
	}
	return got, wantRows(ctx, server, keyspace+".readings", "shard, grp, bucket", s.Sent)
}

// clock waits until the work is done, and notes the time and what the process used since it was last seen not to have begun.
func (o *outcome) clock(ctx context.Context, pid int, state func(context.Context) (begun, done bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, preloadWithin, errors.New("it takes too long"))
	defer cancel()
	began := time.Now()
	var before used
	for {
		begun, done, err := state(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		u, err := usageOf(pid)
		if err != nil {
			return err
		}
		if !begun {
			began, before = now, u
		}
		if done {
			o.seconds, o.cpu, o.peak = now.Sub(began).Seconds(), u.cpu-before.cpu, u.peak
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d readings are not all done: %w", o.readings, context.Cause(ctx))
		case <-time.After(preloadPoll):
		}
	}
}
