package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Snapshots runs everything that a store of snapshots must do. See the package comment for what open must give.
func Snapshots(t *testing.T, open func(t *testing.T) persistence.Snapshots) {
	tests := []struct {
		name string
		run  func(t *testing.T, s snapshotsUnderTest)
	}{
		{"fence", testFence},
		{"put, get, scan, remove", testPut},
		{"generations are apart", testGenerations},
		{"shards are apart", testSnapshotShards},
		{"another epoch is refused and stores nothing", testEpochs},
		{"marker", testMarker},
		{"a put moves the marker", testPutMovesTheMarker},
		{"one of many markers wins", testMarkerRace},
		{"drop", testDrop},
		{"big snapshots", testBigSnapshots},
		{"a thousand in one put", testManySnapshots},
		{"concurrent puts", testConcurrentPuts},
		{"a cancelled context is an error", testSnapshotsCancelled},
		{"ping", func(t *testing.T, s snapshotsUnderTest) {
			if err := s.Ping(testContext(t)); err != nil {
				t.Fatalf("ping: %v", err)
			}
		}},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, snapshotsUnderTest{open(t), messages.Shard(i)}) })
	}
}

// snapshotsUnderTest bundles the store with one shard and shortens the calls of the subtests.
type snapshotsUnderTest struct {
	persistence.Snapshots
	shard messages.Shard
}

func (s snapshotsUnderTest) raise(ctx context.Context, t *testing.T, epoch messages.Epoch) {
	t.Helper()
	if err := s.RaiseFence(ctx, s.shard, epoch); err != nil {
		t.Fatalf("raise fence to %d: %v", epoch, err)
	}
}

func (s snapshotsUnderTest) put(ctx context.Context, t *testing.T, epoch messages.Epoch, generation uint64, snapshots ...persistence.Snapshot) {
	t.Helper()
	if err := Put(ctx, s.Snapshots, s.shard, epoch, generation, snapshots); err != nil {
		t.Fatalf("put %d snapshots: %v", len(snapshots), err)
	}
}

// Put puts snapshots under a generation over whatever marker there is, in as many puts as that takes.
// It is for tests and benchmarks: an owner knows its marker.
func Put(ctx context.Context, s persistence.Snapshots, shard messages.Shard, epoch messages.Epoch, generation uint64, snapshots []persistence.Snapshot) error {
	held, err := s.Marker(ctx, shard)
	if err != nil {
		return err
	}
	for {
		n := min(len(snapshots), persistence.MaxPut)
		next := persistence.Marker{Generation: generation, Snapshotted: held.Snapshotted, Puts: held.Puts + 1}
		if err := s.Put(ctx, shard, epoch, held, next, snapshots[:n]); err != nil {
			return err
		}
		if snapshots, held = snapshots[n:], next; len(snapshots) == 0 {
			return nil
		}
	}
}

// show turns snapshots into what they are compared by: their order does not count.
func show(snapshots []persistence.Snapshot) map[string]string {
	out := make(map[string]string)
	for _, one := range snapshots {
		data := string(one.Data)
		if len(data) > 100 {
			data = fmt.Sprintf("%d bytes, checksum %x", len(data), crc32.ChecksumIEEE(one.Data))
		}
		out[one.Device.String()] = fmt.Sprintf("%d %q", one.Sequence, data)
	}
	return out
}

func (s snapshotsUnderTest) scan(ctx context.Context, t *testing.T, generation uint64) []persistence.Snapshot {
	t.Helper()
	var got []persistence.Snapshot
	err := s.Scan(ctx, s.shard, generation, func(one persistence.Snapshot) bool {
		one.Data = bytes.Clone(one.Data)
		got = append(got, one)
		return true
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return got
}

// want checks by Scan and by Get that exactly these snapshots are in the generation.
func (s snapshotsUnderTest) want(ctx context.Context, t *testing.T, generation uint64, want ...persistence.Snapshot) {
	t.Helper()
	got := s.scan(ctx, t, generation)
	if len(got) != len(want) {
		t.Fatalf("scan of generation %d: got %d snapshots, want %d", generation, len(got), len(want))
	}
	if diff := cmp.Diff(show(want), show(got)); diff != "" {
		t.Fatalf("scan of generation %d (-want +got):\n%s", generation, diff)
	}
	ids := []messages.DeviceID{snapshot("nobody", 0, "").Device}
	for _, one := range want {
		ids = append(ids, one.Device)
	}
	got, err := s.Get(ctx, s.shard, generation, ids)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	if diff := cmp.Diff(show(want), show(got)); diff != "" || len(got) != len(want) {
		t.Fatalf("get from generation %d: %d snapshots (-want +got):\n%s", generation, len(got), diff)
	}
}

func snapshot(device string, sequence uint64, data string) persistence.Snapshot {
	return persistence.Snapshot{Device: messages.DeviceID{Site: "s", Device: device}, Sequence: sequence, Data: []byte(data)}
}

func testFence(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	wantFence := func(want messages.Epoch) {
		t.Helper()
		if got, err := s.Fence(ctx, s.shard); err != nil || got != want {
			t.Fatalf("fence: got %d, error %v, want %d", got, err, want)
		}
	}
	wantFence(0)
	s.raise(ctx, t, 5)
	wantFence(5)
	s.raise(ctx, t, 5) // said again after an answer was lost
	wantFence(5)
	if err := s.RaiseFence(ctx, s.shard, 4); !errors.Is(err, persistence.ErrFenced) {
		t.Fatalf("lower the fence: got %v, want ErrFenced", err)
	}
	wantFence(5)
	s.raise(ctx, t, 1<<62) // also beyond what a double can count
	s.raise(ctx, t, 1<<62+1)
	wantFence(1<<62 + 1)
	if err := s.RaiseFence(ctx, s.shard, 1<<62); !errors.Is(err, persistence.ErrFenced) {
		t.Fatalf("lower a high fence by one: got %v, want ErrFenced", err)
	}
}

func testPut(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 3)
	s.want(ctx, t, 1)
	a, b, c := snapshot("a", 10, "state of a"), snapshot("b", 11, "\x00\xff\x00"), snapshot("c", 1<<60+1, "")
	s.put(ctx, t, 3, 1, a, b)
	s.put(ctx, t, 3, 1, c)
	s.put(ctx, t, 3, 1)
	s.want(ctx, t, 1, a, b, c)
	a = snapshot("a", 20, "newer")
	s.put(ctx, t, 3, 1, a)
	s.want(ctx, t, 1, a, b, c)
	if got, err := s.Get(ctx, s.shard, 1, nil); err != nil || len(got) != 0 {
		t.Errorf("get of no devices: got %d, error %v", len(got), err)
	}
	calls := 0
	if err := s.Scan(ctx, s.shard, 1, func(persistence.Snapshot) bool { calls++; return calls < 2 }); err != nil || calls != 2 {
		t.Errorf("stop a scan at the 2nd: got %d calls, error %v", calls, err)
	}
	for range 2 {
		if err := s.Remove(ctx, s.shard, 3, 1, []messages.DeviceID{b.Device, snapshot("nobody", 0, "").Device}); err != nil {
			t.Fatalf("remove: %v", err)
		}
		s.want(ctx, t, 1, a, c)
	}
	// The same device name at two sites, and names that begin alike.
	other := snapshot("a", 1, "other site")
	other.Device.Site = "s-"
	s.put(ctx, t, 3, 1, other, snapshot("a-", 2, "alike"))
	s.want(ctx, t, 1, a, c, other, snapshot("a-", 2, "alike"))
}

func testGenerations(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	first, second := snapshot("a", 1, "first"), snapshot("a", 2, "second")
	s.put(ctx, t, 1, 1, first)
	s.put(ctx, t, 1, 256, second)
	s.want(ctx, t, 1, first)
	s.want(ctx, t, 256, second)
	s.want(ctx, t, 2)
	if err := s.Remove(ctx, s.shard, 1, 1, []messages.DeviceID{first.Device}); err != nil {
		t.Fatalf("remove: %v", err)
	}
	s.want(ctx, t, 1)
	s.want(ctx, t, 256, second)
}

func testSnapshotShards(t *testing.T, s snapshotsUnderTest) {
	ctx, other := testContext(t), snapshotsUnderTest{s.Snapshots, Shards - 1}
	s.raise(ctx, t, 7)
	if got, err := other.Fence(ctx, other.shard); err != nil || got != 0 {
		t.Fatalf("fence of the other shard: got %d, error %v", got, err)
	}
	other.raise(ctx, t, 2)
	here, there := snapshot("a", 1, "here"), snapshot("a", 2, "there")
	s.put(ctx, t, 7, 1, here)
	other.put(ctx, t, 2, 1, there)
	s.want(ctx, t, 1, here)
	other.want(ctx, t, 1, there)
	if err := s.Drop(ctx, s.shard, 7, 9); err != nil {
		t.Fatalf("drop: %v", err)
	}
	s.want(ctx, t, 1)
	other.want(ctx, t, 1, there)
}

func testEpochs(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	held := snapshot("a", 1, "held")
	refused := func(epoch messages.Epoch) {
		t.Helper()
		marker, err := s.Marker(ctx, s.shard)
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"put": func() error {
				late := []persistence.Snapshot{snapshot("a", 9, "late"), snapshot("b", 9, "late")}
				return s.Put(ctx, s.shard, epoch, marker, persistence.Marker{Generation: 1, Puts: 99}, late)
			},
			"remove": func() error {
				return s.Remove(ctx, s.shard, epoch, 1, []messages.DeviceID{held.Device})
			},
			"marker": func() error {
				return s.PutMarker(ctx, s.shard, epoch, marker, persistence.Marker{Generation: 9, Snapshotted: 9})
			},
			"drop": func() error { return s.Drop(ctx, s.shard, epoch, 100) },
		} {
			if err := call(); !errors.Is(err, persistence.ErrFenced) {
				t.Fatalf("%s with epoch %d: got %v, want ErrFenced", name, epoch, err)
			}
		}
		if got, err := s.Marker(ctx, s.shard); err != nil || got != marker {
			t.Fatalf("marker: got %+v, error %v", got, err)
		}
	}
	refused(4) // no fence at all: the store lost it
	s.raise(ctx, t, 5)
	s.put(ctx, t, 5, 1, held)
	refused(4)
	refused(6) // the store went back
	s.want(ctx, t, 1, held)
	s.raise(ctx, t, 6)
	refused(5)
	s.want(ctx, t, 1, held) // a new owner finds what the last one left
	s.put(ctx, t, 6, 1, snapshot("b", 2, "new owner"))
	s.want(ctx, t, 1, held, snapshot("b", 2, "new owner"))
}

func testMarker(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	wantMarker := func(want persistence.Marker) {
		t.Helper()
		if got, err := s.Marker(ctx, s.shard); err != nil || got != want {
			t.Fatalf("marker: got %+v, error %v, want %+v", got, err, want)
		}
	}
	none, first, second := persistence.Marker{}, persistence.Marker{Generation: 1, Snapshotted: 100}, persistence.Marker{Generation: 1, Snapshotted: 1<<60 + 1}
	conflict := func(old, marker persistence.Marker) {
		t.Helper()
		if err := s.PutMarker(ctx, s.shard, 1, old, marker); !errors.Is(err, persistence.ErrConflict) {
			t.Fatalf("put marker %+v over %+v: got %v, want ErrConflict", marker, old, err)
		}
	}
	put := func(old, marker persistence.Marker) {
		t.Helper()
		if err := s.PutMarker(ctx, s.shard, 1, old, marker); err != nil {
			t.Fatalf("put marker %+v over %+v: %v", marker, old, err)
		}
	}
	wantMarker(none)
	conflict(first, second)
	wantMarker(none)
	put(none, first)
	wantMarker(first)
	conflict(none, second)
	conflict(persistence.Marker{Generation: 2, Snapshotted: 100}, second)
	conflict(persistence.Marker{Generation: 1, Snapshotted: 101}, second)
	wantMarker(first)
	put(first, second)
	put(second, persistence.Marker{Generation: 2, Snapshotted: 5})
	wantMarker(persistence.Marker{Generation: 2, Snapshotted: 5})
}

// testPutMovesTheMarker: a put is found out by the next one's marker, whatever happened in between.
func testPutMovesTheMarker(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	a, b := snapshot("a", 1, "first"), snapshot("a", 2, "second")
	first := persistence.Marker{Generation: 5, Snapshotted: 7, Puts: 1}
	second := persistence.Marker{Generation: 5, Snapshotted: 7, Puts: 2}
	put := func(epoch messages.Epoch, old, marker persistence.Marker, one persistence.Snapshot) error {
		return s.Put(ctx, s.shard, epoch, old, marker, []persistence.Snapshot{one})
	}
	if err := put(1, persistence.Marker{}, first, a); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Marker(ctx, s.shard); err != nil || got != first {
		t.Fatalf("marker: got %+v, error %v, want %+v", got, err, first)
	}
	for name, err := range map[string]error{
		"over no marker":      put(1, persistence.Marker{}, second, b),
		"over another count":  put(1, persistence.Marker{Generation: 5, Snapshotted: 7, Puts: 3}, second, b),
		"over what it is now": put(1, second, first, b),
		"again":               put(1, persistence.Marker{}, first, b),
	} {
		if !errors.Is(err, persistence.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
	if err := put(2, persistence.Marker{}, second, b); !errors.Is(err, persistence.ErrFenced) {
		t.Errorf("with another epoch and marker: got %v, want ErrFenced", err)
	}
	s.want(ctx, t, 5, a)
	if err := put(1, first, second, b); err != nil {
		t.Fatal(err)
	}
	s.want(ctx, t, 5, b)
	if err := s.Put(ctx, s.shard, 1, second, first, make([]persistence.Snapshot, persistence.MaxPut+1)); err == nil {
		t.Errorf("%d snapshots in one put: no error", persistence.MaxPut+1)
	}
}

func testMarkerRace(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	const racers = 8
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			errs[i] = s.PutMarker(ctx, s.shard, 1, persistence.Marker{}, persistence.Marker{Generation: 1, Snapshotted: uint64(i + 1)})
		})
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		if errors.Is(err, persistence.ErrConflict) {
			continue
		}
		if err != nil {
			t.Fatalf("put marker: %v", err)
		}
		winners++
		if got, err := s.Marker(ctx, s.shard); err != nil || got.Snapshotted != uint64(i+1) {
			t.Errorf("marker: got %+v, error %v, want that of racer %d", got, err, i)
		}
	}
	if winners != 1 {
		t.Errorf("got %d winners, want 1", winners)
	}
}

func testDrop(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	for _, generation := range []uint64{1, 2, 3, 255, 256, 1 << 40} {
		s.put(ctx, t, 1, generation, snapshot("a", generation, "x"), snapshot("b", generation, "y"))
	}
	held, err := s.Marker(ctx, s.shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutMarker(ctx, s.shard, 1, held, persistence.Marker{Generation: 3, Snapshotted: 3}); err != nil {
		t.Fatalf("put marker: %v", err)
	}
	for range 2 {
		if err := s.Drop(ctx, s.shard, 1, 256); err != nil {
			t.Fatalf("drop: %v", err)
		}
		for _, gone := range []uint64{1, 2, 3, 255} {
			s.want(ctx, t, gone)
		}
		for _, stays := range []uint64{256, 1 << 40} {
			s.want(ctx, t, stays, snapshot("a", stays, "x"), snapshot("b", stays, "y"))
		}
	}
	if got, err := s.Marker(ctx, s.shard); err != nil || got.Generation != 3 {
		t.Errorf("the marker after a drop: got %+v, error %v", got, err)
	}
	if got, err := s.Fence(ctx, s.shard); err != nil || got != 1 {
		t.Errorf("the fence after a drop: got %d, error %v", got, err)
	}
	// A dropped generation can be written again.
	s.put(ctx, t, 1, 2, snapshot("a", 7, "again"))
	s.want(ctx, t, 2, snapshot("a", 7, "again"))
}

func testBigSnapshots(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	var want []persistence.Snapshot
	for i := range 20 {
		one := snapshot(fmt.Sprint("d", i), uint64(i), "")
		one.Data = make([]byte, 100<<10+i)
		for j := range one.Data {
			one.Data[j] = byte(i + j*j>>3)
		}
		want = append(want, one)
	}
	s.put(ctx, t, 1, 1, want...)
	s.want(ctx, t, 1, want...)
}

func testManySnapshots(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	var want []persistence.Snapshot
	for i := range 1000 {
		want = append(want, snapshot(fmt.Sprint("d", i), uint64(i+1), fmt.Sprint("state ", i)))
	}
	s.put(ctx, t, 1, 1, want...)
	s.want(ctx, t, 1, want...)
	var half []messages.DeviceID
	for _, one := range want[:500] {
		half = append(half, one.Device)
	}
	if err := s.Remove(ctx, s.shard, 1, 1, half); err != nil {
		t.Fatalf("remove: %v", err)
	}
	s.want(ctx, t, 1, want[500:]...)
}

func testConcurrentPuts(t *testing.T, s snapshotsUnderTest) {
	ctx := testContext(t)
	s.raise(ctx, t, 1)
	const writers, each = 8, 50
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				one := []persistence.Snapshot{snapshot(fmt.Sprint("w", w), uint64(i+1), fmt.Sprint(i)), snapshot(fmt.Sprint("w", w, "-", i), 1, "")}
				err := Put(ctx, s.Snapshots, s.shard, 1, 1, one)
				for errors.Is(err, persistence.ErrConflict) { // another writer was first
					err = Put(ctx, s.Snapshots, s.shard, 1, 1, one)
				}
				if err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var want []persistence.Snapshot
	for w := range writers {
		want = append(want, snapshot(fmt.Sprint("w", w), each, fmt.Sprint(each-1)))
		for i := range each {
			want = append(want, snapshot(fmt.Sprint("w", w, "-", i), 1, ""))
		}
	}
	s.want(ctx, t, 1, want...)
}

func testSnapshotsCancelled(t *testing.T, s snapshotsUnderTest) {
	s.raise(testContext(t), t, 1)
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	for name, call := range map[string]func() error{
		"fence": func() error { _, err := s.Fence(ctx, s.shard); return err },
		"raise": func() error { return s.RaiseFence(ctx, s.shard, 2) },
		"put": func() error {
			return s.Put(ctx, s.shard, 1, persistence.Marker{}, persistence.Marker{Generation: 1, Puts: 1}, []persistence.Snapshot{snapshot("a", 1, "")})
		},
		"get": func() error {
			_, err := s.Get(ctx, s.shard, 1, []messages.DeviceID{{Site: "s", Device: "a"}})
			return err
		},
		"scan":   func() error { return s.Scan(ctx, s.shard, 1, func(persistence.Snapshot) bool { return true }) },
		"remove": func() error { return s.Remove(ctx, s.shard, 1, 1, []messages.DeviceID{{Site: "s", Device: "a"}}) },
		"marker": func() error { _, err := s.Marker(ctx, s.shard); return err },
		"put marker": func() error {
			return s.PutMarker(ctx, s.shard, 1, persistence.Marker{}, persistence.Marker{Generation: 1})
		},
		"drop": func() error { return s.Drop(ctx, s.shard, 1, 1) },
		"ping": func() error { return s.Ping(ctx) },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
