package pebble

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// fillForDamage stores three devices with readings over hours in one file of several blocks, and returns
// the folder. The values are random, so that they fill blocks.
func fillForDamage(t *testing.T, hours, each int) string {
	dir := t.TempDir()
	a, err := OpenArchive(dir, Options{Shards: 1, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 3 {
		rows := make([]persistence.Row, 0, hours*each)
		for n := range hours * each {
			at := int64(n) * int64(messages.Hour) / int64(each)
			rows = append(rows, persistence.Row{Time: at, Sequence: uint64(n + 1), Values: []float64{rnd.NormFloat64(), rnd.NormFloat64()}})
		}
		b := persistence.Batch{Devices: []persistence.DeviceRows{{Device: device(i), Rows: rows}}}
		if err := a.Append(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// turnByte turns a byte of the folder's largest table, at a part of its length.
func turnByte(t *testing.T, dir string, part float64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tables in %s: %v", dir, err)
	}
	var largest string
	var data []byte
	for _, name := range names {
		one, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(one) > len(data) {
			largest, data = name, one
		}
	}
	data[int(part*float64(len(data)))] ^= 0x55
	if err := os.WriteFile(largest, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedFile turns a byte in a real file: a scan ends with an error there, and one that is to go on gives
// every reading out that is not in a stretch it names.
func TestDamagedFile(t *testing.T) {
	const hours, each = 40, 200
	for _, part := range []float64{0.05, 0.4, 0.9} {
		dir := fillForDamage(t, hours, each)
		turnByte(t, dir, part)
		a := openArchive(t, dir, Options{Shards: 1, Log: quiet})
		whole, lost := 0, 0
		for i := range 3 {
			for _, r := range []persistence.Range{{From: math.MinInt64, To: math.MaxInt64}, {From: math.MaxInt64, To: math.MinInt64}} {
				plain := a.Scan(t.Context(), 0, device(i), r, func(*persistence.Row) bool { return true })
				if plain != nil && !errors.Is(plain, persistence.ErrCorrupt) {
					t.Fatalf("part %v: scan: %v", part, plain)
				}
				var damages []persistence.Damage
				got := map[int64]bool{}
				r.Damaged = func(d persistence.Damage) { damages = append(damages, d) }
				err := a.Scan(t.Context(), 0, device(i), r, func(row *persistence.Row) bool {
					if row.Sequence != uint64(row.Time*each/int64(messages.Hour))+1 || got[row.Time] {
						t.Errorf("part %v: row of sequence %d at %d, seen before: %v", part, row.Sequence, row.Time, got[row.Time])
					}
					got[row.Time] = true
					return true
				})
				if err != nil {
					t.Fatalf("part %v: scan past damage: %v", part, err)
				}
				if (plain == nil) != (len(damages) == 0) {
					t.Errorf("part %v: a plain scan says %v, one that goes on finds %v", part, plain, damages)
				}
				for n := range hours * each {
					at := int64(n) * int64(messages.Hour) / each
					named := false
					for _, d := range damages {
						named = named || d.From <= at && at <= d.To
					}
					if got[at] == named {
						t.Fatalf("part %v: reading at %d: given %v, in a named stretch %v: %v", part, at, got[at], named, damages)
					}
				}
				if whole++; len(damages) > 0 {
					lost++
				}
			}
		}
		if lost == 0 || lost == whole {
			t.Errorf("part %v: %d of %d scans met the damage", part, lost, whole)
		}
	}
}

// TestDamagedChunkIsPassed goes past one damaged chunk, forwards and backwards.
func TestDamagedChunkIsPassed(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{Shards: 1, Log: quiet})
	for n := range 3 {
		if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{
			Device: device(0), Rows: []persistence.Row{{Time: int64(n) * slice, Sequence: uint64(n + 1), Values: []float64{1}}},
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.db.Set(appendInt(appendDevice(nil, kindChunk, 0, device(0)), 1), []byte{2, 1, 0, 0, 0, 0, 7}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	for _, r := range []persistence.Range{{From: 0, To: 3 * slice}, {From: 3 * slice, To: 0}} {
		var order []int64
		r.Damaged = func(d persistence.Damage) {
			if order = append(order, -1); d.From != slice || d.To != 2*slice-1 || !errors.Is(d.Err, persistence.ErrCorrupt) {
				t.Errorf("got damage %+v", d)
			}
		}
		err := a.Scan(t.Context(), 0, device(0), r, func(row *persistence.Row) bool { order = append(order, row.Time/slice); return true })
		if err != nil || len(order) != 3 || order[1] != -1 || order[0]+order[2] != 2 {
			t.Errorf("got %v, %v", order, err)
		}
	}
}
