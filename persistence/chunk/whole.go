package chunk

import "encoding/binary"

// A series of version 3 codes n integers in whole bytes, all arithmetic wrapping around:
//
//	first    uvarint: zigzag of the first one
//	head     1 byte: order (bits 0-1), unit follows (bit 2); left out, like all that follows, when n = 1
//	unit     uvarint; 1 when it does not follow
//	rest     for each integer but the first the uvarint of its residual's zigzag
//
// An integer is first + unit * steps, and the residual with order 0 is steps, with 1 the difference to the steps of the one
// before (0 before the first), with 2 the change of that difference (0 before the second). Whole bytes take more than bits
// until the table's compression sees that most of them are the same: then they take less.
const wholeUnit = 1 << 2

// appendWholeSeries is appendSeries of version 3.
func (e *Encoder) appendWholeSeries(dst []byte, v []int64) []byte {
	dst = appendVarint(dst, zigzag(v[0]))
	if len(v) == 1 {
		return dst
	}
	steps, unit := v, commonUnit(v)
	if unit > 1 {
		steps = e.stepsOf(v, int64(unit))
	}
	order := orderOf(steps)
	if unit > 1 {
		dst = binary.AppendUvarint(append(dst, byte(order|wholeUnit)), unit)
	} else {
		dst = append(dst, byte(order))
	}
	for _, residual := range e.residualsOf(steps, order) {
		dst = appendVarint(dst, residual)
	}
	return dst
}

// stepsOf returns by how many units each integer lies away from the first; unit divides all distances.
func (e *Encoder) stepsOf(v []int64, unit int64) []int64 {
	e.steps = e.steps[:0]
	for _, x := range v {
		e.steps = append(e.steps, (x-v[0])/unit)
	}
	return e.steps
}

// commonUnit returns the greatest number that divides all distances from the first of v; at least 1.
func commonUnit(v []int64) uint64 {
	unit := uint64(0)
	for _, x := range v[1:] {
		rest := uint64(x - v[0])
		if x-v[0] < 0 {
			rest = -rest
		}
		for rest != 0 { // Euclid
			unit, rest = rest, unit%rest
		}
		if unit == 1 {
			break
		}
	}
	return max(unit, 1)
}

// wholeSeries is series of version 3.
func (r *reader) wholeSeries(out []int64) {
	first := unzigzag(r.uvarint())
	out[0] = first
	if len(out) == 1 {
		return
	}
	head := r.byte()
	order, unit := head&3, int64(1)
	if head&wholeUnit != 0 {
		unit = int64(r.uvarint())
	}
	if order > 2 || head > 2|wholeUnit {
		r.fail("a series of an unknown order")
	}
	steps, distance := int64(0), int64(0)
	for i := range out[1:] {
		residual := unzigzag(r.uvarint())
		switch order {
		case 0:
			steps = residual
		case 1:
			steps += residual
		default:
			distance += residual
			steps += distance
		}
		out[1+i] = first + unit*steps
	}
}
