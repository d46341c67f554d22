package chunk

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// A series is how version 2 codes n integers, all arithmetic wrapping around:
//
//	first    uvarint: zigzag of the first one
//	head     order (bits 0-1) and k (bits 2-7); left out, like all that follows, when n = 1
//	distance uvarint: zigzag of second - first; only with order 2
//	rest     bits, the lowest of each byte first, zeros up to a whole byte at the end
//
// The rest is one residual for each integer that is not told yet: with order 0 its difference to the
// first, with 1 to the one before, with 2 the change of that difference. Its zigzag u is coded by Rice's
// code: u >> k as so many ones and a zero, then the low k bits; where there would be 16 ones or more, 16 ones and then
// all 64 bits of u. A measured value needs about a bit more than its noise has, where whole bytes waste half.

// mostOnes is how long the unary part of a code may get.
const mostOnes = 16

// appendSeries appends the series of v, which is not empty.
func (e *Encoder) appendSeries(dst []byte, v []int64) []byte {
	if e.Version == Version3 {
		return e.appendWholeSeries(dst, v)
	}
	dst = appendVarint(dst, zigzag(v[0]))
	if len(v) == 1 {
		return dst
	}
	order := orderOf(v)
	residuals := e.residualsOf(v, order)
	packed := residuals
	if order == 2 {
		packed = residuals[1:]
	}
	k := riceParameter(packed)
	dst = append(dst, byte(order)|byte(k)<<2)
	if order == 2 {
		dst = appendVarint(dst, residuals[0])
	}
	return appendRice(dst, packed, k)
}

// residualsOf returns the zigzag of the residual of each integer but the first, good until it is called again.
func (e *Encoder) residualsOf(v []int64, order int) []uint64 {
	residuals := e.residuals[:0]
	first, last, distance := v[0], v[0], int64(0)
	for _, x := range v[1:] {
		d := x - last
		switch order {
		case 0:
			residuals = append(residuals, zigzag(x-first))
		case 1:
			residuals = append(residuals, zigzag(d))
		default:
			residuals = append(residuals, zigzag(d-distance))
		}
		last, distance = x, d
	}
	e.residuals = residuals
	return residuals
}

// orderOf returns the order whose residuals have the fewest bits. Of many integers it looks at some, every seventh: what a
// device repeats every 5, 10 or 60 readings is then seen in all its parts.
func orderOf(v []int64) int {
	every := 1
	if len(v) > 1024 {
		every = 7
	}
	first := bits.Len64(zigzag(v[1] - v[0]))
	length := [3]int{first, first, 0}
	for i := 2; i < len(v); i += every {
		d := v[i] - v[i-1]
		length[0] += bits.Len64(zigzag(v[i] - v[0]))
		length[1] += bits.Len64(zigzag(d))
		length[2] += bits.Len64(zigzag(d - (v[i-1] - v[i-2])))
	}
	best := 1
	for order, n := range length {
		if n < length[best] {
			best = order
		}
	}
	return best
}

// riceParameter returns a k that is good for most: about the length of the usual residual. One that is far
// off, such as after a silence, costs an escape and does not stretch all others.
func riceParameter(residuals []uint64) int {
	if len(residuals) == 0 {
		return 0
	}
	sum := 0
	for _, u := range residuals {
		sum += bits.Len64(u)
	}
	mean := sum / len(residuals)
	best, least := 0, -1
	for k := max(0, mean-2); k <= min(mean+1, 63); k++ {
		cost := 0
		for _, u := range residuals {
			if ones := u >> k; ones < mostOnes {
				cost += int(ones) + 1 + k
			} else {
				cost += mostOnes + 64
			}
		}
		if least < 0 || cost < least {
			best, least = k, cost
		}
	}
	return best
}

func appendRice(dst []byte, residuals []uint64, k int) []byte {
	w := bitWriter{out: dst}
	for _, u := range residuals {
		switch ones := u >> k; {
		case ones >= mostOnes:
			w.put(1<<mostOnes-1, mostOnes)
			w.put(u&math.MaxUint32, 32)
			w.put(u>>32, 32)
		case k <= 16:
			w.put(1<<ones-1|u&(1<<k-1)<<(ones+1), int(ones)+1+k)
		default:
			w.put(1<<ones-1, int(ones)+1)
			w.put(u&math.MaxUint32&(1<<k-1), min(k, 32))
			w.put(u>>32&(1<<max(k-32, 0)-1), max(k-32, 0))
		}
	}
	return w.end()
}

// bitWriter appends bits, the lowest of each byte first.
type bitWriter struct {
	out  []byte
	acc  uint64 // not written yet
	held int    // bits in it, fewer than 32
}

// put appends the lowest n bits of b, at most 32; the others must be zero.
func (w *bitWriter) put(b uint64, n int) {
	w.acc |= b << w.held
	if w.held += n; w.held >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.acc))
		w.acc >>= 32
		w.held -= 32
	}
}

// end appends what is left, and zeros up to a whole byte.
func (w *bitWriter) end() []byte {
	for ; w.held > 0; w.held -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
	return w.out
}

// bitReader takes bits off a reader's bytes.
type bitReader struct {
	r    *reader
	acc  uint64
	held int
}

func (b *bitReader) bits(n int) uint64 {
	var out uint64
	for got := 0; got < n; {
		if b.held == 0 {
			b.acc, b.held = uint64(b.r.byte()), 8
		}
		take := min(n-got, b.held)
		out |= (b.acc & (1<<take - 1)) << got
		b.acc >>= take
		b.held -= take
		got += take
	}
	return out
}

func (b *bitReader) rice(k int) uint64 {
	ones := 0
	for ones < mostOnes {
		if b.held == 0 {
			b.acc, b.held = uint64(b.r.byte()), 8
		}
		run := min(bits.TrailingZeros64(^b.acc), b.held, mostOnes-ones)
		ones += run
		b.acc >>= run
		b.held -= run
		if b.held > 0 && ones < mostOnes { // the zero
			b.acc >>= 1
			b.held--
			return uint64(ones)<<k | b.bits(k)
		}
	}
	return b.bits(64)
}

// series reads n integers into out[:n].
func (r *reader) series(out []int64) {
	if r.version == Version3 {
		r.wholeSeries(out)
		return
	}
	first := unzigzag(r.uvarint())
	out[0] = first
	if len(out) == 1 {
		return
	}
	head := r.byte()
	order, k := int(head&3), int(head>>2)
	if order > 2 {
		r.fail("a series of an unknown order")
	}
	last, distance, from := first, int64(0), 1
	if order == 2 {
		distance = unzigzag(r.uvarint())
		last, from = first+distance, 2
		out[1] = last
	}
	b := bitReader{r: r}
	for i := from; i < len(out); i++ {
		residual := unzigzag(b.rice(k))
		if r.bad != "" {
			clear(out[i:])
			return
		}
		switch order {
		case 0:
			last = first + residual
		case 1:
			last += residual
		default:
			distance += residual
			last += distance
		}
		out[i] = last
	}
}
