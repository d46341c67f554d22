package pebble

import (
	"bytes"
	"slices"
	"testing"

	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// operandOf is an appended chunk of so many rows, all with this value.
func operandOf(from int64, rows int, v float64) []byte {
	var e encoder
	for i := range rows {
		e.Block.Add(&persistence.Row{Time: from + int64(i), Sequence: 5, Values: []float64{v}})
	}
	return e.AppendFrames(nil, 0, rows)
}

// merged gives the operands to the merger from either end, as pebble may.
func merged(t *testing.T, older bool, operands ...[]byte) []byte {
	t.Helper()
	if older {
		slices.Reverse(operands)
	}
	m, err := archiveMerger.Merge([]byte{kindChunk}, operands[0])
	if err != nil {
		t.Fatal(err)
	}
	more := m.MergeNewer
	if older {
		more = m.MergeOlder
	}
	for _, operand := range operands[1:] {
		if err := more(operand); err != nil {
			t.Fatal(err)
		}
	}
	value, closer, err := m.Finish(false)
	if err != nil {
		t.Fatal(err)
	}
	value = slices.Clone(value)
	if closer != nil {
		closer.Close()
	}
	return value
}

// TestMergerKeepsTheOrder: of two rows with one time and one sequence the one written last stays, whether they are merged
// or lie side by side until then.
func TestMergerKeepsTheOrder(t *testing.T) {
	for _, rows := range []int{1, 40} {
		for _, older := range []bool{false, true} {
			value := merged(t, older, operandOf(1000, rows, 1), operandOf(1000, rows, 2), operandOf(1000, rows, 3))
			for _, again := range []bool{false, true} {
				if again {
					value = merged(t, older, value)
				}
				var b chunk.Block
				if err := b.Decode(value); err != nil {
					t.Fatal(err)
				}
				b.Normalize()
				var row persistence.Row
				if b.Row(0, &row); b.Len() != rows || row.Values[0] != 3 {
					t.Errorf("%d rows, older first %v, again %v: %d rows, the first is %+v, want the ones written last", rows, older, again, b.Len(), row)
				}
			}
		}
	}
}

// TestMergerRests: what was appended with rows enough lies side by side until the second merge, which makes one frame
// of it; what is little is merged at once.
func TestMergerRests(t *testing.T) {
	one, two := operandOf(0, 40, 20.25), operandOf(100, 40, 20.5)
	rests := merged(t, false, one, two)
	if !bytes.Equal(rests, slices.Concat(one, two)) {
		t.Errorf("two chunks of %d and %d bytes became %d, want them side by side", len(one), len(two), len(rests))
	}
	for name, value := range map[string][]byte{
		"by itself":          merged(t, false, rests),
		"with another":       merged(t, false, rests, one),
		"with one like it":   merged(t, false, rests, rests),
		"with a merged one":  merged(t, false, merged(t, false, rests), one),
		"with little":        merged(t, false, rests, operandOf(300, 1, 20.25)),
		"little with little": merged(t, false, operandOf(0, 1, 20.25), operandOf(1, 40, 20.25), operandOf(60, 1, 20.25)),
	} {
		if chunk.Rests(value) || value[0] != chunk.Version3 {
			t.Errorf("%s: %d bytes of version %d, want one frame of version 3", name, len(value), value[0])
		}
		if again := merged(t, false, value); !bytes.Equal(again, value) {
			t.Errorf("%s: %d bytes become %d by themselves", name, len(value), len(again))
		}
	}
}
