package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// KindLimits is the registry's kind for the limits that operators set; they are one value.
const KindLimits = "limits"

// limitsKey is its key.
const limitsKey = "all"

// Limits is this member's copy of the limits that operators set, over those of its configuration. All
// methods may be called by many goroutines at once.
type Limits struct {
	configured messages.Limits
	registry   *Registry
	logger     *slog.Logger

	mu       sync.RWMutex
	own      messages.Limits
	merged   messages.Limits
	revision uint64
	changed  func(messages.Limits)
}

// NewLimits returns a copy that holds what is configured until it is loaded.
func NewLimits(configured messages.Limits, registry *Registry, logger *slog.Logger) *Limits {
	if logger == nil {
		logger = slog.Default()
	}
	return &Limits{configured: configured, registry: registry, logger: logger, merged: configured}
}

// OnChange has fn told of the limits in force, now and at each change. fn must not wait, and not call back.
func (l *Limits) OnChange(fn func(messages.Limits)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = fn
	fn(l.merged)
}

// Get returns what operators have set, what is in force, and the revision; 0 = nothing was ever set.
func (l *Limits) Get() (own, merged messages.Limits, revision uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.own, l.merged, l.revision
}

// InForce returns the limits in force.
func (l *Limits) InForce() messages.Limits {
	_, merged, _ := l.Get()
	return merged
}

// Unstored is the limit of one site's unstored bytes.
func (l *Limits) Unstored(site string) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.merged.Unstored(site)
}

// Set replaces what operators have set, for all members. revision is what Get told; persistence.ErrConflict
// when somebody else was faster.
func (l *Limits) Set(ctx context.Context, own messages.Limits, revision uint64) error {
	if err := messages.CheckLimits(own); err != nil {
		return err
	}
	value, err := json.Marshal(own)
	if err != nil {
		return fmt.Errorf("encode the limits: %w", err)
	}
	if revision, err = l.registry.Put(ctx, KindLimits, limitsKey, value, revision); err != nil {
		return fmt.Errorf("keep the limits: %w", err)
	}
	l.take(own, revision)
	return nil
}

// Load fills the copy from the registry, once. Limits that cannot be read leave it as it is.
func (l *Limits) Load(ctx context.Context) error {
	entry, err := l.registry.Get(ctx, KindLimits, limitsKey)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil // nothing was ever set
	}
	if err != nil {
		return fmt.Errorf("load the limits: %w", err)
	}
	var own messages.Limits
	err = json.Unmarshal(entry.Value, &own)
	if err == nil {
		err = messages.CheckLimits(own)
	}
	if err != nil {
		l.logger.Error("the limits that were set cannot be read; those before stay", "revision", entry.Revision, "error", err)
		return nil
	}
	l.take(own, entry.Revision)
	return nil
}

// take makes limits those in force, if they are not older than what is held.
func (l *Limits) take(own messages.Limits, revision uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision <= l.revision {
		return
	}
	l.own, l.merged, l.revision = own, own.Over(l.configured), revision
	if l.changed != nil {
		l.changed(l.merged)
	}
}

// Follow keeps the copy up to date until ctx ends, as Credentials.Follow does. Call Load first.
func (l *Limits) Follow(ctx context.Context) {
	l.registry.follow(ctx, KindLimits, l.logger, l.Load)
}
