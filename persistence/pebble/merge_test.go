package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// TestMergerKeepsTheOrder gives the operands from either end, as pebble may: of two rows with one time
// and one sequence the one written last stays.
func TestMergerKeepsTheOrder(t *testing.T) {
	operand := func(v float64) []byte {
		var e encoder
		e.Block.Add(&persistence.Row{Time: 1000, Sequence: 5, Values: []float64{v}})
		return e.AppendFrames(nil, 0, 1)
	}
	operands := [][]byte{operand(1), operand(2), operand(3)}
	newer, err := archiveMerger.Merge([]byte{kindChunk}, operands[0])
	if err != nil {
		t.Fatal(err)
	}
	older, err := archiveMerger.Merge([]byte{kindChunk}, operands[2])
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		if err := newer.MergeNewer(operands[i]); err != nil {
			t.Fatal(err)
		}
		if err := older.MergeOlder(operands[2-i]); err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range map[string]pebble.ValueMerger{"newer": newer, "older": older} {
		value, _, err := m.Finish(true)
		if err != nil {
			t.Fatal(err)
		}
		var b chunk.Block
		if err := b.Decode(value); err != nil {
			t.Fatal(err)
		}
		b.Normalize()
		var row persistence.Row
		if b.Row(0, &row); b.Len() != 1 || row.Values[0] != 3 {
			t.Errorf("%s: %d rows, the first is %+v, want the one written last", name, b.Len(), row)
		}
	}
}
