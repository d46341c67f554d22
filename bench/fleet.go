package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// fleet is a number of devices that are all resident, with full windows.
type fleet struct {
	name     string
	devices  int
	interval time.Duration // of a device
	fill     string        // readings a second while the windows fill
	settings string        // of the site, JSON; empty = the defaults
	steady   time.Duration // how long they send as they do in the field, after that; 0 = not at all
	restarts int           // 0 = as many as runs
}

// fleetReadings fills a window.
const (
	fleetReadings = 60
	fleetSeed     = 1
)

// restartWithin bounds the wait for right answers after a restart.
const restartWithin = 5 * time.Minute

// largeFleet sends every 5 s for 5 minutes, 20 000 readings a second in all.
func largeFleet(ctx context.Context, b *bench) ([]figure, error) {
	return b.fleet(ctx, fleet{name: "100 000 devices", devices: 100_000, interval: 5 * time.Second, fill: "20000/s"})
}

// million is one reading a minute of each: windows are filled faster than that, or it would take an hour.
func million(ctx context.Context, b *bench) ([]figure, error) {
	return b.fleet(ctx, fleet{
		name: "1 000 000 devices", devices: 1_000_000, interval: time.Minute, fill: "200000/s",
		settings: `{"expectedInterval":60000}`, steady: 2 * time.Minute, restarts: 1,
	})
}

// fleet measures the memory of a member with all devices resident, and then how long after a kill -9 it
// takes until it knows the newest reading of each.
func (b *bench) fleet(ctx context.Context, in fleet) ([]figure, error) {
	memory := figure{Case: "memory", What: in.name + " resident, windows full, " + in.fill, Unit: "MiB (VmHWM)", Revision: b.revision}
	steady := figure{Case: "steady", What: fmt.Sprintf("the same, each sending every %v", in.interval), Unit: "cores of the member", Revision: b.revision}
	restart := figure{Case: "restart", What: "kill -9 until every device's newest reading is right", Unit: "s", Revision: b.revision}
	m, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	if in.settings != "" {
		if err := m.put(ctx, "/api/v1/sites/demo/settings", in.settings); err != nil {
			return nil, err
		}
	}
	memory.Load = loadAverage()
	readings := max(2, int(fleetReadings*b.scale))
	flags := []string{
		"--devices", strconv.Itoa(in.devices), "--interval", in.interval.String(),
		"--seed", strconv.Itoa(fleetSeed), "--start", fleetStart.Format(time.RFC3339),
	}
	s, err := m.simulate(ctx, append(flags, "--readings", strconv.Itoa(readings), "--rate", in.fill)...)
	if err != nil {
		return nil, err
	}
	u, err := m.usage()
	if err != nil {
		return nil, err
	}
	memory.Runs, memory.CPU, memory.PeakMiB = []float64{u.peak}, u.cpu/s.Seconds, u.peak
	memory.Value = u.peak
	figures, loads := []figure{memory}, []sent{s}

	if in.steady > 0 {
		more := max(1, int(in.steady/in.interval))
		steady.Load = loadAverage()
		rate := fmt.Sprintf("%d/s", int(float64(in.devices)/in.interval.Seconds()))
		flags[len(flags)-1] = fleetStart.Add(time.Duration(readings) * in.interval).Format(time.RFC3339)
		before := u
		t, err := m.simulate(ctx, append(flags, "--readings", strconv.Itoa(more), "--rate", rate)...)
		if err != nil {
			return nil, err
		}
		if u, err = m.usage(); err != nil {
			return nil, err
		}
		steady.Value, steady.CPU, steady.PeakMiB = (u.cpu-before.cpu)/t.Seconds, (u.cpu-before.cpu)/t.Seconds, u.now
		steady.Runs = []float64{steady.Value}
		loads = append(loads, t)
		figures = append(figures, steady)
		readings = more
	}

	want, err := newestOf(in, flags[len(flags)-1], readings)
	if err != nil {
		return nil, err
	}
	for range cmp.Or(in.restarts, b.runs) {
		restart.Load = loadAverage()
		m.kill()
		seconds, err := m.restart(ctx, want)
		if err != nil {
			return nil, err
		}
		u, err := m.usage()
		if err != nil {
			return nil, err
		}
		restart.Runs = append(restart.Runs, seconds)
		restart.CPU, restart.PeakMiB = u.cpu/seconds, max(restart.PeakMiB, u.peak)
		fmt.Fprintf(os.Stderr, "%s: right %.1f s after a kill -9\n", in.name, seconds)
	}
	for i := range loads { // not before: it takes minutes, after which no device of a real fleet would be silent
		if figures[i].Checked, err = m.verify(ctx, loads[i]); err != nil {
			return nil, err
		}
	}
	restart.Value = median(restart.Runs)
	return append(figures, restart), nil
}

// fleetStart is the event time of the first readings; any will do.
var fleetStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newestOf returns each device's newest reading.
func newestOf(in fleet, start string, readings int) ([]messages.Reading, error) {
	begin, err := time.Parse(time.RFC3339, start)
	if err != nil {
		return nil, err
	}
	f, err := simulate.New(simulate.Options{
		Site: "demo", Devices: in.devices, Interval: in.interval, Channels: 4, Seed: fleetSeed, Readings: readings,
		Start: begin, OutOfOrder: 0.01, Duplicates: 0.01, Omitted: 0.05, Batch: 100, Gather: true,
	})
	if err != nil {
		return nil, err
	}
	newest := make([]messages.Reading, in.devices)
	for i := range newest {
		for r := range f.Expected(i) {
			if r.Time >= newest[i].Time {
				r.Values = slices.Clone(r.Values)
				newest[i] = r
			}
		}
	}
	return newest, nil
}

// asking bounds how many devices are asked at once: a member answers as many, and tells more to wait.
const asking = 64

// restart starts the member again and returns the seconds until all devices' newest readings are right. Each device is
// asked by itself, over NATS, again and again until it is.
func (m *member) restart(ctx context.Context, want []messages.Reading) (float64, error) {
	begun := time.Now()
	if err := m.again(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	client, err := stream.Dial(ctx, stream.DialOptions{URL: m.nats, Name: "bench restart"})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range asking {
		group.Go(func() error {
			for {
				i := int(next.Add(1) - 1)
				if i >= len(want) {
					return nil
				}
				if err := awaitLatest(ctx, client, messages.DeviceID{Site: "demo", Device: fmt.Sprintf("dev-%06d", i+1)}, &want[i]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return time.Since(begun).Seconds(), nil
}

// awaitLatest asks for a device's newest reading until it is the wanted one.
func awaitLatest(ctx context.Context, client *stream.Client, id messages.DeviceID, want *messages.Reading) error {
	said, _, _ := bytes.Cut(messages.AppendSampleJSON(nil, messages.Sample{Reading: *want}), []byte(`,"note"`))
	for {
		data, err := client.Ask(ctx, stream.QueryLatest, id, nil)
		if err == nil && (bytes.Contains(data, said) || isLatest(data, want)) { // 0.5 and 3.5 µs, on the processors that the member needs
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the newest reading of %s is not right yet: %w: it is %s (%v)", id.Device, context.Cause(ctx), data, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// isLatest tells whether an answer has this reading.
func isLatest(data []byte, want *messages.Reading) bool {
	var answer struct {
		Reading struct {
			Time   time.Time  `json:"time"`
			Values []*float64 `json:"values"`
		} `json:"reading"`
	}
	if json.Unmarshal(data, &answer) != nil {
		return false
	}
	got := answer.Reading
	if got.Time.UnixMilli() != want.Time {
		return false
	}
	for c := range max(len(got.Values), len(want.Values)) {
		omitted := c >= len(want.Values) || want.Values[c] != want.Values[c]
		switch {
		case c >= len(got.Values) || got.Values[c] == nil:
			if !omitted {
				return false
			}
		case omitted || *got.Values[c] != want.Values[c]:
			return false
		}
	}
	return true
}
