package pebble

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// scanned is what a scan of everything gave: event times by sequence, and what it said is damaged.
type scanned struct {
	rows    map[int64]uint64
	damages []persistence.Damage
}

// scanAll scans a device past damage upwards and, when all that is damaged was set aside, downwards, which must agree.
func scanAll(t *testing.T, a *Archive, id messages.DeviceID) scanned {
	t.Helper()
	var both [2]scanned
	for i, r := range []persistence.Range{{From: math.MinInt64, To: math.MaxInt64}, {From: math.MaxInt64, To: math.MinInt64}} {
		s := &both[i]
		if i > 0 && slices.ContainsFunc(both[0].damages, func(d persistence.Damage) bool { return !errors.Is(d.Err, persistence.ErrLost) }) {
			return both[0]
		}
		s.rows = map[int64]uint64{}
		last := r.From
		r.Damaged = func(d persistence.Damage) {
			s.damages = append(s.damages, d)
			if near := d.From; r.From < r.To && near < last || r.From > r.To && d.To > last {
				t.Errorf("damage %d to %d is told of behind %d", d.From, d.To, last)
			}
		}
		if err := a.Scan(t.Context(), 0, id, r, func(row *persistence.Row) bool {
			s.rows[row.Time], last = row.Sequence, row.Time
			return true
		}); err != nil {
			t.Fatal(err)
		}
		plain := r
		plain.Damaged = nil
		err := a.Scan(t.Context(), 0, id, plain, func(*persistence.Row) bool { return true })
		if (len(s.damages) > 0) != errors.Is(err, persistence.ErrCorrupt) {
			t.Errorf("a scan that goes on finds %v, one that does not says %v", s.damages, err)
		}
	}
	slices.Reverse(both[1].damages)
	if !maps.Equal(both[0].rows, both[1].rows) || len(both[0].damages) != len(both[1].damages) {
		t.Errorf("forwards %d rows and %v, backwards %d and %v", len(both[0].rows), both[0].damages, len(both[1].rows), both[1].damages)
	}
	return both[0]
}

func (s *scanned) damagedAt(at int64) bool {
	return slices.ContainsFunc(s.damages, func(d persistence.Damage) bool { return d.From <= at && at <= d.To })
}

// TestSetAside turns a byte in a real file, sets aside what that damaged, and writes half of it again: that half is
// served, the rest stays damage, also when the archive is opened anew, until all is recovered or the device is deleted.
func TestSetAside(t *testing.T) {
	const hours, each = 20, 200
	at := func(n int) int64 { return int64(n) * int64(messages.Hour) / each }
	for _, part := range []float64{0.5} {
		dir := fillForDamage(t, hours, each)
		turnByte(t, dir, part)
		a := openArchive(t, dir, Options{Shards: 1, Log: quiet})
		before, met := map[messages.DeviceID]scanned{}, 0
		losses := map[messages.DeviceID][]persistence.Loss{}
		for i := range 3 {
			id := device(i)
			before[id] = scanAll(t, a, id)
			for range 2 { // what was set aside is not set aside again
				lost, err := a.SetAside(t.Context(), 0, id, 0, 0, (hours+1)*int64(messages.Hour), hours*each)
				if err != nil {
					t.Fatal(err)
				}
				if len(lost) != len(before[id].damages) || losses[id] != nil && !slices.Equal(losses[id], lost) {
					t.Fatalf("part %v: damages %v, losses %+v, before %+v", part, before[id].damages, lost, losses[id])
				}
				losses[id] = lost
			}
			if got := scanAll(t, a, id); len(got.rows) != len(before[id].rows) {
				t.Errorf("part %v: %d rows, %d before anything was set aside", part, len(got.rows), len(before[id].rows))
			}
			if len(losses[id]) > 0 {
				met++
			}
		}
		if met == 0 {
			t.Fatalf("part %v: nothing was damaged", part)
		}
		half := map[messages.DeviceID]int64{} // from here on all is written again
		for i := range 3 {
			id := device(i)
			var missing []persistence.Row
			for n := range hours * each {
				if _, there := before[id].rows[at(n)]; !there {
					missing = append(missing, persistence.Row{Time: at(n), Sequence: uint64(n + 1), Values: []float64{float64(n)}})
				}
			}
			if len(missing) == 0 {
				continue
			}
			missing = missing[len(missing)/2:]
			half[id] = missing[0].Time
			appendTo(t, a, id, missing)
			if got := scanAll(t, a, id); len(got.rows) != len(before[id].rows) || !got.damagedAt(missing[0].Time) {
				t.Errorf("part %v: rows in a loss are given out before they are said to be all: %v", part, got.damages)
			}
			for _, left := range losses[id] {
				left.To = min(left.To, half[id]-1)
				if err := a.Recovered(t.Context(), 0, id, 0, left); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		a = openArchive(t, dir, Options{Shards: 1, Log: quiet})
		for id, from := range half {
			got := scanAll(t, a, id)
			for n := range hours * each {
				sequence, there := got.rows[at(n)]
				if there && sequence != uint64(n+1) || there == got.damagedAt(at(n)) || at(n) >= from && !there {
					t.Fatalf("part %v: reading at %d, recovered from %d: sequence %d, damage %v", part, at(n), from, sequence, got.damages)
				}
			}
			// What comes later for a stretch that is lost is served.
			lost := losses[id][0].From + 1
			appendTo(t, a, id, []persistence.Row{{Time: max(lost, 1), Sequence: hours*each + 1, Values: []float64{1}}})
			if got := scanAll(t, a, id); got.rows[max(lost, 1)] != hours*each+1 || len(got.damages) == 0 {
				t.Errorf("part %v: a new reading at %d is not served: %v", part, max(lost, 1), got.damages)
			}
			if err := a.Delete(t.Context(), 0, id, hours*each, 0); err != nil {
				t.Fatal(err)
			}
			if got := scanAll(t, a, id); len(got.rows) != 1 || len(got.damages) != 0 {
				t.Errorf("part %v: deleted: %d rows, damage %v", part, len(got.rows), got.damages)
			}
		}
	}
}

func appendTo(t *testing.T, a *Archive, id messages.DeviceID, rows []persistence.Row) {
	t.Helper()
	if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: id, Rows: rows}}}); err != nil {
		t.Fatal(err)
	}
}

// TestSetAsideTwice damages what was written in the place of a damaged chunk, too.
func TestSetAsideTwice(t *testing.T) {
	a, id := openArchive(t, t.TempDir(), Options{Shards: 1, Log: quiet}), device(0)
	row := persistence.Row{Time: 5, Sequence: 7, Values: []float64{1}}
	f := familyOf(0, id, 0)
	for generation := range uint64(3) {
		appendTo(t, a, id, []persistence.Row{row})
		if got := scanAll(t, a, id); got.rows[5] != 7 || len(got.damages) > 0 {
			t.Fatalf("generation %d: got %+v", generation, got)
		}
		if err := a.db.Set(appendInt(f.appendPrefix(nil, generation), 0), []byte{2, 1, 0, 0, 0, 0, 7}, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		lost, err := a.SetAside(t.Context(), 0, id, 0, 0, 10, 7)
		if err != nil || len(lost) != 1 || lost[0].From != 0 || lost[0].To != slice-1 || lost[0].Sequence != 7 {
			t.Fatalf("generation %d: losses %+v, %v", generation, lost, err)
		}
		if got := scanAll(t, a, id); len(got.rows) != 0 || len(got.damages) != 1 {
			t.Errorf("generation %d: got %+v", generation, got)
		}
		none := persistence.Loss{From: 1, To: 0, Mark: lost[0].Mark}
		if err := a.Recovered(t.Context(), 0, id, 0, none); err != nil {
			t.Fatal(err)
		}
		if err := a.Recovered(t.Context(), 0, id, messages.Hour, persistence.Loss{From: 0, To: 9, Mark: none.Mark}); err != nil {
			t.Fatal(err) // of another step there is no such mark
		}
	}
	appendTo(t, a, id, []persistence.Row{row})
	if err := a.Delete(t.Context(), 0, id, 7, 0); err != nil {
		t.Fatal(err)
	}
	if got := scanAll(t, a, id); len(got.rows)+len(got.damages) != 0 {
		t.Errorf("deleted: got %+v", got)
	}
}

// TestRollupsSetAside turns a byte in a file of rollups: a scan goes past it, and what is written again is found.
func TestRollupsSetAside(t *testing.T) {
	const count = 4000
	dir, id := t.TempDir(), device(0)
	a, err := OpenArchive(dir, Options{Shards: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	rollup := func(n int) persistence.RollupRow {
		return persistence.RollupRow{Sequence: uint64(n + 1), Rollup: messages.Rollup{
			Start: int64(n) * int64(messages.Minute), Step: messages.Minute, Count: 1,
			Channels: []messages.ChannelRollup{{Count: 1, Min: math.Sin(float64(n)), Max: math.Sin(float64(n))}},
		}}
	}
	put := func(from, to int) {
		t.Helper()
		d := persistence.DeviceRows{Device: id}
		for n := from; n < to; n++ {
			d.Rollups = append(d.Rollups, rollup(n))
		}
		if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{d}}); err != nil {
			t.Fatal(err)
		}
	}
	put(0, count)
	if err := errors.Join(a.db.Flush(), a.Close()); err != nil {
		t.Fatal(err)
	}
	turnByte(t, dir, 0.4)
	a = openArchive(t, dir, Options{Shards: 1, Log: quiet})
	read := func(from, to int64) (starts map[int64]bool, damages []persistence.Damage) {
		t.Helper()
		starts = map[int64]bool{}
		r := persistence.Range{From: from, To: to, Damaged: func(d persistence.Damage) { damages = append(damages, d) }}
		if err := a.Rollups(t.Context(), 0, id, messages.Minute, r, func(row *persistence.RollupRow) bool {
			starts[row.Start] = true
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return starts, damages
	}
	starts, damages := read(0, count*int64(messages.Minute))
	if back, again := read(count*int64(messages.Minute), 0); len(back) > len(starts) || len(again) != 1 {
		t.Errorf("backwards %d and %v", len(back), again)
	}
	if len(damages) != 1 || len(starts) == 0 || len(starts) == count {
		t.Fatalf("%d of %d rollups, damage %v", len(starts), count, damages)
	}
	lost, err := a.SetAside(t.Context(), 0, id, messages.Minute, 0, count*int64(messages.Minute), count)
	if err != nil || len(lost) != 1 {
		t.Fatalf("losses %+v, %v", lost, err)
	}
	first := count
	for n := range count {
		if !starts[int64(n)*int64(messages.Minute)] {
			first = min(first, n)
		}
	}
	put(first, count)
	if err := a.Recovered(t.Context(), 0, id, messages.Minute, persistence.Loss{From: lost[0].From, To: lost[0].From - 1, Mark: lost[0].Mark}); err != nil {
		t.Fatal(err)
	}
	if back, _ := read(count*int64(messages.Minute), 0); len(back) != count {
		t.Errorf("after the repair, backwards: %d of %d", len(back), count)
	}
	if starts, damages = read(0, count*int64(messages.Minute)); len(starts) != count || len(damages) != 0 {
		t.Errorf("after the repair: %d of %d rollups, damage %v", len(starts), count, damages)
	}
	if err := a.Delete(t.Context(), 0, id, count, 0); err != nil {
		t.Fatal(err)
	}
	if starts, _ = read(0, count*int64(messages.Minute)); len(starts) != 0 {
		t.Errorf("deleted: %d rollups", len(starts))
	}
}

// TestExpireAnew lets what stands in the place of damaged chunks and rollups grow old with the rest.
func TestExpireAnew(t *testing.T) {
	now := time.UnixMilli(1_000_000_000_000)
	o := Options{Shards: 1, Log: quiet, now: func() time.Time { return now }}
	o.Classes = persistence.Classes{persistence.DefaultClass: {Readings: 24 * time.Hour, Rollups: 24 * time.Hour}}
	a, id := openArchive(t, t.TempDir(), o), device(0)
	at := sliceOf(now.UnixMilli()) * slice
	for step, number := range map[messages.Step]int64{0: sliceOf(at), messages.Hour: at} {
		f := familyOf(0, id, step)
		if err := a.db.Set(appendInt(f.appendPrefix(nil, 0), number), []byte("damaged"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if lost, err := a.SetAside(t.Context(), 0, id, step, at, at, 1); err != nil || len(lost) != 1 {
			t.Fatalf("step %d: %+v, %v", step, lost, err)
		}
	}
	if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{
		Device: id, Rows: []persistence.Row{{Time: at, Sequence: 2, Values: []float64{1}}},
		Rollups: []persistence.RollupRow{{Sequence: 2, Rollup: messages.Rollup{Start: at, Step: messages.Hour, Count: 1}}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := scanAll(t, a, id); len(got.rows) != 1 || len(got.damages) != 1 {
		t.Errorf("still young: got %+v", got)
	}
	now = now.Add(72 * time.Hour)
	if _, err := a.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if chunks, rollups := a.Expired(); chunks != 2 || rollups != 2 {
		t.Errorf("%d chunks and %d rollups have expired, want the damaged and the new one of each", chunks, rollups)
	}
	if got := scanAll(t, a, id); len(got.rows)+len(got.damages) != 0 {
		t.Errorf("expired: got %+v", got)
	}
}
