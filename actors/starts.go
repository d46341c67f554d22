package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// carefulFrom is the start, counted since the checkpoint last moved, from which on messages are
	// applied one by one.
	carefulFrom = 3
	// guiltyAfter is how many lives in a row must have ended while one message was the only one under
	// way before it is taken for the reason.
	guiltyAfter = 3
	// carefulInFlight is how many messages are under way at most while a shard is careful. When that
	// life ends early too, only these are suspects, and the next life has one of them under way at a time.
	carefulInFlight = 64
	// carefulBytes is how much is applied with care. The reason lies within what a life can apply before
	// its checkpoint moves: what a shard may have in flight, and about a second's work.
	carefulBytes = 128 << 20
	// innocentAfter is how long a message may be under way before it is taken for one that waits for a
	// store, ms. A store that fails says so too.
	innocentAfter = 10_000
)

// starts is what is kept of a shard's starts, so that a message which ends the whole process is found
// and goes to rejects. Sequences are logical.
type starts struct {
	Stored uint64 `json:"stored"` // of the checkpoint, at the last start
	Count  int    `json:"count"`  // starts since that moved

	Oldest uint64 `json:"oldest,omitempty"` // messages noted as under way: from here ...
	Newest uint64 `json:"newest,omitempty"` // ... to here; 0 = none

	Alone uint64 `json:"alone,omitempty"` // the message that was the only one under way when a life ended
	Lives int    `json:"lives,omitempty"` // that ended so, with no other message in between

	Until   uint64 `json:"until,omitempty"`   // up to here messages are applied with care; 0 = none
	Suspect uint64 `json:"suspect,omitempty"` // up to here one at a time

	Guilty []uint64 `json:"guilty,omitempty"` // that are not applied any more, ascending; kept while a replay may bring them
}

// begun is what is kept when one more life begins at that checkpoint, on a stream that ends at last.
func (s starts) begun(k *Checkpoint, last uint64) starts {
	if s.Stored != k.Stored {
		s.Stored, s.Count = k.Stored, 0
	}
	s.Count++
	s.Guilty = slices.DeleteFunc(slices.Clone(s.Guilty), func(seq uint64) bool { return seq <= k.Snapshotted })
	noted := s.Newest > k.Snapshotted
	s.Until, s.Suspect = 0, 0
	switch {
	case noted && s.Oldest == s.Newest:
		if s.Alone != s.Newest {
			s.Alone, s.Lives = s.Newest, 0
		}
		s.Lives++
		s.Suspect = s.Newest
		if s.Lives >= guiltyAfter {
			s.Guilty = append(s.Guilty, s.Newest)
			slices.Sort(s.Guilty)
			s.Alone, s.Lives = 0, 0
		}
	case noted:
		s.Suspect = s.Newest
	}
	if noted || s.Count >= carefulFrom {
		s.Until = last
	}
	s.Oldest, s.Newest = 0, 0
	return s
}

// caution has messages applied with care when earlier lives of the shard ended before their
// checkpoint moved. It is used by the goroutine that pulls.
type caution struct {
	cells    Cells
	shard    messages.Shard
	revision uint64
	starts   starts
	bytes    int    // applied with care
	last     uint64 // the last message applied with care, 0 = none
	underWay uint64 // the oldest message under way, 0 = none
}

// loadStarts returns the caution of a life that begins, and keeps that it does.
func loadStarts(ctx context.Context, cells Cells, shard messages.Shard, k *Checkpoint, last uint64) (*caution, error) {
	g := &caution{cells: cells, shard: shard}
	data, revision, err := cells.Load(ctx, shardKey(shard))
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("read the count of starts: %w", err)
	default:
		if err := json.Unmarshal(data, &g.starts); err != nil {
			return nil, fmt.Errorf("read the count of starts: %w", err)
		}
	}
	g.revision = revision
	g.starts = g.starts.begun(k, last)
	return g, g.save(ctx)
}

func (g *caution) save(ctx context.Context) error {
	data, err := json.Marshal(g.starts)
	if err != nil {
		return fmt.Errorf("encode the count of starts: %w", err)
	}
	revision, err := g.cells.Save(ctx, shardKey(g.shard), data, g.revision)
	if errors.Is(err, persistence.ErrConflict) { // an answer was lost
		if _, there, readErr := g.cells.Load(ctx, shardKey(g.shard)); readErr == nil {
			g.revision = there
		}
	}
	if err != nil {
		return fmt.Errorf("keep the count of starts: %w", err)
	}
	g.revision = revision
	return nil
}

// needed tells whether that message is to be applied with care.
func (g *caution) needed(seq uint64) bool {
	return seq <= g.starts.Until && g.bytes < carefulBytes
}

// leave is how many messages may be under way when the one after seq is applied.
func (g *caution) leave(seq uint64) int {
	if seq <= g.starts.Suspect || seq >= g.starts.Until || g.bytes >= carefulBytes {
		return 0
	}
	return carefulInFlight - 1
}

// note keeps that a message is about to be applied.
func (g *caution) note(ctx context.Context, seq uint64) error {
	s, oldest := &g.starts, seq
	g.last = seq
	if g.underWay != 0 {
		oldest = g.underWay
	}
	s.Oldest, s.Newest = oldest, seq
	return g.save(ctx)
}

// clear keeps that no message under way ends the process.
func (g *caution) clear(ctx context.Context) error {
	s := &g.starts
	if s.Newest == 0 {
		return nil
	}
	if s.Alone == s.Newest {
		s.Alone, s.Lives = 0, 0
	}
	s.Oldest, s.Newest = 0, 0
	return g.save(ctx)
}

// ended keeps that a life came to an orderly end: neither a message under way nor the start counts.
func (g *caution) ended(ctx context.Context) error {
	s := &g.starts
	if s.Newest == 0 && s.Count <= 1 {
		return nil
	}
	s.Count = 0
	if s.Newest == 0 {
		return g.save(ctx)
	}
	return g.clear(ctx)
}

// over tells whether all that needed care has been applied, and end has not been called yet.
func (g *caution) over() bool {
	return g.starts.Until > 0 && g.underWay == 0 && (g.last >= g.starts.Until || g.bytes >= carefulBytes)
}

// end keeps that there is no reason for caution any more.
func (g *caution) end(ctx context.Context) error {
	g.starts = starts{Stored: g.starts.Stored, Guilty: g.starts.Guilty}
	return g.save(ctx)
}
