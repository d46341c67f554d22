package actors

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// What BenchmarkActors takes in each time.
const (
	costDevices = 10_000
	costRounds  = 300
	costTotal   = costDevices * costRounds
)

// BenchmarkActors compares a member, whose shard and devices are actors, with the same core and the same devices that a
// plain loop calls. Both read batches of 100 devices of one shard from memory, keep windows and rollups, and give their
// rows to an archive that takes everything at once, so that nothing else is measured.
func BenchmarkActors(b *testing.B) {
	stream := newCostStream()
	for _, variant := range []struct {
		name string
		run  func(testing.TB, *costStream) time.Duration
	}{{"with", runMember}, {"without", runPlain}} {
		b.Run(variant.name, func(b *testing.B) {
			var took time.Duration
			for b.Loop() {
				took += variant.run(b, stream)
			}
			b.ReportMetric(float64(b.N)*costTotal/took.Seconds(), "readings/s")
		})
	}
}

// TestActorsCost has both ways of the benchmark take in everything.
func TestActorsCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	stream := newCostStream()
	runMember(t, stream)
	runPlain(t, stream)
}

// costStream is a Log of one shard in memory.
type costStream struct{ msgs []messages.Message }

func newCostStream() *costStream {
	s := &costStream{}
	values := make([]float64, 4)
	batch := messages.Batch{Blocks: make([]messages.Block, 100)}
	subject := messages.ShardBatchSubject(0, "site")
	for round := range costRounds {
		for first := 0; first < costDevices; first += len(batch.Blocks) {
			var arrived Arrived
			for i := range batch.Blocks {
				benchReading(&arrived, round, first+i, values)
				reading := arrived.Reading
				reading.Values = append([]float64(nil), values...)
				batch.Blocks[i] = messages.Block{Device: fmt.Sprintf("device-%07d", first+i), Readings: []messages.Reading{reading}}
			}
			s.msgs = append(s.msgs, messages.Message{
				Sequence: uint64(len(s.msgs) + 1), Arrival: arrived.Arrival * int64(time.Millisecond), Subject: subject, Data: messages.AppendBatch(nil, &batch),
			})
		}
	}
	return s
}

func (s *costStream) State(context.Context, messages.Shard) (messages.StreamState, error) {
	return messages.StreamState{Created: time.Unix(1, 0), First: 1, Last: uint64(len(s.msgs))}, nil
}

func (s *costStream) Open(_ context.Context, _ messages.Shard, from uint64) (Feed, error) {
	return &costFeed{left: s.msgs[from-1:]}, nil
}

func (s *costStream) Get(_ context.Context, _ messages.Shard, sequence uint64) (messages.Message, error) {
	if sequence < 1 || sequence > uint64(len(s.msgs)) {
		return messages.Message{}, persistence.ErrNotFound
	}
	return s.msgs[sequence-1], nil
}

func (s *costStream) Purge(context.Context, messages.Shard, uint64, time.Time) error { return nil }

type costFeed struct{ left []messages.Message }

// costWithin bounds the wait: with the race detector, beside other packages' tests, a run takes a minute.
const costWithin = 4 * time.Minute

// costPull is how many messages a pull brings: what a feed gathers in a flood.
const costPull = 16

func (f *costFeed) Pull(ctx context.Context, _ int) ([]messages.Message, error) {
	if len(f.left) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n := min(costPull, len(f.left))
	msgs := f.left[:n]
	f.left = f.left[n:]
	return msgs, nil
}

func (f *costFeed) Close() {}

// takesAll is an archive whose appends do nothing but count.
type takesAll struct {
	persistence.Archive
	rows atomic.Int64
	full chan struct{} // closed when all have come
}

func (a *takesAll) Append(_ context.Context, b *persistence.Batch) error {
	rows := 0
	for i := range b.Devices {
		rows += len(b.Devices[i].Rows)
	}
	if a.rows.Add(int64(rows)) == costTotal {
		close(a.full)
	}
	return nil
}

// runMember takes everything in with actors and returns how long that took, from the member's start on.
func runMember(t testing.TB, stream *costStream) time.Duration {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	archive, err := pebble.OpenArchive(filepath.Join(dir, "archive"), pebble.Options{Shards: 1, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	snapshots, err := pebble.OpenSnapshots(filepath.Join(dir, "snapshots"), pebble.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer snapshots.Close()
	all := &takesAll{Archive: archive, full: make(chan struct{})}
	m := NewMember(Options{
		Name: "cost", Logger: log, Config: costConfig(),
		Parts: Parts{
			Archive: all, Snapshots: snapshots, Log: stream, Checkpoints: &lockedCells{cells: newSimCells()}, Leases: &lockedCells{cells: newSimCells()},
			Starts: &lockedCells{cells: newSimCells()}, Outside: costOutside{}, Stored: func(string, string, StoredNews) {},
		},
	})
	began := time.Now()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	select {
	case <-all.full:
		took = time.Since(began)
	case <-time.After(costWithin):
		t.Fatalf("%d of %d readings came to the archive within %v", all.rows.Load(), costTotal, costWithin)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	return took
}

// costConfig has a gather go when it is full, or soon when nothing more comes, and no snapshots be made.
func costConfig() Config {
	return Config{Shards: 1, FlushIdle: 20, SnapshotWithin: 3_600_000, Limits: Limits{MaxFuture: 600_000}}.WithDefaults()
}

// runPlain is runMember without actors.
func runPlain(t testing.TB, stream *costStream) time.Duration {
	began := time.Now()
	state, _ := stream.State(context.Background(), 0)
	h := &plainHost{archive: takesAll{full: make(chan struct{})}}
	h.core = newCore(0, costConfig(), PlanStart(Found{Claim: 1, Stream: state}), h, rand.New(rand.NewPCG(1, 1)), plainStart)
	feed := &costFeed{left: stream.msgs}
	for len(feed.left) > 0 {
		msgs, err := feed.Pull(context.Background(), MinPull)
		if err != nil {
			t.Fatal(err)
		}
		h.core.pulled(time.Now().UnixMilli(), msgs)
		h.answer()
	}
	h.core.flush()
	h.answer()
	if n := h.archive.rows.Load(); n != costTotal {
		t.Fatalf("%d of %d readings came to the archive", n, costTotal)
	}
	return time.Since(began)
}

// plainHost is the effects of a core without actors and without waiting: what the core asks for is done when it asks,
// and answered after its step.
type plainHost struct {
	effects // what never happens here
	core    *core
	archive takesAll
	answers []func()
}

func (h *plainHost) answer() {
	for len(h.answers) > 0 {
		answers := h.answers
		h.answers = nil
		for _, answer := range answers {
			answer()
		}
	}
}

func (h *plainHost) later(answer func()) { h.answers = append(h.answers, answer) }

func (h *plainHost) run(o *op) bool {
	o.perform(o.entry.shard.(*Device))
	return true
}

func (h *plainHost) install(e *entry, d *Device) { e.shard = d }

func (h *plainHost) append(g *gather) {
	err := h.archive.Append(context.Background(), &g.batch)
	h.later(func() { h.core.appended(g, err) })
}

func (h *plainHost) announce(j *announceJob) { h.later(func() { h.core.announced(j, nil) }) }

func (h *plainHost) saveCheckpoint(j *saveJob) { h.later(func() { h.core.checkpointSaved(j, nil) }) }

func (h *plainHost) release(int)            {}
func (h *plainHost) charge(int)             {}
func (h *plainHost) listening(string) bool  { return false }
func (h *plainHost) event(string, []byte)   {}
func (h *plainHost) toldStored(*Checkpoint) {}
func (h *plainHost) note(Notice)            {}

// costOutside hears nobody and keeps nothing.
type costOutside struct{}

func (costOutside) Reject(context.Context, []messages.Reject) error { return nil }
func (costOutside) Listening(string) bool                           { return false }
func (costOutside) Event(string, []byte)                            {}
func (costOutside) Announce(_ context.Context, a []messages.Announcement) []error {
	return make([]error, len(a))
}

// lockedCells are the simulation's for many goroutines.
type lockedCells struct {
	mu    sync.Mutex
	cells *simCells
}

func (c *lockedCells) Load(ctx context.Context, key string) ([]byte, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cells.Load(ctx, key)
}

func (c *lockedCells) Save(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cells.Save(ctx, key, data, revision)
}
