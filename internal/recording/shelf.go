package recording

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"

	"github.com/wellhead/wellhead/messages"
)

// Shelf keeps what is loaded of recordings: in memory as long as that has room, then in one temporary
// file, sorted in parts and merged. Loading is for one goroutine; devices may be read by many.
type Shelf struct {
	limit int64
	held  int64 // bytes of devices in memory
	file  *os.File
	end   int64 // of what is in the file
	out   *bufio.Writer
}

// NewShelf returns a shelf that keeps at most about limit bytes in memory, half as much again while it
// sorts; 0 = all. Readings take 24 bytes and 8 a value. What has no room goes to the folder for temporary
// files (TMPDIR), which needs up to 12 bytes and 8 a value, twice. Close it afterwards.
func NewShelf(limit int64) *Shelf { return &Shelf{limit: limit} }

// Close ends the use of everything loaded.
func (s *Shelf) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	// where it could not be removed while open
	if removed := os.Remove(s.file.Name()); err == nil && !errors.Is(removed, os.ErrNotExist) {
		err = removed
	}
	s.file = nil
	return err
}

// hold tells whether so many bytes more may stay in memory, and counts them.
func (s *Shelf) hold(bytes int64) bool {
	if s.limit > 0 && s.held+bytes > s.limit*3/4 {
		return false
	}
	s.held += bytes
	return true
}

// section is a device's readings in the file, by event time.
type section struct {
	file        *os.File
	begin, size int64
	count       int
	first, last int64
}

const (
	writeBuffer = 64 << 10
	// readBuffer is what reading a section takes. Merging takes one for each part of a device.
	readBuffer = 16 << 10
)

// write appends readings, which are sorted.
func (s *Shelf) write(readings iter.Seq[messages.Reading]) (*section, error) {
	failed := func(err error) (*section, error) {
		return nil, fmt.Errorf("keep recorded readings in a temporary file (TMPDIR names another folder): %w", err)
	}
	if s.file == nil {
		file, err := os.CreateTemp("", "wellhead-recording-*")
		if err != nil {
			return failed(err)
		}
		s.file, s.out = file, bufio.NewWriterSize(nil, writeBuffer)
		// gone with the process, where the system allows it
		_ = os.Remove(file.Name())
	}
	part := &section{file: s.file, begin: s.end}
	s.out.Reset(io.NewOffsetWriter(s.file, s.end))
	var b []byte
	for r := range readings {
		if part.count == 0 {
			part.first = r.Time
		}
		part.last = r.Time
		part.count++
		b = appendReading(b[:0], &r)
		part.size += int64(len(b))
		if _, err := s.out.Write(b); err != nil {
			return failed(err)
		}
	}
	if err := s.out.Flush(); err != nil {
		return failed(err)
	}
	s.end += part.size
	return part, nil
}

// appendReading writes event time, number of values, length of the note, values, note.
func appendReading(b []byte, r *messages.Reading) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Values)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Note)))
	for _, v := range r.Values {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return append(b, r.Note...)
}

// sectionReader reads a section's readings one after the other.
type sectionReader struct {
	in      *bufio.Reader
	reading messages.Reading
	values  []float64
	body    []byte
}

func (s *section) read() *sectionReader {
	return &sectionReader{in: bufio.NewReaderSize(io.NewSectionReader(s.file, s.begin, s.size), readBuffer)}
}

// next returns the next reading, valid until the one after it; io.EOF after the last.
func (r *sectionReader) next() (*messages.Reading, error) {
	var head [12]byte
	_, err := io.ReadFull(r.in, head[:])
	if err == io.EOF {
		return nil, err
	}
	values, note := int(binary.LittleEndian.Uint16(head[8:])), int(binary.LittleEndian.Uint16(head[10:]))
	if size := 8*values + note; cap(r.body) < size {
		r.body = make([]byte, size)
	}
	r.body = r.body[:8*values+note]
	if err == nil {
		_, err = io.ReadFull(r.in, r.body)
	}
	if err != nil {
		return nil, fmt.Errorf("read recorded readings back from a temporary file: %w", err)
	}
	r.values = r.values[:0]
	for i := range values {
		r.values = append(r.values, math.Float64frombits(binary.LittleEndian.Uint64(r.body[8*i:])))
	}
	r.reading = messages.Reading{Time: int64(binary.LittleEndian.Uint64(head[:])), Values: r.values, Note: string(r.body[8*values:])}
	return &r.reading, nil
}

// merge makes one section of a device's parts and returns how many readings a later part replaced.
func (d *Device) merge(s *Shelf) (repeated int64, err error) {
	var parts parts
	for i := range d.parts {
		p := &part{reader: d.parts[i].read(), order: i}
		// a part is never empty
		if p.head, err = p.reader.next(); err != nil {
			return 0, err
		}
		parts = append(parts, p)
	}
	heap.Init(&parts)
	var broken error
	d.section, err = s.write(func(yield func(messages.Reading) bool) {
		for len(parts) > 0 {
			t := parts[0].head.Time
			if !yield(*parts[0].head) {
				return
			}
			if broken = parts.step(); broken != nil {
				return
			}
			for len(parts) > 0 && parts[0].head.Time == t {
				repeated++
				if broken = parts.step(); broken != nil {
					return
				}
			}
		}
	})
	return repeated, cmp.Or(broken, err)
}

// part is one part of a device while it is merged.
type part struct {
	reader *sectionReader
	head   *messages.Reading
	order  int
}

// parts is a heap: the oldest reading is first, and of equal times the one that was read last.
type parts []*part

// step goes on to the next reading of the first part.
func (p *parts) step() (err error) {
	first := (*p)[0]
	if first.head, err = first.reader.next(); err == io.EOF {
		heap.Pop(p)
		return nil
	}
	if err != nil {
		return err
	}
	heap.Fix(p, 0)
	return nil
}

func (p parts) Len() int { return len(p) }
func (p parts) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(p[i].head.Time, p[j].head.Time), cmp.Compare(p[j].order, p[i].order)) < 0
}
func (p parts) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *parts) Push(x any)   { *p = append(*p, x.(*part)) }
func (p *parts) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}
