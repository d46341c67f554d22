package messages

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON decodes one reading, {"time":…,"values":[1.5,null,3],"quality":[0,0,2],"note":"…"}, or an array
// of them. Only a single reading may leave out its time, which is NoTime then. single says that it was
// no array. A reading in an array that is invalid is left out and told in refused (valid until the next
// message); err wraps ErrInvalid and means that nothing can be used.
func (d *Decoder) JSON(data []byte) (readings []Reading, single bool, refused []RefusedReading, err error) {
	if err := d.begin(data); err != nil {
		return nil, false, nil, err
	}
	if single, err = d.scan(data, false); err != nil {
		d.refused = d.refused[:0]
		return nil, single, nil, err
	}
	readings = d.readings.take(len(d.scanned))
	copy(readings, d.scanned)
	return readings, single, d.refused, nil
}

// JSONWithDevice decodes one reading that names its device: {"device":"pump-1","values":[1.5]}. Its
// time may be missing and is NoTime then. With an error, which wraps ErrInvalid, device is still
// returned where it was understood.
func (d *Decoder) JSONWithDevice(data []byte) (device string, r Reading, err error) {
	if err := d.begin(data); err != nil {
		return "", Reading{}, err
	}
	s := scanner{data: data, decoder: d, withDevice: true}
	s.space()
	f, bad, err := s.reading()
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = bad
	}
	if err == nil {
		err = f.check(true)
	}
	if err == nil {
		err = CheckName("device", f.device)
	}
	if err != nil {
		return f.device, Reading{}, err
	}
	return f.device, d.keep(&f), nil
}

// jsonBatch decodes JSON readings that name their devices.
func (d *Decoder) jsonBatch(data []byte, b *Batch) error {
	if err := d.begin(data); err != nil {
		return err
	}
	if _, err := d.scan(data, true); err != nil {
		d.refused = d.refused[:0]
		return err
	}
	readings := d.readings.take(len(d.scanned))
	copy(readings, d.scanned)
	d.blocks.begin()
	for from := 0; from < len(readings); {
		to := from + 1
		for to < len(readings) && d.devices[to] == d.devices[from] {
			to++
		}
		d.blocks.add(d.devices[from], readings[from:to:to])
		from = to
	}
	b.Blocks = d.blocks.end()
	return nil
}

// scan puts one reading or an array of them into d.scanned, and what is invalid into d.refused.
func (d *Decoder) scan(data []byte, withDevice bool) (single bool, err error) {
	d.scanned, d.devices = d.scanned[:0], d.devices[:0]
	s := scanner{data: data, decoder: d, withDevice: withDevice}
	s.space()
	if s.peek() != '[' {
		if err := d.scanOne(&s, 0, true); err != nil {
			return true, err
		}
		return true, s.end()
	}
	s.at++
	s.space()
	if s.peek() == ']' {
		s.at++
		return false, s.end()
	}
	for i := 0; ; i++ {
		if i == MaxReadings {
			return false, fmt.Errorf("%w: more than %d readings in one message: send smaller ones", ErrInvalid, MaxReadings)
		}
		if err := d.scanOne(&s, i, false); err != nil {
			return false, err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
			s.space()
		case ']':
			s.at++
			return false, s.end()
		default:
			return false, s.unexpected("a comma or ] after a reading")
		}
	}
}

// scanOne scans the i-th reading.
func (d *Decoder) scanOne(s *scanner, i int, single bool) error {
	f, bad, err := s.reading()
	if err != nil {
		return err
	}
	if bad == nil {
		bad = f.check(single)
	}
	if bad == nil && s.withDevice {
		bad = CheckName("device", f.device)
	}
	if bad != nil {
		d.refuse(0, i, bad)
		return nil
	}
	d.scanned = append(d.scanned, d.keep(&f))
	if s.withDevice {
		d.devices = append(d.devices, f.device)
	}
	return nil
}

// fields is one JSON reading; its values and quality are in the decoder's row and flags.
type fields struct {
	device   string
	time     int64
	note     string
	channels int
	flags    int
}

func (f *fields) check(single bool) error {
	if f.time == NoTime && !single {
		return fmt.Errorf("%w: it has no time: only a single reading that is not in an array may leave it out", ErrInvalid)
	}
	if f.flags > f.channels {
		return fmt.Errorf("%w: %d quality numbers for %d values", ErrInvalid, f.flags, f.channels)
	}
	return checkShape(f.channels, f.note)
}

// keep makes a reading of what was scanned.
func (d *Decoder) keep(f *fields) Reading {
	r := Reading{Time: f.time, Note: f.note, Values: d.values.take(f.channels)}
	copy(r.Values, d.row)
	for i, q := range d.flags[:f.flags] {
		if math.IsNaN(r.Values[i]) {
			d.flags[i] = 0
		} else if q != 0 && r.Quality == nil {
			r.Quality = d.quality.take(f.channels)
		}
	}
	if r.Quality != nil {
		clear(r.Quality[copy(r.Quality, d.flags[:f.flags]):])
	}
	return r
}

// scanner reads the JSON of readings. Every mistake in the form ends it, since what follows cannot be
// trusted; one in the contents of a reading is that reading's alone.
type scanner struct {
	data       []byte
	at         int
	decoder    *Decoder
	withDevice bool
}

// The keys of a reading.
const (
	keyTime = 1 << iota
	keyValues
	keyQuality
	keyNote
	keyDevice
)

// reading scans an object. bad is what is wrong with its contents; err is what is wrong with its form.
func (s *scanner) reading() (f fields, bad, err error) {
	f.time = NoTime
	s.decoder.row, s.decoder.flags = s.decoder.row[:0], s.decoder.flags[:0]
	if s.peek() != '{' {
		return f, nil, s.unexpected(`a reading such as {"time":"2026-01-02T03:04:05.678Z","values":[1.5,null,3]}`)
	}
	s.at++
	s.space()
	if s.peek() == '}' {
		s.at++
		return f, nil, nil
	}
	for seen := 0; ; {
		at := s.at
		key, err := s.key()
		if err != nil {
			return f, bad, err
		}
		if seen&key != 0 {
			return f, bad, s.complain(at, "a key that this reading has already")
		}
		seen |= key
		if s.null() {
			s.space()
		} else if complaint, err := s.value(key, &f); err != nil {
			return f, bad, err
		} else if bad == nil {
			bad = complaint
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
			s.space()
		case '}':
			s.at++
			return f, bad, nil
		default:
			return f, bad, s.unexpected("a comma or } after a value")
		}
	}
}

// key scans a key and its colon.
func (s *scanner) key() (int, error) {
	at := s.at
	if s.peek() != '"' {
		return 0, s.unexpected("a key in quotes")
	}
	name, err := s.text()
	if err != nil {
		return 0, err
	}
	s.space()
	if s.peek() != ':' {
		return 0, s.unexpected("a colon after the key")
	}
	s.at++
	s.space()
	switch name {
	case "time":
		return keyTime, nil
	case "values":
		return keyValues, nil
	case "quality":
		return keyQuality, nil
	case "note":
		return keyNote, nil
	case "device":
		if s.withDevice {
			return keyDevice, nil
		}
		return 0, s.complain(at, `key "device": the subject names the device here, so leave it out`)
	}
	allowed := "time, values, quality and note"
	if s.withDevice {
		allowed = "device, " + allowed
	}
	return 0, s.complain(at, fmt.Sprintf("unknown key %q: a reading has %s", cut([]byte(name)), allowed))
}

// value scans the value of a key; bad and err as in reading.
func (s *scanner) value(key int, f *fields) (bad, err error) {
	switch key {
	case keyTime:
		return s.time(f)
	case keyValues:
		return s.values(f)
	case keyQuality:
		return s.qualities(f)
	}
	if s.peek() != '"' {
		return nil, s.unexpected("text in quotes")
	}
	if key == keyNote {
		f.note, err = s.text()
	} else {
		f.device, err = s.text()
	}
	return nil, err
}

func (s *scanner) time(f *fields) (bad, err error) {
	if s.peek() == '"' {
		t, err := s.text()
		if err != nil {
			return nil, err
		}
		f.time, bad = ParseTime(t)
		return bad, nil
	}
	at := s.at
	if f.time, bad = s.integer(); bad == nil {
		return checkRange(f.time), nil
	}
	s.at = at
	if _, bad, err = s.number(); err != nil || bad != nil {
		return bad, err
	}
	f.time, bad = parseMillis(text(s.data[at:s.at]))
	return bad, nil
}

var errNotInteger = errors.New("not an integer of at most 18 digits")

// integer scans a number without point and exponent.
func (s *scanner) integer() (int64, error) {
	negative := s.peek() == '-'
	if negative {
		s.at++
	}
	from, v := s.at, int64(0)
	for s.at < len(s.data) && s.data[s.at]-'0' < 10 {
		v = v*10 + int64(s.data[s.at]-'0')
		s.at++
	}
	c := s.peek()
	if n := s.at - from; n == 0 || n > 18 || n > 1 && s.data[from] == '0' || c == '.' || c|0x20 == 'e' {
		return 0, errNotInteger
	}
	if negative {
		v = -v
	}
	return v, nil
}

func (s *scanner) values(f *fields) (bad, err error) {
	if s.peek() != '[' {
		return nil, s.unexpected("an array of numbers and nulls")
	}
	s.at++
	s.space()
	if s.peek() == ']' {
		s.at++
		return nil, nil
	}
	for {
		v := Omitted()
		if !s.null() {
			var complaint error
			if v, complaint, err = s.number(); err != nil {
				return nil, err
			}
			if bad == nil {
				bad = complaint
			}
		}
		if f.channels < MaxChannels {
			s.decoder.row = append(s.decoder.row, v)
		}
		f.channels++
		if done, err := s.next(); done || err != nil {
			return bad, err
		}
	}
}

func (s *scanner) qualities(f *fields) (bad, err error) {
	if s.peek() != '[' {
		return nil, s.unexpected("an array of numbers from 0 to 255")
	}
	s.at++
	s.space()
	if s.peek() == ']' {
		s.at++
		return nil, nil
	}
	for {
		v := int64(0)
		if at := s.at; !s.null() {
			if v, err = s.integer(); err != nil || v < 0 || v > 255 {
				s.at = at
				return nil, s.unexpected("a quality number from 0 to 255")
			}
		}
		if f.flags < MaxChannels {
			s.decoder.flags = append(s.decoder.flags, uint8(v))
		}
		f.flags++
		if done, err := s.next(); done || err != nil {
			return bad, err
		}
	}
}

// next goes to the next element of an array, or past its end.
func (s *scanner) next() (done bool, err error) {
	s.space()
	switch s.peek() {
	case ',':
		s.at++
		s.space()
		return false, nil
	case ']':
		s.at++
		return true, nil
	}
	return false, s.unexpected("a comma or ] after a number")
}

// powers are those of ten that float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number scans a number; bad says that float64 cannot hold it. Of at most 15 digits, and without an
// exponent, it is exact to divide the digits by a power of ten (both are exact, so the quotient is
// rounded once); strconv does the rest.
func (s *scanner) number() (v float64, bad, err error) {
	p, from := s.data, s.at
	i := from
	if i < len(p) && p[i] == '-' {
		i++
	}
	first, digits := i, uint64(0)
	for ; i < len(p) && p[i]-'0' < 10; i++ {
		digits = digits*10 + uint64(p[i]-'0')
	}
	whole := i - first
	if whole == 0 || whole > 1 && p[first] == '0' {
		return 0, nil, s.unexpected("a number or null")
	}
	decimals, simple := 0, true
	if i < len(p) && p[i] == '.' {
		point := i
		for i++; i < len(p) && p[i]-'0' < 10; i++ {
			digits = digits*10 + uint64(p[i]-'0')
		}
		if decimals = i - point - 1; decimals == 0 {
			s.at = i
			return 0, nil, s.unexpected("a digit after the point")
		}
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		simple = false
		if i++; i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		exponent := i
		for i < len(p) && p[i]-'0' < 10 {
			i++
		}
		if i == exponent {
			s.at = i
			return 0, nil, s.unexpected("a digit in the exponent")
		}
	}
	s.at = i
	if simple && whole+decimals <= 15 {
		v = float64(digits) / powers[decimals]
		if p[from] == '-' {
			v = -v
		}
		return v, nil, nil
	}
	v, parseErr := strconv.ParseFloat(text(p[from:i]), 64)
	if parseErr != nil {
		return 0, fmt.Errorf("%w: number %s at byte %d is too large for a float64", ErrInvalid, cut(p[from:i]), from), nil
	}
	return v, nil, nil
}

// text scans a string. Without escapes it shares the memory of the data.
func (s *scanner) text() (string, error) {
	from := s.at + 1
	for i := from; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.at = i + 1
			return text(s.data[from:i]), nil
		case c == '\\':
			return s.escaped(from, i)
		case c < ' ':
			return "", s.complain(i, "a control character inside quotes: write it as an escape such as \\n")
		}
	}
	return "", s.complain(from-1, "quotes that are not closed")
}

// escaped goes on with a string whose first escape is at i.
func (s *scanner) escaped(from, i int) (string, error) {
	b := append(make([]byte, 0, 2*(i-from)+32), s.data[from:i]...)
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			s.at = i + 1
			return text(b), nil
		case c < ' ':
			return "", s.complain(i, "a control character inside quotes: write it as an escape such as \\n")
		case c != '\\':
			b = append(b, c)
			i++
			continue
		}
		if i+1 == len(s.data) {
			break
		}
		switch e := s.data[i+1]; e {
		case '"', '\\', '/':
			b = append(b, e)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, n := s.unicode(i)
			if n == 0 {
				return "", s.complain(i, `an escape that is not \u and four hexadecimal digits`)
			}
			b = utf8.AppendRune(b, r)
			i += n
			continue
		default:
			return "", s.complain(i, "an escape that JSON does not have")
		}
		i += 2
	}
	return "", s.complain(from-1, "quotes that are not closed")
}

// unicode reads the escape at i, of two parts for what is beyond 16 bits, and returns its length; 0 if
// it is malformed. A half of two parts that stands alone becomes U+FFFD.
func (s *scanner) unicode(i int) (rune, int) {
	high, ok := s.hex(i)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(high) {
		if low, ok := s.hex(i + 6); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return high, 6
}

// hex reads \uXXXX at i.
func (s *scanner) hex(i int) (rune, bool) {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(text(s.data[i+2:i+6]), 16, 16)
	return rune(v), err == nil
}

// null takes a null if there is one.
func (s *scanner) null() bool {
	if p := s.data[s.at:]; len(p) >= 4 && string(p[:4]) == "null" {
		s.at += 4
		return true
	}
	return false
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) space() { s.at = skipSpace(s.data, s.at) }

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// end complains unless nothing but white space is left.
func (s *scanner) end() error {
	s.space()
	if s.at < len(s.data) {
		return s.unexpected("the end: one reading, or one array of them, is a message")
	}
	return nil
}

func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.data) {
		return fmt.Errorf("%w JSON at byte %d: it ends, expected %s", ErrInvalid, s.at, want)
	}
	_, n := utf8.DecodeRune(s.data[s.at:])
	return fmt.Errorf("%w JSON at byte %d: found %q, expected %s", ErrInvalid, s.at, s.data[s.at:s.at+n], want)
}

func (s *scanner) complain(at int, what string) error {
	return fmt.Errorf("%w JSON at byte %d: %s", ErrInvalid, at, what)
}
