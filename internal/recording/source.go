package recording

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/wellhead/wellhead/messages"
)

// Source reads a list of files one after the other: those of one device, or, with a device column, all
// files. It is used by one goroutine.
type Source struct {
	// Device is whose files these are; empty with a device column.
	Device string
	// Stats counts what was read so far.
	Stats Stats

	options Options
	parse   timeParser
	files   []string
	opened  *file // nil = none is open
	row     Row
	values  []float64
}

// file is one file that is being read.
type file struct {
	name    string
	close   func() error
	csv     *csv.Reader
	columns columns
	first   []string // a first line that is data and was read already
}

// Open checks the options and puts files into sources: one for each device, in the order in which
// devices first appear, or one for all with a device column. No file is opened yet.
func Open(files []string, o Options) ([]*Source, error) {
	parse, err := o.check()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no files given")
	}
	if o.DeviceColumn != "" {
		return []*Source{{options: o, parse: parse, files: files}}, nil
	}
	var sources []*Source
	byDevice := map[string]*Source{}
	for _, name := range files {
		device, err := o.DeviceOf(name)
		if err != nil {
			return nil, err
		}
		s := byDevice[device]
		if s == nil {
			s = &Source{Device: device, options: o, parse: parse}
			byDevice[device] = s
			sources = append(sources, s)
		}
		s.files = append(s.files, name)
	}
	return sources, nil
}

// Next returns the next row, valid until the one after it; io.EOF after the last of the last file. A bad
// row is an error that wraps ErrRow and names file and line, unless bad rows are skipped. After an error
// the source must only be closed.
func (s *Source) Next() (*Row, error) {
	for {
		if s.opened == nil {
			if len(s.files) == 0 {
				return nil, io.EOF
			}
			f, err := s.open(s.files[0])
			if err != nil {
				return nil, err
			}
			s.opened, s.files = f, s.files[1:]
			s.Stats.Files++
		}
		fields, err := s.opened.read()
		if err == io.EOF {
			if err := s.Close(); err != nil {
				return nil, err
			}
			continue
		}
		var wrong *csv.ParseError
		if err != nil && !errors.As(err, &wrong) {
			return nil, fmt.Errorf("%s: %w", s.opened.name, err)
		}
		var line int
		if wrong != nil {
			line, err = wrong.Line, wrong.Err
		} else {
			line, _ = s.opened.csv.FieldPos(0)
			err = s.take(fields)
		}
		if err == nil {
			s.row.File, s.row.Line = s.opened.name, line
			s.Stats.Rows++
			return &s.row, nil
		}
		complaint := fmt.Errorf("%w: %s:%d: %w", ErrRow, s.opened.name, line, err)
		if !s.options.SkipBad {
			return nil, complaint
		}
		s.Stats.Bad++
		if len(s.Stats.Examples) < 10 {
			s.Stats.Examples = append(s.Stats.Examples, complaint.Error())
		}
	}
}

// take makes the row of its fields.
func (s *Source) take(fields []string) error {
	c := &s.opened.columns
	if len(fields) != c.width {
		return fmt.Errorf("%d fields, where the first line has %d", len(fields), c.width)
	}
	t, err := s.parse(strings.TrimSpace(fields[c.time]))
	if err != nil {
		return fmt.Errorf("time %q %w", fields[c.time], errTime)
	}
	s.row.Device = s.Device
	if c.device >= 0 {
		s.row.Device = strings.TrimSpace(fields[c.device])
		if err := messages.CheckName("device", s.row.Device); err != nil {
			return err
		}
	}
	s.row.Reading = messages.Reading{Time: t + s.options.Shift}
	if c.note >= 0 {
		s.row.Reading.Note = fields[c.note]
	}
	s.values = s.values[:0]
	var omitted int64
	for i, at := range c.channels {
		v, err := s.options.value(fields[at])
		if err != nil {
			return fmt.Errorf("channel %d (column #%d): %w", i, at+1, err)
		}
		if v != v {
			omitted++
		}
		s.values = append(s.values, v)
	}
	s.row.Reading.Values = s.values
	if err := messages.CheckReading(s.row.Reading); err != nil {
		return err
	}
	s.Stats.Omitted += omitted
	return nil
}

// Close closes what is open.
func (s *Source) Close() error {
	if s.opened == nil {
		return nil
	}
	f := s.opened
	s.opened = nil
	if err := f.close(); err != nil {
		return fmt.Errorf("close %s: %w", f.name, err)
	}
	return nil
}

// open opens a file, unpacks it if it is packed, and reads its header line.
func (s *Source) open(name string) (*file, error) {
	handle, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &file{name: name, close: handle.Close}
	if err := s.start(f, handle); err != nil {
		handle.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (s *Source) start(f *file, r io.Reader) error {
	buffered := bufio.NewReaderSize(r, 64<<10)
	// by content, not by name: a .csv.gz that was unpacked on the way is common
	if magic, _ := buffered.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return err
		}
		buffered = bufio.NewReaderSize(unpacked, 64<<10)
	}
	if mark, _ := buffered.Peek(3); string(mark) == "\ufeff" {
		// cannot fail: they were just seen
		_, _ = buffered.Discard(3)
	}
	f.csv = csv.NewReader(buffered)
	f.csv.Comma = s.options.Separator
	f.csv.FieldsPerRecord = -1
	f.csv.ReuseRecord = true
	first, err := f.csv.Read()
	if err == io.EOF {
		return errors.New("the file is empty")
	}
	if err != nil {
		return err
	}
	first = slices.Clone(first)
	header := make([]string, len(first))
	for i, name := range first {
		header[i] = strings.TrimSpace(name)
	}
	if s.isData(header) {
		header, f.first = nil, first
	}
	f.columns, err = s.options.locate(header, len(first))
	return err
}

// isData tells whether the first line is no header line: the time column is given by number, and a time
// stands there.
func (s *Source) isData(first []string) bool {
	if slices.Contains(first, s.options.TimeColumn) {
		return false
	}
	at, err := find(s.options.TimeColumn, nil, len(first))
	if err != nil {
		return false
	}
	_, err = s.parse(first[at])
	return err == nil
}

func (f *file) read() ([]string, error) {
	if f.first != nil {
		first := f.first
		f.first = nil
		return first, nil
	}
	return f.csv.Read()
}
