package actors

import (
	"math"
	"math/big"
	"math/bits"
)

// exactSum is the exact sum of any number of float64: sum = (hi:lo) * 2^(exp-expBias), where hi:lo is
// one 128-bit two's complement integer. It does not depend on the order of the values, can be
// subtracted from, and is rounded only when it is asked for. It holds values whose binary exponents
// lie within about 60 of each other; what does not fit (add answers false) belongs in a wideSum.
// It has no pointers, so that the garbage collector need not look at a fleet's rollups.
//
// The zero value is the sum of nothing.
type exactSum struct {
	hi  int64
	lo  uint64
	exp int32 // biased; 0 = nothing added yet; isWide = the value is held in a wideSum
}

const (
	expBias = 1075 // a finite float64 is m * 2^(e-expBias) with 1 <= e <= 2046
	isWide  = -1

	// headroom is how far below the first value's exponent the unit is put: smaller values that follow
	// need no shifting then.
	headroom = 24
	// sumBits bounds the integer: an add of at most 116 bits (53 shifted by 63) cannot overflow it.
	sumBits = 124
)

// split returns a finite v as m * 2^(e-expBias) with its sign; m is 0 for both zeros.
func split(v float64) (m uint64, e int32, negative bool) {
	b := math.Float64bits(v)
	m, e = b&(1<<52-1), int32(b>>52&0x7ff)
	if e == 0 {
		e = 1
	} else {
		m |= 1 << 52
	}
	return m, e, b>>63 != 0
}

// add adds v, which must be finite, and answers false, changing nothing, when the sum does not fit.
func (s *exactSum) add(v float64) bool {
	m, e, negative := split(v)
	shift := uint32(e - s.exp)
	if shift >= 64 || s.exp <= 0 || uint64(s.hi+1<<(sumBits-65)) >= 1<<(sumBits-64) {
		if m == 0 {
			return s.exp != isWide
		}
		if !s.makeRoom(e) {
			return false
		}
		shift = uint32(e - s.exp)
	}
	low, high := m<<shift, m>>(64-shift)
	if negative {
		lo, borrow := bits.Sub64(s.lo, low, 0)
		hi, _ := bits.Sub64(uint64(s.hi), high, borrow)
		s.lo, s.hi = lo, int64(hi)
		return true
	}
	lo, carry := bits.Add64(s.lo, low, 0)
	hi, _ := bits.Add64(uint64(s.hi), high, carry)
	s.lo, s.hi = lo, int64(hi)
	return true
}

// makeRoom changes the unit so that a value of exponent e can be added, if that is possible.
func (s *exactSum) makeRoom(e int32) bool {
	if s.exp == isWide {
		return false
	}
	if s.exp == 0 || s.hi == 0 && s.lo == 0 {
		*s = exactSum{exp: max(e-headroom, 1)}
		return true
	}
	negative, hi, lo := s.magnitude()
	length, zeros := length128(hi, lo), zeros128(hi, lo)
	// The unit must be at most e, at least e-63, and leave the integer below sumBits-1.
	lowest := max(e-63, s.exp-int32(sumBits-1-length), 1)
	highest := min(e, s.exp+int32(zeros))
	if lowest > highest {
		return false
	}
	unit := min(max(s.exp, lowest), highest)
	if unit < s.exp {
		hi, lo = shiftLeft128(hi, lo, uint(s.exp-unit))
	} else {
		hi, lo = shiftRight128(hi, lo, uint(unit-s.exp))
	}
	s.set(negative, hi, lo, unit)
	return true
}

// sub takes v, which was added before, out again; false as add.
func (s *exactSum) sub(v float64) bool { return s.add(-v) }

// round returns the sum rounded to the nearest float64, ties to even; beyond the largest, ±Inf. A
// zero is positive.
func (s *exactSum) round() float64 {
	negative, hi, lo := s.magnitude()
	if hi == 0 && lo == 0 {
		return 0
	}
	// The top 64 bits decide, with the lowest of them set when anything below is: the conversion then
	// rounds right. Below the normal range the sum is a multiple of the unit there, hence exact.
	exp := int(s.exp) - expBias
	if drop := length128(hi, lo) - 64; drop > 0 {
		rest := lo & (1<<uint(drop) - 1)
		_, lo = shiftRight128(hi, lo, uint(drop))
		if rest != 0 {
			lo |= 1
		}
		exp += drop
	}
	v := math.Ldexp(float64(lo), exp)
	if negative {
		v = -v
	}
	return v
}

// magnitude returns the integer without its sign.
func (s *exactSum) magnitude() (negative bool, hi, lo uint64) {
	if s.hi >= 0 {
		return false, uint64(s.hi), s.lo
	}
	lo, borrow := bits.Sub64(0, s.lo, 0)
	hi, _ = bits.Sub64(0, uint64(s.hi), borrow)
	return true, hi, lo
}

func (s *exactSum) set(negative bool, hi, lo uint64, exp int32) {
	if negative {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	s.hi, s.lo, s.exp = int64(hi), lo, exp
}

func length128(hi, lo uint64) int {
	if hi != 0 {
		return 64 + bits.Len64(hi)
	}
	return bits.Len64(lo)
}

// zeros128 returns the number of trailing zero bits; 128 for 0.
func zeros128(hi, lo uint64) int {
	if lo != 0 {
		return bits.TrailingZeros64(lo)
	}
	return 64 + bits.TrailingZeros64(hi)
}

func shiftLeft128(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return lo << (n - 64), 0
	}
	return hi<<n | lo>>(64-n), lo << n
}

func shiftRight128(hi, lo uint64, n uint) (uint64, uint64) {
	if n >= 64 {
		return 0, hi >> (n - 64)
	}
	return hi >> n, lo>>n | hi<<(64-n)
}

// wideSum is an exactSum of any float64s whatever their exponents, in units of the smallest one.
type wideSum struct{ n big.Int }

// widen returns what s holds; s itself then says that it is held elsewhere.
func (s *exactSum) widen() *wideSum {
	w := &wideSum{}
	negative, hi, lo := s.magnitude()
	if hi != 0 || lo != 0 {
		w.n.SetUint64(hi)
		w.n.Lsh(&w.n, 64)
		w.n.Or(&w.n, new(big.Int).SetUint64(lo))
		w.n.Lsh(&w.n, uint(s.exp-1))
		if negative {
			w.n.Neg(&w.n)
		}
	}
	*s = exactSum{exp: isWide}
	return w
}

func (w *wideSum) add(v float64) {
	m, e, negative := split(v)
	var n big.Int
	n.SetUint64(m)
	n.Lsh(&n, uint(e-1))
	if negative {
		w.n.Sub(&w.n, &n)
	} else {
		w.n.Add(&w.n, &n)
	}
}

func (w *wideSum) round() float64 {
	if w.n.Sign() == 0 {
		return 0
	}
	f := new(big.Float).SetPrec(53).SetInt(&w.n)
	v, _ := f.SetMantExp(f, 1-expBias).Float64()
	return v
}

// exactTotal is the exact sum of any finite values.
type exactTotal struct {
	narrow exactSum
	wide   *wideSum
}

func (t *exactTotal) add(v float64) {
	if t.wide == nil {
		if t.narrow.add(v) {
			return
		}
		t.wide = t.narrow.widen()
	}
	t.wide.add(v)
}

func (t *exactTotal) round() float64 {
	if t.wide != nil {
		return t.wide.round()
	}
	return t.narrow.round()
}
