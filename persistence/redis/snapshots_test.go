package redis

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t testing.TB, addr string) *Snapshots {
	t.Helper()
	return openWith(t, Options{Addrs: []string{addr}})
}

func TestContract(t *testing.T) {
	s := open(t, testenv.SharedRedis(t).Addr)
	contract.Snapshots(t, func(*testing.T) persistence.Snapshots { return s })
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Prefix: "with{brace"}, {Prefix: "a b"}, {Timeout: -1}, {DB: -1}} {
		if _, err := Open(o); err == nil {
			t.Errorf("Open(%+v) did not fail", o)
		}
	}
}

// fill raises the fence to 3, puts two snapshots and the marker {1, 100}.
func fill(ctx context.Context, t *testing.T, s *Snapshots, shard messages.Shard) persistence.Marker {
	t.Helper()
	marker := persistence.Marker{Generation: 1, Snapshotted: 100}
	err := errors.Join(
		s.RaiseFence(ctx, shard, 3),
		s.Put(ctx, shard, 3, persistence.Marker{}, marker, []persistence.Snapshot{
			{Device: messages.DeviceID{Site: "s", Device: "a"}, Sequence: 90, Data: []byte("a as of 90")},
			{Device: messages.DeviceID{Site: "s", Device: "b"}, Sequence: 95, Data: []byte("b as of 95")},
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return marker
}

func count(ctx context.Context, t *testing.T, s *Snapshots, shard messages.Shard, generation uint64) int {
	t.Helper()
	n := 0
	if err := s.Scan(ctx, shard, generation, func(persistence.Snapshot) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFlushIsFoundOut(t *testing.T) {
	server := testenv.Redis(t)
	s, ctx := open(t, server.Addr), t.Context()
	held := fill(ctx, t, s, 2)
	if err := server.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// The owner goes on with what it knows: nothing of it is taken.
	if err := s.Put(ctx, 2, 3, held, held, []persistence.Snapshot{{Device: messages.DeviceID{Site: "s", Device: "a"}}}); !errors.Is(err, persistence.ErrFenced) {
		t.Errorf("put after the store lost everything: got %v, want ErrFenced", err)
	}
	if err := s.RaiseFence(ctx, 2, 3); err != nil {
		t.Fatal(err)
	}
	next := persistence.Marker{Generation: 1, Snapshotted: 200}
	if err := s.PutMarker(ctx, 2, 3, held, next); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("put marker after the store lost everything: got %v, want ErrConflict", err)
	}
	if got, err := s.Marker(ctx, 2); err != nil || got != (persistence.Marker{}) {
		t.Errorf("marker = %+v, %v, want none", got, err)
	}
	if n := count(ctx, t, s, 2, 1); n != 0 {
		t.Errorf("%d snapshots are left of a store that lost everything", n)
	}
}

func TestOlderCopyIsFoundOut(t *testing.T) {
	server := testenv.Redis(t)
	s, ctx := open(t, server.Addr), t.Context()
	first := fill(ctx, t, s, 2)
	saved, err := server.SaveCopy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := persistence.Marker{Generation: 1, Snapshotted: 200}
	if err := s.PutMarker(ctx, 2, 3, first, second); err != nil {
		t.Fatal(err)
	}
	if err := s.RaiseFence(ctx, 2, 8); err != nil {
		t.Fatal(err)
	}
	if err := server.RestoreCopy(ctx, saved); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error { return s.Ping(ctx) })
	if got, err := s.Marker(ctx, 2); err != nil || got != first {
		t.Errorf("marker = %+v, %v, want the older %+v", got, err, first)
	}
	if err := s.PutMarker(ctx, 2, 8, second, persistence.Marker{Generation: 1, Snapshotted: 300}); !errors.Is(err, persistence.ErrFenced) {
		t.Errorf("put marker while the fence is lower: got %v, want ErrFenced", err)
	}
	if err := s.RaiseFence(ctx, 2, 8); err != nil {
		t.Fatal(err)
	}
	if err := s.PutMarker(ctx, 2, 8, second, persistence.Marker{Generation: 1, Snapshotted: 300}); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("put marker after the store went back: got %v, want ErrConflict", err)
	}
	// What a shard does then: a new generation, and the older ones go.
	if err := s.PutMarker(ctx, 2, 8, first, persistence.Marker{Generation: 2, Snapshotted: 300}); err != nil {
		t.Errorf("put a new generation's marker: %v", err)
	}
	if err := s.Drop(ctx, 2, 8, 2); err != nil {
		t.Fatal(err)
	}
	if n := count(ctx, t, s, 2, 1); n != 0 {
		t.Errorf("%d snapshots of the dropped generation are left", n)
	}
}

// A restarted server has forgotten the scripts; the first call after it must not notice.
func TestRestart(t *testing.T) {
	server := testenv.Redis(t)
	s, ctx := open(t, server.Addr), t.Context()
	marker := fill(ctx, t, s, 2)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.PutMarker(ctx, 2, 3, marker, persistence.Marker{Generation: 1, Snapshotted: 200}); err == nil || errors.Is(err, persistence.ErrFenced) || errors.Is(err, persistence.ErrConflict) {
		t.Errorf("put marker while the server is down: got %v, want an error of no class", err)
	}
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error { return s.Ping(ctx) })
	if err := s.PutMarker(ctx, 2, 3, marker, persistence.Marker{Generation: 1, Snapshotted: 200}); err != nil {
		t.Errorf("put marker after a restart: %v", err)
	}
	if n := count(ctx, t, s, 2, 1); n != 2 {
		t.Errorf("%d snapshots after a restart, want 2", n)
	}
}

func TestPausedServerEndsInAnError(t *testing.T) {
	server := testenv.Redis(t)
	s, ctx := open(t, server.Addr), t.Context()
	fill(ctx, t, s, 2)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := s.Ping(short); err == nil {
		t.Error("a paused server answers")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error { return s.Ping(ctx) })
}

// The answer to a marker that was put got lost: the same again succeeds.
func TestPutMarkerAgain(t *testing.T) {
	s, ctx := open(t, testenv.SharedRedis(t).Addr), t.Context()
	first := fill(ctx, t, s, 4)
	next := persistence.Marker{Generation: 1, Snapshotted: 101}
	for range 2 {
		if err := s.PutMarker(ctx, 4, 3, first, next); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBrokenSnapshotIsLeftOut(t *testing.T) {
	s, ctx := open(t, testenv.SharedRedis(t).Addr), t.Context()
	fill(ctx, t, s, 5)
	if err := s.client.HSet(ctx, s.snapshotsKey(5, 1), "s/b", "short").Err(); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(ctx, 5, 1, []messages.DeviceID{{Site: "s", Device: "a"}, {Site: "s", Device: "b"}})
	if err != nil || len(got) != 1 || got[0].Device.Device != "a" {
		t.Errorf("Get = %v, %v, want a alone", got, err)
	}
	if n := count(ctx, t, s, 5, 1); n != 1 {
		t.Errorf("a scan gives %d, want 1", n)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{300, 1000} {
		b.Run(fmt.Sprintf("1000x%dB", size), func(b *testing.B) {
			server := testenv.Redis(b)
			s, ctx := open(b, server.Addr), b.Context()
			if err := s.RaiseFence(ctx, 1, 1); err != nil {
				b.Fatal(err)
			}
			batch := make([]persistence.Snapshot, 1000)
			data := make([]byte, size)
			for i := range batch {
				batch[i] = persistence.Snapshot{Device: messages.DeviceID{Site: "s", Device: fmt.Sprint("d", i)}, Sequence: 1, Data: data}
			}
			b.SetBytes(int64(1000 * size))
			for b.Loop() {
				if err := contract.Put(ctx, s, 1, 1, 1, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "snapshots/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	server := testenv.Redis(b)
	s, ctx := open(b, server.Addr), b.Context()
	ids := make([]messages.DeviceID, 1000)
	batch := make([]persistence.Snapshot, len(ids))
	for i := range ids {
		ids[i] = messages.DeviceID{Site: "s", Device: fmt.Sprint("d", i)}
		batch[i] = persistence.Snapshot{Device: ids[i], Sequence: 1, Data: make([]byte, 1000)}
	}
	if err := errors.Join(s.RaiseFence(ctx, 1, 1), contract.Put(ctx, s, 1, 1, 1, batch)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got, err := s.Get(ctx, 1, 1, ids); err != nil || len(got) != len(ids) {
			b.Fatal(len(got), err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "snapshots/s")
}
