package main

import (
	"context"
	"fmt"
	"strconv"

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
