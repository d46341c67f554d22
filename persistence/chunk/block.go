package chunk

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/wellhead/wellhead/persistence"
)

// Block is rows of one device in memory, laid out for encoding: one array for each property, values
// row by row with the same number of places for each row.
type Block struct {
	times     []int64
	sequences []uint64
	counts    []uint8   // values that the row really has
	stride    int       // places for values of one row
	values    []float64 // NaN = omitted, or beyond the row's count
	notes     []string  // as long as times, or empty when there are none
	quality   [][]uint8 // the same
	flags     []uint8   // the same

	order    []int32 // scratch of Normalize
	other    *Block  // the same
	integers []int64 // scratch of decoding
}

// Len returns the number of rows.
func (b *Block) Len() int { return len(b.times) }

// Time returns the event time of row i, in ms.
func (b *Block) Time(i int) int64 { return b.times[i] }

// Sequence returns the stream sequence of row i.
func (b *Block) Sequence(i int) uint64 { return b.sequences[i] }

// Range returns the rows [first, last) whose event times lie in [low, high]. The rows must be in order.
func (b *Block) Range(low, high int64) (first, last int) {
	first = sort.Search(len(b.times), func(i int) bool { return b.times[i] >= low })
	last = sort.Search(len(b.times), func(i int) bool { return b.times[i] > high })
	return first, last
}

// Reset removes all rows and lets go of what they refer to.
func (b *Block) Reset() {
	clear(b.notes)
	clear(b.quality)
	b.times, b.sequences, b.counts, b.stride, b.values = b.times[:0], b.sequences[:0], b.counts[:0], 0, b.values[:0]
	b.notes, b.quality, b.flags = b.notes[:0], b.quality[:0], b.flags[:0]
}

// widen makes room for channels values a row.
func (b *Block) widen(channels int) {
	if channels <= b.stride {
		return
	}
	n := b.Len()
	if n > 0 {
		values := make([]float64, n*channels, 2*n*channels)
		for i := range n {
			row := values[i*channels : (i+1)*channels]
			fillOmitted(row[copy(row, b.values[i*b.stride:(i+1)*b.stride]):])
		}
		b.values = values
	}
	b.stride = channels
}

func fillOmitted(values []float64) {
	for i := range values {
		values[i] = math.NaN()
	}
}

// Add appends a row. Note and quality of r are referred to, not copied.
func (b *Block) Add(r *persistence.Row) {
	b.widen(len(r.Values))
	b.times = append(b.times, r.Time)
	b.sequences = append(b.sequences, r.Sequence)
	b.counts = append(b.counts, uint8(len(r.Values)))
	b.values = append(b.values, r.Values...)
	for range b.stride - len(r.Values) {
		b.values = append(b.values, math.NaN())
	}
	b.addRest(r.Note, trimGood(r.Quality), r.Flags)
}

// addRest appends the properties that few rows have, keeping the arrays empty as long as none has.
func (b *Block) addRest(note string, quality []uint8, flags uint8) {
	n := b.Len()
	if note != "" || len(b.notes) > 0 {
		b.notes = append(grow(b.notes, n-1), note)
	}
	if len(quality) > 0 || len(b.quality) > 0 {
		b.quality = append(grow(b.quality, n-1), quality)
	}
	if flags != 0 || len(b.flags) > 0 {
		b.flags = append(grow(b.flags, n-1), flags)
	}
}

// grow appends zero elements up to length n.
func grow[T any](s []T, n int) []T {
	for len(s) < n {
		var zero T
		s = append(s, zero)
	}
	return s
}

// trimGood leaves out trailing zeros: what is not said is good.
func trimGood(quality []uint8) []uint8 {
	n := len(quality)
	for n > 0 && quality[n-1] == 0 {
		n--
	}
	return quality[:n]
}

// Row sets r to row i. Its slices point into b.
func (b *Block) Row(i int, r *persistence.Row) {
	start := i * b.stride
	*r = persistence.Row{Time: b.times[i], Sequence: b.sequences[i], Values: b.values[start : start+int(b.counts[i]) : start+int(b.counts[i])]}
	if len(b.notes) > 0 {
		r.Note = b.notes[i]
	}
	if len(b.quality) > 0 && len(b.quality[i]) > 0 {
		r.Quality = b.quality[i]
	}
	if len(b.flags) > 0 {
		r.Flags = b.flags[i]
	}
}

// Normalize sorts the rows by event time and keeps of equal times the row with the highest sequence,
// of equal sequences the one added last.
func (b *Block) Normalize() {
	if b.inOrder() {
		return
	}
	b.order = b.order[:0]
	for i := range b.Len() {
		b.order = append(b.order, int32(i))
	}
	slices.SortFunc(b.order, func(x, y int32) int {
		if c := cmp.Compare(b.times[x], b.times[y]); c != 0 {
			return c
		}
		if c := cmp.Compare(b.sequences[x], b.sequences[y]); c != 0 {
			return c
		}
		return cmp.Compare(x, y)
	})
	kept := b.order[:0]
	for _, i := range b.order {
		if n := len(kept); n > 0 && b.times[kept[n-1]] == b.times[i] {
			kept[n-1] = i
			continue
		}
		kept = append(kept, i)
	}
	b.keep(kept)
}

func (b *Block) inOrder() bool {
	for i := 1; i < len(b.times); i++ {
		if b.times[i] <= b.times[i-1] {
			return false
		}
	}
	return true
}

// DropUpTo removes the rows whose sequence is not above sequence.
func (b *Block) DropUpTo(sequence uint64) {
	b.order = b.order[:0]
	for i, s := range b.sequences {
		if s > sequence {
			b.order = append(b.order, int32(i))
		}
	}
	if len(b.order) < b.Len() {
		b.keep(b.order)
	}
}

// keep makes the rows with these indexes, in this order, the only ones.
func (b *Block) keep(indexes []int32) {
	if b.other == nil {
		b.other = new(Block)
	}
	o := b.other
	o.Reset()
	o.stride = b.stride
	var r persistence.Row
	for _, i := range indexes {
		b.Row(int(i), &r)
		o.Add(&r)
	}
	// Swap the contents, not the scratch.
	b.times, o.times = o.times, b.times
	b.sequences, o.sequences = o.sequences, b.sequences
	b.counts, o.counts = o.counts, b.counts
	b.values, o.values = o.values, b.values
	b.notes, o.notes = o.notes, b.notes
	b.quality, o.quality = o.quality, b.quality
	b.flags, o.flags = o.flags, b.flags
}
