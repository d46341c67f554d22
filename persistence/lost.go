package persistence

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Loss is a stretch of a device's event times, both ends included, of which readings or rollups are gone: they could
// not be read and were set aside (Archive.SetAside). Of what lies in it an archive gives out only what has a higher
// stream sequence; the stretch itself is Damage to whoever reads. To < From: nothing is missing any more.
type Loss struct {
	From, To int64  // ms
	Sequence uint64 // nothing with a higher one is missing
	Mark     uint64 // the archive's name for it, among those of one device and step
}

// ErrLost is the Err of Damage that is a Loss. It wraps ErrCorrupt.
var ErrLost = fmt.Errorf("%w: it was set aside and not recovered", ErrCorrupt)

// Lost goes along a scan, for the archive that makes it, and tells of each loss in the scan's order.
type Lost struct {
	losses    []Loss // in that order
	next      int    // the first that was not told of
	backwards bool
	damaged   func(Damage)
}

// LostAlong is for a scan of the event times low to high of r, where there are these losses; it changes them.
func LostAlong(r *Range, low, high int64, losses []Loss) Lost {
	for i := range losses {
		losses[i].From, losses[i].To = max(losses[i].From, low), min(losses[i].To, high)
	}
	losses = slices.DeleteFunc(losses, func(l Loss) bool { return l.From > l.To })
	l := Lost{losses: losses, backwards: r.From > r.To, damaged: r.Damaged}
	slices.SortFunc(l.losses, func(x, y Loss) int {
		if l.backwards {
			return cmp.Compare(y.To, x.To)
		}
		return cmp.Compare(x.From, y.From)
	})
	return l
}

// Reach tells of those losses that the scan meets on its way to event time t; an error when nobody is to be told.
func (l *Lost) Reach(t int64) error {
	for ; l.next < len(l.losses); l.next++ {
		loss := &l.losses[l.next]
		if l.backwards && loss.To < t || !l.backwards && loss.From > t {
			return nil
		}
		if l.damaged == nil {
			return fmt.Errorf("event times %d to %d ms: %w", loss.From, loss.To, ErrLost)
		}
		l.damaged(Damage{From: loss.From, To: loss.To, Err: ErrLost})
	}
	return nil
}

// End tells of the losses that are left when the scan has come to its end.
func (l *Lost) End() error {
	if l.backwards {
		return l.Reach(math.MinInt64)
	}
	return l.Reach(math.MaxInt64)
}

// Tell tells of damage that the scan has met, after the losses before it. Somebody must be there to be told.
func (l *Lost) Tell(d Damage) {
	near := d.From
	if l.backwards {
		near = d.To
	}
	_ = l.Reach(near) // it fails only where nobody is to be told
	l.damaged(d)
}

// Hides tells whether what has that event time and sequence may have been replaced by something that is lost.
func (l *Lost) Hides(t int64, sequence uint64) bool {
	for i := range l.losses {
		if loss := &l.losses[i]; loss.From <= t && t <= loss.To && sequence <= loss.Sequence {
			return true
		}
	}
	return false
}
