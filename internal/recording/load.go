package recording

import (
	"cmp"
	"io"
	"iter"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// Device is all that was recorded of one device: of several readings with one event time the last.
type Device struct {
	Name string
	// Repeated counts rows whose event time the device had already.
	Repeated int64

	times  []int64
	at     []int // by reading: where its values begin, and end
	values []float64
	notes  map[int64]string
}

// Len is the number of distinct event times.
func (d *Device) Len() int { return len(d.times) }

// Span returns the oldest and newest event time; zeros when there is no reading.
func (d *Device) Span() (first, last int64) {
	if len(d.times) == 0 {
		return 0, 0
	}
	return d.times[0], d.times[len(d.times)-1]
}

// Readings yields them by event time. A reading is valid only until the next one.
func (d *Device) Readings() iter.Seq[messages.Reading] {
	return func(yield func(messages.Reading) bool) {
		for i, t := range d.times {
			if !yield(messages.Reading{Time: t, Values: d.row(i), Note: d.notes[t]}) {
				return
			}
		}
	}
}

func (d *Device) row(i int) []float64 { return d.values[d.at[2*i]:d.at[2*i+1]] }

// Load reads a source to its end and returns its devices in the order in which they first appear. It
// holds them in memory: 8 bytes a value and 24 a reading.
func Load(s *Source) ([]*Device, error) {
	var devices []*Device
	byName := map[string]*Device{}
	for {
		row, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.Close()
			return nil, err
		}
		d := byName[row.Device]
		if d == nil {
			d = &Device{Name: row.Device, notes: map[int64]string{}}
			byName[row.Device] = d
			devices = append(devices, d)
		}
		d.add(&row.Reading)
	}
	for _, d := range devices {
		d.sort()
	}
	return devices, nil
}

func (d *Device) add(r *messages.Reading) {
	d.times = append(d.times, r.Time)
	d.at = append(d.at, len(d.values), len(d.values)+len(r.Values))
	d.values = append(d.values, r.Values...)
	if r.Note != "" {
		d.notes[r.Time] = r.Note
	} else {
		// the later reading replaces the earlier whole
		delete(d.notes, r.Time)
	}
}

// sort brings the readings into order of event time and keeps the last of equal ones.
func (d *Device) sort() {
	order := make([]int, len(d.times))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(d.times[a], d.times[b]) })
	times := make([]int64, 0, len(order))
	at := make([]int, 0, len(d.at))
	for i, from := range order {
		if i+1 < len(order) && d.times[order[i+1]] == d.times[from] {
			d.Repeated++
			continue
		}
		times = append(times, d.times[from])
		at = append(at, d.at[2*from], d.at[2*from+1])
	}
	d.times, d.at = times, at
}
