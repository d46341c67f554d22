package actors_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// sharers are members of one process on the same stream and stores, which own four shards between them.
type sharers struct {
	streams *stream.Streams
	members []*actors.Member
	handed  chan time.Duration
}

// otherSharer asks the other member, whoever the owner is.
type otherSharer struct {
	of   *sharers
	self int
}

func (o otherSharer) Ask(ctx context.Context, _ messages.Shard, question []byte) ([]byte, error) {
	return o.of.members[1-o.self].Answer(ctx, question)
}

func startSharers(t *testing.T) *sharers {
	t.Helper()
	log, dir := slog.New(slog.DiscardHandler), t.TempDir()
	server, streams := startStreams(t, dir)
	t.Cleanup(server.Shutdown)
	t.Cleanup(streams.Close)
	archive, snapshots := openStores(t, dir)
	s := &sharers{streams: streams, handed: make(chan time.Duration, 1024)}
	for n := range 2 {
		name := fmt.Sprintf("m%d", n)
		m := actors.NewMember(actors.Options{
			Name: name, Logger: log, Config: actors.Config{Shards: 4, FlushAge: 50, CheckpointEvery: 100, SnapshotWithin: 500},
			Parts: partsOf(t, streams, archive, snapshots),
			Shared: &actors.Shared{
				Identity: func() (string, string) { return name, "" }, May: func() bool { return true },
				Peers: otherSharer{s, n}, HandedOver: func(d time.Duration) { s.handed <- d }, Changed: func() {},
			},
		})
		s.members = append(s.members, m)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := m.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// lease returns a shard's lease and its revision.
func (s *sharers) lease(t *testing.T, shard messages.Shard) (cluster.Lease, uint64) {
	t.Helper()
	keys, err := s.streams.Keys(stream.BucketLeases)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := keys.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Key == cluster.LeaseKey(shard) {
			l, err := cluster.DecodeLease(e.Value)
			if err != nil {
				t.Fatal(err)
			}
			return l, e.Revision
		}
	}
	return cluster.Lease{}, 0
}

// take has a member take a shard from whoever has it, and waits until the lease says so.
func (s *sharers) take(t *testing.T, n int, shard messages.Shard) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		lease, revision := s.lease(t, shard)
		if lease.Member == fmt.Sprintf("m%d", n) {
			return nil
		}
		if err := s.members[n].Take(shard, revision); err != nil {
			return err
		}
		return fmt.Errorf("shard %d is still %q's", shard, lease.Member)
	})
}

// TestShardsMoveUnderLoad hands shards over, takes them from an owner who does not know, and drops them, while
// readings come in and both members are asked. Nothing is lost, and each reading counts once.
func TestShardsMoveUnderLoad(t *testing.T) {
	s := startSharers(t)
	for shard := range messages.Shard(4) {
		s.take(t, int(shard)%2, shard)
	}
	publisher := publisherTo(t, s.streams)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	const devices, rounds = 20, 40
	start := time.Now().UnixMilli() - rounds*1000
	device := func(d int) messages.DeviceID {
		return messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", d)}
	}
	for i := range rounds {
		for d := range devices {
			reading := messages.Reading{Time: start + int64(i)*1000, Values: []float64{float64(i)}}
			if err := publisher.PublishReading(t.Context(), device(d), messages.AppendReadingJSON(nil, reading)); err != nil {
				t.Fatal(err)
			}
		}
		s.disturb(t, rnd, messages.Shard(rnd.IntN(4)))
		if _, err := s.members[rnd.IntN(2)].State(t.Context(), device(rnd.IntN(devices))); err != nil && !errors.Is(err, actors.ErrStarting) && i > 10 {
			t.Errorf("a question in round %d: %v", i, err)
		}
	}
	if err := publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for d := range devices {
		for n := range s.members {
			testenv.Eventually(t, 30*time.Second, func() error {
				stored, err := s.members[n].Readings(t.Context(), device(d), start, start+rounds*1000, 0)
				if err != nil {
					return err
				}
				state, err := s.members[n].State(t.Context(), device(d))
				if err != nil {
					return err
				}
				if len(stored) != rounds || state.Partial || state.InWindow != rounds || state.Counts.Received != rounds || state.Counts.InOrder != rounds {
					return fmt.Errorf("m%d says of %s: %d stored, %+v; want %d readings, each in order", n, device(d), len(stored), state.Counts, rounds)
				}
				return nil
			})
		}
	}
	if len(s.handed) == 0 {
		t.Error("no handing over was measured")
	}
}

// disturb moves a shard in one of the ways that there are.
func (s *sharers) disturb(t *testing.T, rnd *rand.Rand, shard messages.Shard) {
	t.Helper()
	lease, revision := s.lease(t, shard)
	owner, other := 0, 1
	if lease.Member == "m1" {
		owner, other = 1, 0
	}
	switch rnd.IntN(4) {
	case 0: // on purpose
		if err := s.members[owner].HandOver(t.Context(), shard); err != nil {
			t.Error(err)
		}
		s.take(t, other, shard)
	case 1: // the owner does not know, and goes on as long as it can
		s.take(t, other, shard)
	case 2: // the owner is told at once
		s.take(t, other, shard)
		if err := s.members[owner].Drop(shard); err != nil {
			t.Error(err)
		}
	case 3: // a claim of what has been claimed since does nothing
		if err := s.members[other].Take(shard, revision-1); err != nil {
			t.Error(err)
		}
	}
}

// TestBacklog says what waits for a shard that nobody runs, and nothing once it has run.
func TestBacklog(t *testing.T) {
	s := startSharers(t)
	id := messages.DeviceID{Site: "site", Device: "dev-1"}
	shard := messages.ShardOf(id, 4)
	publisher := publisherTo(t, s.streams)
	now := time.Now().UnixMilli()
	publish := func(i int64) {
		t.Helper()
		if err := publisher.PublishReading(t.Context(), id, messages.AppendReadingJSON(nil, messages.Reading{Time: now + i, Values: []float64{1}})); err != nil {
			t.Fatal(err)
		}
		if err := publisher.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	backlog := func() (uint64, int64) {
		t.Helper()
		ends, err := s.streams.Log().Ends(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lag, oldest, err := s.members[0].Backlog(t.Context(), shard, ends[shard])
		if err != nil {
			t.Fatal(err)
		}
		return lag, oldest
	}
	publish(0)
	if lag, oldest := backlog(); lag != 1 || oldest < now {
		t.Errorf("before it ever ran: lag %d, the oldest of %d; want 1 since %d", lag, oldest, now)
	}
	s.take(t, 0, shard)
	testenv.Eventually(t, 20*time.Second, func() error {
		if lag, oldest := backlog(); lag != 0 || oldest != 0 {
			return fmt.Errorf("while it runs: lag %d, the oldest of %d", lag, oldest)
		}
		return nil
	})
	if err := s.members[0].HandOver(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	between := time.Now().UnixMilli()
	publish(1)
	publish(2)
	if lag, oldest := backlog(); lag != 2 || oldest < between {
		t.Errorf("after it was handed to nobody: lag %d, the oldest of %d; want 2 since %d", lag, oldest, between)
	}
}
