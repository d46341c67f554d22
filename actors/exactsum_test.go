package actors

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// bigSum is the dumb second version: enough bits for every float64, rounded once.
func bigSum(values []float64) float64 {
	sum := new(big.Float).SetPrec(4000)
	for _, v := range values {
		sum.Add(sum, new(big.Float).SetFloat64(v))
	}
	v, _ := sum.Float64()
	if v == 0 {
		return 0 // never the negative zero
	}
	return v
}

// anyValue draws values of many kinds: decimals, whole numbers, extremes, any bits.
func anyValue() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Map(rapid.IntRange(-100000, 100000), func(n int) float64 { return float64(n) / 100 }),
		rapid.Map(rapid.IntRange(-1000, 1000), func(n int) float64 { return float64(n) }),
		rapid.Float64Range(-1e6, 1e6),
		rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), 1, -1, 1e16, -1e16, 1e-300, 5e-324, -5e-324,
			math.MaxFloat64, -math.MaxFloat64, math.MaxFloat64 / 2, 0x1p-1222, 1e300,
		}),
		rapid.Map(rapid.Uint64(), func(b uint64) float64 {
			if v := math.Float64frombits(b); !math.IsNaN(v) && !math.IsInf(v, 0) {
				return v
			}
			return math.Float64frombits(b &^ (1 << 62))
		}),
	)
}

func TestExactSumIsTheSumRoundedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.OneOf(rapid.SliceOfN(anyValue(), 0, 40),
			rapid.SliceOfN(rapid.Float64Range(-1e9, 1e9), 0, 40))
		values := kind.Draw(t, "values")
		gone := kind.Draw(t, "taken out again")
		want := bigSum(values)

		var sum exactTotal
		for _, v := range gone {
			sum.add(v)
		}
		for _, v := range values {
			sum.add(v)
		}
		for _, v := range gone {
			sum.add(-v)
		}
		if got := sum.round(); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("sum of %v with %v in and out: got %v, want %v", values, gone, got, want)
		}
		var backwards exactTotal
		for i := len(values) - 1; i >= 0; i-- {
			backwards.add(values[i])
		}
		if got := backwards.round(); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("sum of %v backwards: got %v, want %v", values, got, want)
		}
	})
}

func TestExactSumRoundsATieByWhatIsFarBelow(t *testing.T) {
	for _, c := range []struct{ small, want float64 }{{0, 1 << 53}, {0x1p-12, 1<<53 + 2}, {-0x1p-12, 1 << 53}} {
		var s exactSum
		for _, v := range []float64{1 << 53, 1, c.small} {
			if !s.add(v) {
				t.Fatalf("%v does not fit", v)
			}
		}
		if got := s.round(); got != c.want {
			t.Errorf("2^53 + 1 + %v: got %v, want %v", c.small, got, c.want)
		}
	}
}

func TestExactSumOverflows(t *testing.T) {
	var s exactTotal
	for range 1000 {
		s.add(math.MaxFloat64)
	}
	if got := s.round(); !math.IsInf(got, 1) {
		t.Errorf("1000 times the largest: got %v, want +Inf", got)
	}
	for range 999 {
		s.add(-math.MaxFloat64)
	}
	if got := s.round(); got != math.MaxFloat64 {
		t.Errorf("after taking 999 out: got %v, want the largest", got)
	}
}

func TestExactSumOfManyReadingsStaysNarrow(t *testing.T) {
	var s exactSum
	for i := range 10_000_000 {
		if !s.add(float64(i%100000) * 0.01) {
			t.Fatalf("add %d: does not fit", i)
		}
	}
}

func BenchmarkExactSumAdd(b *testing.B) {
	values := make([]float64, 1024)
	for i := range values {
		values[i] = float64((i*7919)%100000) / 100
	}
	var s exactSum
	for i := 0; b.Loop(); i++ {
		s.add(values[i&1023])
	}
}
