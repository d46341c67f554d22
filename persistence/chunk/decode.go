package chunk

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// reader reads a body. After the first failure it gives zeros and remembers what was wrong.
type reader struct {
	data    []byte
	version byte // of the chunk
	bad     string
}

func (r *reader) fail(what string) {
	if r.bad == "" {
		r.bad = what
	}
	r.data = nil
}

func (r *reader) uvarint() uint64 {
	if len(r.data) > 0 && r.data[0] < 0x80 {
		u := r.data[0]
		r.data = r.data[1:]
		return uint64(u)
	}
	u, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail("a number is cut short")
		return 0
	}
	r.data = r.data[n:]
	return u
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.data)) {
		r.fail("cut short")
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// decodeBody appends the rows of one body to b. On an error b holds a mixture and must be reset.
// It never allocates more than a fixed multiple of what the body's length allows: each row costs at
// least two bytes in versions 1 and 3, two bits in version 2.
func (b *Block) decodeBody(version byte, body []byte) error {
	r := reader{data: body, version: version}
	least := uint64(8) // bytes of four rows
	if version == Version2 {
		least = 1
	}
	rows, channels, sections := r.uvarint(), r.uvarint(), r.byte()
	if rows == 0 || rows > maxFrameRows || least*rows > 4*uint64(len(body)) {
		return fmt.Errorf("%w: %d rows in %d bytes", ErrCorrupt, rows, len(body))
	}
	if channels > maxChannels || sections > sectionsKnown {
		return fmt.Errorf("%w: %d channels, sections %#x", ErrCorrupt, channels, sections)
	}
	b.widen(int(channels))
	from, n := b.Len(), int(rows)
	if version >= Version2 {
		b.decodeTimeSeries(&r, n)
	} else {
		b.decodeTimes(&r, n)
	}
	b.decodeCounts(&r, n, int(channels), sections)
	need := (from + n) * b.stride
	if cap(b.values) < need {
		b.values = append(make([]float64, 0, max(need, 2*cap(b.values))), b.values...)
	}
	b.values = b.values[:need]
	for c := range b.stride {
		if c < int(channels) {
			b.decodeColumn(&r, c, from, n)
			continue
		}
		for at := from*b.stride + c; at < need; at += b.stride {
			b.values[at] = math.NaN()
		}
	}
	b.decodeNotes(&r, from, n, sections&sectionNotes != 0)
	b.decodeQuality(&r, from, n, sections&sectionQuality != 0)
	b.decodeFlags(&r, from, n, sections&sectionFlags != 0)
	if r.bad == "" && len(r.data) > 0 {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.data)))
	}
	if r.bad != "" {
		return fmt.Errorf("%w: %s", ErrCorrupt, r.bad)
	}
	return nil
}

func (b *Block) decodeTimes(r *reader, n int) {
	highest := r.uvarint()
	var last, distance int64
	for i := range n {
		v := unzigzag(r.uvarint())
		if i > 0 {
			distance += v
			v = last + distance
		}
		b.times = append(b.times, v)
		last = v
	}
	sequence := highest - r.uvarint()
	b.sequences = append(b.sequences, sequence)
	for range n - 1 {
		sequence += uint64(unzigzag(r.uvarint()))
		b.sequences = append(b.sequences, sequence)
	}
}

// decodeTimeSeries is decodeTimes of versions 2 and 3.
func (b *Block) decodeTimeSeries(r *reader, n int) {
	highest := r.uvarint()
	b.integers = slices.Grow(b.integers[:0], n)[:n]
	r.series(b.integers)
	b.times = append(b.times, b.integers...)
	r.series(b.integers)
	for _, below := range b.integers {
		b.sequences = append(b.sequences, highest-uint64(below))
	}
}

func (b *Block) decodeCounts(r *reader, n, channels int, sections byte) {
	if sections&sectionCounts == 0 {
		for range n {
			b.counts = append(b.counts, uint8(channels))
		}
		return
	}
	counts := r.bytes(uint64(n))
	for i := range n {
		count := uint8(0)
		if counts != nil {
			count = counts[i]
		}
		if int(count) > channels {
			r.fail("a row has more values than there are channels")
			count = 0
		}
		b.counts = append(b.counts, count)
	}
}

func (b *Block) decodeColumn(r *reader, channel, from, n int) {
	head := r.byte()
	kind, places := head&columnKind, head>>placesShift
	near := r.version == Version3 && kind == columnDecimal && places == nearPlaces && head&columnSame == 0
	if near {
		places = r.byte()
	}
	if places > maxPlaces {
		r.fail("too many decimal places")
		places = 0
	}
	var presence []byte
	if head&columnPresence != 0 {
		if presence = r.bytes(uint64(n+7) / 8); presence == nil {
			return
		}
	}
	if r.version >= Version2 && kind == columnDecimal && head&columnSame == 0 {
		b.decodeDecimals(r, presence, powers[places], channel, from, n)
		if near {
			b.addUlps(r, channel, from, n)
		}
		return
	}
	var d columnDecoder
	d.reader, d.kind, d.power, d.same = r, kind, powers[places], head&columnSame != 0
	at := from*b.stride + channel
	for i := range n {
		v := math.NaN()
		if kind != columnNone && (presence == nil || presence[i>>3]>>(i&7)&1 != 0) {
			v = d.next()
		}
		b.values[at] = v
		at += b.stride
	}
}

// decodeDecimals reads a series of integers.
func (b *Block) decodeDecimals(r *reader, presence []byte, power float64, channel, from, n int) {
	count := n
	if presence != nil {
		count = 0
		for i := range n {
			count += int(presence[i>>3] >> (i & 7) & 1)
		}
		if count == 0 {
			r.fail("a column without values")
			return
		}
	}
	b.integers = slices.Grow(b.integers[:0], count)[:count]
	r.series(b.integers)
	next := 0
	at := from*b.stride + channel
	for i := range n {
		v := math.NaN()
		if presence == nil || presence[i>>3]>>(i&7)&1 != 0 {
			v = float64(b.integers[next]) / power
			next++
		}
		b.values[at] = v
		at += b.stride
	}
}

// columnDecoder gives the coded values of one column.
type columnDecoder struct {
	reader  *reader
	kind    byte
	same    bool
	started bool
	power   float64
	integer int64
	bits    uint64
	value   float64
}

func (d *columnDecoder) next() float64 {
	if d.same && d.started {
		return d.value
	}
	d.started = true
	switch d.kind {
	case columnDecimal:
		d.integer += unzigzag(d.reader.uvarint())
		d.value = float64(d.integer) / d.power
	case columnXor:
		d.bits ^= d.xor()
		d.value = math.Float64frombits(d.bits)
	case columnRaw:
		if eight := d.reader.bytes(8); eight != nil {
			d.value = math.Float64frombits(binary.LittleEndian.Uint64(eight))
		}
	}
	return d.value
}

func (d *columnDecoder) xor() uint64 {
	head := d.reader.byte()
	front, n := int(head>>4), int(head&15)
	if front+n > 8 {
		d.reader.fail("a value has more than eight bytes")
		return 0
	}
	x := uint64(0)
	for i, octet := range d.reader.bytes(uint64(n)) {
		x |= uint64(octet) << (8 * i)
	}
	return x << (8 * ((8 - front - n) & 7))
}

func (b *Block) decodeNotes(r *reader, from, n int, present bool) {
	if !present {
		if len(b.notes) > 0 {
			b.notes = grow(b.notes, from+n)
		}
		return
	}
	size := r.uvarint()
	if size > uint64(n) {
		r.fail("more notes than rows")
		return
	}
	dict := make([]string, size)
	for i := range dict {
		dict[i] = string(r.bytes(r.uvarint()))
	}
	b.notes = grow(b.notes, from)
	if r.version >= Version2 {
		b.integers = slices.Grow(b.integers[:0], n)[:n]
		r.series(b.integers)
	}
	for i := range n {
		var index uint64
		if r.version >= Version2 {
			index = uint64(b.integers[i])
		} else {
			index = r.uvarint()
		}
		note := ""
		if index > size {
			r.fail("a note that does not exist")
		} else if index > 0 {
			note = dict[index-1]
		}
		b.notes = append(b.notes, note)
	}
}

func (b *Block) decodeQuality(r *reader, from, n int, present bool) {
	if !present {
		if len(b.quality) > 0 {
			b.quality = grow(b.quality, from+n)
		}
		return
	}
	b.quality = grow(b.quality, from)
	all := append([]uint8(nil), r.data...)
	for range n {
		length := r.uvarint()
		at := len(all) - len(r.data)
		q := r.bytes(length)
		b.quality = append(b.quality, all[at:at+len(q):at+len(q)])
	}
}

func (b *Block) decodeFlags(r *reader, from, n int, present bool) {
	if !present {
		if len(b.flags) > 0 {
			b.flags = grow(b.flags, from+n)
		}
		return
	}
	b.flags = grow(b.flags, from)
	if flags := r.bytes(uint64(n)); flags != nil {
		b.flags = append(b.flags, flags...)
	}
}
