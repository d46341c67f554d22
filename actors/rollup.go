package actors

import (
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// RollupOf computes a rollup from all rows of its bucket, in any order; rows outside are ignored.
// Sequence is the highest of the rows'; the caller sets Sequence and WriteTime as Dirty says.
func RollupOf(step messages.Step, start int64, rows []persistence.Row) persistence.RollupRow {
	panic("not yet")
}
