package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Snapshots is a persistence.Snapshots in a folder of this machine, a database of its own. All methods
// may be called by many goroutines at once.
//
// Snapshots are written without waiting for the disk; fence and marker are synced. That is safe
// because the log is one sequence: the sync of a marker covers every snapshot that was put before it,
// so a marker that survives a power loss has all its snapshots, or newer ones of the same device. What
// comes after the last marker may be lost; then a device has the snapshot that the marker speaks of,
// and the replay, which begins at the marker's sequence, brings the rest.
type Snapshots struct {
	*store

	// locks are held from the look at the fence until the write is visible. Shards share them.
	locks []lock
}

var _ persistence.Snapshots = (*Snapshots)(nil)

// OpenSnapshots opens the snapshots in dir, creating them when there are none.
func OpenSnapshots(dir string, o Options) (*Snapshots, error) {
	if o.compression == nil {
		// They are written anew all the time: with zstd one of 1.2 KB costs 15 µs of CPU until compactions
		// are done with it, with snappy 12 (measured).
		o.compression = sstable.SnappyCompression
	}
	s, err := openStore(dir, o.withDefaults(16<<20), nil, 0)
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	return &Snapshots{store: s, locks: newLocks(256)}, nil
}

func shardKey(kind byte, shard messages.Shard) []byte {
	return binary.BigEndian.AppendUint16([]byte{kind}, uint16(shard))
}

func generationKey(shard messages.Shard, generation uint64) []byte {
	return binary.BigEndian.AppendUint64(shardKey(kindSnapshot, shard), generation)
}

// number reads the uint64 values under a key, none when there is nothing.
func (s *Snapshots) numbers(key []byte, out ...*uint64) error {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	if len(value) != 8*len(out) {
		return fmt.Errorf("value of %d bytes under %x", len(value), key)
	}
	for i := range out {
		*out[i] = binary.BigEndian.Uint64(value[8*i:])
	}
	return nil
}

func (s *Snapshots) fence(shard messages.Shard) (messages.Epoch, error) {
	var epoch uint64
	err := s.numbers(shardKey(kindFence, shard), &epoch)
	return messages.Epoch(epoch), err
}

func (s *Snapshots) marker(shard messages.Shard) (persistence.Marker, error) {
	var m persistence.Marker
	err := s.numbers(shardKey(kindMarker, shard), &m.Generation, &m.Snapshotted, &m.Puts)
	return m, err
}

// Fence returns the epoch that guards the shard, 0 = none.
func (s *Snapshots) Fence(ctx context.Context, shard messages.Shard) (messages.Epoch, error) {
	if err := s.enter(ctx); err != nil {
		return 0, fmt.Errorf("read fence: %w", err)
	}
	defer s.leave()
	epoch, err := s.fence(shard)
	if err != nil {
		return 0, fmt.Errorf("read fence of shard %d: %w", shard, err)
	}
	return epoch, nil
}

// Marker returns the shard's marker; the zero Marker when there is none.
func (s *Snapshots) Marker(ctx context.Context, shard messages.Shard) (persistence.Marker, error) {
	if err := s.enter(ctx); err != nil {
		return persistence.Marker{}, fmt.Errorf("read marker: %w", err)
	}
	defer s.leave()
	m, err := s.marker(shard)
	if err != nil {
		return persistence.Marker{}, fmt.Errorf("read marker of shard %d: %w", shard, err)
	}
	return m, nil
}

// write is the frame of every change: under the shard's lock it lets fill look at what is there and
// fill the batch, and commits it.
func (s *Snapshots) write(ctx context.Context, what string, shard messages.Shard, sync bool, fill func(*pebble.Batch) error) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer s.leave()
	if err := s.mayWrite(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	lock := s.locks[int(shard)%len(s.locks)]
	if err := lock.Acquire(ctx, alone); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	batch := s.db.NewBatch()
	if err := fill(batch); err != nil {
		lock.Release(alone)
		batch.Close() // it was never applied: nothing to be told
		return fmt.Errorf("%s of shard %d: %w", what, shard, err)
	}
	if err := s.queue.do(ctx, batch, sync, func(error) { lock.Release(alone) }); err != nil {
		return fmt.Errorf("%s of shard %d: %w", what, shard, err)
	}
	return nil
}

// fenced is write for what only the owner with this epoch may do.
func (s *Snapshots) fenced(ctx context.Context, what string, shard messages.Shard, epoch messages.Epoch, sync bool, fill func(*pebble.Batch) error) error {
	return s.write(ctx, what, shard, sync, func(batch *pebble.Batch) error {
		fence, err := s.fence(shard)
		if err != nil {
			return err
		}
		if fence != epoch {
			return fmt.Errorf("%w: epoch %d, the fence is at %d", persistence.ErrFenced, epoch, fence)
		}
		return fill(batch)
	})
}

// RaiseFence sets the shard's fence to epoch; ErrFenced when it is higher already.
func (s *Snapshots) RaiseFence(ctx context.Context, shard messages.Shard, epoch messages.Epoch) error {
	return s.write(ctx, "raise fence", shard, true, func(batch *pebble.Batch) error {
		fence, err := s.fence(shard)
		if err != nil {
			return err
		}
		if fence > epoch {
			return fmt.Errorf("%w: epoch %d, the fence is at %d", persistence.ErrFenced, epoch, fence)
		}
		return batch.Set(shardKey(kindFence, shard), binary.BigEndian.AppendUint64(nil, uint64(epoch)), nil)
	})
}

// Put stores snapshots and moves the marker; see persistence.Snapshots.
func (s *Snapshots) Put(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker persistence.Marker, snapshots []persistence.Snapshot) error {
	if len(snapshots) > persistence.MaxPut {
		return fmt.Errorf("put snapshots: %d at once, at most %d are allowed", len(snapshots), persistence.MaxPut)
	}
	return s.fenced(ctx, "put snapshots", shard, epoch, false, func(batch *pebble.Batch) error {
		if err := s.moveMarker(batch, shard, old, marker); err != nil {
			return err
		}
		key := generationKey(shard, marker.Generation)
		prefix := len(key)
		var value []byte
		for i := range snapshots {
			one := &snapshots[i]
			if err := checkNames(one.Device); err != nil {
				return err
			}
			key = appendNames(key[:prefix], one.Device)
			value = append(binary.BigEndian.AppendUint64(value[:0], one.Sequence), one.Data...)
			if err := batch.Set(key, value, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get returns the snapshots of those devices that have one in the generation.
func (s *Snapshots) Get(ctx context.Context, shard messages.Shard, generation uint64, ids []messages.DeviceID) ([]persistence.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("get snapshots: %w", err)
	}
	defer s.leave()
	var found []persistence.Snapshot
	key := generationKey(shard, generation)
	prefix := len(key)
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("get snapshots: %w", err)
		}
		key = appendNames(key[:prefix], id)
		value, closer, err := s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get snapshot of %v: %w", id, corrupt(err))
		}
		one, err := decodeSnapshot(id, slices.Clone(value))
		if err = errors.Join(err, closer.Close()); err != nil {
			return nil, fmt.Errorf("get snapshot of %v: %w", id, err)
		}
		found = append(found, one)
	}
	return found, nil
}

func decodeSnapshot(id messages.DeviceID, value []byte) (persistence.Snapshot, error) {
	if len(value) < 8 {
		return persistence.Snapshot{}, fmt.Errorf("%w snapshot: %d bytes", persistence.ErrCorrupt, len(value))
	}
	return persistence.Snapshot{Device: id, Sequence: binary.BigEndian.Uint64(value), Data: value[8:]}, nil
}

// Scan calls fn for every snapshot of the generation, ordered by name, until fn returns false.
func (s *Snapshots) Scan(ctx context.Context, shard messages.Shard, generation uint64, fn func(persistence.Snapshot) bool) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("scan snapshots: %w", err)
	}
	defer s.leave()
	prefix := generationKey(shard, generation)
	err := s.walk(ctx, prefix, after(prefix), false, func(key, value []byte) (bool, error) {
		id, rest, ok := readNames(key[len(prefix):])
		if !ok || len(rest) > 0 {
			return false, errors.New("corrupt key")
		}
		one, err := decodeSnapshot(id, value)
		return err == nil && fn(one), err
	})
	if err != nil {
		return fmt.Errorf("scan snapshots of shard %d: %w", shard, err)
	}
	return nil
}

// Remove deletes the snapshots of these devices; fenced like Put.
func (s *Snapshots) Remove(ctx context.Context, shard messages.Shard, epoch messages.Epoch, generation uint64, ids []messages.DeviceID) error {
	return s.fenced(ctx, "remove snapshots", shard, epoch, false, func(batch *pebble.Batch) error {
		key := generationKey(shard, generation)
		prefix := len(key)
		for _, id := range ids {
			key = appendNames(key[:prefix], id)
			if err := batch.Delete(key, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutMarker replaces old by marker and syncs it with every snapshot that was put before; see
// persistence.Snapshots.
func (s *Snapshots) PutMarker(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker persistence.Marker) error {
	return s.fenced(ctx, "put marker", shard, epoch, true, func(batch *pebble.Batch) error {
		return s.moveMarker(batch, shard, old, marker)
	})
}

// moveMarker replaces the marker in the batch; ErrConflict when the stored one is not old.
func (s *Snapshots) moveMarker(batch *pebble.Batch, shard messages.Shard, old, marker persistence.Marker) error {
	held, err := s.marker(shard)
	if err != nil {
		return err
	}
	if held != old {
		return fmt.Errorf("%w: the marker is %+v, not %+v", persistence.ErrConflict, held, old)
	}
	value := binary.BigEndian.AppendUint64(nil, marker.Generation)
	value = binary.BigEndian.AppendUint64(value, marker.Snapshotted)
	return batch.Set(shardKey(kindMarker, shard), binary.BigEndian.AppendUint64(value, marker.Puts), nil)
}

// Drop removes every snapshot of the shard whose generation is lower; fenced like Put.
func (s *Snapshots) Drop(ctx context.Context, shard messages.Shard, epoch messages.Epoch, below uint64) error {
	return s.fenced(ctx, "drop snapshots", shard, epoch, false, func(batch *pebble.Batch) error {
		if below == 0 {
			return nil
		}
		return batch.DeleteRange(generationKey(shard, 0), generationKey(shard, below), nil)
	})
}
