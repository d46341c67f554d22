package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Archive is a persistence.Archive in a folder of this machine. All methods may be called by many
// goroutines at once.
type Archive struct {
	*store
	shards int

	// locks, one for each shard, are held shared from before an append is queued until it is visible,
	// and alone by a delete. So a delete, which reads what is there and then writes what shall stay,
	// never loses a row that is appended in between, and no append that looked at markers before the
	// delete comes after it.
	locks []lock

	markersMu sync.RWMutex
	markers   map[deviceKey]uint64  // delete markers: highest deleted sequence; few devices have one
	asides    map[deviceKey][]aside // what was set aside, by generation; a list is never changed

	keeping retention
}

type deviceKey struct {
	shard messages.Shard
	id    messages.DeviceID
}

var _ persistence.Archive = (*Archive)(nil)

// OpenArchive opens the archive in dir, creating it when there is none.
func OpenArchive(dir string, o Options) (*Archive, error) {
	o = o.withDefaults(64 << 20)
	if o.Shards < 1 || o.Shards > 1<<16 {
		return nil, fmt.Errorf("open archive %s: %d shards: must be 1 to 65536", dir, o.Shards)
	}
	s, err := openStore(dir, o, archiveMerger, o.Shards)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a := &Archive{store: s, shards: o.Shards, locks: newLocks(o.Shards), markers: make(map[deviceKey]uint64), asides: make(map[deviceKey][]aside)}
	a.keeping.classes, a.keeping.now, a.keeping.of = o.Classes, o.now, make(map[deviceKey]string)
	if err := a.loadMarkers(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: read delete markers: %w", dir, err), s.Close())
	}
	if err := a.loadAsides(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: read what was set aside: %w", dir, err), s.Close())
	}
	if err := a.loadClasses(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: read retention classes: %w", dir, err), s.Close())
	}
	return a, nil
}

func (a *Archive) loadMarkers() error {
	iter, err := a.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindDelete}, UpperBound: []byte{kindDelete + 1}})
	if err != nil {
		return err
	}
	for iter.First(); iter.Valid(); iter.Next() {
		key := iter.Key()
		value, err := iter.ValueAndErr()
		if err != nil {
			return errors.Join(err, iter.Close())
		}
		id, rest, ok := readNames(key[3:])
		if !ok || len(rest) != 0 || len(value) != 8 {
			return errors.Join(fmt.Errorf("marker %x is damaged", key), iter.Close())
		}
		a.markers[deviceKey{messages.Shard(binary.BigEndian.Uint16(key[1:])), id}] = binary.BigEndian.Uint64(value)
	}
	return iter.Close()
}

// deleted returns the sequence up to which everything of the device is deleted, 0 = nothing.
func (a *Archive) deleted(shard messages.Shard, id messages.DeviceID) uint64 {
	a.markersMu.RLock()
	defer a.markersMu.RUnlock()
	if len(a.markers) == 0 {
		return 0
	}
	return a.markers[deviceKey{shard, id}]
}

func (a *Archive) check(shard messages.Shard, id messages.DeviceID) error {
	if int(shard) >= a.shards {
		return fmt.Errorf("%w: shard %d, there are %d", persistence.ErrRefused, shard, a.shards)
	}
	return checkNames(id)
}

// Append makes everything in b durable; see persistence.Archive.
func (a *Archive) Append(ctx context.Context, b *persistence.Batch) error {
	for i := range b.Devices {
		b.Devices[i].Err = nil
	}
	if err := a.enter(ctx); err != nil {
		return failAll(b, err)
	}
	defer a.leave()
	if err := a.mayWrite(); err != nil {
		return failAll(b, err)
	}
	if int(b.Shard) >= a.shards {
		return failAll(b, a.check(b.Shard, messages.DeviceID{}))
	}
	lock := a.locks[b.Shard]
	if err := lock.Acquire(ctx, 1); err != nil {
		return failAll(b, err)
	}
	batch := a.db.NewBatch(pebble.WithInitialSizeBytes(guessSize(b)))
	refused := a.encode(batch, b)
	moved := a.putClasses(batch, b)
	if batch.Empty() {
		lock.Release(1)
		return errors.Join(refused, batch.Close())
	}
	if err := a.queue.do(ctx, batch, true, func(err error) {
		a.keeping.moved(moved, err)
		lock.Release(1)
	}); err != nil {
		return failAll(b, err)
	}
	return refused
}

// guessSize is about how many bytes b is in a pebble batch, rather more: growing one copies all that is in it.
func guessSize(b *persistence.Batch) int {
	size := 64
	for i := range b.Devices {
		d := &b.Devices[i]
		names := 32 + len(d.Device.Site) + len(d.Device.Device)
		if n := len(d.Rows); n > 0 {
			size += names + 40 + n*(8+4*len(d.Rows[0].Values))
		}
		for k := range d.Rollups {
			size += names + 32 + 48*len(d.Rollups[k].Channels)
		}
		size += len(d.Records) * (names + 64)
	}
	return size
}

// failAll gives every device that was not refused the error, and returns it.
func failAll(b *persistence.Batch, err error) error {
	err = fmt.Errorf("append to archive: %w", err)
	for i := range b.Devices {
		if b.Devices[i].Err == nil {
			b.Devices[i].Err = err
		}
	}
	return err
}

// encode puts all devices of b into the batch but those that it refuses.
func (a *Archive) encode(batch *pebble.Batch, b *persistence.Batch) (refused error) {
	e := encoders.Get().(*encoder)
	defer e.release()
	for i := range b.Devices {
		d := &b.Devices[i]
		err := checkDevice(d)
		if err == nil {
			err = e.appendDevice(a, batch, b.Shard, d)
		}
		if err != nil {
			d.Err = fmt.Errorf("append %v: %w", d.Device, err)
			refused = errors.Join(refused, d.Err)
		}
	}
	return refused
}

// checkDevice refuses what the formats cannot hold.
func checkDevice(d *persistence.DeviceRows) error {
	if err := checkNames(d.Device); err != nil {
		return err
	}
	for i := range d.Rows {
		if r := &d.Rows[i]; len(r.Values) > messages.MaxChannels || len(r.Quality) > messages.MaxChannels {
			return fmt.Errorf("%w: %d values, %d qualities at %d: at most %d", persistence.ErrRefused, len(r.Values), len(r.Quality), r.Time, messages.MaxChannels)
		}
	}
	for i := range d.Rollups {
		if r := &d.Rollups[i]; len(r.Channels) > messages.MaxChannels {
			return fmt.Errorf("%w: rollup of %d channels: at most %d", persistence.ErrRefused, len(r.Channels), messages.MaxChannels)
		}
	}
	return nil
}

// appendDevice puts what one device brings into the batch, but for what is deleted already.
func (e *encoder) appendDevice(a *Archive, batch *pebble.Batch, shard messages.Shard, d *persistence.DeviceRows) error {
	deleted := a.deleted(shard, d.Device)
	if len(d.Rows) > 0 {
		f := familyOf(shard, d.Device, 0)
		asides := a.asidesOf(&f)
		b := &e.Block
		b.Reset()
		for i := range d.Rows {
			if d.Rows[i].Sequence > deleted {
				b.Add(&d.Rows[i])
			}
		}
		b.Normalize()
		for from := 0; from < b.Len(); {
			number, to := sliceOf(b.Time(from)), from+1
			for to < b.Len() && sliceOf(b.Time(to)) == number {
				to++
			}
			e.key = appendInt(f.appendPrefix(e.key[:0], generationOf(asides, number)), number)
			e.value = e.AppendFrames(e.value[:0], from, to)
			if err := batch.Merge(e.key, e.value, nil); err != nil {
				return err
			}
			from = to
		}
		b.Reset() // notes and quality belong to the caller
	}
	for i := range d.Rollups {
		r := &d.Rollups[i]
		if r.Sequence <= deleted {
			continue
		}
		f := familyOf(shard, d.Device, r.Step)
		e.key = appendInt(f.appendPrefix(e.key[:0], generationOf(a.asidesOf(&f), r.Start)), r.Start)
		e.value = e.AppendRollup(e.value[:0], r)
		if err := batch.Merge(e.key, e.value, nil); err != nil {
			return err
		}
	}
	for i := range d.Records {
		r := &d.Records[i]
		if r.Sequence <= deleted {
			continue
		}
		e.key = binary.BigEndian.AppendUint64(appendDevice(e.key[:0], kindRecord, shard, d.Device), r.Sequence)
		e.value = append(binary.BigEndian.AppendUint64(e.value[:0], uint64(r.WriteTime)), r.Payload...)
		if err := batch.Set(e.key, e.value, nil); err != nil {
			return err
		}
	}
	return nil
}
