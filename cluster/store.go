package cluster

import (
	"context"
	"errors"
	"time"
)

// ErrConflict means that a key has another revision than was thought.
var ErrConflict = errors.New("somebody else was faster")

// Entry is a key with its value. Revisions grow with every change of any key.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Store is a bucket of small values under compare-and-set. All methods may be called by many goroutines.
type Store interface {
	// Save replaces the value at that revision (0 = create) and returns the new one; ErrConflict when it
	// has another. The key ends when it is not saved again within ttl; 0 = it stays.
	Save(ctx context.Context, key string, data []byte, revision uint64, ttl time.Duration) (uint64, error)
	// Delete removes the value at that revision; ErrConflict when it has another.
	Delete(ctx context.Context, key string, revision uint64) error
	// All returns all keys there are.
	All(ctx context.Context) ([]Entry, error)
	// Watch calls changed, which must not wait, after changes, until ctx ends; a key that is gone has a nil
	// Value. It may miss some.
	Watch(ctx context.Context, changed func(Entry))
}

// Clock tells the time. It is handed in, so that a test can shift a member's.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// After implements Clock.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
