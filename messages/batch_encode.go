package messages

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// AppendBatch appends b as protobuf. Readings of one block that have different numbers of values
// become several blocks, so that each comes back as it was. It does not check limits: see
// CheckReading, MaxReadings and MaxMessage. A time must not be NoTime.
func AppendBatch(dst []byte, b *Batch) []byte {
	if b.Producer != "" {
		dst = append(dst, tagProducer, byte(len(b.Producer)))
		dst = append(dst, b.Producer...)
		dst = append(dst, tagRun)
		dst = binary.LittleEndian.AppendUint64(dst, b.Run)
		dst = binary.AppendUvarint(append(dst, tagSequence), b.Sequence)
	}
	base := int64(0)
	if i := slices.IndexFunc(b.Blocks, func(b Block) bool { return len(b.Readings) > 0 }); i >= 0 {
		base = b.Blocks[i].Readings[0].Time
		dst = binary.AppendUvarint(append(dst, tagBaseTime), zigzag(base))
	}
	for i := range b.Blocks {
		readings := b.Blocks[i].Readings
		for len(readings) > 0 {
			n := 1
			for n < len(readings) && len(readings[n].Values) == len(readings[0].Values) {
				n++
			}
			dst = appendBlock(dst, b.Blocks[i].Device, readings[:n], base)
			readings = readings[n:]
		}
	}
	return dst
}

// appendBlock appends one block of readings with the same number of values.
func appendBlock(dst []byte, device string, readings []Reading, base int64) []byte {
	values := len(readings) * len(readings[0].Values)
	dst = slices.Grow(dst, 24+len(device)+8*values+3*len(readings))
	dst = append(dst, tagBlock)
	dst, start := openField(dst, len(device)+8*values+8)
	dst = append(dst, tagDevice, byte(len(device)))
	dst = append(dst, device...)
	if first := readings[0].Time - base; first != 0 {
		dst = binary.AppendUvarint(append(dst, tagTime), zigzag(first))
	}
	if len(readings) > 1 {
		var from int
		dst, from = openField(append(dst, tagDeltas), 2*len(readings))
		for i := 1; i < len(readings); i++ {
			dst = binary.AppendUvarint(dst, zigzag(readings[i].Time-readings[i-1].Time))
		}
		dst = closeField(dst, from)
	}
	omitted, rare := false, false
	if values > 0 {
		dst = binary.AppendUvarint(append(dst, tagValues), uint64(8*values))
	}
	for i := range readings {
		r := &readings[i]
		rare = rare || r.Note != "" || len(r.Quality) > 0
		for _, v := range r.Values {
			if v != v {
				omitted, v = true, 0
			}
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
	}
	if omitted {
		dst = appendPresence(dst, readings, values)
	}
	if rare {
		dst = appendNotes(dst, readings)
		dst = appendQuality(dst, readings, values)
	}
	return closeField(dst, start)
}

// appendPresence appends a bit for each value.
func appendPresence(dst []byte, readings []Reading, values int) []byte {
	dst = binary.AppendUvarint(append(dst, tagPresence), uint64(values+7)/8)
	bit := 0
	for i := range readings {
		for _, v := range readings[i].Values {
			if bit%8 == 0 {
				dst = append(dst, 0)
			}
			if v == v {
				dst[len(dst)-1] |= 1 << (bit % 8)
			}
			bit++
		}
	}
	return dst
}

func appendNotes(dst []byte, readings []Reading) []byte {
	for i := range readings {
		note := readings[i].Note
		if note == "" {
			continue
		}
		size := 1 + protowire.SizeBytes(len(note))
		if i > 0 {
			size += 1 + protowire.SizeVarint(uint64(i))
		}
		dst = binary.AppendUvarint(append(dst, tagNote), uint64(size))
		if i > 0 {
			dst = binary.AppendUvarint(append(dst, tagNoteReading), uint64(i))
		}
		dst = binary.AppendUvarint(append(dst, tagNoteText), uint64(len(note)))
		dst = append(dst, note...)
	}
	return dst
}

// appendQuality appends a byte for each value up to the last that is not good; nothing when all are.
func appendQuality(dst []byte, readings []Reading, values int) []byte {
	before := len(dst)
	dst, from := openField(append(dst, tagQuality), values)
	last := from
	for i := range readings {
		r := &readings[i]
		for k, v := range r.Values {
			q := uint8(0)
			if k < len(r.Quality) && v == v {
				q = r.Quality[k]
			}
			if dst = append(dst, q); q != 0 {
				last = len(dst)
			}
		}
	}
	if last == from {
		return dst[:before]
	}
	return closeField(dst[:last], from)
}

// openField leaves room for the length of what follows, which is about guess, and returns where that begins.
func openField(dst []byte, guess int) ([]byte, int) {
	dst = append(dst, 0, 0, 0, 0, 0)[:len(dst)+protowire.SizeVarint(uint64(guess))]
	dst[len(dst)-1] = byte(protowire.SizeVarint(uint64(guess)))
	return dst, len(dst)
}

// closeField writes the length of dst[from:] before it. The byte before it says how much room there is.
func closeField(dst []byte, from int) []byte {
	size := len(dst) - from
	room, need := int(dst[from-1]), protowire.SizeVarint(uint64(size))
	if room != need {
		dst = append(dst, 0, 0, 0, 0, 0)[:len(dst)+need-room]
		copy(dst[from-room+need:], dst[from:from+size])
	}
	binary.PutUvarint(dst[from-room:from-room+need], uint64(size))
	return dst
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }
