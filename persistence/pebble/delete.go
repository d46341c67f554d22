package pebble

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// Delete removes what the device has up to the sequence, now and for ever: in one atomic batch it
// sets the marker, which hides and refuses what a replay writes later, deletes all chunks and rollups,
// and writes those again that hold something above the sequence. A chunk that cannot be read is
// deleted with the rest, and the log says so. The time it takes is that of reading the device once.
func (a *Archive) Delete(ctx context.Context, shard messages.Shard, id messages.DeviceID, sequence uint64, _ int64) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("delete %v: %w", id, err)
	}
	defer a.leave()
	if err := a.check(shard, id); err != nil {
		return err
	}
	if err := a.mayWrite(); err != nil {
		return fmt.Errorf("delete %v: %w", id, err)
	}
	if err := a.delete(ctx, shard, id, sequence); err != nil {
		return fmt.Errorf("delete %v: %w", id, err)
	}
	return nil
}

func (a *Archive) delete(ctx context.Context, shard messages.Shard, id messages.DeviceID, sequence uint64) error {
	lock := a.locks[shard]
	if err := lock.Acquire(ctx, alone); err != nil {
		return err
	}
	if a.deleted(shard, id) >= sequence {
		lock.Release(alone)
		return nil // nothing up to there came in since
	}
	batch := a.db.NewBatch()
	if err := a.fillDelete(ctx, batch, shard, id, sequence); err != nil {
		lock.Release(alone)
		batch.Close() // it was never applied: nothing to be told
		return err
	}
	// The lock is held until the batch is visible, whatever becomes of ctx: what an append adds before
	// that would be deleted with the rest.
	return a.queue.do(ctx, batch, true, func(err error) {
		if err == nil {
			a.markersMu.Lock()
			a.markers[deviceKey{shard, id}] = sequence
			a.markersMu.Unlock()
		}
		lock.Release(alone)
	})
}

func (a *Archive) fillDelete(ctx context.Context, batch *pebble.Batch, shard messages.Shard, id messages.DeviceID, sequence uint64) error {
	marker := appendDevice(nil, kindDelete, shard, id)
	if err := batch.Merge(marker, binary.BigEndian.AppendUint64(nil, sequence), nil); err != nil {
		return err
	}
	records := appendDevice(nil, kindRecord, shard, id)
	behind := append(binary.BigEndian.AppendUint64(append([]byte(nil), records...), sequence), 0)
	if err := a.rewrite(ctx, batch, records, behind, nothingStays); err != nil {
		return err
	}
	if a.anyAside(shard, id) {
		return a.rewriteAround(ctx, batch, shard, id, sequence)
	}
	for _, kind := range []byte{kindChunk, kindRollup} {
		prefix := appendDevice(nil, kind, shard, id)
		if err := a.rewrite(ctx, batch, prefix, after(prefix), func(e *encoder, value []byte) ([]byte, error) {
			return e.above(kind, value, sequence)
		}); err != nil {
			return err
		}
	}
	return nil
}

// above returns what of a chunk or rollup is above the sequence, empty when nothing is.
func (e *encoder) above(kind byte, value []byte, sequence uint64) ([]byte, error) {
	if kind == kindRollup {
		return rollupAbove(value, sequence)
	}
	return e.chunkAbove(value, sequence)
}

// rollupAbove returns the value if its rollup is above the sequence.
func rollupAbove(value []byte, sequence uint64) ([]byte, error) {
	var r persistence.RollupRow
	if err := chunk.DecodeRollup(value, &r); err != nil || r.Sequence <= sequence {
		return nil, err
	}
	return value, nil
}

func nothingStays(*encoder, []byte) ([]byte, error) { return nil, nil }

// mostSingly is how many keys of a device are deleted one by one; those behind them go as one range.
// Ranges are kept for devices with a long past: pebble puts all ranges of its newest table in order
// again for the first read after each write, so that deleting a site took a time that grew with the
// square of its devices (measured: docs/benchmarks.md).
const mostSingly = 512

// rewrite deletes all keys in [lower, upper) and sets those again of which stays leaves something.
func (a *Archive) rewrite(ctx context.Context, batch *pebble.Batch, lower, upper []byte, stays func(*encoder, []byte) ([]byte, error)) error {
	e := encoders.Get().(*encoder)
	defer e.release()
	keys := 0
	return a.walk(ctx, lower, upper, false, func(key, value []byte) (bool, error) {
		var err error
		if keys++; keys <= mostSingly {
			err = batch.Delete(key, nil)
		} else if keys == mostSingly+1 {
			err = batch.DeleteRange(key, upper, nil) // before what is set again of these
		}
		if err != nil {
			return false, err
		}
		left, err := stays(e, value)
		if err != nil {
			a.log.Error("what cannot be read is deleted with its device", "key", describeKey(key), "error", err)
			return true, nil
		}
		if len(left) == 0 {
			return true, nil
		}
		return true, batch.Set(key, left, nil)
	})
}

// chunkAbove returns the value's rows above the sequence as a value, empty when there are none.
func (e *encoder) chunkAbove(value []byte, sequence uint64) ([]byte, error) {
	b := &e.Block
	b.Reset()
	if err := b.Decode(value); err != nil {
		return nil, err
	}
	b.Normalize()
	b.DropUpTo(sequence)
	e.value = e.AppendFrames(e.value[:0], 0, b.Len())
	return e.value, nil
}
