package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// retention knows how long each device's readings and rollups are kept.
type retention struct {
	classes persistence.Classes
	now     func() time.Time

	mu sync.RWMutex
	of map[deviceKey]string // only devices that are not of the default class

	expiring sync.Mutex
	cursor   []byte // where the next round of Expire goes on

	chunks, rollups atomic.Uint64
}

// ages returns what holds for a device.
func (k *retention) ages(shard messages.Shard, id messages.DeviceID) persistence.Age {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.classes.Of(k.of[deviceKey{shard, id}])
}

// oldest returns the event time from which on readings are still there.
func (k *retention) oldest(shard messages.Shard, id messages.DeviceID) int64 {
	return k.since(k.ages(shard, id).Readings)
}

// oldestRollup returns the start from which on rollups are still there: they age from their end.
func (k *retention) oldestRollup(shard messages.Shard, id messages.DeviceID, step messages.Step) int64 {
	if kept := k.ages(shard, id).Rollups; kept != 0 {
		return k.since(kept) - int64(step)
	}
	return math.MinInt64
}

func (k *retention) since(kept time.Duration) int64 {
	if kept == 0 {
		return math.MinInt64
	}
	return k.now().UnixMilli() - kept.Milliseconds() + 1
}

// moved takes the classes that a batch has said, once that is visible.
func (k *retention) moved(classes map[deviceKey]string, err error) {
	if err != nil || len(classes) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for device, class := range classes {
		if class == "" {
			delete(k.of, device)
		} else {
			k.of[device] = class
		}
	}
}

// putClasses writes down the classes of those devices that are in another one than is known. Appends of
// one device that run at once may cross; the next one puts that right.
func (a *Archive) putClasses(batch *pebble.Batch, b *persistence.Batch) (moved map[deviceKey]string) {
	k := &a.keeping
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i := range b.Devices {
		d := &b.Devices[i]
		class := d.Class
		if class == persistence.DefaultClass {
			class = ""
		}
		device := deviceKey{b.Shard, d.Device}
		if d.Err != nil || class == k.of[device] || d.Device.Device == "" {
			continue
		}
		key := appendDevice(nil, kindClass, b.Shard, d.Device)
		if class == "" {
			_ = batch.Delete(key, nil) // a batch in memory takes everything
		} else {
			_ = batch.Set(key, []byte(class), nil)
		}
		if moved == nil {
			moved = make(map[deviceKey]string)
		}
		moved[deviceKey{b.Shard, messages.DeviceID{Site: string([]byte(d.Device.Site)), Device: string([]byte(d.Device.Device))}}] = class
	}
	return moved
}

func (a *Archive) loadClasses() error {
	return a.walk(context.Background(), []byte{kindClass}, []byte{kindClass + 1}, false, func(key, value []byte) (bool, error) {
		id, rest, ok := readNames(key[3:])
		if !ok || len(rest) != 0 {
			return false, errors.New("damaged")
		}
		a.keeping.of[deviceKey{messages.Shard(binary.BigEndian.Uint16(key[1:])), id}] = string(value)
		return true, nil
	})
}

// Unconfigured returns how many devices are in each retention class that is not configured any more.
func (a *Archive) Unconfigured() map[string]int {
	k := &a.keeping
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make(map[string]int)
	for _, class := range k.of {
		if k.classes.Check(class) != nil {
			out[class]++
		}
	}
	return out
}

// expireMost bounds one round of Expire: devices looked at, and chunks and rollups dropped.
const expireMost = 4096

// Expired returns how many chunks of readings and how many rollups Expire has dropped since the start.
func (a *Archive) Expired() (chunks, rollups uint64) {
	return a.keeping.chunks.Load(), a.keeping.rollups.Load()
}

// Expire drops chunks of which every reading is older than its device's class, and rollups. One call
// looks at some thousand devices at most and the next goes on from there; done says that this one came to
// the end. What is dropped was not found any more before, so it makes no difference when it is called.
func (a *Archive) Expire(ctx context.Context) (done bool, err error) {
	if a.keeping.classes.Forever() {
		return true, nil
	}
	if err := a.enter(ctx); err != nil {
		return false, fmt.Errorf("expire: %w", err)
	}
	defer a.leave()
	if err := a.queue.failure(); err != nil {
		return false, err
	}
	k := &a.keeping
	k.expiring.Lock()
	defer k.expiring.Unlock()
	batch := a.db.NewBatch()
	r := expiry{archive: a, batch: batch, left: expireMost}
	next, err := r.round(ctx, k.cursor)
	if err != nil || batch.Empty() {
		err = errors.Join(err, batch.Close())
	} else {
		err = a.queue.do(ctx, batch, true, nil)
	}
	if err != nil {
		return false, fmt.Errorf("expire: %w", err)
	}
	k.cursor = next
	k.chunks.Add(r.chunks)
	k.rollups.Add(r.rollups)
	return next == nil, nil
}

// expiry is one round.
type expiry struct {
	archive         *Archive
	batch           *pebble.Batch
	left            int
	chunks, rollups uint64
}

// round goes over chunks and then rollups from cursor on and returns where it stopped, nil at the end.
func (r *expiry) round(ctx context.Context, cursor []byte) (next []byte, err error) {
	for _, kind := range []byte{kindChunkAnew, kindRollupAnew, kindChunk, kindRollup} { // ascending
		from := []byte{kind}
		if len(cursor) > 0 && cursor[0] > kind {
			continue
		} else if len(cursor) > 0 && cursor[0] == kind {
			from = cursor
		}
		if next, err = r.runs(ctx, from, []byte{kind + 1}); err != nil || next != nil {
			return next, err
		}
	}
	return nil, nil
}

// runs goes from one run of keys, all of one device (and step) with rising times, to the next.
func (r *expiry) runs(ctx context.Context, from, to []byte) (next []byte, err error) {
	iter, err := r.archive.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for valid := iter.First(); valid; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.left <= 0 {
			return slices.Clone(iter.Key()), nil
		}
		r.left--
		run, end, err := r.run(iter.Key())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", describeKey(iter.Key()), err)
		}
		first, old := slices.Clone(iter.Key()), uint64(0)
		for valid = true; valid && string(iter.Key()) < string(end) && r.left > 0; valid = iter.Next() {
			old++
			r.left--
		}
		if old > 0 {
			upTo := end
			if valid && string(iter.Key()) < string(end) {
				upTo = slices.Clone(iter.Key())
			}
			if err := r.batch.DeleteRange(first, upTo, nil); err != nil {
				return nil, err
			}
			if holdsReadings(run[0]) {
				r.chunks += old
			} else {
				r.rollups += old
			}
			if r.left <= 0 && valid {
				continue
			}
		}
		valid = iter.SeekGE(after(run))
	}
	return nil, iter.Error()
}

// run returns what the keys of the run begin with, and the key before which all is old.
func (r *expiry) run(key []byte) (prefix, end []byte, err error) {
	id, rest, ok := readNames(key[3:])
	chunk, behind := holdsReadings(key[0]), 8
	if !chunk {
		behind += 8 // the step
	}
	if isAnew(key[0]) {
		behind += 8 // the generation
	}
	if !ok || len(rest) != behind {
		return nil, nil, errors.New("corrupt key")
	}
	shard := messages.Shard(binary.BigEndian.Uint16(key[1:]))
	prefix = slices.Clone(key[:len(key)-8])
	var oldest int64
	if chunk {
		oldest = r.archive.keeping.oldest(shard, id)
		if oldest != math.MinInt64 {
			oldest = sliceOf(oldest)
		}
	} else {
		oldest = r.archive.keeping.oldestRollup(shard, id, messages.Step(readInt(rest)))
	}
	return prefix, appendInt(slices.Clone(prefix), oldest), nil
}
