package recording

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
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
	files   []string
	opened  *file // nil = none is open
	legend  legend
	row     Row
	values  []float64
}

// Open checks the options and the first line of each file, and puts files into sources: one for each
// device, in the order in which devices first appear, or one for all with a device column. No file stays
// open.
func Open(files []string, o Options) ([]*Source, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no files given")
	}
	sources, err := o.group(files)
	if err != nil {
		return nil, err
	}
	o.buffer = min(max(buffers/len(sources), 4<<10), 64<<10)
	if err := o.inspect(files); err != nil {
		return nil, err
	}
	for _, s := range sources {
		s.options = o
	}
	return sources, nil
}

// group makes the sources.
func (o *Options) group(files []string) ([]*Source, error) {
	if o.DeviceColumn != "" {
		return []*Source{{files: files}}, nil
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
			s = &Source{Device: device}
			byDevice[device] = s
			sources = append(sources, s)
		}
		s.files = append(s.files, name)
	}
	return sources, nil
}

// Next returns the next row, valid until the one after it; io.EOF after the last of the last file. What
// cannot be read is an error that wraps ErrRow and names file and line, unless it is skipped. After an
// error the source must only be closed.
func (s *Source) Next() (*Row, error) {
	for {
		if s.opened == nil {
			if len(s.files) == 0 {
				return nil, io.EOF
			}
			if err := s.open(); err != nil {
				return nil, err
			}
			continue
		}
		fields, line, err := s.opened.read()
		switch {
		case err == io.EOF:
			if err := s.Close(); err != nil {
				return nil, err
			}
			continue
		case isDamage(err):
			// the rest of the file is lost, and that is one complaint
			if err := s.complain(err); err != nil {
				return nil, err
			}
			if err := s.Close(); err != nil {
				return nil, err
			}
			continue
		case err == nil:
			if err = s.take(fields); err == nil {
				s.row.File, s.row.Line = s.opened.name, line
				s.Stats.Rows++
				return &s.row, nil
			}
			err = fmt.Errorf("%s:%d: %w", s.opened.name, line, err)
		case !errors.As(err, new(*csv.ParseError)):
			return nil, err
		}
		if err := s.complain(err); err != nil {
			return nil, err
		}
	}
}

// complain counts what cannot be read, or returns it as the error that ends the reading.
func (s *Source) complain(err error) error {
	err = fmt.Errorf("%w: %w", ErrRow, err)
	if !s.options.SkipBad {
		return err
	}
	s.Stats.Bad.add(err.Error())
	return nil
}

// open opens the next file.
func (s *Source) open() error {
	name := s.files[0]
	s.files = s.files[1:]
	s.Stats.Files++
	f, err := s.options.open(name)
	if err != nil {
		if isDamage(err) {
			return s.complain(err)
		}
		return err
	}
	s.opened = f
	if len(s.options.Channels) > 0 {
		for _, column := range s.options.absent(&f.columns) {
			s.Stats.Notices.add(fmt.Sprintf("%s: there is no column %q, so all rows omit it", name, column))
		}
		return nil
	}
	first := len(s.legend) == 0
	added, err := s.legend.number(&f.columns, f.header)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(added) > 0 && !first {
		s.Stats.Notices.add(fmt.Sprintf("%s: the columns %s are not in the files before it: they become channels from %d on",
			name, quoted(added), len(s.legend)-len(added)))
	}
	return nil
}

// take makes the row of its fields.
func (s *Source) take(fields []string) error {
	c := &s.opened.columns
	if len(fields) != c.width {
		return fmt.Errorf("%d fields, where the first line has %d: --bad-rows skip leaves such rows out", len(fields), c.width)
	}
	t, err := s.options.parse(strings.TrimSpace(fields[c.time]))
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
		if at < 0 {
			s.values = append(s.values, messages.Omitted())
			continue
		}
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
