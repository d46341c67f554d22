package actors

import (
	"math"

	"github.com/wellhead/wellhead/messages"
)

// cells is the memory of a window: slots of 32-bit words in one slice without pointers, each slot a
// time, a sequence and one value a channel. It knows nothing of the order of the slots.
//
// Packed, each of these is one word: times and sequences as distances from a base, values as whole
// numbers of 10^-scale, with a scale for each channel. That is how instruments send them: as decimals of
// up to nine digits. What one word cannot tell exactly (other values, -0, times more than 24 days
// from the base) makes all slots wide: two words each, and the bits of the float64.
type cells struct {
	words        []uint32 // packed: the scales of channels from nearScales on, a byte each; then the slots
	baseTime     int64
	baseSequence uint64
	near         [nearScales]uint8 // packed: the scales of the first channels, which need no line of words then
	channels     int32
	wide         bool
}

// nearScales is how many channels most devices have at most.
const nearScales = 8

const omittedCell = math.MinInt32 // an omitted value, packed

// omittedBits is the one NaN that stands for an omitted value, wide.
var omittedBits = math.Float64bits(messages.Omitted())

func newCells(capacity, channels int, wide bool) cells {
	m := cells{channels: int32(channels), wide: wide}
	m.words = make([]uint32, m.head()+capacity*m.stride())
	return m
}

// head is how many words the scales take.
func (m *cells) head() int {
	if m.wide || m.channels <= nearScales {
		return 0
	}
	return (int(m.channels) - nearScales + 3) / 4
}

// stride is how many words a slot takes.
func (m *cells) stride() int {
	if m.wide {
		return 2 * (2 + int(m.channels))
	}
	return 2 + int(m.channels)
}

func (m *cells) capacity() int {
	if len(m.words) == 0 {
		return 0
	}
	return (len(m.words) - m.head()) / m.stride()
}

func (m *cells) slot(p int) []uint32 {
	s := m.stride()
	at := m.head() + p*s
	return m.words[at : at+s : at+s]
}

func (m *cells) scale(channel int) int {
	if channel < nearScales {
		return int(m.near[channel])
	}
	channel -= nearScales
	return int(m.words[channel>>2] >> (channel & 3 * 8) & 0xff)
}

func (m *cells) setScale(channel, scale int) {
	if channel < nearScales {
		m.near[channel] = uint8(scale)
		return
	}
	channel -= nearScales
	shift := channel & 3 * 8
	m.words[channel>>2] = m.words[channel>>2]&^(0xff<<shift) | uint32(scale)<<shift
}

func double(words []uint32) uint64 { return uint64(words[0]) | uint64(words[1])<<32 }

func putDouble(words []uint32, v uint64) { words[0], words[1] = uint32(v), uint32(v>>32) }

func (m *cells) time(p int) int64 {
	if m.wide {
		return int64(double(m.slot(p)))
	}
	return m.baseTime + int64(int32(m.slot(p)[0]))
}

func (m *cells) sequence(p int) uint64 {
	if m.wide {
		return double(m.slot(p)[2:])
	}
	return m.baseSequence + uint64(int64(int32(m.slot(p)[1])))
}

// value returns a value, NaN when omitted.
func (m *cells) value(p, channel int) float64 {
	if m.wide {
		return math.Float64frombits(double(m.slot(p)[4+2*channel:]))
	}
	n := int32(m.slot(p)[2+channel])
	if n == omittedCell {
		return messages.Omitted()
	}
	return float64(n) / powersOfTen[m.scale(channel)]
}

// values fills dst, one value a channel, NaN when omitted, and returns it.
func (m *cells) values(dst []float64, p int) []float64 {
	for c := range dst {
		dst[c] = m.value(p, c)
	}
	return dst
}

// fit returns v as a whole number of 10^-scale, if it is exactly that and one word holds it.
func fit(v float64, scale int) (int32, bool) {
	n, ok := decimal(v, scale)
	return int32(n), ok && n > math.MinInt32 && n <= math.MaxInt32
}

// smallestScale returns the smallest scale, not below least, that fits v.
func smallestScale(v float64, least int) (int, bool) {
	for s := least; s <= largestScale; s++ {
		if _, ok := fit(v, s); ok {
			return s, true
		}
	}
	return 0, false
}

// distance is how far v is from a base, if one word can tell.
func distance(v, base int64) (int32, bool) {
	d := v - base
	return int32(d), int64(int32(d)) == d
}

// put overwrites slot p with a reading. False: its present form cannot hold it, and the slot's content
// is undefined. Values beyond the channels are left out, missing ones omitted.
func (m *cells) put(p int, t int64, sequence uint64, values []float64) bool {
	slot := m.slot(p)
	if m.wide {
		putDouble(slot, uint64(t))
		putDouble(slot[2:], sequence)
		for c := range int(m.channels) {
			bits := omittedBits
			if c < len(values) && values[c] == values[c] {
				bits = math.Float64bits(values[c])
			}
			putDouble(slot[4+2*c:], bits)
		}
		return true
	}
	dt, timeFits := distance(t, m.baseTime)
	ds, sequenceFits := distance(int64(sequence), int64(m.baseSequence))
	if !timeFits || !sequenceFits {
		return false
	}
	slot[0], slot[1] = uint32(dt), uint32(ds)
	for c := range slot[2:] {
		n := int32(omittedCell)
		if c < len(values) && values[c] == values[c] {
			var ok bool
			if n, ok = fit(values[c], m.scale(c)); !ok {
				return false
			}
		}
		slot[2+c] = uint32(n)
	}
	return true
}

// store overwrites slot p with a reading, and gives all slots in use another form if it needs one.
func (w *window) store(p int, t int64, sequence uint64, values []float64) {
	for !w.put(p, t, sequence, values) {
		if !w.rebase(p, t, sequence) || !w.rescale(p, values) {
			w.widen(p)
		}
	}
}

// others calls f with each slot in use except p, until it answers false, and returns the last answer.
func (w *window) others(p int, f func(q int) bool) bool {
	for i := range int(w.count) {
		if q := w.place(i); q != p && !f(q) {
			return false
		}
	}
	return true
}

// rebase makes time and sequence of what is to come to slot p the base if they are too far from it.
// False: other slots would be too far then.
func (w *window) rebase(p int, t int64, sequence uint64) bool {
	_, timeFits := distance(t, w.baseTime)
	_, sequenceFits := distance(int64(sequence), int64(w.baseSequence))
	if timeFits && sequenceFits {
		return true
	}
	if !w.others(p, func(q int) bool {
		_, timeFits := distance(w.time(q), t)
		_, sequenceFits := distance(int64(w.sequence(q)), int64(sequence))
		return timeFits && sequenceFits
	}) {
		return false
	}
	w.others(p, func(q int) bool {
		slot := w.slot(q)
		slot[0], slot[1] = uint32(w.time(q)-t), uint32(w.sequence(q)-sequence)
		return true
	})
	w.baseTime, w.baseSequence = t, sequence
	return true
}

// rescale raises scales so that the values fit that are to come to slot p. False: there is no scale for
// one of them, or another slot would not fit then.
func (w *window) rescale(p int, values []float64) bool {
	for c := range min(len(values), int(w.channels)) {
		if values[c] != values[c] {
			continue
		}
		had := w.scale(c)
		scale, ok := smallestScale(values[c], had)
		if !ok {
			return false
		}
		if scale == had {
			continue
		}
		factor := int64(powersOfTen[scale-had])
		if !w.others(p, func(q int) bool {
			n := int32(w.slot(q)[2+c])
			m := int64(n) * factor
			return n == omittedCell || m > math.MinInt32 && m <= math.MaxInt32
		}) {
			return false
		}
		w.others(p, func(q int) bool {
			if cell := &w.slot(q)[2+c]; int32(*cell) != omittedCell {
				*cell *= uint32(factor)
			}
			return true
		})
		w.setScale(c, scale)
	}
	return true
}

// widen makes all slots wide; what is in slot p is lost.
func (w *window) widen(p int) {
	m := newCells(w.capacity(), int(w.channels), true)
	var values [messages.MaxChannels]float64
	w.others(p, func(q int) bool {
		return m.put(q, w.time(q), w.sequence(q), w.values(values[:w.channels], q))
	})
	w.cells = m
}

// packable tells whether all that is in a wide window could be packed.
func (w *window) packable() bool {
	if w.count == 0 {
		return true
	}
	base, sequence := w.timeAt(0), w.sequenceAt(0)
	for i := range int(w.count) {
		_, timeFits := distance(w.timeAt(i), base)
		_, sequenceFits := distance(int64(w.sequenceAt(i)), int64(sequence))
		if !timeFits || !sequenceFits {
			return false
		}
	}
	for c := range int(w.channels) {
		scale, most := 0, 0.0
		for i := range int(w.count) {
			v := w.valueAt(i, c)
			if v != v {
				continue
			}
			var ok bool
			if scale, ok = smallestScale(v, scale); !ok {
				return false
			}
			most = max(most, math.Abs(v))
		}
		if most*powersOfTen[scale] > math.MaxInt32-1 {
			return false
		}
	}
	return true
}
