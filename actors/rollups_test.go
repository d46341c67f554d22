package actors

import (
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// plainDays adds up hours the dumb way: sums as rational numbers, first and last by looking at all.
func plainDays(hours []messages.Rollup) []messages.Rollup {
	byDay := map[int64][]messages.Rollup{}
	for _, h := range hours {
		day := time.UnixMilli(h.Start).UTC().Truncate(24 * time.Hour).UnixMilli()
		byDay[day] = append(byDay[day], h)
	}
	var out []messages.Rollup
	for start, hours := range byDay {
		slices.SortFunc(hours, func(a, b messages.Rollup) int { return int((a.Start - b.Start) / int64(messages.Hour)) })
		day := messages.Rollup{Start: start, Step: messages.Day}
		for _, h := range hours {
			day.Count += h.Count
			for len(day.Channels) < len(h.Channels) {
				day.Channels = append(day.Channels, messages.ChannelRollup{})
			}
		}
		for i := range day.Channels {
			c, sum := &day.Channels[i], new(big.Rat)
			for _, h := range hours {
				if i >= len(h.Channels) || h.Channels[i].Count == 0 {
					continue
				}
				in := h.Channels[i]
				if c.Count == 0 {
					c.Min, c.Max, c.First = in.Min, in.Max, in.First
				}
				c.Count, c.Min, c.Max, c.Last = c.Count+in.Count, min(c.Min, in.Min), max(c.Max, in.Max), in.Last
				sum.Add(sum, new(big.Rat).SetFloat64(in.Sum))
			}
			c.Sum, _ = sum.Float64()
		}
		out = append(out, day)
	}
	slices.SortFunc(out, func(a, b messages.Rollup) int { return int((a.Start - b.Start) / int64(messages.Day)) })
	return out
}

// TestDaysAgainstPlain makes days of hours that lie anywhere in some years, the newest of which run, and wants what
// the dumb computation gives: for any range and limit, forwards and backwards, and page by page as the cursor goes.
func TestDaysAgainstPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const first = int64(-1000 * messages.Day)
		number := rapid.Float64Range(-1e300, 1e300)
		starts := rapid.SliceOfNDistinct(rapid.Int64Range(0, 5*365*24), 0, 200, rapid.ID[int64]).Draw(t, "hours")
		slices.Sort(starts)
		hours := make([]messages.Rollup, len(starts))
		for i, n := range starts {
			hours[i] = messages.Rollup{Start: first + n*int64(messages.Hour), Step: messages.Hour, Count: rapid.Int64Range(1, 3600).Draw(t, "count")}
			for range rapid.IntRange(0, 3).Draw(t, "channels") {
				c := messages.ChannelRollup{Count: rapid.Int64Range(0, 2).Draw(t, "of the channel")}
				if c.Count > 0 {
					c.Min, c.Max, c.Sum, c.First, c.Last = number.Draw(t, "min"), number.Draw(t, "max"), number.Draw(t, "sum"), number.Draw(t, "first"), number.Draw(t, "last")
				}
				hours[i].Channels = append(hours[i].Channels, c)
			}
		}
		running := rapid.IntRange(0, min(2, len(hours))).Draw(t, "running")
		each := func(r persistence.Range, fn func(*messages.Rollup) bool) error {
			var kept, open []messages.Rollup
			for i, h := range hours {
				if h.Start < min(r.From, r.To) || h.Start > max(r.From, r.To) {
					continue
				}
				if i < len(hours)-running {
					kept = append(kept, h)
					continue
				}
				open = append(open, h)
				if h.Count++; i%2 == 0 { // the archive has an older one
					kept = append(kept, h)
				}
			}
			if r.From > r.To {
				slices.Reverse(kept)
				slices.Reverse(open)
			}
			if r.Limit > 0 {
				kept = kept[:min(len(kept), r.Limit)]
			}
			return merged(open, r.From > r.To, fn, func(fn func(*persistence.RollupRow) bool) error {
				for _, h := range kept {
					if row := (persistence.RollupRow{Rollup: h}); !fn(&row) {
						break
					}
				}
				return nil
			})
		}
		end := first + 5*365*int64(messages.Day)
		from, to := rapid.Int64Range(first-1, end).Draw(t, "from"), rapid.Int64Range(first-1, end).Draw(t, "to")
		if rapid.Bool().Draw(t, "all") {
			from, to = Beginning, End
		}
		if rapid.Bool().Draw(t, "backwards") {
			from, to = to, from
		}
		want := slices.DeleteFunc(plainDays(hours), func(d messages.Rollup) bool { return d.Start < min(from, to) || d.Start > max(from, to) })
		if from > to {
			slices.Reverse(want)
		}
		limit := rapid.IntRange(0, 9).Draw(t, "limit")
		var got []messages.Rollup
		for at := from; ; {
			page, err := foldDays(at, to, limit, each)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, page...); len(got) > len(want) {
				break
			}
			if limit == 0 || len(page) < limit {
				break
			}
			last := page[len(page)-1].Start
			if at = last + 1; from > to {
				at = last - 1
			}
			if last == to || (from > to) != (at > to) && at != to {
				break
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("from %d to %d, %d a page (-want +got):\n%s", from, to, limit, diff)
		}
	})
}

// An hour whose sum is beyond all numbers makes the day's so; it is never NaN, which JSON cannot say.
func TestDayOfInfiniteHours(t *testing.T) {
	days := dayFold{}
	for i, sum := range []float64{1, math.Inf(1), 2, math.Inf(-1)} {
		days.add(&messages.Rollup{Start: int64(i) * int64(messages.Hour), Count: 1, Channels: []messages.ChannelRollup{{Count: 1, Sum: sum}}})
	}
	if got := days.finish(); len(got) != 1 || got[0].Channels[0].Sum != math.Inf(1) {
		t.Errorf("got %+v, want one day with the sum +Inf", got)
	}
}

// TestRecomputeKeepsWhatCountsMore touches an hour of which half has expired, on a real archive: its rollup stays
// until there are more readings than it counts, or the device was deleted.
func TestRecomputeKeepsWhatCountsMore(t *testing.T) {
	const step = messages.Hour
	now := time.Now().UnixMilli()
	start := step.Start(now - 6*int64(step))
	kept := time.Duration(now-start-int64(step)/2) * time.Millisecond // of the hour the first half is too old
	classes := persistence.Classes{"short": {Readings: kept}}
	a, err := pebble.OpenArchive(t.TempDir(), pebble.Options{Shards: 1, Classes: classes})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	sequence := uint64(0)
	put := func(class string, minutes ...int) (rows []persistence.Row) {
		t.Helper()
		for _, m := range minutes {
			sequence++
			rows = append(rows, persistence.Row{Time: start + int64(m)*60_000, Sequence: sequence, WriteTime: now*1000 + int64(sequence), Values: []float64{float64(m)}})
		}
		if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: testID, Class: class, Rows: rows}}}); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	rollup := func(row persistence.RollupRow) {
		t.Helper()
		if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: testID, Class: "short", Rollups: []persistence.RollupRow{row}}}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, limits *Limits, count int64, kept bool) persistence.RollupRow {
		t.Helper()
		x := executor{archive: a, limits: limits}
		got, k, err := x.recompute(t.Context(), &dirtyBucket{key: bucketKey{&entry{id: testID}, step, start}})
		if err != nil || got.Count != count || k != kept {
			t.Errorf("%s: count %d, kept %v, %v; want %d, %v", what, got.Count, k, err, count, kept)
		}
		return got
	}
	l := &Limits{Classes: classes}
	whole := RollupOf(step, start, put("short", 0, 10, 20, 40, 50)) // 0, 10 and 20 have expired
	want("no rollup yet", l, 2, false)
	rollup(whole)
	put("short", 45) // late
	if got := want("one late reading", l, 5, true); got.Sequence != whole.Sequence || got.Channels[0].Sum != 120 {
		t.Errorf("the one that is kept is %+v, want %+v", got, whole)
	}
	want("no class lets anything go", &Limits{}, 3, false)
	put("short", 51, 52)
	rollup(want("as many as it counts", l, 5, false)) // what cannot be told from a whole hour
	put("short", 52)
	want("one came again", l, 5, false)
	if err := a.Delete(t.Context(), 0, testID, sequence, now*1000+int64(sequence)); err != nil {
		t.Fatal(err)
	}
	put("short", 53)
	want("deleted, and one since", l, 1, false)
}
