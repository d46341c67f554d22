package actors

import (
	"context"
	"errors"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// ErrGap means that a feed lost its place: messages between two that it handed on are missing there,
// not in the stream. Open a new feed after the last good one.
var ErrGap = errors.New("gap in the feed")

// Log is what a shard sees of its stream. Sequences are the stream's own here; the shard adds its
// offset (see docs/adr). The implementation is stream.Log.
type Log interface {
	// State describes the stream now.
	State(ctx context.Context, shard messages.Shard) (messages.StreamState, error)
	// Open returns a feed whose first message is the oldest with Sequence >= from.
	Open(ctx context.Context, shard messages.Shard, from uint64) (Feed, error)
	// Get returns one message; persistence.ErrNotFound when the stream does not hold it.
	Get(ctx context.Context, shard messages.Shard, sequence uint64) (messages.Message, error)
	// Purge removes messages up to and including upTo. It does nothing when the stream's creation time
	// is not created, and never asks for more than the stream's last sequence.
	Purge(ctx context.Context, shard messages.Shard, upTo uint64, created time.Time) error
}

// Feed hands on a shard's messages in order, contiguous except for what was purged. Used by one goroutine.
type Feed interface {
	// Pull waits until there is at least one message, and returns some whose sizes (payload, subject
	// and headers) together are at most maxBytes. maxBytes must allow one largest message
	// (MinPull). Errors: ctx.Err(); ErrGap; anything else: try again.
	Pull(ctx context.Context, maxBytes int) ([]messages.Message, error)
	Close()
}

// MinPull is the smallest maxBytes of a Pull: a largest message with its subject and headers.
const MinPull = messages.MaxMessage + 64<<10

// Cells are small values under compare-and-set: checkpoints, leases, start counters.
type Cells interface {
	// Load returns the value and its revision; persistence.ErrNotFound when there is none.
	Load(ctx context.Context, key string) (data []byte, revision uint64, err error)
	// Save replaces the value at that revision (0 = create) and returns the new revision;
	// persistence.ErrConflict when it has another.
	Save(ctx context.Context, key string, data []byte, revision uint64) (uint64, error)
}

// Outside is where a shard speaks to.
type Outside interface {
	// Reject keeps these in rejects; nil only when all are acknowledged there. A repeat with the same
	// shard, sequence and index is kept once.
	Reject(ctx context.Context, r []messages.Reject) error
	// Listening tells whether anybody wants reading events of this site now. Cheap.
	Listening(site string) bool
	// Event publishes without acknowledgement.
	Event(subject string, data []byte)
	// Announce publishes to the EVENTS stream too, and returns one error for each: nil when it is acknowledged there. A
	// repeat with the same id is kept once.
	Announce(ctx context.Context, a []messages.Announcement) []error
}
