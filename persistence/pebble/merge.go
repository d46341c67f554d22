package pebble

import (
	"encoding/binary"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
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
		return mergeChunks(o.values), nil, nil
	case kindRollup:
		return mergeRollups(o.values), nil, nil
	case kindDelete:
		return slices.MaxFunc(o.values, slices.Compare), nil, nil // 8 bytes, big endian
	}
	return o.values[len(o.values)-1], nil, nil
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// mergeChunks merges chunk values, oldest first, into one. Frames that are at least half full are left
// alone, see maxFrameRows; readers put all frames in order anyway. When one frame is corrupt the values
// are only put side by side, as they are.
func mergeChunks(values [][]byte) []byte {
	e := encoders.Get().(*encoder)
	defer func() { e.block.reset(); encoders.Put(e) }()
	b := &e.block
	b.reset()
	size := 0
	for _, value := range values {
		size += len(value)
	}
	out := make([]byte, 0, size)
	flush := func() {
		b.normalize()
		out = e.appendFrames(out, 0, b.rows())
		b.reset()
	}
	for _, value := range values {
		for len(value) > 0 {
			f, rest, err := nextFrame(value)
			if err != nil {
				return slices.Concat(values...)
			}
			value = rest
			if f.rows >= maxFrameRows/2 {
				out = append(out, f.all...)
				continue
			}
			if b.rows()+f.rows > 4*maxFrameRows {
				flush()
			}
			if err := b.decodeBody(f.body); err != nil {
				return slices.Concat(values...)
			}
		}
	}
	flush()
	return out
}

// mergeRollups returns the value with the highest sequence, the newest of equals; a corrupt one wins, so that it is seen.
func mergeRollups(values [][]byte) []byte {
	best, highest := values[0], uint64(0)
	for _, value := range values {
		body, err := rollupBody(value)
		if err != nil {
			return value
		}
		if sequence, _ := binary.Uvarint(body); sequence >= highest {
			best, highest = value, sequence
		}
	}
	return best
}
