package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
	"github.com/wellhead/wellhead/persistence/contract"
)

var quiet = slog.New(slog.DiscardHandler)

func device(i int) messages.DeviceID { return messages.DeviceID{Site: "s", Device: fmt.Sprint("d", i)} }

// appendOne stores one row of device i with time and sequence n.
func appendOne(ctx context.Context, a *Archive, i, n int) error {
	return a.Append(ctx, &persistence.Batch{Shard: messages.Shard(i), Devices: []persistence.DeviceRows{{
		Device: device(i), Rows: []persistence.Row{{Time: int64(n), Sequence: uint64(n), Values: []float64{float64(n)}}},
	}}})
}

// sequences returns the sequences of all rows of device i.
func sequences(t *testing.T, a *Archive, i int) []uint64 {
	t.Helper()
	var got []uint64
	err := a.Scan(t.Context(), messages.Shard(i), device(i), persistence.Range{From: math.MinInt64, To: math.MaxInt64}, func(r *persistence.Row) bool {
		got = append(got, r.Sequence)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantCount(t *testing.T, a *Archive, i, want int) {
	t.Helper()
	got := sequences(t, a, i)
	if len(got) != want {
		t.Fatalf("device %d: got %d rows, want %d", i, len(got), want)
	}
	for n, sequence := range got {
		if sequence != uint64(n+1) {
			t.Fatalf("device %d: row %d has sequence %d", i, n, sequence)
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		a, err := OpenArchive(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantCount(t, a, 1, round)
		if err := appendOne(t.Context(), a, 1, round+1); err != nil {
			t.Fatal(err)
		}
		wantCount(t, a, 1, round+1)
		if err := appendOne(t.Context(), a, 2, 5); err != nil {
			t.Fatal(err)
		}
		if err := a.Delete(t.Context(), 2, device(2), 5, 5); err != nil {
			t.Fatal(err)
		}
		wantCount(t, a, 2, 0) // from round 1 on by the marker that was read at the start
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
		if err := appendOne(t.Context(), a, 1, 9); !errors.Is(err, errClosed) {
			t.Errorf("append after close: got %v", err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenArchive(dir, Options{Shards: 8})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenArchive(dir, Options{Shards: 8, Log: quiet}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("open twice: got %v", err)
	}
	if err := a.Append(t.Context(), &persistence.Batch{Shard: 8}); !errors.Is(err, persistence.ErrRefused) {
		t.Errorf("append to shard 8 of 8: got %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenArchive(dir, Options{Shards: 9}); err == nil || !strings.Contains(err.Error(), "set shards to 8") {
		t.Errorf("open with other shards: got %v", err)
	}
	if _, err := OpenSnapshots(dir, Options{Log: quiet}); err == nil {
		t.Error("an archive was opened as snapshots")
	}
	a, err = OpenArchive(dir, Options{Shards: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.db.Set([]byte{kindVersion}, []byte{layoutVersion + 1, 0, 0, 0, 8}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenArchive(dir, Options{Shards: 8}); err == nil || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("open a later layout: got %v", err)
	}
}

func TestRefusedDevice(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{})
	row := []persistence.Row{{Time: 1, Sequence: 1, Values: []float64{1}}}
	b := persistence.Batch{Devices: []persistence.DeviceRows{
		{Device: device(0), Rows: row},
		{Device: messages.DeviceID{Site: "s\x00", Device: "d"}, Rows: row},
		{Device: device(0), Rows: []persistence.Row{{Time: 2, Sequence: 2, Values: make([]float64, 65)}}},
	}}
	if err := a.Append(t.Context(), &b); !errors.Is(err, persistence.ErrRefused) {
		t.Errorf("append: got %v", err)
	}
	for i, refused := range []bool{false, true, true} {
		if got := errors.Is(b.Devices[i].Err, persistence.ErrRefused); got != refused {
			t.Errorf("device %d: got error %v", i, b.Devices[i].Err)
		}
	}
	wantCount(t, a, 0, 1)
}

// TestCorruptChunkIsLoud damages one stored chunk: it is an error that names it, before and after a
// compaction, and nothing else suffers.
func TestCorruptChunkIsLoud(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{Log: quiet})
	for i := range 2 {
		if err := appendOne(t.Context(), a, i, 1); err != nil {
			t.Fatal(err)
		}
	}
	key := appendInt(appendDevice(nil, kindChunk, 0, device(0)), 0)
	value, closer, err := a.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(value)
	closer.Close()
	broken[len(broken)-1] ^= 1
	if err := a.db.Set(key, broken, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		err := a.Scan(t.Context(), 0, device(0), persistence.Range{From: 0, To: 10}, func(*persistence.Row) bool { t.Error("a row was served"); return true })
		if !errors.Is(err, chunk.ErrCorrupt) || !strings.Contains(err.Error(), "s/d0") || !strings.Contains(err.Error(), "from 0 ms") {
			t.Errorf("scan: got %v", err)
		}
		wantCount(t, a, 1, 1)
	}
	check()
	if err := appendOne(t.Context(), a, 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := a.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := a.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	check()
	if err := a.Delete(t.Context(), 0, device(0), 5, 5); err != nil {
		t.Fatal(err)
	}
	wantCount(t, a, 0, 0)
}

// TestDeleteAgainstAppends deletes while rows above the sequence come in: none of those may be lost.
func TestDeleteAgainstAppends(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{})
	const writers, each = 4, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := 1000 + i*writers + w
				if err := appendOne(t.Context(), a, 0, n); err != nil {
					t.Error(err)
				}
				old := n - 1000 + 1
				if err := appendOne(t.Context(), a, 0, old); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			if err := a.Delete(t.Context(), 0, device(0), uint64(i*8+8), 0); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if got := sequences(t, a, 0); len(got) != writers*each || got[0] != 1000 {
		t.Errorf("got %d rows, want %d", len(got), writers*each)
	}
}

// TestDeleteLongPast deletes a device with more chunks than are deleted one by one. What is newer than the
// command stays, wherever it is.
func TestDeleteLongPast(t *testing.T) {
	const chunks, deleted = 2*mostSingly + 100, 1000
	a := openArchive(t, t.TempDir(), Options{})
	rows := make([]persistence.Row, chunks)
	rollups := make([]persistence.RollupRow, chunks)
	var want []uint64
	for i := range rows {
		sequence := uint64(i%7*200 + 1) // some above the command's
		rows[i] = persistence.Row{Time: int64(i) * slice, Sequence: sequence, Values: []float64{float64(i)}}
		rollups[i] = persistence.RollupRow{Rollup: messages.Rollup{Start: int64(i) * 60_000, Step: messages.Minute, Count: 1}, Sequence: sequence}
		if sequence > deleted {
			want = append(want, sequence)
		}
	}
	if err := a.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{{Device: device(0), Rows: rows, Rollups: rollups}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(t.Context(), 0, device(0), deleted, 0); err != nil {
		t.Fatal(err)
	}
	keys := func() (n int) {
		for _, kind := range []byte{kindChunk, kindRollup} {
			prefix := appendDevice(nil, kind, 0, device(0))
			if err := a.walk(t.Context(), prefix, after(prefix), false, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if got := keys(); got != 2*len(want) {
		t.Errorf("%d keys are left, want %d", got, 2*len(want))
	}
	if diff := cmp.Diff(want, sequences(t, a, 0)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestPowerLoss takes the disk as it is after a power loss, with nothing but what was synced, while
// appends go on: each that had been answered must be there.
func TestPowerLoss(t *testing.T) {
	fs := vfs.NewCrashableMem()
	a := openArchive(t, "archive", Options{fs: fs})
	var stored [4]atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range stored {
		wg.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				if appendOne(ctx, a, i, n) == nil {
					stored[i].Store(int64(n))
				}
			}
		})
	}
	for round := range 5 {
		deadline := time.Now().Add(20 * time.Second)
		for i := range stored {
			for stored[i].Load() < int64(round*10+10) && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond) // poll
			}
		}
		var want [len(stored)]int64
		for i := range stored {
			want[i] = stored[i].Load()
		}
		lost := openArchive(t, "archive", Options{fs: fs.CrashClone(vfs.CrashCloneCfg{})})
		for i := range stored {
			if got := int64(len(sequences(t, lost, i))); got < want[i] || want[i] == 0 {
				t.Errorf("round %d, device %d: got %d rows, %d were stored", round, i, got, want[i])
			}
		}
	}
	cancel()
	wg.Wait()
}

// TestSnapshotsPowerLoss: a marker that is there has all its snapshots.
func TestSnapshotsPowerLoss(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := OpenSnapshots("snapshots", Options{fs: fs})
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, s)
	ctx := t.Context()
	if err := s.RaiseFence(ctx, 3, 7); err != nil {
		t.Fatal(err)
	}
	for round := range uint64(5) {
		for i := range 20 {
			one := persistence.Snapshot{Device: device(i), Sequence: round + 1, Data: bytes.Repeat([]byte("x"), 1000)}
			if err := contract.Put(ctx, s, 3, 7, 1, []persistence.Snapshot{one}); err != nil {
				t.Fatal(err)
			}
		}
		next := persistence.Marker{Generation: 1, Snapshotted: round + 1}
		held, err := s.Marker(ctx, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.PutMarker(ctx, 3, 7, held, next); err != nil {
			t.Fatal(err)
		}
		if err := contract.Put(ctx, s, 3, 7, 1, []persistence.Snapshot{{Device: device(0), Sequence: round + 2}}); err != nil {
			t.Fatal(err)
		}
		lost, err := OpenSnapshots("snapshots", Options{fs: fs.CrashClone(vfs.CrashCloneCfg{})})
		if err != nil {
			t.Fatal(err)
		}
		cleanup(t, lost)
		if got, err := lost.Fence(ctx, 3); err != nil || got != 7 {
			t.Errorf("fence: got %d, error %v", got, err)
		}
		if got, err := lost.Marker(ctx, 3); err != nil || got != next {
			t.Errorf("marker: got %+v, error %v, want %+v", got, err, next)
		}
		n := 0
		if err := lost.Scan(ctx, 3, 1, func(one persistence.Snapshot) bool {
			n++
			if one.Sequence < next.Snapshotted {
				t.Errorf("%v: snapshot of %d behind the marker %+v", one.Device, one.Sequence, next)
			}
			return true
		}); err != nil || n != 20 {
			t.Errorf("got %d snapshots, error %v", n, err)
		}
	}
}

// TestDiskRefuses lets the log's writes or syncs fail, as a broken disk does: no append is answered with
// nil any more, all are answered, reads go on, and a new start has what was stored.
func TestDiskRefuses(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{"write": errorfs.OpFileWrite, "sync": errorfs.OpFileSyncData} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			var full atomic.Bool
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == kind || op.Kind == errorfs.OpFileSync && kind == errorfs.OpFileSyncData) {
					if kind == errorfs.OpFileWrite {
						return syscall.EIO
					}
					return syscall.ENOSPC // a sync that fails is final whatever it says
				}
				return nil
			}))
			a, err := OpenArchive("archive", Options{fs: fs, Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			stored := make([]atomic.Int64, 8)
			var running atomic.Int64
			var wg sync.WaitGroup
			for i := range stored {
				wg.Go(func() {
					for n := 1; ; n++ {
						if err := appendOne(t.Context(), a, i, n); err != nil {
							return
						}
						stored[i].Store(int64(n))
						if n == 20 && running.Add(1) == int64(len(stored)) {
							full.Store(true) // all are at work
						}
					}
				})
			}
			wg.Wait() // that they all end is half of the test
			if err := appendOne(t.Context(), a, 0, 1000); err == nil || !strings.Contains(err.Error(), "has stopped writing") {
				t.Errorf("append: got %v", err)
			}
			if err := a.Ping(t.Context()); err == nil {
				t.Error("ping: got no error")
			}
			for i := range stored {
				if got := int64(len(sequences(t, a, i))); got < stored[i].Load() {
					t.Errorf("device %d: reads %d rows, %d were stored", i, got, stored[i].Load())
				}
			}
			full.Store(false)
			if err := a.Close(); err == nil {
				t.Error("close: got no error")
			}
			again := openArchive(t, "archive", Options{fs: mem})
			for i := range stored {
				if got := int64(len(sequences(t, again, i))); got < stored[i].Load() || got == 0 {
					t.Errorf("device %d after a new start: %d rows, %d were stored", i, got, stored[i].Load())
				}
			}
		})
	}
}

// TestSyncsInGroups: many appends at once share syncs, one alone does not wait.
func TestSyncsInGroups(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for n := range 20 {
				if err := appendOne(t.Context(), a, i, n+1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m := a.Metrics()
	if m.Commits != 32*20 || m.Syncs == 0 || m.Syncs > m.Commits/2 {
		t.Errorf("got %d syncs of %d commits", m.Syncs, m.Commits)
	}
	if m.DiskBytes == 0 || m.MemtableBytes == 0 {
		t.Errorf("metrics: got %+v", m)
	}
}
