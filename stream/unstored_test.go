package stream

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// largeBatch is about 460 KB.
func largeBatch() []messages.Block {
	b := []messages.Block{{Device: "d", Readings: make([]messages.Reading, 900)}}
	for i := range b[0].Readings {
		b[0].Readings[i] = messages.Reading{Time: int64(i), Values: make([]float64, 4), Note: strings.Repeat("x", 500)}
	}
	return b
}

// TestWindowOfUnstored fills a site's window: the site is refused, or waits, until a shard says that something
// is stored or the window is widened; another site goes on.
func TestWindowOfUnstored(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	var window atomic.Int64
	window.Store(2 << 20)
	p := newPublisher(t, s, PublisherOptions{Producer: "door", OnFull: Refuse, Window: func(string) int64 { return window.Load() }})
	fill := func() (sent int) {
		t.Helper()
		for {
			switch err := p.Publish(shortly(t), "site", 3, largeBatch()); {
			case errors.Is(err, ErrOverloaded):
				if got := p.Unstored()["site"]; got > window.Load() || got < window.Load()-(1<<20) {
					t.Errorf("%d bytes are unstored when a window of %d is full", got, window.Load())
				}
				return sent
			case err != nil:
				t.Fatal(err)
			}
			if sent++; sent > 100 {
				t.Fatal("100 batches were taken")
			}
		}
	}
	if sent := fill(); sent != 4 {
		t.Fatalf("%d batches of 460 KB went into a window of 2 MiB, want 4", sent)
	}
	if err := p.Publish(shortly(t), "other", 3, largeBatch()); err != nil {
		t.Errorf("another site: %v", err)
	}

	waited := make(chan error, 1)
	key := counterKey{"site", 3}
	go func() {
		err := p.admit(shortly(t), key.site, guess(largeBatch()), false)
		if err == nil {
			err = p.publishAdmitted(shortly(t), key, largeBatch(), guess(largeBatch()), true, func(uint64, error) {})
		}
		waited <- err
	}()
	eventually(t, "the fifth batch waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.sites["site"].room != nil
	})
	outside := s.Outside(EventsNone)
	outside.Stored("site", "door", Stored{Shard: 3, Run: p.Run() + 1, Through: 4, Highest: 4}) // another run
	outside.Stored("site", "door", Stored{Shard: 3, Run: p.Run(), Through: 0, Highest: 2, Gaps: [][2]uint64{{1, 1}}})
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fifth batch is noted", func() bool { return p.Unstored()["site"] > 3*largest(t) })

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.admit(ctx, "site", guess(largeBatch()), false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full window: got %v, want the deadline", err)
	}
	window.Store(4 << 20)
	if sent := fill(); sent == 0 {
		t.Error("a wider window takes nothing more")
	}
	outside.Stored("site", "door", Stored{Shard: 3, Run: p.Run(), Through: 100, Highest: 100})
	eventually(t, "all is stored", func() bool { return p.Unstored()["site"] == 0 })
}

// largest is the size of one largeBatch as it is counted, less a little.
func largest(t *testing.T) int64 {
	t.Helper()
	return int64(len(messages.AppendBatch(nil, &messages.Batch{Blocks: largeBatch()})))
}

// TestRefusedIsNotUnstored has a stream that is full refuse: what it did not take does not fill the window.
func TestRefusedIsNotUnstored(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), func(o *Options) { o.MaxBytes = minStreamBytes })
	p := newPublisher(t, s, PublisherOptions{Producer: "door", OnFull: Refuse, Window: func(string) int64 { return 1 << 30 }})
	var err error
	for err == nil {
		err = p.Publish(shortly(t), "site", 3, largeBatch())
	}
	full := p.Unstored()["site"]
	for range 50 {
		if err := p.Publish(shortly(t), "site", 3, largeBatch()); !errors.Is(err, ErrOverloaded) {
			t.Fatalf("got %v, want overloaded", err)
		}
	}
	if got := p.Unstored()["site"]; got != full || full > minStreamBytes+1<<20 {
		t.Errorf("%d bytes are unstored after 50 refusals, and %d before", got, full)
	}
}

// TestIngestWaitsForAFullStream posts into a full stream: the request waits, keeps nothing of the publisher's
// room meanwhile, and is taken when there is room; one that shall be refused is refused.
func TestIngestWaitsForAFullStream(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), func(o *Options) { o.MaxBytes = minStreamBytes })
	p := newPublisher(t, s, PublisherOptions{Producer: "door"})
	i := NewIngest(p, 8)
	devices := []DeviceReadings{{Device: "d", Readings: largeBatch()[0].Readings}}
	var err error
	for err == nil {
		err = i.Publish(shortly(t), "site", devices, How{Refuse: true})
	}
	if !errors.Is(err, ErrOverloaded) {
		t.Fatalf("got %v, want overloaded", err)
	}
	// The end may come while a piece is under way, and then what became of it is not known.
	for ends, until := 300*time.Millisecond, shortly(t); ; ends *= 2 {
		ctx, cancel := context.WithTimeout(until, ends)
		err = i.Publish(ctx, "site", devices, How{})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || until.Err() != nil {
			break
		}
	}
	if !errors.Is(err, ErrOverloaded) {
		t.Errorf("no room until the end: got %v, want overloaded", err)
	}
	done := make(chan error, 1)
	go func() { done <- i.Publish(shortly(t), "site", devices, How{}) }()
	shard := messages.ShardOf(messages.DeviceID{Site: "site", Device: "d"}, 8)
	state, err := s.Log().State(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Log().Purge(t.Context(), shard, state.Last-2, state.Created); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("there is room: %v", err)
	}
}
