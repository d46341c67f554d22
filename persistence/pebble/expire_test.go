package pebble

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

func TestRetentionContract(t *testing.T) {
	contract.Retention(t, func(t *testing.T) persistence.Archive {
		return openArchive(t, t.TempDir(), Options{Classes: contract.Classes})
	})
}

// TestExpire has two devices of two classes grow old: readings are not found from the millisecond on
// that they are too old in, whole chunks leave the files, and all this is so after opening anew too.
func TestExpire(t *testing.T) {
	const begin = int64(1_767_225_600_000) // a full hour
	var clock atomic.Int64
	clock.Store(begin + 10*slice)
	dir := t.TempDir()
	o := Options{
		Shards: 1, now: func() time.Time { return time.UnixMilli(clock.Load()) },
		Classes: persistence.Classes{"short": {Readings: 12 * time.Hour, Rollups: 100 * time.Hour}},
	}
	a, err := OpenArchive(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	short, lasting := messages.DeviceID{Site: "s", Device: "a"}, messages.DeviceID{Site: "s", Device: "b"}
	batch := persistence.Batch{Devices: []persistence.DeviceRows{{Device: short, Class: "short"}, {Device: lasting}}}
	for i := range int64(40) {
		for d := range batch.Devices {
			b := &batch.Devices[d]
			b.Rows = append(b.Rows, persistence.Row{Time: begin + i*slice/4, Sequence: uint64(i + 1), Values: []float64{float64(i)}})
			if i%4 == 0 {
				b.Rollups = append(b.Rollups, persistence.RollupRow{Rollup: messages.Rollup{Start: begin + i*slice/4, Step: messages.Hour, Count: 4}, Sequence: uint64(i + 4)})
			}
		}
	}
	if err := a.Append(t.Context(), &batch); err != nil {
		t.Fatal(err)
	}
	all := persistence.Range{From: begin, To: begin + 100*slice}
	want := func(a *Archive, id messages.DeviceID, rows, chunks, rollups int) {
		t.Helper()
		got, gotRollups, gotChunks := 0, 0, 0
		if err := a.Scan(t.Context(), 0, id, all, func(*persistence.Row) bool { got++; return true }); err != nil {
			t.Fatal(err)
		}
		if err := a.Rollups(t.Context(), 0, id, messages.Hour, all, func(*persistence.RollupRow) bool { gotRollups++; return true }); err != nil {
			t.Fatal(err)
		}
		prefix := appendDevice(nil, kindChunk, 0, id)
		if err := a.walk(context.Background(), prefix, after(prefix), false, func(_, _ []byte) (bool, error) { gotChunks++; return true, nil }); err != nil {
			t.Fatal(err)
		}
		if got != rows || gotChunks != chunks || gotRollups != rollups {
			t.Errorf("%v: %d readings in %d chunks, %d rollups; want %d, %d, %d", id, got, gotChunks, gotRollups, rows, chunks, rollups)
		}
	}
	want(a, short, 40, 10, 10)
	clock.Store(begin + 14*slice + slice/2) // 2.5 hours are too old
	want(a, short, 29, 10, 10)
	expireAll(t, a)
	want(a, short, 29, 8, 10)
	want(a, lasting, 40, 10, 10)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	renamed := o
	renamed.Classes = persistence.Classes{"brief": o.Classes["short"]}
	a = openArchive(t, dir, renamed)
	if got := a.Unconfigured(); len(got) != 1 || got["short"] != 1 {
		t.Errorf("classes that are not configured: %v, want one device of short", got)
	}
	want(a, short, 32, 8, 10) // as the default; what was dropped is gone
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = openArchive(t, dir, o)
	if got := a.Unconfigured(); len(got) != 0 {
		t.Errorf("classes that are not configured: %v, want none", got)
	}
	want(a, short, 29, 8, 10)
	clock.Store(begin + 104*slice) // the rollups of 4 hours ended 100 hours ago or more
	expireAll(t, a)
	want(a, short, 0, 0, 6)
	want(a, lasting, 40, 10, 10)
	if chunks, rollups := a.Expired(); chunks != 8 || rollups != 4 {
		t.Errorf("dropped %d chunks, %d rollups; want 8, 4", chunks, rollups)
	}
	// Back in the default class: what comes from now on, and what is left, stays.
	if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: short, Rows: batch.Devices[0].Rows[:1]}}}); err != nil {
		t.Fatal(err)
	}
	want(a, short, 1, 1, 6)
}

func expireAll(t *testing.T, a *Archive) {
	t.Helper()
	for range 100 {
		done, err := a.Expire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Fatal("Expire does not come to an end")
}
