package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

func options() Options {
	return Options{
		Site: "test", Devices: 100, Interval: time.Second, Channels: 4, Seed: 1,
		Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Readings: 50,
		OutOfOrder: 0.1, Duplicates: 0.1, Omitted: 0.05, Batch: 100,
	}
}

func newFleet(t testing.TB, o Options) *Fleet {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestVectors holds the function itself: whoever checks a fleet must come to the same bits.
func TestVectors(t *testing.T) {
	o := options()
	o.Omitted = 0.2
	f := newFleet(t, o)
	var got []string
	for _, at := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {99, 49}} {
		r := f.Reading(at[0], at[1])
		got = append(got, fmt.Sprint(f.Device(at[0]), " ", r.Time, " ", r.Values, r.Note))
	}
	want := []string{
		"dev-000001 1767323045000 [254.91 236.01 153.04 197.2]",
		"dev-000001 1767323046000 [255.44 NaN 153.15 NaN]",
		"dev-000002 1767323045000 [193.54 94.31 33.28 NaN]",
		"dev-000100 1767323094000 [92.61 NaN 167.12 192]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("readings of the fleet (-want +got):\n%s", diff)
	}
}

// TestSineTable makes sure that no entry is so near a half that another machine could round it otherwise.
func TestSineTable(t *testing.T) {
	for i := range sines {
		x := math.Sin(2*math.Pi*float64(i)/(1<<sineBits)) * (1 << sineScale)
		if _, fraction := math.Modf(math.Abs(x)); math.Abs(fraction-0.5) < 1e-6 {
			t.Errorf("entry %d is %v: too near a half", i, x)
		}
	}
}

func TestNames(t *testing.T) {
	for i, want := range map[int]string{0: "dev-000001", 8: "dev-000009", 98_765: "dev-098766", 999_999: "dev-1000000"} {
		if got := deviceName(i); got != want {
			t.Errorf("device %d: got %s, want %s", i, got, want)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"site":         func(o *Options) { o.Site = "" },
		"devices":      func(o *Options) { o.Devices = 0 },
		"interval":     func(o *Options) { o.Interval = 1500 * time.Microsecond },
		"channels":     func(o *Options) { o.Channels = 65 },
		"readings":     func(o *Options) { o.Readings = 0 },
		"out-of-order": func(o *Options) { o.OutOfOrder = 1.1 },
		"duplicates":   func(o *Options) { o.Duplicates = math.NaN() },
		"omitted":      func(o *Options) { o.Omitted = -0.1 },
		"batch":        func(o *Options) { o.Batch = 501 },
		"start":        func(o *Options) { o.Start = o.Start.Add(time.Microsecond) },
	} {
		o := options()
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that names it", want, err)
		}
	}
}

type key struct {
	device string
	time   int64
}

type account struct {
	kept                        map[key]messages.Reading
	sent, late, again, batches  int
	corrected, omitted, largest int
}

// publish does with the batches what an archive would.
func publish(t testing.TB, f *Fleet, shards int) account {
	t.Helper()
	a := account{kept: map[key]messages.Reading{}}
	newest := map[string]int64{}
	barriers, sentAt := 0, map[key]int{}
	err := f.Batches(t.Context(), shards, func(b *Batch) error {
		n := 0
		if b.Barrier {
			barriers++
		}
		for _, block := range b.Blocks {
			id := messages.DeviceID{Site: f.options.Site, Device: block.Device}
			if got := messages.ShardOf(id, shards); got != b.Shard {
				return fmt.Errorf("%v is in a batch of shard %d, not %d", id, b.Shard, got)
			}
			for _, r := range block.Readings {
				r.Values = append([]float64(nil), r.Values...)
				k := key{block.Device, r.Time}
				if _, held := a.kept[k]; held {
					a.again++
				} else if r.Time < newest[block.Device] {
					a.late++
				}
				if r.Note == "corrected" {
					a.corrected++
					if at, sent := sentAt[k]; !sent || at == barriers {
						return fmt.Errorf("%v is corrected without a barrier after it was sent", k)
					}
				} else if _, sent := sentAt[k]; !sent {
					sentAt[k] = barriers
				}
				newest[block.Device] = max(newest[block.Device], r.Time)
				a.kept[k] = r
				n++
			}
		}
		if n != b.Readings {
			return fmt.Errorf("batch of %d readings says %d", n, b.Readings)
		}
		a.batches++
		a.sent += n
		a.largest = max(a.largest, n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestBatchesGiveExpected holds the one law: applying all batches in order, the last of equal times
// wins, leaves exactly what Expected says, whatever the options.
func TestBatchesGiveExpected(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := options()
		o.Devices = rapid.IntRange(1, 60).Draw(rt, "devices")
		o.Readings = rapid.IntRange(1, 40).Draw(rt, "readings")
		o.Channels = rapid.IntRange(1, 6).Draw(rt, "channels")
		o.Batch = rapid.IntRange(1, 120).Draw(rt, "batch")
		o.Gather = rapid.Bool().Draw(rt, "gather")
		o.OutOfOrder = rapid.Float64Range(0, 1).Draw(rt, "out of order")
		o.Duplicates = rapid.Float64Range(0, 1).Draw(rt, "duplicates")
		o.Seed = rapid.Uint64().Draw(rt, "seed")
		f := newFleet(t, o)
		a := publish(t, f, rapid.IntRange(1, 9).Draw(rt, "shards"))
		if got, want := int64(len(a.kept)), f.Distinct(); got != want {
			rt.Fatalf("got %d distinct readings, want %d", got, want)
		}
		for i := range o.Devices {
			for want := range f.Expected(i) {
				got := a.kept[key{f.Device(i), want.Time}]
				if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
					rt.Fatalf("%s (-want +got):\n%s", f.Device(i), diff)
				}
			}
		}
	})
}

func TestShares(t *testing.T) {
	o := options()
	o.Devices, o.Readings = 500, 200
	o.OutOfOrder, o.Duplicates, o.Omitted = 0.01, 0.02, 0.05
	f := newFleet(t, o)
	a := publish(t, f, 64)
	for _, r := range a.kept {
		for _, v := range r.Values {
			if math.IsNaN(v) {
				a.omitted++
			}
		}
	}
	total := float64(f.Distinct())
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"late", float64(a.late) / total, 0.01},
		{"sent again", float64(a.again) / total, 0.02},
		{"corrected", float64(a.corrected) / total, 0.01},
		{"omitted", float64(a.omitted) / total / 4, 0.05},
	} {
		if math.Abs(c.got-c.want) > 0.15*c.want {
			t.Errorf("share of %s: got %.4f, want about %.4f", c.what, c.got, c.want)
		}
	}
}

// TestGather makes sure that a batch is full where a shard's devices alone would not fill it.
func TestGather(t *testing.T) {
	o := options()
	o.Devices, o.Readings, o.OutOfOrder, o.Duplicates = 10, 1000, 0, 0
	one := publish(t, newFleet(t, o), 2)
	o.Gather = true
	many := publish(t, newFleet(t, o), 2)
	if one.batches != 2000 || many.batches > 130 {
		t.Errorf("got %d batches, gathered %d; want 2000 and about 100", one.batches, many.batches)
	}
	o.Devices, o.Batch, o.Readings = 156, 100, 80
	cut := publish(t, newFleet(t, o), 1)
	if want := 156 * 80 / 100 * 105 / 100; cut.batches > want || cut.largest > 100 {
		t.Errorf("got %d batches of at most %d readings; want %d of 100", cut.batches, cut.largest, want)
	}
	o.Devices, o.Batch, o.OutOfOrder, o.Duplicates = 10, 500, 1, 1
	if a := publish(t, newFleet(t, o), 1); a.largest > messages.MaxReadings {
		t.Errorf("a batch has %d readings", a.largest)
	}
}

func TestValuesWander(t *testing.T) {
	o := options()
	o.Readings, o.Omitted = 3600, 0
	f := newFleet(t, o)
	for c := range o.Channels {
		least, most := math.Inf(1), math.Inf(-1)
		for r := range f.Expected(7) {
			v := r.Values[c]
			if v != math.Round(v*100)/100 {
				t.Fatalf("channel %d: %v is finer than 0.01", c, v)
			}
			least, most = min(least, v), max(most, v)
		}
		if most-least < 1 {
			t.Errorf("channel %d stays within %v to %v in an hour", c, least, most)
		}
	}
	other := o
	other.Seed++
	a, b := f.Reading(3, 3), newFleet(t, other).Reading(3, 3)
	if cmp.Equal(a.Values, b.Values) {
		t.Errorf("seeds 1 and 2 give the same values %v", a.Values)
	}
}

func TestBatchesStop(t *testing.T) {
	f := newFleet(t, options())
	stop := errors.New("stop")
	if err := f.Batches(t.Context(), 4, func(*Batch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of fn", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Batches(ctx, 4, func(*Batch) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
}

func BenchmarkBatches(b *testing.B) {
	for _, devices := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(devices), func(b *testing.B) {
			o := options()
			o.Devices, o.Readings, o.Gather = devices, max(1, b.N/devices), true
			o.OutOfOrder, o.Duplicates = 0.01, 0.01
			f := newFleet(b, o)
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			if err := f.Batches(b.Context(), 64, func(batch *Batch) error { n += batch.Readings; return nil }); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}
