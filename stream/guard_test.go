package stream

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/wellhead/wellhead/messages"
)

func TestDiskNearlyFull(t *testing.T) {
	var free atomic.Uint64
	free.Store(50)
	dir := t.TempDir()
	server := startServer(t, dir, nil)
	space := func(o *Options) { o.FreeSpace = func() (uint64, uint64, error) { return free.Load(), 100, nil } }
	s := openStreams(t, server, space)
	p := newPublisher(t, s, PublisherOptions{OnFull: Refuse})
	cells, err := s.Cells(BucketCheckpoints)
	if err != nil {
		t.Fatal(err)
	}
	publish := func() error { return p.Publish(shortly(t), "site", 3, someBlocks(10)) }
	for range 10 {
		if err := publish(); err != nil {
			t.Fatal(err)
		}
	}
	free.Store(4)
	eventually(t, "publishers are refused", func() bool { return s.Counters().DiskRefusals.Load() == 1 })
	if err := publish(); !errors.Is(err, ErrOverloaded) {
		t.Errorf("with a full disk: got %v, want overloaded", err)
	}
	if _, err := cells.Save(shortly(t), "0", []byte("x"), 0); err != nil {
		t.Errorf("a checkpoint must still be saved: %v", err)
	}
	// a restart does not forget the size
	s.Close()
	server.Shutdown()
	server = startServer(t, dir, nil)
	s = openStreams(t, server, space)
	limit := func(shard messages.Shard) uint64 {
		state, err := s.Log().State(shortly(t), shard)
		if err != nil {
			t.Fatal(err)
		}
		return state.Limit
	}
	for n := range messages.Shard(8) {
		if n != 3 && limit(n) != 64<<20 && s.Counters().DiskRefusals.Load() == 0 {
			t.Errorf("shard %d after a restart: limit %d, want %d", n, limit(n), 64<<20)
		}
	}
	eventually(t, "publishers are refused again", func() bool { return s.Counters().DiskRefusals.Load() == 1 })
	free.Store(7)
	eventually(t, "publishers are let in", func() bool { return limit(3) == 64<<20 })
	p = newPublisher(t, s, PublisherOptions{OnFull: Refuse})
	if err := publish(); err != nil {
		t.Error(err)
	}
}

func TestJetStreamComesBack(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	put(t, s, 3, 1, 10)
	f, err := s.Log().Open(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	take(t, f, 1, 10)
	before, err := s.Log().State(shortly(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.nats.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, s, PublisherOptions{})
	if err := p.PublishReading(shortly(t), messages.DeviceID{Site: "site", Device: "dev"}, []byte("11")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "jetstream is back", func() bool { return s.Counters().JetStreamBack.Load() == 1 })
	if err := p.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	put(t, s, 3, 11, 20)
	take(t, f, 11, 10)
	after, err := s.Log().State(shortly(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Created.Equal(before.Created) || after.Last != 20 {
		t.Errorf("after: %+v, before: %+v", after, before)
	}
}

func TestRegistry(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	testRegistry(t, s.Registry())
}
