package actors

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

// drawValue draws what instruments send, and what only tests do.
func drawValue(t *rapid.T) float64 {
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return messages.Omitted()
	case 1:
		return rapid.Float64().Filter(func(v float64) bool { return v == v && !math.IsInf(v, 0) }).Draw(t, "any")
	case 2:
		return rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), math.MaxInt32, math.MinInt32, math.MinInt32 + 1, math.MaxInt32 + 1, 0.1, 1e-9, 1e-10, 0.30000000000000004,
		}).Draw(t, "edge")
	default:
		scale := rapid.IntRange(0, 4).Draw(t, "scale")
		return float64(rapid.Int32Range(-99_999, 99_999).Draw(t, "digits")) / powersOfTen[scale]
	}
}

// kept is a reading that a window should have.
type kept struct {
	messages.Sample
	flags uint8
}

// quality returns a value's, which is good when the value is omitted.
func (k *kept) quality(channel int) uint8 {
	if v := valueAt(k.Values, channel); channel >= len(k.Quality) || v != v {
		return 0
	}
	return k.Quality[channel]
}

// extra tells whether it has more than values.
func (k *kept) extra() bool { return k.Note != "" || k.flags != 0 || anyQuality(&k.Reading) }

// drawExtras gives a reading what few readings have.
func drawExtras(t *rapid.T, r *messages.Reading) (flags uint8) {
	few := rapid.Custom(func(t *rapid.T) uint8 {
		return rapid.SampledFrom([]uint8{0, 0, 0, 0, 0, 1, 2}).Draw(t, "few")
	})
	r.Note = []string{"", "gauge checked", "valve 2 closed"}[few.Draw(t, "note")]
	if few.Draw(t, "qualities") > 0 {
		for range r.Values {
			r.Quality = append(r.Quality, few.Draw(t, "quality"))
		}
	}
	return few.Draw(t, "flags")
}

// TestWindowKeepsEveryBit compares a window with a plain list.
func TestWindowKeepsEveryBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 8
		var w window
		var want []kept
		span := rapid.SampledFrom([]int64{20, 1 << 31, 1 << 33}).Draw(t, "span")
		for range rapid.IntRange(1, 40).Draw(t, "readings") {
			r := messages.Reading{Time: 1_700_000_000_000 + rapid.Int64Range(-span, span).Draw(t, "time")}
			for range rapid.IntRange(0, 11).Draw(t, "channels") {
				r.Values = append(r.Values, drawValue(t))
			}
			sequence := rapid.SampledFrom([]uint64{1, 1 << 31, 1 << 40, math.MaxUint64}).Draw(t, "sequence")
			flags := drawExtras(t, &r)
			insertBoth(&w, &want, kept{messages.Sample{Reading: r, Sequence: sequence}, flags}, most)
			compareWindow(t, &w, want)
		}
		data := w.appendTo(nil)
		var copied window
		r := snapshotReader{data: data}
		if copied.readFrom(&r); r.err != nil || r.left() != 0 {
			t.Fatalf("%d bytes are left: %v", r.left(), r.err)
		}
		compareWindow(t, &copied, want)
		for c := 0; c < int(w.channels) && !w.wide; c++ {
			if got, want := w.appendCells(nil, c), appendColumn(nil, w.column(c)); !bytes.Equal(got, want) {
				t.Fatalf("channel %d: written as %x, want %x", c, got, want)
			}
		}

		r = snapshotReader{data: data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]}
		if new(window).readFrom(&r); r.err == nil {
			t.Fatalf("%d of %d bytes are read as a window", len(r.data), len(data))
		}
	})
}

func insertBoth(w *window, want *[]kept, k kept, most int) {
	i, found := w.search(k.Time)
	if found {
		w.reserveChannels(len(k.Values))
		w.set(i, &k.Reading, k.Sequence, k.flags)
		(*want)[i] = k
		return
	}
	if int(w.count) == most {
		w.dropOldest()
		*want = (*want)[1:]
		i = max(0, i-1)
	}
	w.reserve(len(k.Values), most)
	w.insert(i, &k.Reading, k.Sequence, k.flags)
	*want = slices.Insert(*want, i, k)
}

func compareWindow(t *rapid.T, w *window, want []kept) {
	t.Helper()
	if int(w.count) != len(want) {
		t.Fatalf("%d readings in the window, want %d", w.count, len(want))
	}
	var values [messages.MaxChannels]float64
	var got messages.Sample
	for i, s := range want {
		w.readSample(&got, i, values[:w.channels])
		if got.Time != s.Time || got.Sequence != s.Sequence {
			t.Fatalf("reading %d of %d: time %d sequence %d, want %d and %d", i, len(want), got.Time, got.Sequence, s.Time, s.Sequence)
		}
		for c := range max(len(got.Values), len(s.Values)) {
			if g, e := valueAt(got.Values, c), valueAt(s.Values, c); !same(g, e) {
				t.Fatalf("reading %d of %d, channel %d: %v, want %v", i, len(want), c, g, e)
			}
			if g, e := (&kept{Sample: got}).quality(c), s.quality(c); g != e {
				t.Fatalf("reading %d of %d, channel %d: quality %d, want %d", i, len(want), c, g, e)
			}
		}
		flags := uint8(0)
		if w.extras != nil {
			flags = w.extras.flags[w.place(i)]
		}
		if got.Note != s.Note || flags != s.flags {
			t.Fatalf("reading %d of %d: note %q flags %d, want %q and %d", i, len(want), got.Note, flags, s.Note, s.flags)
		}
	}
	if any := slices.ContainsFunc(want, func(k kept) bool { return k.extra() }); any != (w.extras != nil) {
		t.Fatalf("extras are kept: %v, want %v", w.extras != nil, any)
	}
}

// TestWindowPacksAgain holds that one odd value makes a window wide only while it is in it.
func TestWindowPacksAgain(t *testing.T) {
	const most = 4
	var w window
	var want []kept
	add := func(k int, v float64) {
		insertBoth(&w, &want, kept{Sample: messages.Sample{Reading: messages.Reading{Time: int64(k), Values: []float64{v}}, Sequence: uint64(k)}}, most)
	}
	for k := range most {
		add(k, 20.25)
	}
	if w.wide {
		t.Fatal("decimals are wide")
	}
	packed := len(w.words)
	add(most, math.Pi)
	if !w.wide || w.valueAt(most-1, 0) != math.Pi {
		t.Fatalf("after pi: wide %v, %v", w.wide, w.valueAt(most-1, 0))
	}
	for k := range 2 * most {
		add(most+1+k, 20.25)
	}
	if w.wide || len(w.words) != packed {
		t.Errorf("wide %v, %d words, want %d, after the odd value has left", w.wide, len(w.words), packed)
	}
}
