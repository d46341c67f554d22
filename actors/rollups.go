package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Rollups returns a device's rollups of one step whose start lies in the range, at most limit (0 = all): from > to
// means newest first. Closed ones come from the archive, running ones from the device, which knows better where both
// have one. Days are not kept: they are made of hours while those are read. With ErrPartial the running ones are
// missing, because the device could not be asked in time.
func (m *Member) Rollups(ctx context.Context, id messages.DeviceID, step messages.Step, from, to int64, limit int) ([]messages.Rollup, error) {
	if step == messages.Day {
		return foldDays(from, to, limit, func(r persistence.Range, fn func(*messages.Rollup) bool) error {
			return m.eachRollup(ctx, id, messages.Hour, r, fn)
		})
	}
	var out []messages.Rollup
	err := m.eachRollup(ctx, id, step, persistence.Range{From: from, To: to, Limit: limit}, func(r *messages.Rollup) bool {
		c := *r
		c.Channels = slices.Clone(c.Channels)
		out = append(out, c)
		return limit == 0 || len(out) < limit
	})
	return out, err
}

// foldDays makes days of hours, which each gives in order of the range. A day is chosen by its start; it is the same
// whatever range asks for it, since all of its hours are read.
func foldDays(from, to int64, limit int, each func(persistence.Range, func(*messages.Rollup) bool) error) ([]messages.Rollup, error) {
	low, high := daysBetween(min(from, to), max(from, to))
	if low > high {
		return nil, nil
	}
	// So many hours are at least the days that are wanted, each of them whole.
	days, r := dayFold{limit: limit, backwards: from > to}, persistence.Range{From: low, To: high, Limit: 24 * limit}
	if days.backwards {
		r.From, r.To = high, low
	}
	err := each(r, days.add)
	if err != nil && !errors.Is(err, ErrPartial) {
		return nil, err
	}
	return days.finish(), err
}

// daysBetween returns the first and the last ms of the days that start between two times, both included. They are
// cut to where there are readings at all.
func daysBetween(low, high int64) (first, last int64) {
	const day = int64(messages.Day)
	low, high = max(low, messages.Day.Start(minTime)), min(high, maxTime)
	first = messages.Day.Start(low)
	if first < low {
		first += day
	}
	return first, messages.Day.Start(high) + day - 1
}

// eachRollup calls fn for a device's kept and running rollups in order, until it returns false. The row is valid
// only during the call.
func (m *Member) eachRollup(ctx context.Context, id messages.DeviceID, step messages.Step, r persistence.Range, fn func(*messages.Rollup) bool) error {
	shard := messages.ShardOf(id, m.cfg.Shards)
	q := question{Kind: askRollups, Shard: shard, Device: id, Step: step, From: r.From, To: r.To}
	open, cause := routed(ctx, m, q, m.openRollups)
	if cause != nil && !m.mayBePartial(cause) {
		return cause
	}
	err := merged(open, r.From > r.To, fn, func(fn func(*persistence.RollupRow) bool) error {
		return m.met(ctx, id, step, r.From, r.To, m.parts.Archive.Rollups(ctx, shard, id, step, r, fn))
	})
	if err == nil && cause != nil {
		return fmt.Errorf("%w: %v", ErrPartial, cause)
	}
	return err
}

// merged calls fn for running rollups and for those that kept gives, in their common order, until it returns false.
// Where both have one, it is the running one.
func merged(open []messages.Rollup, backwards bool, fn func(*messages.Rollup) bool, kept func(func(*persistence.RollupRow) bool) error) error {
	going := true
	give := func(row *messages.Rollup) bool {
		going = fn(row)
		return going
	}
	err := kept(func(row *persistence.RollupRow) bool {
		for len(open) > 0 && open[0].Start != row.Start && backwards == (open[0].Start > row.Start) {
			if !give(&open[0]) {
				return false
			}
			open = open[1:]
		}
		if len(open) > 0 && open[0].Start == row.Start {
			row.Rollup = open[0]
			open = open[1:]
		}
		return give(&row.Rollup)
	})
	for i := 0; err == nil && going && i < len(open); i++ {
		give(&open[i])
	}
	return err
}

// openRollups asks the device for what runs of one step and lies in the range, in the range's order.
func (m *Member) openRollups(ctx context.Context, q *question) ([]messages.Rollup, error) {
	id, step, r := q.Device, q.Step, persistence.Range{From: q.From, To: q.To}
	var rows []persistence.RollupRow
	var dirty []Dirty
	if err := m.Ask(ctx, id, func(d *Device) { rows, dirty = d.OpenRollups() }); err != nil {
		return nil, err
	}
	wanted := func(s messages.Step, start int64) bool {
		return s == step && start >= min(r.From, r.To) && start <= max(r.From, r.To)
	}
	x := executor{shard: messages.ShardOf(id, m.cfg.Shards), archive: m.parts.Archive, limits: &m.cfg.Limits}
	for _, d := range dirty {
		if !wanted(d.Step, d.Start) {
			continue
		}
		row, _, err := x.recompute(ctx, &dirtyBucket{key: bucketKey{&entry{id: id}, d.Step, d.Start}})
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	var open []messages.Rollup
	for i := range rows {
		if wanted(rows[i].Step, rows[i].Start) && rows[i].Count > 0 {
			open = append(open, rows[i].Rollup)
		}
	}
	slices.SortFunc(open, func(a, b messages.Rollup) int {
		if r.From > r.To {
			a, b = b, a
		}
		return cmp.Compare(a.Start, b.Start)
	})
	return open, nil
}

// dayFold makes days of hours that come in order of time. Count, min, max, first and last are as exact as the
// hours; a sum is that of the hours' sums, each of which was rounded once, added without a further rounding and
// rounded at the end.
type dayFold struct {
	limit     int // most days; 0 = all
	backwards bool

	out  []messages.Rollup
	open bool // the last of out still grows
	sums []daySum
}

// add takes the next hour and answers false when it belongs to a day that is not wanted any more.
func (f *dayFold) add(hour *messages.Rollup) bool {
	start := messages.Day.Start(hour.Start)
	if f.open && f.out[len(f.out)-1].Start != start {
		f.close()
		if len(f.out) == f.limit {
			return false
		}
	}
	if !f.open {
		f.out = append(f.out, messages.Rollup{Start: start, Step: messages.Day})
		f.open = true
	}
	day := &f.out[len(f.out)-1]
	day.Count += hour.Count
	for len(day.Channels) < len(hour.Channels) {
		day.Channels = append(day.Channels, messages.ChannelRollup{})
	}
	for len(f.sums) < len(hour.Channels) {
		f.sums = append(f.sums, daySum{})
	}
	for i := range hour.Channels {
		f.addChannel(&day.Channels[i], &hour.Channels[i], &f.sums[i])
	}
	return true
}

func (f *dayFold) addChannel(day, hour *messages.ChannelRollup, sum *daySum) {
	if hour.Count == 0 {
		return
	}
	if day.Count == 0 {
		*day = messages.ChannelRollup{Min: hour.Min, Max: hour.Max, First: hour.First, Last: hour.Last}
	}
	day.Count += hour.Count
	day.Min, day.Max = min(day.Min, hour.Min), max(day.Max, hour.Max)
	if f.backwards {
		day.First = hour.First
	} else {
		day.Last = hour.Last
	}
	sum.add(hour.Sum)
}

// close ends the day that still grows.
func (f *dayFold) close() {
	day := &f.out[len(f.out)-1]
	for i := range day.Channels {
		if c := &day.Channels[i]; c.Count > 0 {
			c.Sum = f.sums[i].round()
		}
	}
	clear(f.sums)
	f.open = false
}

func (f *dayFold) finish() []messages.Rollup {
	if f.open {
		f.close()
	}
	return f.out
}

// daySum is an exactTotal that also takes the sum of an hour that is beyond all numbers; the first such holds.
type daySum struct {
	total  exactTotal
	beyond float64
}

func (s *daySum) add(v float64) {
	switch {
	case !math.IsInf(v, 0):
		s.total.add(v)
	case s.beyond == 0:
		s.beyond = v
	}
}

func (s *daySum) round() float64 {
	if s.beyond != 0 {
		return s.beyond
	}
	return s.total.round()
}
