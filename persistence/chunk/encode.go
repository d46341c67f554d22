// Package chunk is the codec of the archives that keep many readings of one device together: Pebble, and
// Cassandra with layout chunks. A chunk is columns, compressed without loss; whoever has the bytes and
// docs/chunks.md can read it. It also codes rollups, with the same parts.
//
// What it does not do: keep which device a chunk is of, or where it lies; that is the store's key.
package chunk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// A chunk is one or more frames, in the order they were written:
//
//	frame    version (1 byte = 1, 2 or 3), uvarint length of body, crc32c of body, in version 3 of version and
//	         body (4 bytes, little endian), body
//	body     uvarint rows (1 … maxFrameRows), uvarint channels (0 … 64), sections (1 byte),
//	         uvarint highest sequence, times, sequences, [counts], columns, [notes], [quality], [flags]
//	times    zigzag of the first; zigzag of the second's distance; then zigzag of each change of distance
//	sequences  uvarint (highest - first); then zigzag of each difference
//	counts   1 byte a row: how many values it has; left out when all have as many as there are channels
//	columns  for each channel: head (1 byte), [presence], coded values of the rows that have one
//	notes    uvarint number of different notes, each uvarint length and bytes; then for each row
//	         uvarint 0 = none or 1 + index
//	quality  for each row: uvarint length and bytes
//	flags    1 byte a row
//
// A column's head is kind (bits 0-1), presence follows (bit 2; one bit a row, lowest first), all values
// have the same bits so that only the first is coded (bit 3), decimal places (bits 4-7). Kinds:
//
//	none     no row has a value
//	decimal  value = integer / 10^places, exactly, bit by bit; zigzag of the first integer, then of each
//	         difference. Measuring devices have a decimal resolution: this is half the size of xor.
//	xor      each value's bits xor those of the one before: 0, or 1 byte (zero bytes in front << 4 |
//	         bytes that follow) and those bytes, the zero bytes behind left out
//	raw      8 bytes a value, little endian: random bits, where xor would be longer
//
// Version 2 codes as a series (see series.go): times; highest - each sequence; each decimal column's
// integers; and each row's index of a note. Version 3 does so too, with series of whole bytes (see whole.go), and
// codes a column of numbers that only almost have a decimal resolution as decimal with ulps (see near.go).
//
// Every float64 comes back bit by bit, except that all NaN are one: omitted. All arithmetic on times
// and sequences wraps around, so that any int64 and uint64 can be coded.

const (
	// Version1 is what Pebble appends, and compresses once more in its tables. Version2 packs numbers by
	// bits: measured on the simulated fleet, 100 readings of 4 channels a chunk, 5.4 instead of 8.5 B a
	// reading. Version3 is what Merge makes of many rows: it looks longer for what columns have in common and
	// leaves the rest to the compression of the table. All are read everywhere.
	Version1 = 1
	Version2 = 2
	Version3 = 3

	// maxFrameRows bounds what one frame can decode to: 8192 rows x 64 channels are 4 MiB. Frames that
	// are half full or more are not merged into others, so the cost of merging a slice stays linear
	// however many rows a device sends in an hour; at 1 a second a slice has 3 600.
	maxFrameRows = 8192

	// maxPlaces: with more decimals no integer of a usual value would be exact.
	maxPlaces = 9
	// maxInteger keeps the product with a power of ten far enough below 2^53 to be rounded right.
	maxInteger = 1 << 51
)

const (
	sectionNotes = 1 << iota
	sectionQuality
	sectionFlags
	sectionCounts
	sectionsKnown = 1<<iota - 1
)

const (
	columnNone = iota
	columnDecimal
	columnXor
	columnRaw
	columnKind     = 3
	columnPresence = 1 << 2
	columnSame     = 1 << 3
	placesShift    = 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	powers     = [maxPlaces + 1]float64{1, 10, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

	// ErrCorrupt means that the bytes are no chunk, or not the one that was written.
	ErrCorrupt = fmt.Errorf("%w chunk", persistence.ErrCorrupt)
)

// Encoder turns blocks into frames. It keeps its scratch memory; not for concurrent use.
type Encoder struct {
	Block   Block // what is encoded
	Version byte  // Version1, Version2 or Version3; 0 = Version1

	column    []float64
	integers  []int64
	ulps      []uint64
	steps     []int64
	residuals []uint64
	body      []byte
	dict      map[string]uint64
}

// AppendFrames appends frames of rows [from, to) of the Encoder's Block, which must be in order.
func (e *Encoder) AppendFrames(dst []byte, from, to int) []byte {
	for from < to {
		end := min(to, from+maxFrameRows)
		dst = e.appendFrame(dst, from, end)
		from = end
	}
	return dst
}

func (e *Encoder) appendFrame(dst []byte, from, to int) []byte {
	e.encodeBody(from, to)
	at := len(dst)
	dst = append(dst, max(e.Version, Version1))
	dst = binary.AppendUvarint(dst, uint64(len(e.body)))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[at], e.body))
	return append(dst, e.body...)
}

// version3Sum is the checksum of version 3's first byte.
var version3Sum = crc32.Checksum([]byte{Version3}, castagnoli)

// checksum is of the body alone in versions 1 and 2, which are two bits apart. A bit turned must not make them 3.
func checksum(version byte, body []byte) uint32 {
	if version == Version3 {
		return crc32.Update(version3Sum, castagnoli, body)
	}
	return crc32.Checksum(body, castagnoli)
}

func (e *Encoder) encodeBody(from, to int) {
	b := &e.Block
	n, channels, sections := to-from, 0, byte(0)
	for _, c := range b.counts[from:to] {
		channels = max(channels, int(c))
	}
	for _, c := range b.counts[from:to] {
		if int(c) != channels {
			sections |= sectionCounts
			break
		}
	}
	if len(b.notes) > 0 && slices.ContainsFunc(b.notes[from:to], func(s string) bool { return s != "" }) {
		sections |= sectionNotes
	}
	if len(b.quality) > 0 && slices.ContainsFunc(b.quality[from:to], func(q []uint8) bool { return len(q) > 0 }) {
		sections |= sectionQuality
	}
	if len(b.flags) > 0 && slices.ContainsFunc(b.flags[from:to], func(f uint8) bool { return f != 0 }) {
		sections |= sectionFlags
	}
	out := binary.AppendUvarint(e.body[:0], uint64(n))
	out = binary.AppendUvarint(out, uint64(channels))
	out = append(out, sections)
	if e.Version >= Version2 {
		out = e.appendTimeSeries(out, b.times[from:to], b.sequences[from:to])
	} else {
		out = appendTimes(out, b.times[from:to], b.sequences[from:to])
	}
	if sections&sectionCounts != 0 {
		out = append(out, b.counts[from:to]...)
	}
	for c := range channels {
		out = e.appendColumn(out, c, from, to)
	}
	if sections&sectionNotes != 0 {
		out = e.appendNotes(out, b.notes[from:to])
	}
	if sections&sectionQuality != 0 {
		for _, q := range b.quality[from:to] {
			out = binary.AppendUvarint(out, uint64(len(q)))
			out = append(out, q...)
		}
	}
	if sections&sectionFlags != 0 {
		out = append(out, b.flags[from:to]...)
	}
	e.body = out
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendTimes(out []byte, times []int64, sequences []uint64) []byte {
	out = binary.AppendUvarint(out, slices.Max(sequences))
	var last, distance int64
	for i, t := range times {
		next := t - last
		switch i {
		case 0:
			out = binary.AppendUvarint(out, zigzag(t))
			next = 0
		default:
			out = appendVarint(out, zigzag(next-distance))
		}
		last, distance = t, next
	}
	out = binary.AppendUvarint(out, slices.Max(sequences)-sequences[0])
	for i, s := range sequences[1:] {
		out = appendVarint(out, zigzag(int64(s-sequences[i])))
	}
	return out
}

// appendTimeSeries is appendTimes of versions 2 and 3.
func (e *Encoder) appendTimeSeries(out []byte, times []int64, sequences []uint64) []byte {
	highest := slices.Max(sequences)
	out = binary.AppendUvarint(out, highest)
	out = e.appendSeries(out, times)
	e.integers = e.integers[:0]
	for _, s := range sequences {
		e.integers = append(e.integers, int64(highest-s))
	}
	return e.appendSeries(out, e.integers)
}

// appendVarint is binary.AppendUvarint with the one-byte case inlined: most differences fit.
func appendVarint(out []byte, u uint64) []byte {
	if u < 0x80 {
		return append(out, byte(u))
	}
	return binary.AppendUvarint(out, u)
}

func (e *Encoder) appendColumn(out []byte, channel, from, to int) []byte {
	b := &e.Block
	col := e.column[:0]
	for at := from*b.stride + channel; at < to*b.stride; at += b.stride {
		if v := b.values[at]; v == v {
			col = append(col, v)
		}
	}
	e.column = col
	if len(col) == 0 {
		return append(out, columnNone)
	}
	head, presence := byte(0), len(col) < to-from
	if presence {
		head = columnPresence
	}
	if len(col) > 1 && same(col) {
		head |= columnSame
		col = col[:1]
	}
	places, decimal := e.decimal(col)
	near := false
	if !decimal && e.Version == Version3 {
		places, near = e.nearDecimal(col)
	}
	switch {
	case decimal:
		head |= columnDecimal | byte(places)<<placesShift
	case near:
		head |= columnDecimal | nearPlaces<<placesShift
	default:
		head |= columnXor
	}
	at := len(out)
	out = append(out, head)
	if near {
		out = append(out, byte(places))
	}
	if presence {
		out = b.appendPresence(out, channel, from, to)
	}
	if near {
		return e.appendUlps(e.appendSeries(out, e.integers))
	}
	if decimal && e.Version >= Version2 {
		return e.appendSeries(out, e.integers)
	}
	if decimal {
		last := int64(0)
		for _, v := range e.integers {
			out = appendVarint(out, zigzag(v-last))
			last = v
		}
		return out
	}
	start := len(out)
	out = appendXor(out, col)
	if len(out)-start > 8*len(col) {
		out = out[:start]
		out[at] = head&^columnKind | columnRaw
		for _, v := range col {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
		}
	}
	return out
}

func same(col []float64) bool {
	first := math.Float64bits(col[0])
	for _, v := range col[1:] {
		if math.Float64bits(v) != first {
			return false
		}
	}
	return true
}

func (b *Block) appendPresence(out []byte, channel, from, to int) []byte {
	var bit, octet byte = 1, 0
	for at := from*b.stride + channel; at < to*b.stride; at += b.stride {
		if v := b.values[at]; v == v {
			octet |= bit
		}
		if bit <<= 1; bit == 0 {
			out, bit, octet = append(out, octet), 1, 0
		}
	}
	if bit != 1 {
		out = append(out, octet)
	}
	return out
}

// decimal finds the fewest decimal places with which every value is an integer divided by a power of
// ten, exactly, and leaves the integers in e.integers.
func (e *Encoder) decimal(col []float64) (places int, ok bool) {
	for places = 0; ; {
		power := powers[places]
		integers := e.integers[:0]
		exact := true
		for _, v := range col {
			scaled := v * power
			if !(scaled < maxInteger && scaled > -maxInteger) {
				return 0, false
			}
			// Adding and taking away 1.5 x 2^52 rounds to the nearest integer.
			whole := int64(scaled + 0x1.8p52 - 0x1.8p52)
			if math.Float64bits(float64(whole)/power) != math.Float64bits(v) {
				exact = false
				break
			}
			integers = append(integers, whole)
		}
		e.integers = integers
		if exact {
			return places, true
		}
		if places++; places > maxPlaces {
			return 0, false
		}
	}
}

func appendXor(out []byte, col []float64) []byte {
	last := uint64(0)
	for _, v := range col {
		u := math.Float64bits(v)
		x := u ^ last
		last = u
		if x == 0 {
			out = append(out, 0)
			continue
		}
		front, behind := bits.LeadingZeros64(x)/8, bits.TrailingZeros64(x)/8
		n := 8 - front - behind
		out = append(out, byte(front<<4|n))
		x >>= behind * 8
		for range n {
			out = append(out, byte(x))
			x >>= 8
		}
	}
	return out
}

func (e *Encoder) appendNotes(out []byte, notes []string) []byte {
	if e.dict == nil {
		e.dict = make(map[string]uint64)
	}
	clear(e.dict)
	for _, note := range notes {
		if _, known := e.dict[note]; note != "" && !known {
			e.dict[note] = uint64(len(e.dict) + 1)
		}
	}
	out = binary.AppendUvarint(out, uint64(len(e.dict)))
	seen := uint64(0)
	for _, note := range notes {
		if note != "" && e.dict[note] == seen+1 {
			seen++
			out = binary.AppendUvarint(out, uint64(len(note)))
			out = append(out, note...)
		}
	}
	e.integers = e.integers[:0]
	for _, note := range notes {
		e.integers = append(e.integers, int64(e.dict[note])) // "" is not in it: 0
	}
	clear(e.dict)
	if e.Version >= Version2 {
		return e.appendSeries(out, e.integers)
	}
	for _, index := range e.integers {
		out = binary.AppendUvarint(out, uint64(index))
	}
	return out
}

// frame is one frame of a value.
type frame struct {
	version   byte
	all, body []byte
	sum       uint32 // what the body's checksum is said to be
	rows      int
}

// cutFrame cuts the first frame off value and does not look whether its checksum is right. Before a value that does not begin
// with a whole frame, rest is nil.
func cutFrame(value []byte) (f frame, rest []byte) {
	if len(value) == 0 || value[0] < Version1 || value[0] > Version3 {
		return f, nil
	}
	f.version = value[0]
	length, n := binary.Uvarint(value[1:])
	if n <= 0 || length > uint64(len(value)) || len(value)-1-n-4 < int(length) {
		return f, nil
	}
	at := 1 + n
	f.sum = binary.LittleEndian.Uint32(value[at:])
	f.all, rest = value[:at+4+int(length)], value[at+4+int(length):]
	f.body = f.all[at+4:]
	if rows, n := binary.Uvarint(f.body); n > 0 && rows <= maxFrameRows {
		f.rows = int(rows)
	}
	return f, rest
}

// nextFrame cuts the first frame off value. Its body has passed its checksum when err is nil.
func nextFrame(value []byte) (f frame, rest []byte, err error) {
	f, rest = cutFrame(value)
	switch {
	case f.version == 0:
		return f, nil, fmt.Errorf("%w: it does not begin with a version from %d to %d", ErrCorrupt, Version1, Version3)
	case rest == nil:
		return f, nil, fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	if got := checksum(f.version, f.body); got != f.sum {
		return f, nil, fmt.Errorf("%w: checksum is %08x, not %08x", ErrCorrupt, got, f.sum)
	}
	if f.rows == 0 {
		return f, nil, fmt.Errorf("%w: no rows, or more than %d", ErrCorrupt, maxFrameRows)
	}
	return f, rest, nil
}

// Decode appends the rows of all frames of value to b; they may need normalize. Nothing of b
// points into value afterwards.
func (b *Block) Decode(value []byte) error {
	if len(value) == 0 {
		return fmt.Errorf("%w: empty", ErrCorrupt)
	}
	for len(value) > 0 {
		f, rest, err := nextFrame(value)
		if err != nil {
			return err
		}
		if err := b.decodeBody(f.version, f.body); err != nil {
			return err
		}
		value = rest
	}
	return nil
}

const maxChannels = messages.MaxChannels
