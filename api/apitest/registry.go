package apitest

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/wellhead/wellhead/persistence"
)

// Registry implements persistence.Registry. All methods may be called by many goroutines.
type Registry struct {
	mu       sync.Mutex
	revision uint64
	entries  map[[2]string]persistence.Entry // by kind and key
	gets     int
}

// Gets returns how often Get was called.
func (r *Registry) Gets() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gets
}

// Get implements persistence.Registry.
func (r *Registry) Get(_ context.Context, kind, key string) (persistence.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gets++
	e, ok := r.entries[[2]string{kind, key}]
	if !ok {
		return e, persistence.ErrNotFound
	}
	return e, nil
}

// Put implements persistence.Registry.
func (r *Registry) Put(_ context.Context, kind, key string, value []byte, revision uint64) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := [2]string{kind, key}
	if r.entries[name].Revision != revision {
		return 0, persistence.ErrConflict
	}
	if r.entries == nil {
		r.entries = make(map[[2]string]persistence.Entry)
	}
	r.revision++
	r.entries[name] = persistence.Entry{Key: key, Value: slices.Clone(value), Revision: r.revision}
	return r.revision, nil
}

// Delete implements persistence.Registry.
func (r *Registry) Delete(_ context.Context, kind, key string, revision uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := [2]string{kind, key}
	switch e, ok := r.entries[name]; {
	case !ok:
		return persistence.ErrNotFound
	case e.Revision != revision:
		return persistence.ErrConflict
	}
	delete(r.entries, name)
	return nil
}

// List implements persistence.Registry.
func (r *Registry) List(_ context.Context, kind string) ([]persistence.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []persistence.Entry
	for name, e := range r.entries {
		if name[0] == kind {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b persistence.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}
