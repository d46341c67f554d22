package simulate

import (
	"iter"
	"math"
	"math/bits"

	"github.com/wellhead/wellhead/messages"
)

const (
	golden = 0x9E3779B97F4A7C15 // 2^64 / golden ratio: spreads consecutive numbers (Weyl sequence)

	shareBits = 20 // resolution of shares: 1 in 2^20
	shareMask = 1<<shareBits - 1

	sineBits  = 12 // the table's steps in a turn: 2^12
	sineScale = 24 // its values are sines times 2^24
)

// sines is one turn, and one more value to interpolate towards. It is rounded to integers, so that a last
// bit which math.Sin may do otherwise on another machine does not matter.
var sines = func() (table [1<<sineBits + 1]int32) {
	for i := range table {
		table[i] = int32(math.RoundToEven(math.Sin(2*math.Pi*float64(i)/(1<<sineBits)) * (1 << sineScale)))
	}
	return table
}()

// sine returns the sine, times 2^24, of a phase that goes once round in 2^64.
func sine(phase uint64) int64 {
	i := phase >> (64 - sineBits)
	fraction := int64(phase >> (64 - sineBits - 16) & 0xffff)
	a, b := int64(sines[i]), int64(sines[i+1])
	return a + (b-a)*fraction>>16
}

// mix is a bijection of 64 bits without visible pattern (the finalizer of splitmix64, Steele et al. 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

// threshold turns a share into what shareBits random bits must be below.
func threshold(share float64) uint64 { return uint64(math.Round(share * (1 << shareBits))) }

// channel holds one channel of one device. Amplitude and base are in hundredths.
type channel struct {
	frequency uint64 // phase in a millisecond
	offset    uint64 // phase at time 0
	amplitude int32
	base      int32
}

// newChannel draws a channel: number 0 goes round in 1-10 minutes, the others in 5-120 minutes.
func newChannel(h uint64, number int) channel {
	shortest, longest := uint64(60_000), uint64(600_000)
	if number > 0 {
		shortest, longest = 300_000, 7_200_000
	}
	period := shortest + h%(longest-shortest)
	h = mix(h + golden)
	c := channel{frequency: math.MaxUint64 / period, offset: h}
	h = mix(h + golden)
	c.amplitude = int32(500 + h%4_500)
	c.base = int32(5_000 + h>>32%20_000)
	return c
}

// hundredths returns the channel's value at an event time. h is random for this reading and channel.
func (c *channel) hundredths(number int, t int64, h uint64) int64 {
	phase := uint64(t)*c.frequency + c.offset
	amplitude := int64(c.amplitude)
	const half = 1 << (sineScale - 1)
	if number == 0 {
		return int64(c.base) + (amplitude*sine(phase)+half)>>sineScale
	}
	sum := sine(phase)
	// frequencies that have no short common period
	sum += sine(uint64(t)*(3*c.frequency+c.frequency>>2)+bits.RotateLeft64(c.offset, 21)) >> 1
	sum += sine(uint64(t)*(11*c.frequency+c.frequency>>3)+bits.RotateLeft64(c.offset, 42)) >> 2
	noise := int64(h>>40&15) - 7
	return int64(c.base) + (amplitude*sum+half)>>sineScale + noise
}

// fate says how one reading is sent.
type fate struct {
	delay     int  // intervals after its own, 0 = in order
	again     int  // intervals after that it is sent again, 0 = not
	corrected bool // the repeat has other values
}

// maxDelay is the longest delay and the longest time to a repeat; maxBehind is both, one after the other.
const (
	maxDelay  = 8
	maxBehind = 2 * maxDelay
)

// hash is random for one reading.
func (f *Fleet) hash(device int, t int64) uint64 { return mix(f.keys[device] + uint64(t)*golden) }

func (f *Fleet) fate(h uint64) fate {
	var a fate
	if h&shareMask < f.outOfOrder {
		a.delay = 1 + int(h>>40&(maxDelay-1))
	}
	if h>>shareBits&shareMask < f.duplicates {
		a.again = 1 + int(h>>43&(maxDelay-1))
		a.corrected = h>>46&1 == 1
	}
	return a
}

var notes = [4]string{"gauge checked", "valve 2 closed", "Wartung läuft", "bridged to 24 V"}

// read fills r with the reading of a device at a step, as it is sent first, or corrected. It appends the
// values to values and returns that.
func (f *Fleet) read(r *messages.Reading, device, step int, corrected bool, values []float64) []float64 {
	t := f.time(step)
	h := f.hash(device, t)
	*r = messages.Reading{Time: t}
	if h>>50&1023 == 0 {
		r.Note = notes[h>>47&3]
	}
	var correction int64
	if corrected {
		r.Note = "corrected"
		correction = 1 + int64(h>>47&63)
	}
	n := f.options.Channels
	first := len(values)
	for c := range n {
		h := mix(h + uint64(c+1)*golden)
		if h&shareMask < f.omitted {
			values = append(values, messages.Omitted())
			continue
		}
		v := f.channels[device*n+c].hundredths(c, t, h) + correction
		values = append(values, float64(v)/100)
	}
	r.Values = values[first:len(values):len(values)]
	return values
}

// Reading returns the reading of a device at a step as it is sent first; both count from 0.
func (f *Fleet) Reading(device, step int) messages.Reading {
	var r messages.Reading
	f.read(&r, device, step, false, make([]float64, 0, f.options.Channels))
	return r
}

// Repeated counts the readings of a device that are sent again.
func (f *Fleet) Repeated(device int) (n int64) {
	for step := range f.options.Readings {
		if f.fate(f.hash(device, f.time(step))).again > 0 {
			n++
		}
	}
	return n
}

// Expected yields what must be stored of a device in the end, by event time. A reading is valid only
// until the next one.
func (f *Fleet) Expected(device int) iter.Seq[messages.Reading] {
	return func(yield func(messages.Reading) bool) {
		values := make([]float64, 0, f.options.Channels)
		var r messages.Reading
		for step := range f.options.Readings {
			a := f.fate(f.hash(device, f.time(step)))
			f.read(&r, device, step, a.corrected, values)
			if !yield(r) {
				return
			}
		}
	}
}
