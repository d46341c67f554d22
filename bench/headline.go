package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// What the headline sends, from how many devices, and how long its count may take.
const (
	headlineReadings = 31_145_914
	headlineDevices  = 10_000
	headlineSite     = "headline"
	auditWithin      = 5 * time.Minute
)

// headline sends its readings to a member on Cassandra and Redis, waits until all are stored, reads each
// back, and has them counted. Any that is missing, different or uncounted is an error.
func headline(ctx context.Context, b *bench) ([]figure, error) {
	if b.readings < 1 {
		return nil, fmt.Errorf("-readings=%d: send at least one", b.readings)
	}
	b.progress = os.Stderr
	defer func() { b.progress = nil }()
	say := func(format string, a ...any) { fmt.Fprintf(os.Stderr, "headline: "+format+"\n", a...) }
	say("%d readings, %s in Cassandra, %v of load first", b.readings, b.layout, b.warmUp)
	m, err := b.startOnCassandra(ctx)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	f := figure{
		Case: "headline", What: fmt.Sprintf("%d readings, %s in Cassandra, each checked", b.readings, b.layout),
		Unit: "readings/s", Load: loadAverage(), Revision: b.revision,
	}
	before, err := m.usage()
	if err != nil {
		return nil, err
	}
	fleets := headlineFleets(b.readings, time.Now())
	parts, seconds, err := m.sendFleets(ctx, fleets)
	if err != nil {
		return nil, err
	}
	after, err := m.usage()
	if err != nil {
		return nil, err
	}
	say("all stored after %.1f s, %.0f readings/s; now each is read back", seconds, float64(b.readings)/seconds)
	if f.Checked, err = m.checkFleets(ctx, parts, b.readings, seconds); err != nil {
		return nil, err
	}
	counting, err := m.count(ctx, fleets, b.readings)
	if err != nil {
		return nil, err
	}
	f.Value = float64(b.readings) / seconds
	f.Runs, f.CPU, f.PeakMiB = []float64{f.Value}, (after.cpu-before.cpu)/seconds, after.peak
	audit := figure{
		Case: "audit", What: "wellhead audit --from --to over these readings", Unit: "s", Value: counting,
		Runs: []float64{counting}, Load: loadAverage(), Checked: int64(b.readings), Revision: b.revision,
	}
	return []figure{f, audit}, nil
}

// part is a simulated fleet: every device has the same number of readings.
type part struct {
	devices, readings int
	start             time.Time
}

// headlineFleets divides n readings among the devices: as many as go round in each, then one more of the
// first of them. No event time is later than now.
func headlineFleets(n int, now time.Time) []part {
	each, rest := n/headlineDevices, n%headlineDevices
	start := now.UTC().Truncate(time.Second).Add(-time.Duration(each) * time.Second)
	var parts []part
	if each > 0 {
		parts = append(parts, part{headlineDevices, each, start})
	}
	if rest > 0 {
		parts = append(parts, part{rest, 1, start.Add(time.Duration(each) * time.Second)})
	}
	return parts
}

// sendFleets returns what was sent and the seconds from the first publish until all was stored.
func (m *member) sendFleets(ctx context.Context, parts []part) (all []sent, seconds float64, err error) {
	begun := time.Now()
	for _, p := range parts {
		s, err := m.simulate(ctx, "--site", headlineSite, "--devices", strconv.Itoa(p.devices), "--readings", strconv.Itoa(p.readings),
			"--start", p.start.Format(time.RFC3339), "--interval", "1s", "--batch", "100", "--rate", "max")
		if err != nil {
			return nil, 0, err
		}
		all = append(all, s)
	}
	return all, time.Since(begun).Seconds(), nil
}

// checkFleets reads everything back and says what it found, on standard error: standard output has the figures.
func (m *member) checkFleets(ctx context.Context, parts []sent, n int, seconds float64) (int64, error) {
	var all checked
	var failed error
	for _, s := range parts {
		r, err := m.compare(ctx, s)
		failed = errors.Join(failed, err)
		all.Sent += r.Sent
		all.Stored += r.Stored
		all.Checked += r.Checked
		all.Missing += r.Missing
		all.Different += r.Different
		all.Unexpected += r.Unexpected
	}
	fmt.Fprintf(os.Stderr, "sent %d stored %d checked %d missing %d different %d\n%.0f readings/s until stored\n",
		all.Sent, all.Stored, all.Checked, all.Missing, all.Different, float64(n)/seconds)
	want := int64(n)
	switch {
	case failed != nil:
		return 0, failed
	case all != (checked{Sent: want, Stored: want, Checked: want}):
		return 0, fmt.Errorf("%d readings were to be sent, stored and checked, and none missing, different or unexpected: %+v", n, all)
	}
	return all.Checked, nil
}

// count has the site's readings counted over all of their time and returns the seconds that it took.
func (m *member) count(ctx context.Context, parts []part, n int) (float64, error) {
	first, last := parts[0].start, parts[len(parts)-1]
	to := last.start.Add(time.Duration(last.readings-1) * time.Second)
	var counted struct {
		Readings int64 `json:"readings"`
	}
	begun := time.Now()
	if err := m.bench.command(ctx, []string{
		"audit", "--server", m.http, "--site", headlineSite, "--from", first.Format(time.RFC3339), "--to", to.Format(time.RFC3339), "--json",
	}, &counted); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	judgement := "within"
	if took > auditWithin {
		judgement = "NOT within"
	}
	fmt.Fprintf(os.Stderr, "audit counted %d in %.1f s, %.0f readings/s, %s the goal of %v\n",
		counted.Readings, took.Seconds(), float64(counted.Readings)/took.Seconds(), judgement, auditWithin)
	if counted.Readings != int64(n) {
		return 0, fmt.Errorf("audit counted %d readings, and %d were sent", counted.Readings, n)
	}
	return took.Seconds(), nil
}
