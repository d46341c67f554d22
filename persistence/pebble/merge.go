package pebble

import (
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence/chunk"
)

// Append never reads: it merges a small chunk into its key, and what is under the key is worked out
// when a compaction or a reader meets the operands. The name is stored in the database; a change of
// what merging means needs another one.
var archiveMerger = &pebble.Merger{
	Name: "wellhead.archive.1",
	Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		m := &operands{kind: key[0]}
		return m, m.MergeNewer(value)
	},
}

// operands collects what was merged into one key. Pebble gives either ever newer or ever older ones.
type operands struct {
	kind   byte
	values [][]byte
	older  bool
}

func (o *operands) MergeNewer(value []byte) error {
	o.values = append(o.values, slices.Clone(value))
	return nil
}

func (o *operands) MergeOlder(value []byte) error {
	o.older = true
	return o.MergeNewer(value)
}

// Finish never fails: an error here would stop all compactions of the database. What is corrupt is
// kept as it is, so that the reader of that very key finds it.
func (o *operands) Finish(bool) ([]byte, io.Closer, error) {
	if o.older {
		slices.Reverse(o.values)
	}
	if len(o.values) == 1 {
		return o.values[0], nil, nil
	}
	switch o.kind {
	case kindChunk:
		return chunk.Merge(o.values), nil, nil
	case kindRollup:
		return chunk.MergeRollups(o.values), nil, nil
	case kindDelete:
		return slices.MaxFunc(o.values, slices.Compare), nil, nil // 8 bytes, big endian
	}
	return o.values[len(o.values)-1], nil, nil
}
