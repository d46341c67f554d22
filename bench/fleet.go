package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// The large fleet: each device sends every 5 s for 5 minutes, 20 000 readings a second in all, so that
// every window is full.
const (
	fleetDevices  = 100_000
	fleetInterval = 5 * time.Second
	fleetReadings = 60
	fleetSeed     = 1
)

// restartWithin bounds the wait for right answers after a restart.
const restartWithin = 5 * time.Minute

// largeFleet measures the memory of a member with all devices resident, and then how long after a kill
// -9 it takes until it knows the newest reading of each.
func largeFleet(ctx context.Context, b *bench) ([]figure, error) {
	memory := figure{Case: "memory", What: "100 000 devices resident, 20 000 readings/s", Unit: "MiB (VmHWM)", Revision: b.revision}
	restart := figure{Case: "restart", What: "kill -9 until every device's newest reading is right", Unit: "s", Revision: b.revision}
	m, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	memory.Load = loadAverage()
	readings := max(2, int(fleetReadings*b.scale))
	s, err := m.simulate(ctx, "--devices", strconv.Itoa(fleetDevices), "--interval", fleetInterval.String(), "--readings", strconv.Itoa(readings),
		"--seed", strconv.Itoa(fleetSeed), "--start", fleetStart.Format(time.RFC3339), "--rate", "20000/s")
	if err != nil {
		return nil, err
	}
	u, err := m.usage()
	if err != nil {
		return nil, err
	}
	memory.Runs, memory.CPU, memory.PeakMiB = []float64{u.peak}, u.cpu/s.Seconds, u.peak

	want, err := newestOf(readings)
	if err != nil {
		return nil, err
	}
	for range b.runs {
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
	}
	if memory.Checked, err = m.verify(ctx, s); err != nil {
		return nil, err
	}
	memory.Value, restart.Value = median(memory.Runs), median(restart.Runs)
	return []figure{memory, restart}, nil
}

// fleetStart is the event time of the first readings; any will do.
var fleetStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newestOf returns each device's newest reading.
func newestOf(readings int) ([]messages.Reading, error) {
	f, err := simulate.New(simulate.Options{
		Site: "demo", Devices: fleetDevices, Interval: fleetInterval, Channels: 4, Seed: fleetSeed, Readings: readings,
		Start: fleetStart, OutOfOrder: 0.01, Duplicates: 0.01, Omitted: 0.05, Batch: 100, Gather: true,
	})
	if err != nil {
		return nil, err
	}
	newest := make([]messages.Reading, fleetDevices)
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

// restart starts the member again and returns the seconds until all devices' newest readings are right.
func (m *member) restart(ctx context.Context, want []messages.Reading) (float64, error) {
	begun := time.Now()
	if err := m.again(ctx); err != nil {
		return 0, err
	}
	client, err := verify.NewClient(m.http)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	todo := make([]int, len(want))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		wrong := make([]bool, len(todo))
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for at := range todo {
			group.Go(func() error {
				right, err := latestIs(ctx, client, todo[at], &want[todo[at]])
				wrong[at] = !right
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return 0, fmt.Errorf("%d devices are not right yet: %w", len(todo), err)
		}
		left := todo[:0]
		for at, i := range todo {
			if wrong[at] {
				left = append(left, i)
			}
		}
		todo = left
	}
	return time.Since(begun).Seconds(), nil
}

// latestIs asks for a device's newest reading.
func latestIs(ctx context.Context, client *verify.Client, device int, want *messages.Reading) (bool, error) {
	var answer struct {
		Reading struct {
			Time   time.Time  `json:"time"`
			Values []*float64 `json:"values"`
		} `json:"reading"`
	}
	path := fmt.Sprintf("/sites/demo/devices/dev-%06d/latest", device+1)
	if err := client.Get(ctx, path, url.Values{}, &answer); err != nil {
		return false, err
	}
	got := answer.Reading
	if got.Time.UnixMilli() != want.Time {
		return false, nil
	}
	for c := range max(len(got.Values), len(want.Values)) {
		omitted := c >= len(want.Values) || want.Values[c] != want.Values[c]
		switch {
		case c >= len(got.Values) || got.Values[c] == nil:
			if !omitted {
				return false, nil
			}
		case omitted || *got.Values[c] != want.Values[c]:
			return false, nil
		}
	}
	return true, nil
}
