// Package recording reads recorded readings from CSV files, in the dialects that loggers and historians
// write: any separator, plain or gzip, header line or column numbers, several forms of time, words for
// omitted values, the device in the file name or in a column.
//
// What it guarantees: rows come in file order, and files of one device in the order given; every row
// becomes exactly one reading or one complaint that names file and line. It streams: a Source holds one
// row, whatever the size of the file. Only Load keeps readings in memory.
package recording

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// ErrRow is what every complaint about a row of a file wraps.
var ErrRow = errors.New("bad row")

// Options say how files are to be read.
type Options struct {
	// TimeColumn is a name of the header line, or #1 for the first column. With a number a first line
	// whose time cannot be read is taken for a header line, and one whose time can for data.
	TimeColumn string
	// TimeFormat is rfc3339, unix (seconds, may have decimals), unix_ms, a strftime format (with a %),
	// or empty for 2006-01-02 15:04[:05[.999999]], a T between, and a zone or none.
	TimeFormat string
	Separator  rune           // 0 = comma
	Omitted    []string       // fields that stand for no value; the empty field always does
	Zone       *time.Location // of times that name none; nil = UTC
	// DeviceFromName is matched with the file's name without its folder; group 1, or without a group
	// the whole match, is the device. Exactly one of it and DeviceColumn is set.
	DeviceFromName *regexp.Regexp
	DeviceColumn   string   // name or number of a column
	NoteColumn     string   // name or number of a column; empty = no notes
	Channels       []string // names or numbers of columns, in this order; empty = all but those that mean something else
	SkipColumns    []string // names or numbers of columns that are no channels; a name no file has is an error
	SkipBad        bool     // count bad rows and go on
	Shift          int64    // added to every event time, milliseconds
}

// Row is one reading with where it comes from. It is valid until the next one.
type Row struct {
	Device  string
	Reading messages.Reading
	File    string
	Line    int
}

// Stats count what was read.
type Stats struct {
	Files    int
	Rows     int64    // good ones
	Bad      int64    // with Options.SkipBad
	Omitted  int64    // values
	Examples []string // the first bad rows, at most 10
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.Files += o.Files
	s.Rows += o.Rows
	s.Bad += o.Bad
	s.Omitted += o.Omitted
	s.Examples = append(s.Examples, o.Examples[:min(len(o.Examples), 10-len(s.Examples))]...)
}

// check finds what is wrong with the options before any file is opened, and fills in defaults.
func (o *Options) check() (timeParser, error) {
	if o.Separator == 0 {
		o.Separator = ','
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	switch {
	case o.TimeColumn == "":
		return nil, errors.New("no time column given")
	case o.DeviceFromName == nil && o.DeviceColumn == "":
		return nil, errors.New("neither a pattern for the device in the file name nor a device column given")
	case o.DeviceFromName != nil && o.DeviceColumn != "":
		return nil, errors.New("both a pattern for the device in the file name and a device column given")
	case len(o.Channels) > messages.MaxChannels:
		return nil, fmt.Errorf("%d channels given, at most %d are possible", len(o.Channels), messages.MaxChannels)
	case o.Separator == '"' || o.Separator == '\r' || o.Separator == '\n':
		return nil, fmt.Errorf("%q cannot be the separator", o.Separator)
	}
	return newTimeParser(o.TimeFormat, o.Zone)
}

// DeviceOf returns the device that a file's name tells.
func (o *Options) DeviceOf(file string) (string, error) {
	name := filepath.Base(file)
	m := o.DeviceFromName.FindStringSubmatch(name)
	if m == nil {
		return "", fmt.Errorf("%s: the pattern %s does not match the file's name", file, o.DeviceFromName)
	}
	device := m[0]
	if len(m) > 1 {
		device = m[1]
	}
	if err := messages.CheckName("device", device); err != nil {
		return "", fmt.Errorf("%s: the name gives: %w", file, err)
	}
	return device, nil
}

// columns says where in a row things are; -1 = nowhere.
type columns struct {
	width    int // fields in a row
	time     int
	device   int
	note     int
	channels []int
}

// find returns the index of a column given by name or by number, in a file of so many columns.
func find(column string, header []string, width int) (int, error) {
	if i := slices.Index(header, column); i >= 0 {
		return i, nil
	}
	if number, ok := strings.CutPrefix(column, "#"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > width {
			return 0, fmt.Errorf("there is no column %s, only #1 to #%d", column, width)
		}
		return n - 1, nil
	}
	return 0, fmt.Errorf("there is no column %q; the header line has %s", column, quoted(header))
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "no names (there is none: give columns as #1, #2, …)"
	}
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.Quote(name)
	}
	return strings.Join(list, ", ")
}

// locate finds all columns of a file.
func (o *Options) locate(header []string, width int) (columns, error) {
	c := columns{width: width, device: -1, note: -1}
	var err error
	if c.time, err = find(o.TimeColumn, header, width); err != nil {
		return c, fmt.Errorf("time column: %w", err)
	}
	if o.DeviceColumn != "" {
		if c.device, err = find(o.DeviceColumn, header, width); err != nil {
			return c, fmt.Errorf("device column: %w", err)
		}
	}
	if o.NoteColumn != "" {
		if c.note, err = find(o.NoteColumn, header, width); err != nil {
			return c, fmt.Errorf("note column: %w", err)
		}
	}
	taken := []int{c.time, c.device, c.note}
	for _, name := range o.SkipColumns {
		i, err := find(name, header, width)
		if err != nil {
			return c, fmt.Errorf("column to skip: %w", err)
		}
		taken = append(taken, i)
	}
	if len(o.Channels) > 0 {
		for _, name := range o.Channels {
			i, err := find(name, header, width)
			if err != nil {
				return c, fmt.Errorf("channel: %w", err)
			}
			c.channels = append(c.channels, i)
		}
		return c, nil
	}
	for i := range width {
		if !slices.Contains(taken, i) {
			c.channels = append(c.channels, i)
		}
	}
	if len(c.channels) > messages.MaxChannels {
		return c, fmt.Errorf("%d columns would be channels, at most %d are possible: choose some with channels", len(c.channels), messages.MaxChannels)
	}
	return c, nil
}

// value reads a field; omitted words become NaN.
func (o *Options) value(field string) (float64, error) {
	field = strings.TrimSpace(field)
	if field == "" || slices.Contains(o.Omitted, field) {
		return messages.Omitted(), nil
	}
	v, err := strconv.ParseFloat(field, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is no finite number, nor a word for an omitted value", field)
	}
	return v, nil
}
