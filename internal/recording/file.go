package recording

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	// buffers is what the read buffers of all sources may have together, as long as each has 4 KiB.
	buffers = 16 << 20
	// maxRow is the most that one row may take, give or take a read buffer: an opening quote whose
	// closing one is missing would make a row of the whole rest of the file.
	maxRow = 1 << 20
)

// errRowTooLong ends the reading of a file.
var errRowTooLong = fmt.Errorf("a row is longer than %d bytes: is there an opening quote without a closing one?", maxRow)

// errEmpty is what is wrong with a file without a byte.
var errEmpty = errors.New("the file is empty")

// file is one file that is being read.
type file struct {
	name    string
	close   func() error
	csv     *csv.Reader
	meter   *meter
	header  []string // names; nil = the file has no header line
	columns columns
	first   []string // a first line that is data and was read already
	line    int      // where the row read last begins
}

// open opens a file, unpacks it if it is packed, reads its header line and finds its columns.
func (o *Options) open(name string) (*file, error) {
	handle, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &file{name: name, close: handle.Close}
	if err := o.start(f, handle); err != nil {
		handle.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// peek looks at a file's first line; nil when it is a pipe or the like, which can be read only once.
func (o *Options) peek(name string) (*file, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, nil
	}
	f, err := o.open(name)
	if err != nil {
		return nil, err
	}
	return f, f.close()
}

func (o *Options) start(f *file, r io.Reader) error {
	raw := bufio.NewReaderSize(r, o.buffer)
	// by content, not by name: a .csv.gz that was unpacked on the way is common
	r = raw
	if magic, _ := raw.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			return err
		}
		r = unpacked
	}
	f.meter = &meter{from: r, left: maxRow}
	text := bufio.NewReaderSize(f.meter, o.buffer)
	mark, _ := text.Peek(3)
	switch {
	case string(mark) == "\ufeff":
		// cannot fail: they were just seen
		_, _ = text.Discard(3)
	case len(mark) > 1 && (mark[0] == 0xff && mark[1] == 0xfe || mark[0] == 0xfe && mark[1] == 0xff):
		return errors.New("the text is UTF-16: convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8")
	}
	f.csv = csv.NewReader(text)
	f.csv.Comma = o.Separator
	f.csv.FieldsPerRecord = -1
	f.csv.ReuseRecord = true
	first, err := f.csv.Read()
	if err == io.EOF {
		return errEmpty
	}
	if err != nil {
		return err
	}
	f.line, _ = f.csv.FieldPos(0)
	first = slices.Clone(first)
	f.header = make([]string, len(first))
	for i, name := range first {
		f.header[i] = strings.TrimSpace(name)
	}
	if o.isData(f.header) {
		f.header, f.first = nil, first
	}
	f.columns, err = o.locate(f.header, len(first))
	return err
}

// isData tells whether the first line is no header line: the time column is given by number, and a time
// stands there.
func (o *Options) isData(first []string) bool {
	if slices.Contains(first, o.TimeColumn) {
		return false
	}
	at, err := find(o.TimeColumn, nil, len(first))
	if err != nil {
		return false
	}
	_, err = o.parse(first[at])
	return err == nil
}

// read returns the next row with the line where it begins. A *csv.ParseError says that only this row
// cannot be read. Errors name the place.
func (f *file) read() (fields []string, line int, err error) {
	if f.first != nil {
		fields, f.first = f.first, nil
		return fields, f.line, nil
	}
	f.meter.left = maxRow
	fields, err = f.csv.Read()
	var wrong *csv.ParseError
	switch {
	case err == nil:
		f.line, _ = f.csv.FieldPos(0)
		return fields, f.line, nil
	case err == io.EOF:
		return nil, 0, err
	case errors.As(err, &wrong):
		place := fmt.Sprintf("%s:%d", f.name, wrong.StartLine)
		if wrong.Line > wrong.StartLine {
			place += fmt.Sprintf(" to line %d", wrong.Line)
		}
		f.line = wrong.Line
		return nil, wrong.StartLine, &placed{place, err, wrong.Err}
	}
	return nil, 0, fmt.Errorf("%s: after line %d: %w", f.name, f.line, err)
}

// placed is a *csv.ParseError that says where in our words.
type placed struct {
	place string
	whole error
	what  error
}

func (p *placed) Error() string { return p.place + ": " + p.what.Error() }
func (p *placed) Unwrap() error { return p.whole }

// isDamage tells whether a file, or the rest of it, cannot be read because of what is in it.
func isDamage(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) ||
		errors.Is(err, errRowTooLong) || errors.Is(err, errEmpty) || errors.As(err, new(flate.CorruptInputError))
}

// meter bounds what is read for one row.
type meter struct {
	from io.Reader
	left int
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := m.from.Read(p)
	m.left -= n
	return n, err
}
