package actors

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// plainArchive is the dumb second version of the archive.
type plainArchive struct {
	rows    map[int64]persistence.Row
	rollups map[plainBucket]persistence.RollupRow
	records []persistence.Record
	deleted uint64
}

type plainBucket struct {
	step  messages.Step
	start int64
}

func newPlainArchive() *plainArchive {
	return &plainArchive{rows: map[int64]persistence.Row{}, rollups: map[plainBucket]persistence.RollupRow{}}
}

func (a *plainArchive) write(row persistence.Row) {
	if row.Sequence > a.deleted && row.Sequence >= a.rows[row.Time].Sequence {
		row.Values = slices.Clone(row.Values)
		a.rows[row.Time] = row
	}
}

func (a *plainArchive) writeRollup(r persistence.RollupRow) {
	key := plainBucket{r.Step, r.Start}
	if r.Sequence > a.deleted && r.Sequence >= a.rollups[key].Sequence {
		a.rollups[key] = r
	}
}

func (a *plainArchive) writeRecord(r persistence.Record) {
	if r.Sequence <= a.deleted {
		return
	}
	same := func(have persistence.Record) bool {
		return have.Sequence == r.Sequence && string(have.Payload) == string(r.Payload)
	}
	if !slices.ContainsFunc(a.records, same) {
		a.records = append(a.records, r)
		slices.SortStableFunc(a.records, func(x, y persistence.Record) int { return cmp.Compare(x.Sequence, y.Sequence) })
	}
}

func (a *plainArchive) delete(sequence uint64) {
	a.deleted = max(a.deleted, sequence)
	maps.DeleteFunc(a.rows, func(_ int64, r persistence.Row) bool { return r.Sequence <= sequence })
	maps.DeleteFunc(a.rollups, func(_ plainBucket, r persistence.RollupRow) bool { return r.Sequence <= sequence })
	a.records = slices.DeleteFunc(a.records, func(r persistence.Record) bool { return r.Sequence <= sequence })
}

// newestFirst returns the rows in descending order of event time.
func (a *plainArchive) newestFirst() []persistence.Row {
	rows := slices.Collect(maps.Values(a.rows))
	slices.SortFunc(rows, func(x, y persistence.Row) int { return cmp.Compare(y.Time, x.Time) })
	return rows
}

func (a *plainArchive) newest() int64 {
	newest := int64(never)
	for t := range a.rows {
		newest = max(newest, t)
	}
	return newest
}

// window is what a device's window must be: a pure function of the rows.
func (a *plainArchive) window(s messages.Settings, floor int64) []persistence.Row {
	var out []persistence.Row
	for _, r := range a.newestFirst() {
		if len(out) < s.WindowCount && r.Time > floor && (s.WindowAge == 0 || r.Time >= a.newest()-s.WindowAge) {
			out = append(out, r)
		}
	}
	return out
}

// rollup is what a bucket must come to.
func (a *plainArchive) rollup(step messages.Step, start int64) messages.Rollup {
	out := messages.Rollup{Start: start, Step: step}
	var all [messages.MaxChannels][]float64
	rows := a.newestFirst()
	slices.Reverse(rows)
	for _, r := range rows {
		if step.Start(r.Time) != start {
			continue
		}
		out.Count++
		for c, v := range r.Values {
			if v == v {
				all[c] = append(all[c], v)
				for len(out.Channels) <= c {
					out.Channels = append(out.Channels, messages.ChannelRollup{})
				}
			}
		}
	}
	for c := range out.Channels {
		if v := all[c]; len(v) > 0 {
			low, high := v[0], v[0]
			for _, x := range v {
				low, high = min(low, x), max(high, x)
			}
			out.Channels[c] = messages.ChannelRollup{Count: int64(len(v)), Min: low, Max: high, Sum: bigSum(v), First: v[0], Last: v[len(v)-1]}
		}
	}
	return out
}

// plainDevice decides as a device must, by asking the archive for everything.
type plainDevice struct {
	archive      *plainArchive
	base         messages.Settings
	settings     messages.Settings
	floor        int64
	lastAssigned int64
	counts       messages.Counts
}

// dropped is the highest event time that is not in the window.
func (p *plainDevice) dropped() int64 {
	in := map[int64]bool{}
	for _, r := range p.archive.window(p.settings, p.floor) {
		in[r.Time] = true
	}
	out := int64(never)
	for t := range p.archive.rows {
		if !in[t] {
			out = max(out, t)
		}
	}
	return out
}

func (p *plainDevice) has(t int64) bool {
	return slices.ContainsFunc(p.archive.window(p.settings, p.floor), func(r persistence.Row) bool { return r.Time == t })
}

// message decides the readings of one message and writes them.
func (p *plainDevice) message(m plainMessage) []Decision {
	out := make([]Decision, len(m.readings))
	times := make([]int64, len(m.readings))
	for i, r := range m.readings {
		times[i] = r.Time
		if plainRefused(m, r) {
			out[i] = Refused
			continue
		}
		if r.Time == messages.NoTime {
			times[i] = max(m.arrival, p.lastAssigned+1)
			p.lastAssigned = times[i]
		}
	}
	for i, r := range m.readings {
		if out[i] == Refused {
			continue
		}
		for k := i + 1; k < len(times); k++ {
			if out[k] != Refused && times[k] == times[i] {
				out[i] = Duplicate
			}
		}
		if out[i] == Duplicate {
			continue
		}
		newest, duplicate := p.archive.newest(), p.has(times[i])
		row := persistence.Row{Time: times[i], Sequence: m.sequence, Values: r.Values, Quality: r.Quality, Note: r.Note}
		if r.Time == messages.NoTime {
			row.Flags = persistence.FlagAssigned
		}
		p.archive.write(row)
		switch {
		case duplicate:
			out[i] = Duplicate
		case !p.has(times[i]):
			out[i] = Stale
		case times[i] < newest:
			out[i] = Late
		default:
			out[i] = InOrder
		}
	}
	for _, d := range out {
		var o Outcome
		o.count(d)
		p.counts.Add(o.Counts)
	}
	return out
}

func plainRefused(m plainMessage, r messages.Reading) bool {
	return len(r.Values) == 0 && r.Note == "" || r.Time != messages.NoTime && (r.Time > m.arrival+plainLimits.MaxFuture || r.Time < m.arrival-plainLimits.MaxAge)
}

var plainLimits = Limits{MaxFuture: 600_000, MaxAge: 9 * 3_600_000}

func (p *plainDevice) control(m plainMessage) {
	c := m.control
	switch {
	case c.Delete:
		p.archive.delete(m.sequence)
		*p = plainDevice{archive: p.archive, base: p.base, settings: p.base, floor: never, lastAssigned: never}
	case c.Settings != nil:
		now := c.Settings.Over(p.base)
		if windowGrows(&p.settings, &now) {
			p.floor = max(p.floor, p.dropped())
		}
		p.settings = now
	case c.Trim.Before == 0:
		p.floor = max(p.floor, p.archive.newest())
	default:
		p.floor = max(p.floor, c.Trim.Before-1)
	}
}

// plainMessage is one message of the stream: readings, or a command.
type plainMessage struct {
	sequence uint64
	arrival  int64
	readings []messages.Reading
	control  *messages.Control
}

func (m plainMessage) writeTime() int64 { return int64(m.sequence) * 1000 }

func (m plainMessage) arrived() []Arrived {
	out := make([]Arrived, len(m.readings))
	for i, r := range m.readings {
		r.Values, r.Quality = slices.Clone(r.Values), slices.Clone(r.Quality)
		out[i] = Arrived{Sequence: m.sequence, Arrival: m.arrival, WriteTime: m.writeTime(), Message: int32(m.sequence), Reading: r}
	}
	return out
}

// plainStart is where the event times of tests begin: ten minutes before a full hour.
const plainStart = 500_000*3_600_000 - 600_000

// drawMessages draws a stream: mostly readings that go on, some late, repeated, old, of many hours, and commands.
// Without clashes no time that a sender gives is one that is assigned.
func drawMessages(t *rapid.T, clashes bool) []plainMessage {
	kinds := []string{"go on", "go on", "go on", "near", "near", "anywhere", "leap"}
	now := int64(plainStart)
	arrival := now
	if !clashes {
		arrival += 301 // all given times are whole seconds
	}
	value := rapid.OneOf(rapid.Just(math.NaN()), rapid.Just(1.5), anyValue(),
		rapid.Map(rapid.IntRange(-50, 50), func(n int) float64 { return float64(n) / 10 }))
	reading := rapid.Custom(func(t *rapid.T) messages.Reading {
		var r messages.Reading
		switch rapid.SampledFrom(kinds).Draw(t, "kind") {
		case "go on":
			now += rapid.Int64Range(1, 9).Draw(t, "s") * 1000
			r.Time = now
		case "near":
			r.Time = now - rapid.Int64Range(0, 120).Draw(t, "s ago")*1000
		case "anywhere":
			r.Time = now - rapid.Int64Range(-100, 300).Draw(t, "min ago")*60_000
		case "leap":
			now += rapid.Int64Range(1, 70).Draw(t, "min") * 60_000
			r.Time = now
		}
		if rapid.IntRange(0, 9).Draw(t, "without time") == 0 {
			r.Time = messages.NoTime
		}
		r.Values = rapid.SliceOfN(value, 0, 3).Draw(t, "values")
		if rapid.IntRange(0, 4).Draw(t, "more") == 0 {
			r.Note = rapid.SampledFrom([]string{"", "a", "long note"}).Draw(t, "note")
			r.Quality = make([]uint8, len(r.Values))
			for i := range r.Quality {
				r.Quality[i] = uint8(rapid.IntRange(0, 1).Draw(t, "quality"))
			}
		}
		return r
	})
	n := rapid.IntRange(1, 60).Draw(t, "messages")
	out := make([]plainMessage, n)
	for i := range out {
		for arrival < now {
			arrival += 1000
		}
		arrival += rapid.SampledFrom([]int64{0, 0, 1, 1000, 400_000}).Draw(t, "later")
		out[i] = plainMessage{sequence: uint64(2*i + 1), arrival: arrival}
		if rapid.IntRange(0, 9).Draw(t, "command") == 0 {
			out[i].control = drawControl(t, now)
		} else {
			out[i].readings = rapid.SliceOfN(reading, 1, 4).Draw(t, "readings")
		}
	}
	return out
}

func drawControl(t *rapid.T, now int64) *messages.Control {
	switch rapid.IntRange(0, 5).Draw(t, "command kind") {
	case 0:
		return &messages.Control{Delete: true}
	case 1, 2:
		return &messages.Control{Trim: &messages.Trim{Before: rapid.SampledFrom([]int64{0, now - 20_000, now + 20_000, now - 4_000_000}).Draw(t, "before")}}
	default:
		s := drawSettings(t)
		return &messages.Control{Settings: &s}
	}
}

func drawSettings(t *rapid.T) messages.Settings {
	return messages.Settings{
		WindowCount: rapid.SampledFrom([]int{0, 1, 2, 5, 9, 30}).Draw(t, "window"),
		WindowAge:   rapid.SampledFrom([]int64{0, 0, 10_000, 90_000, 5_000_000}).Draw(t, "age"),
	}
}

// equalRollup compares to the bit.
func equalRollup(a, b messages.Rollup) error {
	if a.Start != b.Start || a.Step != b.Step || a.Count != b.Count || len(a.Channels) != len(b.Channels) {
		return fmt.Errorf("got %+v, want %+v", a, b)
	}
	for i, x := range a.Channels {
		y := b.Channels[i]
		if x.Count != y.Count || !same(x.Min, y.Min) || !same(x.Max, y.Max) || !same(x.Sum, y.Sum) || !same(x.First, y.First) || !same(x.Last, y.Last) {
			return fmt.Errorf("channel %d: got %+v, want %+v", i, x, y)
		}
	}
	return nil
}

// equalWindow compares a device's window with rows, newest first.
func equalWindow(got []messages.Sample, want []persistence.Row) error {
	if len(got) != len(want) {
		return fmt.Errorf("got %d readings, want %d: %v %v", len(got), len(want), got, want)
	}
	for i, g := range got {
		w := want[i]
		if g.Time != w.Time || g.Sequence != w.Sequence || g.Note != w.Note || !sameValues(g.Values, w.Values) {
			return fmt.Errorf("reading %d: got %+v, want %+v", i, g, w)
		}
		for c, v := range w.Values {
			q := func(list []uint8) uint8 {
				if c < len(list) {
					return list[c]
				}
				return 0
			}
			if !math.IsNaN(v) && q(g.Quality) != q(w.Quality) {
				return fmt.Errorf("quality of reading %d: got %v, want %v", i, g.Quality, w.Quality)
			}
		}
	}
	return nil
}
