package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Registry keeps what people configure in one bucket: key = kind, a dot, and the key encoded.
type Registry struct {
	kv jetstream.KeyValue
}

// Registry returns the registry.
func (s *Streams) Registry() *Registry { return &Registry{kv: s.buckets[bucketRegistry]} }

// Get returns one value; persistence.ErrNotFound when there is none.
func (r *Registry) Get(ctx context.Context, kind, key string) (persistence.Entry, error) {
	name, err := registryKey(kind, key)
	if err != nil {
		return persistence.Entry{}, err
	}
	entry, err := r.kv.Get(ctx, name)
	if err != nil {
		return persistence.Entry{}, fmt.Errorf("registry: get %s %q: %w", kind, key, cellError(err))
	}
	return persistence.Entry{Key: key, Value: entry.Value(), Revision: entry.Revision()}, nil
}

// Put with revision 0 creates, otherwise replaces that revision; persistence.ErrConflict when it is another.
func (r *Registry) Put(ctx context.Context, kind, key string, value []byte, revision uint64) (uint64, error) {
	name, err := registryKey(kind, key)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		revision, err = r.kv.Create(ctx, name, value)
	} else {
		revision, err = r.kv.Update(ctx, name, value, revision)
	}
	if err != nil {
		return 0, fmt.Errorf("registry: put %s %q: %w", kind, key, cellError(err))
	}
	return revision, nil
}

// Delete removes a value at that revision; persistence.ErrNotFound when there is none, ErrConflict when it has another.
func (r *Registry) Delete(ctx context.Context, kind, key string, revision uint64) error {
	if _, err := r.Get(ctx, kind, key); err != nil {
		return err
	}
	name, err := registryKey(kind, key)
	if err != nil {
		return err
	}
	if err := r.kv.Delete(ctx, name, jetstream.LastRevision(revision)); err != nil {
		return fmt.Errorf("registry: delete %s %q: %w", kind, key, cellError(err))
	}
	return nil
}

// List returns all values of a kind, sorted by key.
func (r *Registry) List(ctx context.Context, kind string) ([]persistence.Entry, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	watcher, err := r.kv.Watch(ctx, kind+".>", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("registry: list %s: %w", kind, err)
	}
	defer func() { _ = watcher.Stop() }() // ends by itself with the connection
	var out []persistence.Entry
	for {
		select {
		case update, ok := <-watcher.Updates():
			if !ok {
				return nil, fmt.Errorf("registry: list %s: %w", kind, ErrClosed)
			}
			if update == nil { // all that there was
				slices.SortFunc(out, func(a, b persistence.Entry) int { return cmp.Compare(a.Key, b.Key) })
				return out, nil
			}
			_, key, err := splitRegistryKey(update.Key())
			if err != nil {
				return nil, err
			}
			out = append(out, persistence.Entry{Key: key, Value: update.Value(), Revision: update.Revision()})
		case <-ctx.Done():
			return nil, fmt.Errorf("registry: list %s: %w", kind, ctx.Err())
		}
	}
}

// Watch calls fn, from one goroutine, for every value of a kind, then once with the zero Entry, then
// for each change until ctx ends. A deleted value comes with a nil Value.
func (r *Registry) Watch(ctx context.Context, kind string, fn func(persistence.Entry)) error {
	if err := checkKind(kind); err != nil {
		return err
	}
	watcher, err := r.kv.Watch(ctx, kind+".>")
	if err != nil {
		return fmt.Errorf("registry: watch %s: %w", kind, err)
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case update, ok := <-watcher.Updates():
			if !ok {
				return fmt.Errorf("registry: watch %s: %w", kind, ErrClosed)
			}
			if update == nil {
				fn(persistence.Entry{})
				continue
			}
			_, key, err := splitRegistryKey(update.Key())
			if err != nil {
				return err
			}
			entry := persistence.Entry{Key: key, Revision: update.Revision()}
			if update.Operation() == jetstream.KeyValuePut {
				entry.Value = append([]byte{}, update.Value()...)
			}
			fn(entry)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// relist is how often the registry is read beside being watched: a watcher can miss a change.
const relist = 10 * time.Second

// follow calls load at each change of a kind, and every 10 s too, until ctx ends.
func (r *Registry) follow(ctx context.Context, kind string, logger *slog.Logger, load func(context.Context) error) {
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for ctx.Err() == nil {
			err := r.Watch(ctx, kind, func(persistence.Entry) {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			if ctx.Err() == nil {
				logger.Warn("registry not watched", "kind", kind, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(relist):
			}
		}
	})
	ticker := time.NewTicker(relist)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changed:
		}
		bounded, cancel := context.WithTimeout(ctx, attempt)
		if err := load(bounded); err != nil && ctx.Err() == nil {
			logger.Warn("registry not read", "kind", kind, "error", err)
		}
		cancel()
	}
}

// checkKind allows lower-case words.
func checkKind(kind string) error {
	if kind == "" {
		return fmt.Errorf("registry: empty kind: %w", messages.ErrInvalid)
	}
	for _, c := range []byte(kind) {
		if (c < 'a' || c > 'z') && c != '-' {
			return fmt.Errorf("registry: kind %q: only a-z and - are allowed: %w", kind, messages.ErrInvalid)
		}
	}
	return nil
}

const hexDigits = "0123456789ABCDEF"

// registryKey encodes a key: letters, digits, - _ / stay, every other byte becomes = and two hex
// digits. An empty key is a lone =.
func registryKey(kind, key string) (string, error) {
	if err := checkKind(kind); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(kind)
	b.WriteByte('.')
	if key == "" {
		b.WriteByte('=')
	}
	for _, c := range []byte(key) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String(), nil
}

var errRegistryKey = errors.New("registry: a key in the bucket is none of the registry's")

// splitRegistryKey is the inverse of registryKey.
func splitRegistryKey(name string) (kind, key string, err error) {
	kind, encoded, ok := strings.Cut(name, ".")
	if !ok {
		return "", "", fmt.Errorf("%w: %q", errRegistryKey, name)
	}
	if encoded == "=" {
		return kind, "", nil
	}
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		if encoded[i] != '=' {
			b.WriteByte(encoded[i])
			continue
		}
		if i+2 >= len(encoded) {
			return "", "", fmt.Errorf("%w: %q", errRegistryKey, name)
		}
		high, low := strings.IndexByte(hexDigits, encoded[i+1]), strings.IndexByte(hexDigits, encoded[i+2])
		if high < 0 || low < 0 {
			return "", "", fmt.Errorf("%w: %q", errRegistryKey, name)
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return kind, b.String(), nil
}
