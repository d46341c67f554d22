package chunk

import (
	"encoding/binary"
	"slices"
	"sync"
)

var encoders = sync.Pool{New: func() any { return new(Encoder) }}

// denseRows is from how many rows on a merged frame is of version 3. With half as many it spares a tenth of the recorded wells' bytes
// and costs the simulated fleet 4 %.
const denseRows = 32

// restingRows is how many rows the frames of appended chunks have at least, on average, for them to lie side by side: they take
// about as much then as a merged one.
const restingRows = 16

// MayRest tells whether chunks of one device can lie side by side until they are merged with others: all are as they were
// appended, each one frame with rows enough. That spares a flood the first of two merges, an eighth of what a member does.
// Whether they are corrupt is not looked at: those lie side by side anyway.
func MayRest(values [][]byte) bool {
	rows := 0
	for _, value := range values {
		f, rest := cutFrame(value)
		if f.version != Version1 || rest == nil || len(rest) > 0 {
			return false
		}
		rows += f.rows
	}
	return rows >= restingRows*len(values)
}

// Rests tells whether a chunk consists of some that were put side by side and are to be merged.
func Rests(value []byte) bool {
	for range 2 {
		f, rest := cutFrame(value)
		if f.version != Version1 || rest == nil {
			return false
		}
		value = rest
	}
	return true
}

// Merge merges chunks of one device, oldest first, into one. Frames that are at least half full are left
// alone, see maxFrameRows; readers put all frames in order anyway. When one frame is corrupt the values
// are only put side by side, as they are.
func Merge(values [][]byte) []byte {
	e := encoders.Get().(*Encoder)
	defer func() { e.Block.Reset(); encoders.Put(e) }()
	b := &e.Block
	b.Reset()
	size := 0
	for _, value := range values {
		size += len(value)
	}
	out := make([]byte, 0, size)
	flush := func() {
		b.Normalize()
		if e.Version = Version1; b.Len() >= denseRows {
			e.Version = Version3
		}
		out = e.AppendFrames(out, 0, b.Len())
		b.Reset()
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
			if b.Len()+f.rows > 4*maxFrameRows {
				flush()
			}
			if err := b.decodeBody(f.version, f.body); err != nil {
				return slices.Concat(values...)
			}
		}
	}
	flush()
	return out
}

// MergeRollups returns the value with the highest sequence, the newest of equals. A corrupt one, of which that is
// not known, counts as what is newest so far: so it is seen, until the rollup is written again.
func MergeRollups(values [][]byte) []byte {
	best, highest := values[0], uint64(0)
	for _, value := range values {
		body, err := rollupBody(value)
		if err != nil {
			best, highest = value, 0
			continue
		}
		if sequence, _ := binary.Uvarint(body); sequence >= highest {
			best, highest = value, sequence
		}
	}
	return best
}
