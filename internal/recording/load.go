package recording

import (
	"cmp"
	"io"
	"iter"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// Device is all that was recorded of one device: of several readings with one event time the last. It
// may be used until its shelf is closed, by one goroutine at a time.
type Device struct {
	Name string
	// Repeated counts rows whose event time the device had already.
	Repeated int64

	count       int
	first, last int64
	pile        pile     // in memory, sorted; or
	section     *section // on disk
	parts       []section
	err         error
}

// Len is the number of distinct event times.
func (d *Device) Len() int { return d.count }

// Span returns the oldest and newest event time; zeros when there is no reading.
func (d *Device) Span() (first, last int64) { return d.first, d.last }

// Readings yields them by event time. A reading is valid only until the next one. Ask for Err afterwards.
func (d *Device) Readings() iter.Seq[messages.Reading] {
	if d.section == nil {
		return d.pile.readings()
	}
	return func(yield func(messages.Reading) bool) {
		r := d.section.read()
		for {
			reading, err := r.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				d.err = err
				return
			}
			if !yield(*reading) {
				return
			}
		}
	}
}

// Err says why Readings ended early, once it did: what is on disk could not be read back.
func (d *Device) Err() error { return d.err }

// Load reads a source to its end and returns its devices in the order in which they first appear.
func (s *Shelf) Load(source *Source) ([]*Device, error) {
	l := loading{shelf: s, byName: map[string]*Device{}}
	for {
		row, err := source.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = l.add(row)
		}
		if err != nil {
			source.Close()
			return nil, err
		}
	}
	return l.devices, l.end()
}

// loading is one source while it is read.
type loading struct {
	shelf   *Shelf
	devices []*Device
	byName  map[string]*Device
	bytes   int64 // in the piles
	spilled bool
}

func (l *loading) add(row *Row) error {
	d := l.byName[row.Device]
	if d == nil {
		d = &Device{Name: row.Device}
		l.byName[row.Device] = d
		l.devices = append(l.devices, d)
	}
	l.bytes += d.pile.add(&row.Reading)
	if limit := l.shelf.limit; limit > 0 && l.bytes > limit/4 {
		return l.spill()
	}
	return nil
}

// spill writes what is in memory to disk, each device's part of it sorted.
func (l *loading) spill() error {
	for _, d := range l.devices {
		d.Repeated += d.pile.sort()
		if len(d.pile.times) == 0 {
			continue
		}
		part, err := l.shelf.write(d.pile.readings())
		if err != nil {
			return err
		}
		d.parts = append(d.parts, *part)
		d.pile = pile{}
	}
	l.bytes, l.spilled = 0, true
	return nil
}

// end makes the devices ready to be read.
func (l *loading) end() error {
	if l.spilled || !l.shelf.hold(l.bytes) {
		if err := l.spill(); err != nil {
			return err
		}
	}
	for _, d := range l.devices {
		switch len(d.parts) {
		case 0:
			d.Repeated += d.pile.sort()
			if d.count = len(d.pile.times); d.count > 0 {
				d.first, d.last = d.pile.times[0], d.pile.times[d.count-1]
			}
			continue
		case 1:
			d.section = &d.parts[0]
		default:
			repeated, err := d.merge(l.shelf)
			if err != nil {
				return err
			}
			d.Repeated += repeated
		}
		d.parts = nil
		d.count, d.first, d.last = d.section.count, d.section.first, d.section.last
	}
	return nil
}

// pile is readings of one device in memory.
type pile struct {
	times  []int64
	at     []int // by reading: where its values begin, and end
	values []float64
	notes  map[int64]string
}

// add returns about how many bytes the reading takes.
func (p *pile) add(r *messages.Reading) int64 {
	p.times = append(p.times, r.Time)
	p.at = append(p.at, len(p.values), len(p.values)+len(r.Values))
	p.values = append(p.values, r.Values...)
	if r.Note == "" {
		// the later reading replaces the earlier whole
		delete(p.notes, r.Time)
		return 24 + 8*int64(len(r.Values))
	}
	if p.notes == nil {
		p.notes = map[int64]string{}
	}
	p.notes[r.Time] = r.Note
	return 72 + 8*int64(len(r.Values)) + int64(len(r.Note))
}

// sort brings the readings into order of event time, keeps the last of equal ones, and returns how many
// it did not keep.
func (p *pile) sort() (repeated int64) {
	rising := true
	for i := 1; i < len(p.times) && rising; i++ {
		rising = p.times[i] > p.times[i-1]
	}
	if rising {
		return 0
	}
	order := make([]int, len(p.times))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.times[a], p.times[b]) })
	times := make([]int64, 0, len(order))
	at := make([]int, 0, len(p.at))
	for i, from := range order {
		if i+1 < len(order) && p.times[order[i+1]] == p.times[from] {
			repeated++
			continue
		}
		times = append(times, p.times[from])
		at = append(at, p.at[2*from], p.at[2*from+1])
	}
	p.times, p.at = times, at
	return repeated
}

func (p *pile) readings() iter.Seq[messages.Reading] {
	return func(yield func(messages.Reading) bool) {
		for i, t := range p.times {
			if !yield(messages.Reading{Time: t, Values: p.values[p.at[2*i]:p.at[2*i+1]], Note: p.notes[t]}) {
				return
			}
		}
	}
}
