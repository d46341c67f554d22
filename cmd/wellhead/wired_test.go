package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// serveWired is `wellhead serve` with a test's wiring: the members of tests/chaos_test.go, which runs this package's
// tests under the names that TestMain knows.
func serveWired(w wiring) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runWired(ctx, w); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runWired(ctx context.Context, w wiring) error {
	c := newServeCommand()
	if err := c.ParseFlags(os.Args[2:]); err != nil {
		return err
	}
	cfg, err := config.Load(c.Flags().Lookup("config").Value.String(), os.Environ(), given(c.Flags()))
	if err != nil {
		return err
	}
	n, err := openNodeOn(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), w)
	if err != nil {
		return err
	}
	printAddresses(os.Stdout, n)
	<-ctx.Done()
	n.close()
	return nil
}

// shiftedClock is the machine's clock, ahead by a duration, or behind.
type shiftedClock struct{ by time.Duration }

func (c shiftedClock) Now() time.Time                         { return time.Now().Add(c.by) }
func (c shiftedClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// serveShifted is a member whose clock is SHIFTED_CLOCK ahead of the machine's.
func serveShifted() {
	by, err := time.ParseDuration(os.Getenv("SHIFTED_CLOCK"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "SHIFTED_CLOCK:", err)
		os.Exit(2)
	}
	serveWired(wiring{clock: shiftedClock{by}})
}

// serveUnfenced is a member without any fence: it takes its leases for held whatever the store says, its key for
// renewed, and its checkpoints and snapshots replace whatever is there.
func serveUnfenced() {
	lease := &blindLease{mine: map[string]cluster.Entry{}}
	serveWired(wiring{
		checkpoints: func(c actors.Cells) actors.Cells { return unfencedCells{c} },
		snapshots:   func(s persistence.Snapshots) persistence.Snapshots { return unfencedSnapshots{s} },
		members:     func(s cluster.Store) cluster.Store { return immortalKey{s} },
		leases:      func(s cluster.Store) cluster.Store { lease.Store = s; return lease },
		shared: func(s *actors.Shared) {
			lease.identity = s.Identity
			s.May = func() bool { return true }
		},
	})
}

// blindLease is a lease check that always says yes: what was this member's lease once stays so in its eyes, unless
// it has released it itself.
type blindLease struct {
	cluster.Store
	identity func() (id, address string)

	mu   sync.Mutex
	mine map[string]cluster.Entry
}

func (b *blindLease) All(ctx context.Context) ([]cluster.Entry, error) {
	entries, err := b.Store.All(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		l, decodeErr := cluster.DecodeLease(e.Value)
		if decodeErr != nil || b.identity == nil {
			continue
		}
		id, _ := b.identity()
		switch {
		case l.Member == id:
			b.mine[e.Key] = e
		case l.Member == "":
			delete(b.mine, e.Key)
		case b.mine[e.Key].Key != "":
			entries[i] = b.mine[e.Key]
		}
	}
	return entries, err
}

// immortalKey makes a member's key again under the same id when it has ended.
type immortalKey struct{ cluster.Store }

func (k immortalKey) Save(ctx context.Context, key string, data []byte, revision uint64, ttl time.Duration) (uint64, error) {
	saved, err := k.Store.Save(ctx, key, data, revision, ttl)
	if errors.Is(err, cluster.ErrConflict) && ttl > 0 {
		return k.Store.Save(ctx, key, data, 0, ttl)
	}
	return saved, err
}

// unfencedCells save whatever revision the value has.
type unfencedCells struct{ actors.Cells }

func (c unfencedCells) Save(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	for {
		saved, err := c.Cells.Save(ctx, key, data, revision)
		if !errors.Is(err, persistence.ErrConflict) {
			return saved, err
		}
		_, there, err := c.Load(ctx, key)
		if err != nil && !errors.Is(err, persistence.ErrNotFound) {
			return 0, err
		}
		revision = there
	}
}

// unfencedSnapshots write under whatever fence and over whatever marker there is.
type unfencedSnapshots struct{ persistence.Snapshots }

func (s unfencedSnapshots) RaiseFence(ctx context.Context, shard messages.Shard, epoch messages.Epoch) error {
	if err := s.Snapshots.RaiseFence(ctx, shard, epoch); !errors.Is(err, persistence.ErrFenced) {
		return err
	}
	return nil
}

func (s unfencedSnapshots) Put(ctx context.Context, shard messages.Shard, _ messages.Epoch, _, marker persistence.Marker, all []persistence.Snapshot) error {
	epoch, err := s.Fence(ctx, shard)
	if err != nil {
		return err
	}
	there, err := s.Marker(ctx, shard)
	if err != nil {
		return err
	}
	return s.Snapshots.Put(ctx, shard, epoch, there, marker, all)
}

func (s unfencedSnapshots) PutMarker(ctx context.Context, shard messages.Shard, _ messages.Epoch, _, marker persistence.Marker) error {
	epoch, err := s.Fence(ctx, shard)
	if err != nil {
		return err
	}
	there, err := s.Marker(ctx, shard)
	if err != nil {
		return err
	}
	return s.Snapshots.PutMarker(ctx, shard, epoch, there, marker)
}
