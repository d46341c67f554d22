package actors

import (
	"math"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// gone tells whether the device was deleted and has not sent since.
func (d *Device) gone() bool { return d.deletedAt > 0 && !d.seen }

// String returns the decision in words, as events and logs have it.
func (d Decision) String() string {
	switch d {
	case InOrder:
		return "in order"
	case Late:
		return "late"
	case Stale:
		return "stale"
	case Duplicate:
		return "duplicate"
	case Refused:
		return "refused"
	case AlreadyApplied:
		return "already applied"
	default:
		return "undecided"
	}
}

// Written tells whether the reading belongs into the archive: it was accepted, no later one of the
// same message replaces it, and its time is known. The time of a reading that is AlreadyApplied and
// came without one is not known any more: its row was stored before the snapshot that knows it.
func (a *Arrived) Written() bool {
	return a.Decision != Undecided && a.Decision != Refused && !a.Superseded && a.Reading.Time != messages.NoTime
}

// Row returns the reading as the archive takes it. Only accepted, not superseded readings have one
// (see Written). It shares the reading's slices.
func (a *Arrived) Row() persistence.Row {
	row := persistence.Row{
		Time: a.Reading.Time, Sequence: a.Sequence, WriteTime: a.WriteTime,
		Values: a.Reading.Values, Quality: a.Reading.Quality, Note: a.Reading.Note,
	}
	if a.Assigned {
		row.Flags |= persistence.FlagAssigned
	}
	return row
}

// Held returns the readings of the window as rows, without write times. All accepted readings that are later than above are
// among them.
func (d *Device) Held() (rows []persistence.Row, above int64) {
	var s messages.Sample
	for i := range int(d.window.count) {
		d.window.readSample(&s, i, make([]float64, d.window.channels))
		row := persistence.Row{Time: s.Time, Sequence: s.Sequence, Values: s.Values, Quality: s.Quality, Note: s.Note}
		if x := d.window.extras; x != nil {
			row.Flags = x.flags[d.window.place(i)]
		}
		rows = append(rows, row)
	}
	return rows, d.dropped
}

// State returns what the device says of itself; the caller sets Shard. Minute and Hour are nil also
// when memory does not hold them whole.
func (d *Device) State() messages.State {
	var n messages.Newest
	d.ReadNewest(&n)
	s := messages.State{
		Device: d.id, Sequence: d.sequence, Status: n.Status, LastSeen: n.LastSeen, HasReading: n.HasReading, Latest: n.Reading, InWindow: int(d.window.count),
		Counts: d.counts, Settings: *d.effective, Minute: openRollup(messages.Minute, &d.minute),
		Hour: openRollup(messages.Hour, &d.hour), Statistics: d.Summary(),
	}
	if d.seen {
		s.FirstSeen = d.firstSeen
	}
	if d.own != nil {
		s.Own = *d.own
	}
	if s.HasReading {
		s.Newest = s.Latest.Time
	}
	return s
}

// ReadNewest sets n to what most ask: of State, what need not be computed.
func (d *Device) ReadNewest(n *messages.Newest) {
	n.Status, n.LastSeen, n.Partial = d.Status(), 0, false
	if d.status != unknown {
		n.LastSeen = d.lastSeen
	}
	if n.HasReading = d.window.count > 0; n.HasReading {
		d.window.readSample(&n.Reading, int(d.window.count)-1, make([]float64, d.window.channels))
	} else {
		n.Reading = messages.Sample{}
	}
}

func openRollup(step messages.Step, b *bucket) *messages.Rollup {
	if !b.whole {
		return nil
	}
	r := b.rollup(step)
	return &r
}

// OpenRollups returns the running minute and hour as absolute rows, and as dirty those that memory
// does not hold whole. Their Sequence is the device's; WriteTime is 0 after a rebuild until the next message.
func (d *Device) OpenRollups() ([]persistence.RollupRow, []Dirty) {
	var out Outcome
	r := roller{d: d, out: &out, sequence: d.sequence, writeTime: d.writeTime}
	if d.minute.held {
		r.emit(messages.Minute, &d.minute)
	}
	if d.hour.held {
		r.emit(messages.Hour, &d.hour)
	}
	return out.Rollups, out.Dirty
}

// Window returns copies of the window's readings between two event times, both included. From > to:
// newest first. Limit 0 = all.
func (d *Device) Window(from, to int64, limit int) []messages.Sample {
	w, low, high := &d.window, from, to
	if from > to {
		low, high = to, from
	}
	begin, _ := w.search(low)
	end, found := w.search(high)
	if found {
		end++
	}
	n := end - begin
	if limit > 0 {
		n = min(n, limit)
	}
	if n <= 0 {
		return nil
	}
	channels := int(w.channels)
	out, values := make([]messages.Sample, n), make([]float64, n*channels)
	for i := range out {
		place := begin + i
		if from > to {
			place = end - 1 - i
		}
		w.readSample(&out[i], place, values[i*channels:(i+1)*channels])
	}
	return out
}

// Summary returns statistics over the window, by channel. The deviation is computed in a second pass
// about the mean, so that a large common offset does not hurt it.
func (d *Device) Summary() []messages.Summary {
	w := &d.window
	if w.count == 0 {
		return nil
	}
	out := make([]messages.Summary, w.channels)
	for c := range out {
		s := &out[c]
		var total exactTotal
		for i := range int(w.count) {
			v := w.valueAt(i, c)
			if v != v {
				continue
			}
			if s.Count == 0 {
				s.Min, s.Max = v, v
			}
			s.Count++
			s.Min, s.Max = min(s.Min, v), max(s.Max, v)
			total.add(v)
		}
		if s.Count == 0 {
			continue
		}
		s.Mean = total.round() / float64(s.Count)
		var squares float64
		for i := range int(w.count) {
			if v := w.valueAt(i, c); v == v {
				squares += (v - s.Mean) * (v - s.Mean)
			}
		}
		s.Stddev = math.Sqrt(squares / float64(s.Count))
	}
	return out
}

// Row returns the device's line in the shard's column table.
func (d *Device) Row() messages.DeviceRow {
	var row messages.DeviceRow
	d.ReadRow(&row)
	return row
}

// ReadRow is Row into memory the caller owns, which it uses again.
func (d *Device) ReadRow(row *messages.DeviceRow) {
	values := row.Values[:0]
	*row = messages.DeviceRow{Device: d.id, Status: d.Status(), Counts: d.counts}
	if d.status != unknown {
		row.LastSeen = d.lastSeen
	}
	if n := int(d.window.count); n > 0 {
		row.Newest = d.window.timeAt(n - 1)
		if cap(values) < int(d.window.channels) {
			values = make([]float64, d.window.channels)
		}
		row.Values = d.window.valuesInto(values[:d.window.channels], n-1)
	}
}
