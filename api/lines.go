package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/wellhead/wellhead/messages"
)

const (
	// maxEntry is the most bytes of one entry of line protocol: 64 fields with long names and a note
	// take about 8 KiB.
	maxEntry = 64 << 10
	// toldTags is how many tags that are not kept an answer names.
	toldTags = 32
	// exactInteger is where float64 stops holding every integer.
	exactInteger = 1 << 53
)

// errEntry ends a body whose entry is longer than maxEntry: it is not known where the next begins.
var errEntry = fmt.Errorf("it is longer than %d bytes, perhaps for want of a closing quote; nothing from there on was read", maxEntry)

// precision is the unit of timestamps.
type precision struct {
	perMilli int64 // units in a millisecond, 0 = none
	millis   int64 // milliseconds in a unit, 0 = none
}

// precisions are the names that InfluxDB 1 and 2 have for them; the empty one is the default.
var precisions = map[string]precision{
	"": {perMilli: 1e6}, "ns": {perMilli: 1e6}, "n": {perMilli: 1e6},
	"us": {perMilli: 1e3}, "u": {perMilli: 1e3}, "µ": {perMilli: 1e3}, "µs": {perMilli: 1e3},
	"ms": {perMilli: 1}, "s": {millis: 1e3}, "m": {millis: 60e3}, "h": {millis: 3600e3},
}

// milli cuts a timestamp to milliseconds, downwards.
func (p precision) milli(t int64) (int64, error) {
	if p.millis > 0 {
		if t > math.MaxInt64/p.millis || t < math.MinInt64/p.millis {
			return 0, fmt.Errorf("timestamp %d is too large: is the precision right?", t)
		}
		return t * p.millis, nil
	}
	ms := t / p.perMilli
	if t%p.perMilli < 0 {
		ms--
	}
	return ms, nil
}

// lineReader hands a decoder one line at a time, so that it is known which line the decoder is at, and
// ends it at an entry that is too long. Empty lines and comments between entries are left out.
type lineReader struct {
	in    *bufio.Reader
	rest  []byte // of the line at hand
	open  bool   // the line at hand goes on beyond rest
	begin bool   // the next line begins an entry
	line  int    // number of the line at hand, from 1
	entry int    // number of the line that the entry at hand began with
	size  int    // bytes of the entry at hand
	err   error  // what ended it, other than io.EOF
}

func (r *lineReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if err := r.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next fetches a line, or the next piece of a long one.
func (r *lineReader) next() error {
	if r.err != nil {
		return r.err
	}
	goesOn := r.open
	data, err := r.in.ReadSlice('\n')
	r.open = errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !r.open && (len(data) == 0 || !errors.Is(err, io.EOF)) {
		return err
	}
	if !goesOn {
		r.line++
		if r.begin {
			if text := bytes.TrimLeft(data, " \t\r\n"); !r.open && (len(text) == 0 || text[0] == '#') {
				return nil
			}
			r.begin, r.entry, r.size = false, r.line, 0
		}
	}
	if r.size += len(data); r.size > maxEntry {
		return errEntry
	}
	r.rest = data
	return nil
}

// lineDecoder takes line protocol apart, entry by entry. The fields that next fills are those of one
// entry and good until the following.
type lineDecoder struct {
	reader lineReader
	dec    *lineprotocol.Decoder
	unit   precision
	now    int64 // for entries without a timestamp, Unix milliseconds
	names  *channelNames

	line        int // where the entry begins, from 1
	measurement []byte
	tagged      bool // device is the tag's value, else the measurement
	device      []byte
	time        int64
	row         [messages.MaxChannels]float64
	channels    int // used of row
	note        string
	noted       bool
	unnamed     []namedValue // fields whose names have no channel yet

	name    []byte   // being put together
	ignored []string // tags that are not kept, of all entries
}

type namedValue struct {
	name  string
	value float64
}

func newLineDecoder(in io.Reader, unit precision, now int64, names *channelNames) *lineDecoder {
	d := &lineDecoder{unit: unit, now: now, names: names}
	d.reader.in = bufio.NewReaderSize(in, maxEntry)
	d.dec = lineprotocol.NewDecoder(&d.reader)
	return d
}

// next goes to the following entry. ok is false at the end, and where the body cannot be read on: then
// reader.err says why. bad says why this entry cannot be taken; device is filled where it was understood.
func (d *lineDecoder) next() (ok bool, bad error) {
	d.reader.begin = true
	d.device, d.time, d.channels, d.note, d.noted, d.unnamed = d.device[:0], d.now, 0, "", false, d.unnamed[:0]
	for d.reader.begin { // a lone \r in a refused line makes the library see another entry in it
		if !d.dec.Next() {
			return false, nil
		}
		if d.reader.begin {
			_, _ = d.dec.TimeBytes()
		}
	}
	d.line = d.reader.entry
	if bad = d.entry(); bad != nil {
		_, _ = d.dec.TimeBytes() // goes over what is left of the entry; its other mistakes are not told
	}
	// With an error of the reader the entry is cut short, though it may look whole.
	return d.reader.err == nil, bad
}

func (d *lineDecoder) entry() error {
	if err := d.who(); err != nil {
		return d.told(err)
	}
	for {
		key, value, err := d.dec.NextField()
		if err != nil {
			return d.told(err)
		}
		if key == nil {
			break
		}
		if err := d.field(key, value); err != nil {
			return err
		}
	}
	stamp, err := d.dec.TimeBytes()
	if err != nil {
		return d.told(err)
	}
	if stamp != nil {
		t, err := strconv.ParseInt(string(stamp), 10, 64)
		if err != nil {
			return fmt.Errorf("timestamp %q is not an integer of 64 bits", stamp)
		}
		if d.time, err = d.unit.milli(t); err != nil {
			return err
		}
	}
	return messages.CheckName("device", string(d.device))
}

// told is a complaint of the library's without the line, which it counts otherwise.
func (d *lineDecoder) told(err error) error {
	var at *lineprotocol.DecodeError
	if !errors.As(err, &at) {
		return err
	}
	through := ""
	if d.reader.line > d.line {
		through = fmt.Sprintf(" (the entry goes on through line %d: a quote is not closed?)", d.reader.line)
	}
	return fmt.Errorf("column %d: %w%s", at.Column, at.Err, through)
}

// who reads measurement and tags.
func (d *lineDecoder) who() error {
	m, err := d.dec.Measurement()
	if err != nil {
		return err
	}
	d.measurement = append(d.measurement[:0], m...)
	d.device = append(d.device, m...)
	d.tagged = false
	for {
		key, value, err := d.dec.NextTag()
		switch {
		case err != nil:
			return err
		case key == nil:
			return nil
		case string(key) != "device":
			d.ignore(key)
		case d.tagged:
			return errors.New("it has two tags device: leave one out")
		default:
			d.tagged = true
			d.device = append(d.device[:0], value...)
		}
	}
}

func (d *lineDecoder) ignore(tag []byte) {
	for _, t := range d.ignored {
		if t == string(tag) {
			return
		}
	}
	if len(d.ignored) < toldTags {
		d.ignored = append(d.ignored, string(tag))
	}
}

// field puts a field's value where it belongs.
func (d *lineDecoder) field(key []byte, value lineprotocol.Value) error {
	if value.Kind() == lineprotocol.String {
		if d.noted {
			return fmt.Errorf("field %q is a second text: a reading has one note", key)
		}
		d.note, d.noted = value.StringV(), true
		return nil
	}
	v, err := exactValue(value)
	if err != nil {
		return fmt.Errorf("field %q: %w", key, err)
	}
	if i, numbered, err := numberedChannel(key); err != nil {
		return err
	} else if numbered {
		return d.set(i, v, key)
	}
	d.name = d.name[:0]
	if d.tagged {
		d.name = append(append(d.name, d.measurement...), '.')
	}
	d.name = append(d.name, key...)
	if i, ok := d.names.index[string(d.name)]; ok {
		return d.set(i, v, key)
	}
	if len(d.name) > messages.MaxName {
		return fmt.Errorf("the channel's name %q has more than %d bytes: shorten it, or call the field c0 to c63", d.name, messages.MaxName)
	}
	d.unnamed = append(d.unnamed, namedValue{string(d.name), v})
	return nil
}

// exactValue is a field's value as float64, exactly.
func exactValue(value lineprotocol.Value) (float64, error) {
	switch value.Kind() {
	case lineprotocol.Float:
		return value.FloatV(), nil // the library refuses infinities and what is no number
	case lineprotocol.Bool:
		if value.BoolV() {
			return 1, nil
		}
		return 0, nil
	case lineprotocol.Int:
		i := value.IntV()
		if v := float64(i); (-exactInteger <= i && i <= exactInteger) || (v < math.MaxInt64 && int64(v) == i) {
			return v, nil
		}
		return 0, inexact(value)
	case lineprotocol.Uint:
		u := value.UintV()
		if v := float64(u); u <= exactInteger || (v < math.MaxUint64 && uint64(v) == u) {
			return v, nil
		}
		return 0, inexact(value)
	}
	return 0, fmt.Errorf("%s is no value of line protocol", value)
}

func inexact(value lineprotocol.Value) error {
	return fmt.Errorf("%s is beyond 2^53 and not exact as a float64, which values are kept as: send it as text, or in two fields", value)
}

// numberedChannel reads c0 to c63 and 0 to 63, which say the channel's index themselves.
func numberedChannel(key []byte) (index int, numbered bool, err error) {
	digits := key
	if key[0] == 'c' {
		digits = key[1:]
	}
	if len(digits) == 0 {
		return 0, false, nil
	}
	for i, c := range digits {
		if c -= '0'; c > 9 {
			return 0, false, nil
		}
		if i < 3 {
			index = index*10 + int(digits[i]-'0')
		}
	}
	if len(digits) > 2 || index >= messages.MaxChannels || (len(digits) > 1 && digits[0] == '0') {
		return 0, true, fmt.Errorf("field %q names no channel: they are c0 to c%d; give the field a name if it is meant as one", key, messages.MaxChannels-1)
	}
	return index, true, nil
}

func (d *lineDecoder) set(i int, v float64, key []byte) error {
	for d.channels <= i {
		d.row[d.channels] = messages.Omitted()
		d.channels++
	}
	if !math.IsNaN(d.row[i]) {
		return fmt.Errorf("field %q: channel %d is in this line already", key, i)
	}
	d.row[i] = v
	return nil
}

// nameless returns the names that have no channel yet.
func (d *lineDecoder) nameless() []string {
	out := make([]string, len(d.unnamed))
	for i, f := range d.unnamed {
		out[i] = f.name
	}
	return out
}

// named puts what had no channel where names now says.
func (d *lineDecoder) named(names *channelNames) error {
	d.names = names
	for _, f := range d.unnamed {
		i, ok := names.index[f.name]
		if !ok {
			return fmt.Errorf("the site's %d channels have no room for %q: call the field c0 to c%d, or write to another site",
				messages.MaxChannels, f.name, messages.MaxChannels-1)
		}
		if err := d.set(i, f.value, []byte(f.name)); err != nil {
			return err
		}
	}
	return nil
}

// reading is the entry as a reading; its values are the decoder's.
func (d *lineDecoder) reading() messages.Reading {
	return messages.Reading{Time: d.time, Values: d.row[:d.channels], Note: d.note}
}

// ignoredTags returns the tags that are not kept, sorted.
func (d *lineDecoder) ignoredTags() []string {
	slices.Sort(d.ignored)
	return d.ignored
}
