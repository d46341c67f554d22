package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wellhead/wellhead/stream"
)

// ingest is a measurement of readings a second, from the first publish to the last one stored.
type ingest struct {
	name, what string
	serve      []string // flags of the member
	devices    int
	readings   int // of each device
	flags      []string
	before     func(ctx context.Context, m *member) (end func() error, err error)
}

// measure does all runs, each on a fresh member.
func (b *bench) measure(ctx context.Context, in ingest) ([]figure, error) {
	f := figure{Case: in.name, What: in.what, Unit: "readings/s", Revision: b.revision}
	for range b.runs {
		if err := b.once(ctx, in, &f); err != nil {
			return nil, err
		}
	}
	f.Value = median(f.Runs)
	return []figure{f}, nil
}

func (b *bench) once(ctx context.Context, in ingest, f *figure) (err error) {
	m, err := b.start(ctx, in.serve...)
	if err != nil {
		return err
	}
	defer m.remove()
	if in.before != nil {
		end, err := in.before(ctx, m)
		if err != nil {
			return err
		}
		defer func() {
			if failed := end(); err == nil {
				err = failed
			}
		}()
	}
	f.Load = loadAverage()
	before, err := m.usage()
	if err != nil {
		return err
	}
	readings := max(1, int(float64(in.readings)*b.scale))
	s, err := m.simulate(ctx, append([]string{
		"--devices", strconv.Itoa(in.devices), "--readings", strconv.Itoa(readings), "--rate", "max",
	}, in.flags...)...)
	if err != nil {
		return err
	}
	after, err := m.usage()
	if err != nil {
		return err
	}
	checked, err := m.verify(ctx, s)
	if err != nil {
		return err
	}
	f.Runs = append(f.Runs, s.StoredRate)
	f.CPU = (after.cpu - before.cpu) / s.Seconds
	f.PeakMiB = max(f.PeakMiB, after.peak)
	f.Checked += checked
	return nil
}

func batchOf100(ctx context.Context, b *bench) ([]figure, error) {
	return b.measure(ctx, ingest{name: "batch", what: "batches of 100 devices", devices: 10_000, readings: 1500})
}

func oneDevice(ctx context.Context, b *bench) ([]figure, error) {
	return b.measure(ctx, ingest{name: "device", what: "batches of 100 readings of one device", devices: 50, readings: 300_000})
}

func single(ctx context.Context, b *bench) ([]figure, error) {
	return b.measure(ctx, ingest{name: "single", what: "one reading a message", devices: 10_000, readings: 150, flags: []string{"--single"}})
}

// heard has one subscriber to the site's events, which counts them.
func heard(ctx context.Context, b *bench) ([]figure, error) {
	return b.measure(ctx, ingest{
		name: "heard", what: "batches of 100 devices, one listener", devices: 10_000, readings: 1500,
		before: func(ctx context.Context, m *member) (func() error, error) {
			client, err := stream.Dial(ctx, stream.DialOptions{URL: m.nats, Name: "bench listener"})
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithCancel(ctx)
			heard, ended := 0, make(chan struct{})
			go func() {
				defer close(ended)
				_ = client.Events(ctx, "demo", "", func(string, []byte, int) { heard++ }) // ends with ctx
			}()
			return func() error {
				cancel()
				<-ended
				client.Close()
				if heard == 0 {
					return fmt.Errorf("the listener heard nothing")
				}
				return nil
			}, nil
		},
	})
}

// warmUp is how long Cassandra is loaded before a figure counts: until then its code is not compiled.
const warmUp = time.Minute

func onCassandra(ctx context.Context, b *bench) ([]figure, error) {
	cassandra, redis := os.Getenv("WELLHEAD_TEST_CASSANDRA"), os.Getenv("WELLHEAD_TEST_REDIS")
	if cassandra == "" || redis == "" {
		return nil, errNoServers
	}
	keyspace := fmt.Sprintf("bench_%d", time.Now().Unix())
	file := filepath.Join(b.dir, "cassandra.yaml")
	text := fmt.Sprintf("archive: cassandra\nsnapshots: redis\ncassandra:\n  hosts: [%q]\n  keyspace: %s\nredis:\n  addresses: [%q]\n  prefix: %s\n",
		cassandra, keyspace, redis, keyspace)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	m, err := b.start(ctx, "--config", file)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	for begun, n := time.Now(), 0; time.Since(begun) < warmUp; n++ {
		_, err := m.simulate(ctx, "--site", fmt.Sprint("warm", n), "--devices", "10000", "--readings", "20", "--rate", "max")
		if err != nil {
			return nil, err
		}
	}
	f := figure{Case: "cassandra", What: "rows, batches of 100 devices, after 60 s of load", Unit: "readings/s", Revision: b.revision}
	readings := strconv.Itoa(max(1, int(200*b.scale)))
	for n := range b.runs {
		f.Load = loadAverage()
		before, err := m.usage()
		if err != nil {
			return nil, err
		}
		s, err := m.simulate(ctx, "--site", fmt.Sprint("site", n), "--devices", "10000", "--readings", readings, "--rate", "max")
		if err != nil {
			return nil, err
		}
		after, err := m.usage()
		if err != nil {
			return nil, err
		}
		checked, err := m.verify(ctx, s)
		if err != nil {
			return nil, err
		}
		f.Runs = append(f.Runs, s.StoredRate)
		f.CPU, f.PeakMiB = (after.cpu-before.cpu)/s.Seconds, after.peak
		f.Checked += checked
	}
	f.Value = median(f.Runs)
	return []figure{f}, nil
}
