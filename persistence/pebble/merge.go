package pebble

import (
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence/chunk"
)

// Append never reads: it merges a small chunk into its key, and what is under the key is worked out
// when a compaction or a reader meets the operands. The name is stored in the database; a change of
// what merging means needs another one.
var archiveMerger = &pebble.Merger{
	Name: "wellhead.archive.1",
	Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		o := merges.Get().(*operands)
		o.kind = key[0]
		return o, o.MergeNewer(value)
	},
}

// merges are used again: a compaction makes one for each key, and most keys of a large fleet have one operand.
var merges = sync.Pool{New: func() any { return new(operands) }}

// operands collects what was merged into one key. Pebble gives either ever newer or ever older ones.
type operands struct {
	kind   byte
	older  bool
	data   []byte // all of them, one after the other
	ends   []int
	values [][]byte // scratch
}

// mostKept bounds the memory of operands that are used again.
const mostKept = 64 << 10

func (o *operands) MergeNewer(value []byte) error {
	o.data = append(o.data, value...)
	o.ends = append(o.ends, len(o.data))
	return nil
}

func (o *operands) MergeOlder(value []byte) error {
	o.older = true
	return o.MergeNewer(value)
}

// Finish never fails: an error here would stop all compactions of the database. What is corrupt is
// kept as it is, so that the reader of that very key finds it. The value is good until o is closed.
func (o *operands) Finish(bool) ([]byte, io.Closer, error) {
	if len(o.ends) == 1 && (!holdsReadings(o.kind) || !chunk.Rests(o.data)) {
		return o.data, o, nil
	}
	from := 0
	for _, end := range o.ends {
		o.values = append(o.values, o.data[from:end:end])
		from = end
	}
	if o.older {
		slices.Reverse(o.values)
	}
	switch o.kind {
	case kindChunk, kindChunkAnew:
		if !chunk.MayRest(o.values) {
			return chunk.Merge(o.values), o, nil
		}
		if o.older {
			return slices.Concat(o.values...), o, nil
		}
		return o.data, o, nil
	case kindRollup, kindRollupAnew:
		return chunk.MergeRollups(o.values), o, nil
	case kindDelete:
		return slices.MaxFunc(o.values, slices.Compare), o, nil // 8 bytes, big endian
	}
	return o.values[len(o.values)-1], o, nil
}

// Close lets the next merge have the memory.
func (o *operands) Close() error {
	if cap(o.data) <= mostKept {
		clear(o.values)
		*o = operands{data: o.data[:0], ends: o.ends[:0], values: o.values[:0]}
		merges.Put(o)
	}
	return nil
}
