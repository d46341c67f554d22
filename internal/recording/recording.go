// Package recording reads recorded readings from CSV files, in the dialects that loggers and historians
// write: any separator, plain or gzip, header line or column numbers, several forms of time, words for
// omitted values, the device in the file name or in a column.
//
// What it guarantees: rows come in file order, and files of one device in the order given; every row
// becomes exactly one reading or one complaint that names file and line. Files are looked at before the
// first row is read: a column that is not there, or a file that cannot be opened, is told then. It
// streams: a Source holds one row, whatever the size of the file. Only Load keeps readings in memory.
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
	DeviceColumn   string // name or number of a column
	NoteColumn     string // name or number of a column; empty = no notes
	// Channels are names or numbers of columns, in this order; a file without one omits that channel.
	// Empty = all columns but those that mean something else, in the order of a device's first file: in
	// its later files a column of the same name is the same channel, and a new name a new one.
	Channels    []string
	SkipColumns []string // names or numbers of columns that are no channels
	SkipBad     bool     // count what cannot be read and go on
	Shift       int64    // added to every event time, milliseconds

	parse  timeParser
	buffer int // bytes of a read buffer
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
	Files   int
	Rows    int64   // good ones
	Omitted int64   // values
	Bad     Remarks // rows, and rests of files, that cannot be read; with Options.SkipBad
	Notices Remarks // what is odd but does no harm, such as a file without one of the channels
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.Files += o.Files
	s.Rows += o.Rows
	s.Omitted += o.Omitted
	s.Bad.merge(o.Bad)
	s.Notices.merge(o.Notices)
}

// Remarks are counted, and the first of them kept for people to read.
type Remarks struct {
	Count int64
	First []string // at most maxRemarks, each with its file
}

const maxRemarks = 10

func (r *Remarks) add(remark string) { r.merge(Remarks{Count: 1, First: []string{remark}}) }

func (r *Remarks) merge(o Remarks) {
	r.Count += o.Count
	r.First = append(r.First, o.First[:min(len(o.First), maxRemarks-len(r.First))]...)
}

// check finds what is wrong with the options before any file is opened, and fills in defaults.
func (o *Options) check() (err error) {
	if o.Separator == 0 {
		o.Separator = ','
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	switch {
	case o.TimeColumn == "":
		return errors.New("no time column given")
	case o.DeviceFromName == nil && o.DeviceColumn == "":
		return errors.New("neither a pattern for the device in the file name nor a device column given")
	case o.DeviceFromName != nil && o.DeviceColumn != "":
		return errors.New("both a pattern for the device in the file name and a device column given")
	case len(o.Channels) > messages.MaxChannels:
		return fmt.Errorf("%d channels given, at most %d are possible", len(o.Channels), messages.MaxChannels)
	case o.Separator == '"' || o.Separator == '\r' || o.Separator == '\n':
		return fmt.Errorf("%q cannot be the separator", o.Separator)
	}
	o.parse, err = newTimeParser(o.TimeFormat, o.Zone)
	return err
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

// value reads a field; omitted words become NaN.
func (o *Options) value(field string) (float64, error) {
	field = strings.TrimSpace(field)
	if field == "" || slices.Contains(o.Omitted, field) {
		return messages.Omitted(), nil
	}
	v, err := strconv.ParseFloat(field, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is no finite number, nor a word for an omitted value: name such words with --omitted, or leave the column out with --skip-columns", field)
	}
	return v, nil
}
