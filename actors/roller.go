package actors

import (
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// roller keeps a device's minutes and hours while readings are applied. The hour and the minute of
// the newest event time are held, and the minute that closed last; everything else is in the archive.
//
// A stale reading may be one the device had before, whose values are not in the window any more. So
// the bucket it falls in can only be told by the archive.
type roller struct {
	d         *Device
	out       *Outcome
	sequence  uint64 // of the message at hand
	writeTime int64

	// The previous minute has changed since it was emitted last, by this message.
	pending          bool
	pendingSequence  uint64
	pendingWriteTime int64
}

// add counts a new reading.
func (r *roller) add(t int64, values []float64, stale bool) {
	d := r.d
	if d.hour.holds(messages.Hour, t) {
		r.fill(&d.hour, t, values, stale)
	} else {
		r.addOutside(messages.Hour, &d.hour, t, values)
	}
	if !minutesOn(d.effective) {
		return
	}
	switch {
	case d.minute.holds(messages.Minute, t):
		r.fill(&d.minute, t, values, stale)
	case d.previous.holds(messages.Minute, t):
		r.fill(&d.previous, t, values, stale)
		r.changedPrevious()
	default:
		r.addOutside(messages.Minute, &d.minute, t, values)
	}
}

func (r *roller) fill(b *bucket, t int64, values []float64, stale bool) {
	if stale {
		b.spoil()
	} else if b.whole {
		b.add(t, values)
	}
}

// addOutside takes a reading that no held bucket is for: it opens the next one, or is older.
func (r *roller) addOutside(step messages.Step, b *bucket, t int64, values []float64) {
	if b.held && t < b.start {
		r.dirty(step, step.Start(t), r.sequence, r.writeTime)
		return
	}
	if b.held {
		r.closes(step, b)
	}
	if b.begin(step.Start(t)); r.d.dropped >= b.start { // a state that was rebuilt past damage: it may have had others
		b.spoil()
		return
	}
	b.add(t, values)
}

// closes lets go of a bucket that the newest reading has left.
func (r *roller) closes(step messages.Step, b *bucket) {
	if step == messages.Hour {
		r.emit(step, b)
		return
	}
	r.flush()
	d := r.d
	d.minute, d.previous = d.previous, d.minute
	r.changedPrevious()
}

// replace puts other values in the place of those of a reading that the window holds.
func (r *roller) replace(t int64, old, values []float64) {
	d := r.d
	if d.hour.holds(messages.Hour, t) {
		r.refill(messages.Hour, &d.hour, t, old, values)
	} else {
		r.dirty(messages.Hour, messages.Hour.Start(t), r.sequence, r.writeTime)
	}
	if !minutesOn(d.effective) {
		return
	}
	switch {
	case d.minute.holds(messages.Minute, t):
		r.refill(messages.Minute, &d.minute, t, old, values)
	case d.previous.holds(messages.Minute, t):
		r.refill(messages.Minute, &d.previous, t, old, values)
		r.changedPrevious()
	default:
		r.dirty(messages.Minute, messages.Minute.Start(t), r.sequence, r.writeTime)
	}
}

func (r *roller) refill(step messages.Step, b *bucket, t int64, old, values []float64) {
	if b.whole && !b.replace(t, old, values) {
		r.d.remake(step, b)
	}
}

// remake makes the bucket anew from the window, or says that it is not whole when the window does not
// hold all of its readings.
func (d *Device) remake(step messages.Step, b *bucket) {
	if d.dropped >= b.start {
		b.spoil()
		return
	}
	var values [messages.MaxChannels]float64
	b.begin(b.start)
	first, _ := d.window.search(b.start)
	for i := first; i < int(d.window.count); i++ {
		t := d.window.timeAt(i)
		if !b.holds(step, t) {
			break
		}
		b.add(t, d.window.valuesInto(values[:d.window.channels], i))
	}
}

func (r *roller) changedPrevious() {
	r.pending, r.pendingSequence, r.pendingWriteTime = true, r.sequence, r.writeTime
}

// flush emits the previous minute if it changed.
func (r *roller) flush() {
	if !r.pending {
		return
	}
	r.pending = false
	at := *r
	at.sequence, at.writeTime = r.pendingSequence, r.pendingWriteTime
	at.emit(messages.Minute, &r.d.previous)
}

// emit gives the bucket out: as a row if memory holds it whole, otherwise as dirty.
func (r *roller) emit(step messages.Step, b *bucket) {
	if !b.whole {
		r.dirty(step, b.start, r.sequence, r.writeTime)
		return
	}
	r.out.Rollups = append(r.out.Rollups, persistence.RollupRow{Rollup: b.rollup(step), Sequence: r.sequence, WriteTime: r.writeTime})
}

// dirty names a bucket that the archive must tell. Neighbours in time often fall in the same one.
func (r *roller) dirty(step messages.Step, start int64, sequence uint64, writeTime int64) {
	list := r.out.Dirty
	for i := len(list) - 1; i >= max(0, len(list)-4); i-- {
		if list[i].Step == step && list[i].Start == start {
			list[i].Sequence, list[i].WriteTime = sequence, writeTime
			return
		}
	}
	r.out.Dirty = append(list, Dirty{Step: step, Start: start, Sequence: sequence, WriteTime: writeTime})
}
