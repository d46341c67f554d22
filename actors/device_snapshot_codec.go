package actors

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/wellhead/wellhead/messages"
)

// A column of values is written in one of two ways, whichever fits: as whole numbers of a power of
// ten, when every value is exactly such a decimal (what meters send), each as the difference to the
// one before; or as the bytes in which a value's bits differ from those of the one before.
const (
	columnScale   = 0x1f // the power of ten, or columnBits, or columnEmpty
	columnBits    = 0x1f
	columnEmpty   = 0x1e // all omitted
	columnOmitted = 0x80 // a bitmap of the values that are there follows

	largestScale = 9
)

var powersOfTen = [largestScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// decimal returns v as a whole number of 10^-scale, if it is exactly that.
func decimal(v float64, scale int) (int64, bool) {
	m := math.RoundToEven(v * powersOfTen[scale])
	if !(math.Abs(m) < 1<<53) || !same(float64(int64(m))/powersOfTen[scale], v) {
		return 0, false
	}
	return int64(m), true
}

// scaleOf returns the power of ten that makes all values whole, or columnBits.
func scaleOf(values []float64) int {
	scale := 0
	for _, v := range values {
		for v == v {
			if _, ok := decimal(v, scale); ok {
				break
			}
			if scale++; scale > largestScale {
				return columnBits
			}
		}
	}
	for _, v := range values { // a larger power may be too much for those before
		if _, ok := decimal(v, scale); v == v && !ok {
			return columnBits
		}
	}
	return scale
}

func appendColumn(dst []byte, values []float64) []byte {
	there := 0
	for _, v := range values {
		if v == v {
			there++
		}
	}
	if there == 0 {
		return append(dst, columnEmpty)
	}
	scale := scaleOf(values)
	head := len(dst)
	dst = append(dst, byte(scale))
	if there < len(values) {
		dst[head] |= columnOmitted
		at := len(dst)
		dst = append(dst, make([]byte, (len(values)+7)/8)...)
		for i, v := range values {
			if v == v {
				dst[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	var last int64
	var lastBits uint64
	for _, v := range values {
		switch {
		case v != v:
		case scale == columnBits:
			dst = appendDifference(dst, math.Float64bits(v)^lastBits)
			lastBits = math.Float64bits(v)
		default:
			m, _ := decimal(v, scale)
			dst = binary.AppendVarint(dst, m-last)
			last = m
		}
	}
	return dst
}

// appendCells writes a channel of packed cells as appendColumn does.
func (w *window) appendCells(dst []byte, channel int) []byte {
	n, scale := int(w.count), w.scale(channel)
	there, zeros, unit := 0, scale, int32(powersOfTen[scale]) // zeros that all numbers have at their end
	for i := range n {
		v := w.cell(i, channel)
		if v == omittedCell {
			continue
		}
		there++
		for zeros > 0 && v%unit != 0 {
			zeros--
			unit /= 10
		}
	}
	if there == 0 {
		return append(dst, columnEmpty)
	}
	head := len(dst)
	dst = append(dst, byte(scale-zeros))
	if there < n {
		dst[head] |= columnOmitted
		dst = append(dst, make([]byte, (n+7)/8)...)
	}
	last := int32(0)
	for i := range n {
		v := w.cell(i, channel)
		if v == omittedCell {
			continue
		}
		if there < n {
			dst[head+1+i/8] |= 1 << (i % 8)
		}
		if unit > 1 {
			v /= unit
		}
		dst = binary.AppendVarint(dst, int64(v)-int64(last))
		last = v
	}
	return dst
}

// cell returns a value of packed cells as it is there.
func (w *window) cell(i, channel int) int32 { return int32(w.slot(w.place(i))[2+channel]) }

// appendDifference writes the bytes between the first and the last that are not zero: their number
// and how many zero bytes follow, then the bytes.
func appendDifference(dst []byte, x uint64) []byte {
	if x == 0 {
		return append(dst, 0)
	}
	zeros := bits.TrailingZeros64(x) / 8
	x >>= 8 * zeros
	n := (bits.Len64(x) + 7) / 8
	dst = append(dst, byte(zeros<<4|n))
	for range n {
		dst = append(dst, byte(x))
		x >>= 8
	}
	return dst
}

// snapshotReader reads what the append functions wrote. After the first error it gives zeros. One may read many
// snapshots, one after the other: what they have in common is there once then.
type snapshotReader struct {
	data    []byte
	at      int // of data what is read next
	version byte
	err     error

	site          string             // that was read last
	settingsBytes []byte             // settings as they were written that were read last
	lastSettings  *messages.Settings // those
	numbers       []uint64           // scratch
	floats        []float64          // scratch
}

func (r *snapshotReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("device snapshot: bad %s: %w", what, messages.ErrInvalid)
	}
	r.data, r.at = nil, 0
}

// left is how many bytes are not read yet.
func (r *snapshotReader) left() int { return len(r.data) - r.at }

func (r *snapshotReader) bytes(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail("length")
		return nil
	}
	r.at += int(n)
	return r.data[r.at-int(n) : r.at]
}

func (r *snapshotReader) byte() byte {
	if r.left() == 0 {
		r.fail("length")
		return 0
	}
	r.at++
	return r.data[r.at-1]
}

func (r *snapshotReader) uvarint() uint64 {
	if r.at < len(r.data) && r.data[r.at] < 0x80 { // most are one byte
		r.at++
		return uint64(r.data[r.at-1])
	}
	return r.longUvarint()
}

func (r *snapshotReader) longUvarint() uint64 {
	v, n := binary.Uvarint(r.data[r.at:])
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.at += n
	return v
}

// varint reads a number with a sign.
func (r *snapshotReader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1) // as binary.Varint does
}

// number reads a uvarint of at most most.
func (r *snapshotReader) number(most uint64) int {
	v := r.uvarint()
	if v > most {
		r.fail("count")
		return 0
	}
	return int(v)
}

func (r *snapshotReader) string() string { return string(r.bytes(r.uvarint())) }

// columnHead reads how a column of n values is written, and which of them are there; nil = all, or, when it is empty, none.
func (r *snapshotReader) columnHead(n int) (scale int, there []byte) {
	head := r.byte()
	scale = int(head & columnScale)
	if scale > largestScale && scale != columnBits && scale != columnEmpty {
		r.fail("column")
	} else if head&columnOmitted != 0 {
		there = r.bytes(uint64(n+7) / 8)
	}
	return scale, there
}

// column reads a column of as many values as dst has.
func (r *snapshotReader) column(dst []float64) {
	scale, there := r.columnHead(len(dst))
	var last int64
	var lastBits uint64
	for i := range dst {
		switch {
		case r.err != nil:
			return
		case scale == columnEmpty || there != nil && there[i/8]&(1<<(i%8)) == 0:
			dst[i] = messages.Omitted()
		case scale == columnBits:
			lastBits ^= r.difference()
			dst[i] = math.Float64frombits(lastBits)
		default:
			last += r.varint()
			dst[i] = float64(last) / powersOfTen[scale]
		}
		if math.IsInf(dst[i], 0) {
			r.fail("value")
		}
	}
}

// cells reads a column into a channel of packed cells; false: they cannot hold it.
func (r *snapshotReader) cells(m *cells, channel int) bool {
	n := m.capacity()
	scale, there := r.columnHead(n)
	if r.err != nil || scale == columnBits {
		return false
	}
	empty := scale == columnEmpty
	if !empty {
		m.setScale(channel, scale)
	}
	words, stride := m.words[m.head()+2+channel:], m.stride()
	var last int64
	for i := range n {
		cell := int64(omittedCell)
		if !empty && (there == nil || there[i/8]&(1<<(i%8)) != 0) {
			last += r.varint()
			if last <= math.MinInt32 || last > math.MaxInt32 {
				return false
			}
			cell = last
		}
		words[i*stride] = uint32(cell)
	}
	return r.err == nil
}

func (r *snapshotReader) difference() uint64 {
	head := r.byte()
	n, zeros := uint64(head&15), uint(head>>4)
	if n > 8 || zeros > 7 {
		r.fail("value")
		return 0
	}
	var x uint64
	for i, b := range r.bytes(n) {
		x |= uint64(b) << (8 * i)
	}
	return x << (8 * zeros)
}

// appendSum writes the exact sum of channel i: an integer without zero bits at its end, and its unit.
func (b *bucket) appendSum(dst []byte, i int) []byte {
	if w := b.wide[i]; w != nil {
		zeros := w.n.TrailingZeroBits()
		integer := new(big.Int).Rsh(new(big.Int).Abs(&w.n), zeros).Bytes()
		return appendInteger(dst, w.n.Sign() < 0, uint64(zeros), integer)
	}
	s := &b.channels[i].sum
	negative, hi, lo := s.magnitude()
	if hi == 0 && lo == 0 {
		return appendInteger(dst, false, 0, nil)
	}
	zeros := zeros128(hi, lo)
	hi, lo = shiftRight128(hi, lo, uint(zeros))
	var integer [16]byte
	binary.BigEndian.PutUint64(integer[:8], hi)
	binary.BigEndian.PutUint64(integer[8:], lo)
	return appendInteger(dst, negative, uint64(zeros)+uint64(s.exp-1), integer[16-(length128(hi, lo)+7)/8:])
}

func appendInteger(dst []byte, negative bool, zeros uint64, integer []byte) []byte {
	head := uint64(len(integer)) << 1
	if head == 0 {
		return append(dst, 0)
	}
	if negative {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	dst = binary.AppendUvarint(dst, zeros)
	return append(dst, integer...)
}

// readSum reads what appendSum wrote into channel i.
func (b *bucket) readSum(r *snapshotReader, i int) {
	const mostBytes, mostZeros, narrowBits = 300, 2400, 100
	head := r.number(mostBytes<<1 | 1)
	if head == 0 {
		return
	}
	zeros := r.number(mostZeros)
	integer := r.bytes(uint64(head >> 1))
	negative := head&1 != 0
	if hi, lo, ok := integer128(integer); ok && length128(hi, lo) <= narrowBits {
		b.channels[i].sum.set(negative, hi, lo, int32(zeros)+1)
		return
	}
	w := &wideSum{}
	w.n.SetBytes(integer)
	w.n.Lsh(&w.n, uint(zeros))
	if negative {
		w.n.Neg(&w.n)
	}
	if b.wide == nil {
		b.wide = make(map[int]*wideSum)
	}
	b.wide[i] = w
	b.channels[i].sum = exactSum{exp: isWide}
}

// integer128 reads a big-endian integer of at most 16 bytes.
func integer128(b []byte) (hi, lo uint64, ok bool) {
	var whole [16]byte
	if len(b) > len(whole) {
		return 0, 0, false
	}
	copy(whole[len(whole)-len(b):], b)
	return binary.BigEndian.Uint64(whole[:8]), binary.BigEndian.Uint64(whole[8:]), true
}
