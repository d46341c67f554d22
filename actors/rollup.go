package actors

import (
	"math"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// bucket is a rollup under way. While whole, it is what RollupOf would make of all accepted readings
// of its stretch of time; once it is not, it is not kept up any more and must come from the archive.
type bucket struct {
	start    int64
	channels []channelRollup // up to the highest that ever had a value here
	wide     map[int]*wideSum
	count    uint32 // readings
	held     bool
	whole    bool
}

// channelRollup is one channel of a bucket. With count 0 all of it is zero.
type channelRollup struct {
	count           uint32
	firstAt, lastAt uint32 // ms after the bucket's start
	min, max        float64
	first, last     float64
	sum             exactSum
}

// begin makes b the whole and empty bucket that starts there. Its memory is used again.
func (b *bucket) begin(start int64) {
	clear(b.channels)
	*b = bucket{start: start, channels: b.channels[:0], held: true, whole: true}
}

// spoil says that b is not whole any more.
func (b *bucket) spoil() { *b = bucket{start: b.start, held: b.held, channels: b.channels[:0]} }

// holds tells whether event time t falls in b.
func (b *bucket) holds(step messages.Step, t int64) bool {
	return b.held && t >= b.start && t-b.start < int64(step)
}

// grow makes room for n channels.
func (b *bucket) grow(n int) {
	had := len(b.channels)
	if n <= cap(b.channels) {
		b.channels = b.channels[:n]
		clear(b.channels[had:])
		return
	}
	grown := make([]channelRollup, n)
	copy(grown, b.channels)
	b.channels = grown
}

// add counts a reading that b does not have yet. Times are unique, values finite or omitted.
func (b *bucket) add(t int64, values []float64) {
	b.count++
	if len(values) > len(b.channels) {
		b.grow(len(values))
	}
	at := uint32(t - b.start)
	for i, v := range values {
		if v == v {
			b.addValue(i, at, v)
		}
	}
}

func (b *bucket) addValue(i int, at uint32, v float64) {
	c := &b.channels[i]
	if c.count == 0 {
		*c = channelRollup{firstAt: at, lastAt: at, min: v, max: v, first: v, last: v, sum: c.sum}
	}
	c.count++
	if v <= c.min {
		c.min = min(c.min, v) // -0 below +0, so that the order does not matter
	}
	if v >= c.max {
		c.max = max(c.max, v)
	}
	if at >= c.lastAt {
		c.lastAt, c.last = at, v
	} else if at < c.firstAt {
		c.firstAt, c.first = at, v
	}
	if !c.sum.add(v) {
		b.addWide(i, v)
	}
}

func (b *bucket) addWide(i int, v float64) {
	w := b.wide[i]
	if w == nil {
		if b.wide == nil {
			b.wide = make(map[int]*wideSum)
		}
		w = b.channels[i].sum.widen()
		b.wide[i] = w
	}
	w.add(v)
}

// replace puts other values in place of those of a reading that b has. It answers false when what is
// left does not tell the new minimum, maximum, first or last: b must then be made anew.
func (b *bucket) replace(t int64, old, values []float64) bool {
	n := max(len(old), len(values))
	if n > len(b.channels) {
		b.grow(n)
	}
	at := uint32(t - b.start)
	for i := range n {
		was, is := valueAt(old, i), valueAt(values, i)
		if same(was, is) {
			continue
		}
		if was == was && !b.removeValue(i, at, was, is) {
			return false
		}
		if is == is {
			b.addValue(i, at, is)
		}
	}
	return true
}

// removeValue takes a value out. next, NaN if omitted, is added after it at the same time.
func (b *bucket) removeValue(i int, at uint32, v, next float64) bool {
	c := &b.channels[i]
	c.count--
	if w := b.wide[i]; w != nil {
		w.add(-v)
	} else if !c.sum.sub(v) {
		b.addWide(i, -v)
	}
	if c.count == 0 {
		*c = channelRollup{}
		delete(b.wide, i)
		return true
	}
	if next != next && (c.firstAt == at || c.lastAt == at) {
		return false
	}
	if c.firstAt == at {
		c.first = next
	}
	// addValue settles last, and the extremes when next is beyond them.
	return !(same(c.min, v) && !(next < v)) && !(same(c.max, v) && !(next > v))
}

func valueAt(values []float64, i int) float64 {
	if i < len(values) {
		return values[i]
	}
	return messages.Omitted()
}

// same tells whether two values are the same to the bit, all omitted ones being alike.
func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

func sameValues(a, b []float64) bool {
	for i := range max(len(a), len(b)) {
		if !same(valueAt(a, i), valueAt(b, i)) {
			return false
		}
	}
	return true
}

func (b *bucket) sum(i int) float64 {
	if w := b.wide[i]; w != nil {
		return w.round()
	}
	return b.channels[i].sum.round()
}

// rollup returns b as others see it: without channels at the end that have no value.
func (b *bucket) rollup(step messages.Step) messages.Rollup {
	n := len(b.channels)
	for n > 0 && b.channels[n-1].count == 0 {
		n--
	}
	out := messages.Rollup{Start: b.start, Step: step, Count: int64(b.count)}
	if n == 0 {
		return out
	}
	out.Channels = make([]messages.ChannelRollup, n)
	for i := range out.Channels {
		if c := &b.channels[i]; c.count > 0 {
			out.Channels[i] = messages.ChannelRollup{
				Count: int64(c.count), Min: c.min, Max: c.max,
				Sum: b.sum(i), First: c.first, Last: c.last,
			}
		}
	}
	return out
}

// RollupOf computes a rollup from all rows of its bucket, each event time once, in any order; rows
// outside are ignored. Sequence is the highest of the rows'; the caller sets Sequence and WriteTime as
// Dirty says. Count 0 means that the bucket is empty.
func RollupOf(step messages.Step, start int64, rows []persistence.Row) persistence.RollupRow {
	var b bucket
	b.begin(start)
	var out persistence.RollupRow
	for i := range rows {
		if r := &rows[i]; b.holds(step, r.Time) {
			b.add(r.Time, r.Values)
			out.Sequence = max(out.Sequence, r.Sequence)
		}
	}
	out.Rollup = b.rollup(step)
	return out
}
