package chunk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// A rollup's value, whose step and start are in the key:
//
//	version (1 byte = 1), crc32c of body (4 bytes, little endian), body
//	body     uvarint sequence, uvarint count, uvarint channels, then for each channel:
//	channel  uvarint count, head (1 byte), [first, last, min, max], [sum]
//
// The head's low half tells how the four are coded: 0 = all +0 and left out, 1 … 10 = decimal with
// 0 … 9 places, zigzag of first and of the others' difference to first, 15 = 8 bytes each. Its high
// half tells the same of sum.
const (
	rollupVersion = 1
	codedZero     = 0
	codedRaw      = 15
)

// ErrRollup means that the bytes are no rollup, or not the one that was written.
var ErrRollup = fmt.Errorf("%w rollup", persistence.ErrCorrupt)

// AppendRollup appends the value of r. The encoder is only used for its scratch memory.
func (e *Encoder) AppendRollup(dst []byte, r *persistence.RollupRow) []byte {
	body := binary.AppendUvarint(e.body[:0], r.Sequence)
	body = binary.AppendUvarint(body, uint64(r.Count))
	body = binary.AppendUvarint(body, uint64(len(r.Channels)))
	for i := range r.Channels {
		c := &r.Channels[i]
		body = binary.AppendUvarint(body, uint64(c.Count))
		at := len(body)
		body = append(body, 0)
		var low, high byte
		body, low = e.appendNumbers(body, c.First, c.Last, c.Min, c.Max)
		body, high = e.appendNumbers(body, c.Sum)
		body[at] = low | high<<4
	}
	e.body = body
	dst = append(dst, rollupVersion)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

func (e *Encoder) appendNumbers(dst []byte, numbers ...float64) ([]byte, byte) {
	zero := true
	for _, v := range numbers {
		zero = zero && math.Float64bits(v) == 0
	}
	if zero {
		return dst, codedZero
	}
	if places, ok := e.decimal(numbers); ok {
		for i, v := range e.integers {
			if i > 0 {
				v -= e.integers[0]
			}
			dst = binary.AppendUvarint(dst, zigzag(v))
		}
		return dst, byte(places + 1)
	}
	for _, v := range numbers {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst, codedRaw
}

// rollupBody checks version and checksum.
func rollupBody(value []byte) ([]byte, error) {
	if len(value) < 5 || value[0] != rollupVersion {
		return nil, fmt.Errorf("%w: it does not begin with version %d", ErrRollup, rollupVersion)
	}
	body, sum := value[5:], binary.LittleEndian.Uint32(value[1:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: checksum is %08x, not %08x", ErrRollup, got, sum)
	}
	return body, nil
}

// DecodeRollup sets sequence, count and channels of out, using its channels' memory again.
func DecodeRollup(value []byte, out *persistence.RollupRow) error {
	body, err := rollupBody(value)
	if err != nil {
		return err
	}
	return decodeRollupBody(body, out)
}

func decodeRollupBody(body []byte, out *persistence.RollupRow) error {
	r := reader{data: body}
	out.Sequence, out.WriteTime = r.uvarint(), 0
	out.Count = int64(r.uvarint())
	channels := r.uvarint()
	out.Channels = out.Channels[:0]
	if channels > maxChannels {
		return fmt.Errorf("%w: %d channels", ErrRollup, channels)
	}
	for range channels {
		c := messages.ChannelRollup{Count: int64(r.uvarint())}
		head := r.byte()
		var four [4]float64
		var sum [1]float64
		r.numbers(head&15, four[:])
		r.numbers(head>>4, sum[:])
		c.First, c.Last, c.Min, c.Max, c.Sum = four[0], four[1], four[2], four[3], sum[0]
		out.Channels = append(out.Channels, c)
	}
	if r.bad == "" && len(r.data) > 0 {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.data)))
	}
	if r.bad != "" {
		return fmt.Errorf("%w: %s", ErrRollup, r.bad)
	}
	return nil
}

func (r *reader) numbers(coded byte, out []float64) {
	switch {
	case coded == codedZero:
	case coded <= maxPlaces+1:
		first := int64(0)
		for i := range out {
			v := unzigzag(r.uvarint()) + first
			if i == 0 {
				first = v
			}
			out[i] = float64(v) / powers[coded-1]
		}
	case coded == codedRaw:
		for i := range out {
			if eight := r.bytes(8); eight != nil {
				out[i] = math.Float64frombits(binary.LittleEndian.Uint64(eight))
			}
		}
	default:
		r.fail("numbers in an unknown form")
	}
}
