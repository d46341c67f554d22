package actors

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// damagedArchive is a real one whose only table has a byte turned, with hours of readings of testID, one
// a second in the first ten minutes of each.
//
// Another device's readings behind them keep the store's own keys out of the damaged block.
func damagedArchive(t *testing.T, hours int) *pebble.Archive {
	t.Helper()
	dir, o := t.TempDir(), pebble.Options{Shards: 1, Log: slog.New(slog.DiscardHandler)}
	a, err := pebble.OpenArchive(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	sequence := uint64(0)
	for hour := range hours + 20 {
		id := testID
		if hour >= hours {
			id.Site = "zz"
		}
		var rows []persistence.Row
		for n := range 600 {
			sequence++
			rows = append(rows, persistence.Row{Time: simStart + int64(hour)*int64(messages.Hour) + int64(n)*1000, Sequence: sequence, WriteTime: int64(sequence), Values: []float64{math.Sin(float64(n))}})
		}
		if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: id, Rows: rows}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = pebble.OpenArchive(dir, o); err != nil { // it moves its log into a table
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, name := range tables {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if data[len(data)/10] ^= 1; len(data) < 2000 {
			continue // the store's own
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if a, err = pebble.OpenArchive(dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestDamagedChunkEndsNothing rebuilds a device and computes a rollup from damaged files: both come to an
// end, say what they found, and give out no part of an hour for the whole.
func TestDamagedChunkEndsNothing(t *testing.T) {
	a := damagedArchive(t, 2)
	var found []Corruption
	x := &executor{archive: a, limits: &Limits{}, corrupt: func(c Corruption) { found = append(found, c) }}
	settings := &messages.Settings{WindowCount: 10}
	latest := simStart + int64(messages.Hour) + 700_000
	d, err := x.rebuild(t.Context(), &loadWant{entry: &entry{id: testID}, asOf: 1200, settings: settings, latest: latest})
	if err != nil {
		t.Fatalf("rebuild: %v", err)
	}
	if len(found) == 0 || found[0].What != CorruptChunk || found[0].Device != testID || !errors.Is(found[0].Err, persistence.ErrCorrupt) || found[0].From > simStart || found[0].To < latest {
		t.Fatalf("rebuild found %+v", found)
	}
	// A reading comes in the damaged hour; what the hour is then only the archive may say.
	apply := func(at int64, sequence uint64) Outcome {
		var out Outcome
		d.Apply([]Arrived{{Sequence: sequence, Arrival: at, WriteTime: int64(sequence), Reading: messages.Reading{Time: at, Values: []float64{1}}}}, &Limits{}, &out)
		return out
	}
	apply(latest, 1201)
	out := apply(latest+int64(messages.Hour), 1202)
	for _, r := range out.Rollups {
		if r.Step == messages.Hour {
			t.Errorf("an hour of which memory has a part is given out as whole: %+v", r)
		}
	}
	key := bucketKey{&entry{id: testID}, messages.Hour, messages.Hour.Start(latest)}
	dirty := false
	for _, one := range out.Dirty {
		dirty = dirty || one.Step == key.step && one.Start == key.start
	}
	if !dirty {
		t.Errorf("the damaged hour is not computed from the archive: %+v", out.Dirty)
	}
	found = nil
	if row, kept, err := x.recompute(t.Context(), &dirtyBucket{key: key}); err != nil || !kept {
		t.Errorf("recompute: %+v, kept %v, %v", row, kept, err)
	}
	if len(found) != 1 || found[0].What != CorruptChunk {
		t.Errorf("recompute found %+v", found)
	}
	x.corrupt = nil // a question must not be answered from a part
	if _, _, err := x.recompute(t.Context(), &dirtyBucket{key: key}); !errors.Is(err, persistence.ErrCorrupt) {
		t.Errorf("asked: got error %v", err)
	}
}

// TestDamagedRollupOfExpiredReadings damages the rollups of two hours, of which the first may have lost readings to
// its retention: only the second is computed again.
func TestDamagedRollupOfExpiredReadings(t *testing.T) {
	const hour = int64(messages.Hour)
	a := newSimArchive()
	var rows []persistence.Row
	for n := range 2 * hour / 60_000 {
		rows = append(rows, persistence.Row{Time: simStart + n*60_000, Sequence: uint64(n + 1), WriteTime: n + 1, Values: []float64{1}})
	}
	if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: testID, Rows: rows}}}); err != nil {
		t.Fatal(err)
	}
	a.damage(testID, messages.Hour, simStart, simStart+2*hour-1)
	now := simStart + 3*hour
	x := &executor{archive: a, corrupt: func(Corruption) {}, limits: &Limits{Classes: persistence.Classes{"raw": {Readings: 150 * time.Minute}, "default": {}}}}
	j := &repairJob{key: repairKey{testID, messages.Hour}, from: simStart, to: now, now: now, sequence: 200}
	r, err := x.repair(t.Context(), j)
	if err != nil || len(r.losses) != 1 {
		t.Fatalf("losses %+v, %v", r.losses, err)
	}
	j.stage, j.losses = recovering, r.losses
	r, err = x.repair(t.Context(), j)
	if err != nil || len(r.starts) != 1 || r.starts[0] != simStart+hour {
		t.Fatalf("to be computed: %v, %v", r.starts, err)
	}
	if left := leftOf(j.losses, r.above, 120)[0]; left.From != simStart || left.To < simStart || left.To >= simStart+hour {
		t.Errorf("left of the loss: %+v", left)
	}
	for start, want := range map[int64]bool{simStart: true, simStart + hour: false} {
		b := &dirtyBucket{key: bucketKey{&entry{id: testID}, messages.Hour, start}, asked: now}
		if row, kept, err := x.recompute(t.Context(), b); err != nil || kept != want || !kept && row.Count != 60 {
			t.Errorf("hour of %d: kept %v, %d readings, %v", start, kept, row.Count, err)
		}
	}
}
