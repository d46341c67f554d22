package actors

import (
	"slices"
	"strings"

	"github.com/wellhead/wellhead/messages"
)

// window holds a device's newest readings in ascending order of event time: a ring of slots in cells.
// Notes, qualities and flags are stored beside them, and only while a reading in it has any.
//
// What is in it is a pure function of the readings ever inserted and of its bounds, whatever the
// order they came in; of equal times the one inserted later stays. The bounds are the caller's:
// window.insert only keeps order, dropOldest makes room.
type window struct {
	cells
	extras *extras // nil = no reading in it has any
	first  int32   // slot of the oldest reading
	count  int32
}

// extras is what few readings have. A slot that has none of it is zero everywhere, outside the window too.
type extras struct {
	marked  []uint64         // a bit a slot: whether it has any, so that most readings do without the rest
	count   int32            // of those
	notes   map[int32]string // by slot; nil = none
	flags   []uint8          // by slot
	quality []uint8          // by slot * channels; nil = all good
}

const firstCapacity = 4

func newExtras(capacity int) *extras {
	return &extras{marked: make([]uint64, (capacity+63)/64), flags: make([]uint8, capacity)}
}

func (x *extras) has(p int) bool { return x.marked[p>>6]>>(p&63)&1 != 0 }

func (x *extras) mark(p int) {
	if !x.has(p) {
		x.marked[p>>6] |= 1 << (p & 63)
		x.count++
	}
}

func (x *extras) note(p int) string {
	if !x.has(p) {
		return ""
	}
	return x.notes[int32(p)]
}

// setNote is for a slot that has none.
func (x *extras) setNote(p int, note string) {
	if note == "" {
		return
	}
	if x.notes == nil {
		x.notes = make(map[int32]string, 1)
	}
	x.notes[int32(p)] = note
	x.mark(p)
}

func (x *extras) setFlags(p int, flags uint8) {
	if flags != 0 {
		x.flags[p] = flags
		x.mark(p)
	}
}

// setQuality is for a slot that has none, once there is room for it.
func (x *extras) setQuality(p, channels int, quality []uint8) {
	if slices.ContainsFunc(quality, notGood) {
		copy(x.qualityOf(p, channels), quality)
		x.mark(p)
	}
}

func notGood(quality uint8) bool { return quality != 0 }

// qualityOf is a slot's part of quality, which is there.
func (x *extras) qualityOf(p, channels int) []uint8 {
	return x.quality[p*channels : (p+1)*channels]
}

// forget lets go of what a slot has.
func (x *extras) forget(p, channels int) {
	if !x.has(p) {
		return
	}
	x.marked[p>>6] &^= 1 << (p & 63)
	x.count--
	delete(x.notes, int32(p))
	x.flags[p] = 0
	if x.quality != nil {
		clear(x.qualityOf(p, channels))
	}
}

// copySlot gives a slot that has nothing what a slot of y has, of as many channels or fewer.
func (x *extras) copySlot(p, channels int, y *extras, q, of int) {
	if !y.has(q) {
		return
	}
	x.setNote(p, y.note(q))
	x.setFlags(p, y.flags[q])
	if y.quality != nil {
		x.setQuality(p, channels, y.qualityOf(q, of))
	}
}

// place returns the slot number of the i-th oldest reading.
func (w *window) place(i int) int {
	p := int(w.first) + i
	if c := w.capacity(); p >= c {
		p -= c
	}
	return p
}

func (w *window) timeAt(i int) int64 { return w.time(w.place(i)) }

func (w *window) sequenceAt(i int) uint64 { return w.sequence(w.place(i)) }

// valueAt returns the i-th reading's value of a channel, NaN when omitted.
func (w *window) valueAt(i, channel int) float64 { return w.value(w.place(i), channel) }

// search returns the place of the first reading whose time is at least t, and whether it is t.
func (w *window) search(t int64) (int, bool) {
	low, high := 0, int(w.count)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if w.timeAt(mid) < t {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < int(w.count) && w.timeAt(low) == t
}

// reserve makes room for one more reading of so many channels; most is how many there will ever be.
func (w *window) reserve(channels, most int) {
	capacity := w.capacity()
	if channels <= int(w.channels) && int(w.count) < capacity {
		return
	}
	if int(w.count) == capacity {
		capacity = max(min(max(firstCapacity, 2*capacity), most), int(w.count)+1)
	}
	w.rebuild(capacity, max(channels, int(w.channels)))
}

// reserveChannels makes room for readings of so many channels.
func (w *window) reserveChannels(channels int) {
	if channels > int(w.channels) {
		w.rebuild(w.capacity(), channels)
	}
}

// rebuild copies everything into slots of another number or shape, packed if that can be.
func (w *window) rebuild(capacity, channels int) {
	old := *w
	w.first, w.count = 0, 0
	w.cells = newCells(capacity, channels, false)
	if old.extras != nil {
		w.extras = newExtras(capacity)
		if old.extras.quality != nil {
			w.extras.quality = make([]uint8, capacity*channels)
		}
	}
	var values [messages.MaxChannels]float64
	for i := range int(old.count) {
		p := old.place(i)
		w.store(i, old.time(p), old.sequence(p), old.values(values[:old.channels], p))
		w.count++
		if w.extras != nil {
			w.extras.copySlot(i, channels, old.extras, p, int(old.channels))
		}
	}
}

// insert puts a reading at place i; the caller has reserved room and searched the place. At both ends
// it costs the same whatever the window's length.
func (w *window) insert(i int, r *messages.Reading, sequence uint64, flags uint8) {
	w.count++
	last := int(w.count) - 1
	if i == 0 && last > 0 {
		w.first--
		if w.first < 0 {
			w.first += int32(w.capacity())
		}
	} else {
		for k := last; k > i; k-- {
			w.move(k, k-1)
		}
	}
	w.set(i, r, sequence, flags)
}

// move copies the reading at place from to place to.
func (w *window) move(to, from int) {
	p, q := w.place(to), w.place(from)
	copy(w.slot(p), w.slot(q))
	if x := w.extras; x != nil {
		x.forget(p, int(w.channels))
		x.copySlot(p, int(w.channels), x, q, int(w.channels))
	}
}

// set overwrites the reading at place i whole.
func (w *window) set(i int, r *messages.Reading, sequence uint64, flags uint8) {
	p := w.place(i)
	w.store(p, r.Time, sequence, r.Values)
	w.forget(p)
	if r.Note != "" || flags != 0 || anyQuality(r) {
		w.setExtras(p, r, flags)
	}
}

// forget lets go of what the reading of a slot has beside its values, and of all memory for that when no other has any.
func (w *window) forget(p int) {
	if x := w.extras; x != nil {
		if x.forget(p, int(w.channels)); x.count == 0 {
			w.extras = nil
		}
	}
}

// anyQuality tells whether a value of r is marked other than good.
func anyQuality(r *messages.Reading) bool {
	for c, q := range r.Quality {
		if q != 0 && c < len(r.Values) && r.Values[c] == r.Values[c] { // an omitted value is good
			return true
		}
	}
	return false
}

func (w *window) setExtras(p int, r *messages.Reading, flags uint8) {
	if w.extras == nil {
		w.extras = newExtras(w.capacity())
	}
	x, n := w.extras, int(w.channels)
	x.setNote(p, strings.Clone(r.Note))
	x.setFlags(p, flags)
	if !anyQuality(r) {
		return
	}
	if x.quality == nil {
		x.quality = make([]uint8, w.capacity()*n)
	}
	x.mark(p)
	quality := x.qualityOf(p, n)
	for c, q := range r.Quality[:min(len(r.Quality), len(r.Values))] {
		if v := r.Values[c]; v == v { // an omitted value is good
			quality[c] = q
		}
	}
}

// dropOldest lets go of the oldest reading and returns its time.
func (w *window) dropOldest() int64 {
	t := w.timeAt(0)
	w.forget(int(w.first))
	w.first = int32(w.place(1))
	w.count--
	if w.count == 0 {
		w.first = 0
	}
	if w.first == 0 && w.wide && w.packable() { // looked at once in a turn of the ring
		w.rebuild(w.capacity(), int(w.channels))
	}
	return t
}

// shrink gives memory back that a smaller window does not need.
func (w *window) shrink(most int) {
	if w.count == 0 {
		*w = window{cells: cells{channels: w.channels}}
	} else if c := w.capacity(); c > 2*max(most, int(w.count)) {
		w.rebuild(max(int(w.count), firstCapacity), int(w.channels))
	}
}

// valuesInto copies the i-th reading's values to dst, which is w.channels long, and returns them
// without the omitted ones at the end.
func (w *window) valuesInto(dst []float64, i int) []float64 {
	dst = w.values(dst, w.place(i))
	n := len(dst)
	for n > 0 && dst[n-1] != dst[n-1] {
		n--
	}
	return dst[:n:n]
}

// readSample sets s to the i-th reading, with its values in dst.
func (w *window) readSample(s *messages.Sample, i int, dst []float64) {
	s.Time, s.Sequence = w.timeAt(i), w.sequenceAt(i)
	s.Values, s.Quality, s.Note = w.valuesInto(dst, i), nil, ""
	if x := w.extras; x != nil {
		p, n := w.place(i), int(w.channels)
		s.Note = x.note(p)
		if x.quality != nil {
			q := x.qualityOf(p, n)[:len(s.Values)]
			if slices.ContainsFunc(q, notGood) {
				s.Quality = slices.Clone(q)
			}
		}
	}
}
