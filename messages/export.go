package messages

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// TypeExport is the content type of an export in frames, the compact form between a member and
// `wellhead export`. A frame is its length as a varint, one byte that says its kind, and its body:
//
//	h  ExportHead as JSON; the first frame, but for k and x
//	r  readings of one device: a batch (see AppendBatch) with its length before it, then a zigzag varint
//	   for each reading: its stream sequence less the one before it
//	u  rollups of one device
//	k  nothing: more is to come
//	x  what went wrong, as text; the last frame
//	e  ExportEnd as JSON; the last frame
//
// An export that does not end with e is not whole.
const TypeExport = "application/vnd.wellhead.export"

const (
	frameHead     = 'h'
	frameReadings = 'r'
	frameRollups  = 'u'
	frameAlive    = 'k'
	frameError    = 'x'
	frameEnd      = 'e'
)

const (
	exportVersion = 1
	// maxFrame bounds a frame: a message with the sequences of its readings.
	maxFrame = MaxMessage + MaxReadings*binary.MaxVarintLen64 + 16
	// rollupsInFrame of 64 channels, about 50 bytes each, take 640 kB.
	rollupsInFrame = 200
)

// ExportHead says what an export holds.
type ExportHead struct {
	Version  int    `json:"version"`
	Site     string `json:"site"`
	Devices  int    `json:"devices"`
	Channels int    `json:"channels"`       // columns for values: as many as were asked for, or as the widest row has
	Step     Step   `json:"step,omitempty"` // of rollups, ms; 0 = readings
}

// ExportEnd says what an export held: rows are readings or rollups.
type ExportEnd struct {
	Devices int   `json:"devices"`
	Rows    int64 `json:"rows"`
}

// ExportForm is a form in which an export is written. Rows of one device come together, in order of event time.
type ExportForm interface {
	AppendHead(dst []byte, h ExportHead) []byte
	// AppendReadings appends rows of one device; an error means that the form cannot hold one of them.
	AppendReadings(dst []byte, device string, rows []Sample) ([]byte, error)
	AppendRollups(dst []byte, device string, rows []Rollup) ([]byte, error)
	AppendEnd(dst []byte, e ExportEnd) []byte
	// AppendError appends that the export is not whole, as far as the form can say that.
	AppendError(dst []byte, reason string) []byte
	// AppendAlive appends what keeps a reader from giving up and means nothing, if the form has that.
	AppendAlive(dst []byte) []byte
}

// ExportFrames is the form of TypeExport. The zero value is ready; it is for one goroutine at a time.
type ExportFrames struct {
	readings []Reading
	batch    []byte
}

func appendFrame(dst []byte, kind byte, body []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(body)+1))
	return append(append(dst, kind), body...)
}

// AppendHead implements ExportForm.
func (*ExportFrames) AppendHead(dst []byte, h ExportHead) []byte {
	h.Version = exportVersion
	return appendFrame(dst, frameHead, mustJSON(h))
}

// AppendEnd implements ExportForm.
func (*ExportFrames) AppendEnd(dst []byte, e ExportEnd) []byte {
	return appendFrame(dst, frameEnd, mustJSON(e))
}

// AppendError implements ExportForm.
func (*ExportFrames) AppendError(dst []byte, reason string) []byte {
	return appendFrame(dst, frameError, []byte(reason))
}

// AppendAlive implements ExportForm.
func (*ExportFrames) AppendAlive(dst []byte) []byte { return appendFrame(dst, frameAlive, nil) }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil { // only plain structs of this file come here
		panic(err)
	}
	return data
}

// AppendReadings implements ExportForm.
func (f *ExportFrames) AppendReadings(dst []byte, device string, rows []Sample) ([]byte, error) {
	most := MaxReadings
	for len(rows) > 0 {
		n := min(len(rows), most)
		f.readings = f.readings[:0]
		for i := range rows[:n] {
			f.readings = append(f.readings, rows[i].Reading)
		}
		f.batch = AppendBatch(f.batch[:0], &Batch{Blocks: []Block{{Device: device, Readings: f.readings}}})
		if len(f.batch) > MaxMessage && n > 1 { // many channels and long notes
			most = n / 2
			continue
		}
		var last uint64
		size := 1 + protowire.SizeBytes(len(f.batch))
		for i := range rows[:n] {
			size += protowire.SizeVarint(zigzag(int64(rows[i].Sequence - last)))
			last = rows[i].Sequence
		}
		dst = append(binary.AppendUvarint(dst, uint64(size)), frameReadings)
		dst = append(binary.AppendUvarint(dst, uint64(len(f.batch))), f.batch...)
		last = 0
		for i := range rows[:n] {
			dst = binary.AppendUvarint(dst, zigzag(int64(rows[i].Sequence-last)))
			last = rows[i].Sequence
		}
		rows = rows[n:]
	}
	clear(f.readings)
	return dst, nil
}

// AppendRollups implements ExportForm. The body: the device's name with its length before it, the step,
// the number of rollups, and of each its start, count and channels; a channel is its count and, unless
// that is 0, five float64.
func (f *ExportFrames) AppendRollups(dst []byte, device string, rows []Rollup) ([]byte, error) {
	for len(rows) > 0 {
		n := min(len(rows), rollupsInFrame)
		b := append(binary.AppendUvarint(f.batch[:0], uint64(len(device))), device...)
		b = binary.AppendUvarint(b, uint64(rows[0].Step))
		b = binary.AppendUvarint(b, uint64(n))
		for i := range rows[:n] {
			b = binary.AppendUvarint(b, zigzag(rows[i].Start))
			b = binary.AppendUvarint(b, uint64(rows[i].Count))
			b = binary.AppendUvarint(b, uint64(len(rows[i].Channels)))
			for _, c := range rows[i].Channels {
				if b = binary.AppendUvarint(b, uint64(c.Count)); c.Count == 0 {
					continue
				}
				for _, v := range [...]float64{c.Min, c.Max, c.Sum, c.First, c.Last} {
					b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
				}
			}
		}
		dst = appendFrame(dst, frameRollups, b)
		f.batch, rows = b, rows[n:]
	}
	return dst, nil
}

// ErrBrokenOff means that an export ended before its end.
var ErrBrokenOff = errors.New("the export broke off")

// ExportPart is one frame taken apart. Exactly one of Head, Readings, Rollups and End is set.
type ExportPart struct {
	Head     *ExportHead
	Device   string
	Readings []Sample
	Rollups  []Rollup
	End      *ExportEnd
}

// ExportReader reads an export in frames. It holds one frame, at most about 1 MiB, at a time.
type ExportReader struct {
	r       *bufio.Reader
	bytes   int64
	body    []byte
	decoder Decoder
	batch   Batch
	samples []Sample
	rollups []Rollup
	begun   bool
	ended   bool
}

// NewExportReader returns a reader of what r gives.
func NewExportReader(r io.Reader) *ExportReader {
	return &ExportReader{r: bufio.NewReaderSize(r, 256<<10)}
}

// Bytes returns how many bytes of frames were read.
func (r *ExportReader) Bytes() int64 { return r.bytes }

// Next returns the next part, valid until the call after it; io.EOF after the end. What the sender says
// went wrong, and input that stops before its end, are errors that wrap ErrBrokenOff.
func (r *ExportReader) Next() (ExportPart, error) {
	for {
		kind, body, err := r.frame()
		if err != nil {
			return ExportPart{}, err
		}
		if !r.begun && kind != frameHead && kind != frameAlive && kind != frameError {
			return ExportPart{}, fmt.Errorf("%w: an export in frames must begin with its head", ErrInvalid)
		}
		switch kind {
		case frameHead:
			r.begun = true
			var h ExportHead
			if err := json.Unmarshal(body, &h); err != nil {
				return ExportPart{}, fmt.Errorf("%w: head of the export: %v", ErrInvalid, err)
			}
			if h.Version > exportVersion || h.Channels < 0 || h.Channels > MaxChannels {
				return ExportPart{}, fmt.Errorf("%w: the export has version %d and %d channels: a newer wellhead is needed here", ErrInvalid, h.Version, h.Channels)
			}
			return ExportPart{Head: &h}, nil
		case frameReadings:
			return r.readReadings(body)
		case frameRollups:
			return r.readRollups(body)
		case frameEnd:
			var e ExportEnd
			if err := json.Unmarshal(body, &e); err != nil {
				return ExportPart{}, fmt.Errorf("%w: end of the export: %v", ErrInvalid, err)
			}
			r.ended = true
			return ExportPart{End: &e}, nil
		case frameError:
			return ExportPart{}, fmt.Errorf("%w: %s", ErrBrokenOff, body)
		case frameAlive:
		default:
			return ExportPart{}, fmt.Errorf("%w: a frame of kind %q in an export: a newer wellhead is needed here", ErrInvalid, kind)
		}
	}
}

func (r *ExportReader) frame() (kind byte, body []byte, err error) {
	if r.ended {
		return 0, nil, io.EOF
	}
	size, err := binary.ReadUvarint(r.r)
	if err != nil {
		return 0, nil, brokenOff(err)
	}
	if size == 0 || size > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes in an export, 1 to %d are allowed", ErrInvalid, size, maxFrame)
	}
	if uint64(cap(r.body)) < size {
		r.body = make([]byte, 0, min(2*size, maxFrame))
	}
	r.body = r.body[:size]
	if _, err := io.ReadFull(r.r, r.body); err != nil {
		return 0, nil, brokenOff(err)
	}
	r.bytes += int64(protowire.SizeBytes(int(size)))
	return r.body[0], r.body[1:], nil
}

func brokenOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it has no end", ErrBrokenOff)
	}
	return fmt.Errorf("%w: %w", ErrBrokenOff, err)
}

func (r *ExportReader) readReadings(body []byte) (ExportPart, error) {
	from, end := span(body, 0)
	if end < 0 {
		return ExportPart{}, fmt.Errorf("%w: a frame of readings is cut short", ErrInvalid)
	}
	r.decoder.Reset()
	if err := r.decoder.Batch(body[from:end], &r.batch); err != nil {
		return ExportPart{}, fmt.Errorf("readings of the export: %w", err)
	}
	if refused := r.decoder.Refused(); len(refused) > 0 {
		return ExportPart{}, fmt.Errorf("%w: a stored reading is not valid: %s", ErrInvalid, refused[0].Reason)
	}
	clear(r.samples)
	r.samples = r.samples[:0]
	device, last := "", uint64(0)
	for _, block := range r.batch.Blocks {
		device = block.Device
		for _, reading := range block.Readings {
			var v uint64
			if v, end = varint(body, end); end < 0 {
				return ExportPart{}, fmt.Errorf("%w: a frame of readings has too few sequences", ErrInvalid)
			}
			last += uint64(unzigzag(v))
			r.samples = append(r.samples, Sample{Reading: reading, Sequence: last})
		}
	}
	if end != len(body) || len(r.samples) == 0 {
		return ExportPart{}, fmt.Errorf("%w: a frame with %d readings has %d bytes left over", ErrInvalid, len(r.samples), len(body)-end)
	}
	return ExportPart{Device: device, Readings: r.samples}, nil
}

func (r *ExportReader) readRollups(body []byte) (ExportPart, error) {
	cut := fmt.Errorf("%w: a frame of rollups is cut short", ErrInvalid)
	from, at := span(body, 0)
	if at < 0 {
		return ExportPart{}, cut
	}
	device := string(body[from:at])
	number := func() (v uint64) {
		if at >= 0 {
			v, at = varint(body, at)
		}
		return v
	}
	step, n := Step(number()), number()
	if at < 0 || n == 0 || n > rollupsInFrame {
		return ExportPart{}, cut
	}
	r.rollups = r.rollups[:0]
	for range n {
		row := Rollup{Step: step, Start: unzigzag(number()), Count: int64(number())}
		channels := number()
		if at < 0 || channels > MaxChannels {
			return ExportPart{}, cut
		}
		row.Channels = make([]ChannelRollup, channels)
		for i := range row.Channels {
			c := &row.Channels[i]
			if c.Count = int64(number()); at < 0 {
				return ExportPart{}, cut
			}
			if c.Count == 0 {
				continue
			}
			for _, v := range [...]*float64{&c.Min, &c.Max, &c.Sum, &c.First, &c.Last} {
				if len(body)-at < 8 {
					return ExportPart{}, cut
				}
				*v = math.Float64frombits(binary.LittleEndian.Uint64(body[at:]))
				at += 8
			}
		}
		r.rollups = append(r.rollups, row)
	}
	if at != len(body) {
		return ExportPart{}, cut
	}
	return ExportPart{Device: device, Rollups: r.rollups}, nil
}
