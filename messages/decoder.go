package messages

import (
	"fmt"
	"mime"
	"unsafe"
)

// Content types of messages with readings and commands. Another or none: the first byte tells.
const (
	TypeJSON     = "application/json"
	TypeProtobuf = "application/protobuf"
)

// RefusedReading is a reading that a decoder left out of what it handed on, while the rest of the
// message is good.
type RefusedReading struct {
	Block   int    // block in the message, from 0; 0 in JSON of one device
	Reading int    // reading in the block, from 0
	Reason  string // without the word that ErrInvalid puts before each complaint
}

// Decoder decodes messages with readings and owns the memory of what it hands out: blocks and slices of
// readings stay valid until it decodes again, the values and the quality that readings refer to until Reset. Names
// and notes are parts of the data that was decoded, which therefore must not change while they are used.
// The zero Decoder is ready. It is for one goroutine at a time.
type Decoder struct {
	values   arena[float64]
	quality  arena[uint8]
	readings arena[Reading]
	blocks   blocks
	refused  []RefusedReading

	columns columns   // of the block at hand
	scanned []Reading // JSON readings of the message at hand
	devices []string  // and their devices, where they say them
	row     []float64 // JSON values of the reading at hand
	flags   []uint8   // JSON quality of the reading at hand
}

// Reset takes back all memory that the decoder handed out.
func (d *Decoder) Reset() {
	d.values.reset()
	d.quality.reset()
	d.readings.forget() // lets go of the data that strings are parts of
	d.readings.reset()
	d.blocks.forget()
	d.blocks.reset()
	clear(d.refused)
	d.refused = d.refused[:0]
	clear(d.scanned[:cap(d.scanned)])
	clear(d.devices[:cap(d.devices)])
}

// Refused returns the readings that the last Message, Batch or JSON left out. It is valid until the next one.
func (d *Decoder) Refused() []RefusedReading { return d.refused }

// begin takes back what was handed out of the message before.
func (d *Decoder) begin(data []byte) error {
	d.refused = d.refused[:0]
	d.readings.rewind()
	d.blocks.rewind()
	if len(data) > MaxMessage {
		return fmt.Errorf("%w: the message has %d bytes, at most %d are allowed: send smaller batches", ErrInvalid, len(data), MaxMessage)
	}
	return nil
}

func (d *Decoder) refuse(block, reading int, err error) {
	d.refused = append(d.refused, RefusedReading{Block: block, Reading: reading, Reason: reason(err)})
}

// reason is what a complaint says after the word that ErrInvalid puts before it.
func reason(err error) string {
	s := err.Error()
	if prefix := ErrInvalid.Error() + ": "; len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return s
}

// Message decodes the payload of one message with readings, of kind batch or readings, into b. The
// content type, or, when that says nothing, the first byte, tells JSON from protobuf. Readings of one
// device become one block that bears the subject's device. In a batch each JSON reading says its device.
//
// An error wraps ErrInvalid and means that nothing of the message can be used. Readings that are
// invalid in a message that is not are left out of b and told by Refused.
func (d *Decoder) Message(contentType string, subject ShardSubject, data []byte, b *Batch) error {
	if subject.Kind != KindBatch && subject.Kind != KindReadings {
		return fmt.Errorf("%w: a command is not a message with readings", ErrInvalid)
	}
	if len(data) == 0 {
		return fmt.Errorf(`%w: the message is empty: send {"values":[1.5]} or protobuf`, ErrInvalid)
	}
	if !isJSON(contentType, data) {
		return d.batch(data, b, subject.Device)
	}
	*b = Batch{}
	if subject.Kind == KindBatch {
		return d.jsonBatch(data, b)
	}
	readings, _, _, err := d.JSON(data)
	if err != nil || len(readings) == 0 {
		return err
	}
	d.blocks.add(subject.Device, readings)
	b.Blocks = d.blocks.chunk
	return nil
}

// isJSON tells JSON from protobuf. No protobuf of ours begins like JSON: '{' and '[' would begin a
// group, which the schema has none of, and a space is sequence only before a number that no JSON
// goes on with.
func isJSON(contentType string, data []byte) bool {
	if contentType != "" {
		kind := contentType
		if kind != TypeJSON && kind != TypeProtobuf {
			kind, _, _ = mime.ParseMediaType(contentType)
		}
		switch kind {
		case TypeJSON:
			return true
		case TypeProtobuf, "application/x-protobuf", "application/vnd.google.protobuf":
			return false
		}
	}
	i := skipSpace(data, 0)
	if i == len(data) {
		return true // nothing but white space: the JSON scanner says so
	}
	if data[i] != '{' && data[i] != '[' {
		return false
	}
	if i == 0 {
		return true
	}
	next := skipSpace(data, i+1)
	return next == len(data) || data[next] == '"' || data[next] == '{' || data[next] == '}' || data[next] == ']'
}

// text returns data as a string that shares its memory.
func text(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// arena hands out slices of one chunk after the other. A chunk that is full is left to those who hold
// parts of it; the next is twice as large, so that after a few rounds nothing is allocated any more.
type arena[T any] struct {
	chunk []T
	most  int // elements that the chunk had before a rewind
}

const (
	smallestChunk = 256     // elements
	largestKept   = 1 << 18 // elements of a chunk that outlives a reset
)

// take returns n elements, whose contents are undefined: the caller sets each.
func (a *arena[T]) take(n int) []T {
	from := len(a.chunk)
	if n > cap(a.chunk)-from {
		a.chunk = make([]T, 0, max(n, 2*cap(a.chunk), smallestChunk))
		from = 0
	}
	a.chunk = a.chunk[:from+n]
	return a.chunk[from : from+n : from+n]
}

// untake gives back the last n elements of what take returned last.
func (a *arena[T]) untake(n int) { a.chunk = a.chunk[:len(a.chunk)-n] }

// rewind takes all back, to be handed out again at once.
func (a *arena[T]) rewind() {
	a.most = max(a.most, len(a.chunk))
	a.chunk = a.chunk[:0]
}

// forget lets go of what the elements refer to.
func (a *arena[T]) forget() {
	a.rewind()
	clear(a.chunk[:min(a.most, cap(a.chunk))])
}

// reset takes all back. A chunk that was far too large this time is let go of: floods end.
func (a *arena[T]) reset() {
	a.rewind()
	if cap(a.chunk) > largestKept || cap(a.chunk) > max(4*a.most, smallestChunk) {
		a.chunk = nil
	}
	a.most = 0
}

// blocks are those of the message at hand.
type blocks struct{ arena[Block] }

func (a *blocks) add(device string, readings []Reading) {
	n := len(a.chunk)
	if n == cap(a.chunk) {
		chunk := make([]Block, n, max(2*n, smallestChunk))
		copy(chunk, a.chunk)
		a.chunk = chunk
	}
	a.chunk = a.chunk[:n+1]
	b := &a.chunk[n]
	b.Device, b.Readings = device, readings
}
