package messages

import (
	"errors"
	"fmt"
	"math"
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
	return d.scanned, single, d.refused, nil
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
	readings := d.scanned
	for from := 0; from < len(readings); {
		to := from + 1
		for to < len(readings) && d.devices[to] == d.devices[from] {
			to++
		}
		d.blocks.add(d.devices[from], readings[from:to:to])
		from = to
	}
	b.Blocks = d.blocks.chunk
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
