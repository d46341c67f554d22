package chunk

import "math"

// Many devices send what was computed from a decimal number, such as 0.30000000000000004: a few units in the last place (ulps) beside
// the double nearest to 0.3. A column of such values has places = nearPlaces in its head, the places in the byte after it,
// and behind its integers, for each value, the uvarint of the zigzag of
//
//	value's bits - bits of the double nearest to integer / 10^places
const (
	nearPlaces = 15
	// nearUlps is how far values may be: a few multiplications and additions. Another encoder may allow more.
	nearUlps = 8
	// nearInteger keeps ten bits between the resolution and the ulps of a value, so that no column of values without a
	// resolution is taken for one.
	nearInteger = 1 << 40
)

// nearDecimal is decimal for values that are nearly so. It leaves what is to be added in e.ulps.
func (e *Encoder) nearDecimal(col []float64) (places int, ok bool) {
	if len(col) == 1 {
		return 0, false
	}
	for places = range len(powers) {
		near, possible := e.nearIntegers(col, powers[places])
		if near || !possible {
			return places, near
		}
	}
	return 0, false
}

// nearIntegers tells whether all values are near an integer divided by power, and whether they could be with a greater one.
func (e *Encoder) nearIntegers(col []float64, power float64) (near, possible bool) {
	integers, ulps := e.integers[:0], e.ulps[:0]
	defer func() { e.integers, e.ulps = integers, ulps }()
	for _, v := range col {
		scaled := v * power
		if !(scaled < nearInteger && scaled > -nearInteger) {
			return false, false
		}
		whole := int64(scaled + 0x1.8p52 - 0x1.8p52) // rounded, see decimal
		off := zigzag(int64(math.Float64bits(v) - math.Float64bits(float64(whole)/power)))
		if off > 2*nearUlps {
			return false, true
		}
		integers, ulps = append(integers, whole), append(ulps, off)
	}
	return true, true
}

// appendUlps appends what nearDecimal has left.
func (e *Encoder) appendUlps(out []byte) []byte {
	for _, u := range e.ulps {
		out = appendVarint(out, u)
	}
	return out
}

// addUlps moves the values of a column that are there.
func (b *Block) addUlps(r *reader, channel, from, n int) {
	for row := from; row < from+n; row++ {
		v := &b.values[row*b.stride+channel]
		if *v == *v {
			*v = math.Float64frombits(math.Float64bits(*v) + uint64(unzigzag(r.uvarint())))
		}
	}
}
