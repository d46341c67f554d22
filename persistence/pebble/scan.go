package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

var blocks = sync.Pool{New: func() any { return new(chunk.Block) }}

// walk calls fn for each key in [lower, upper), backwards if so asked, until fn returns false or an
// error. It looks at the context before each.
func (s *store) walk(ctx context.Context, lower, upper []byte, backwards bool, fn func(key, value []byte) (bool, error)) (err error) {
	if upper != nil && bytes.Compare(lower, upper) >= 0 {
		return nil // pebble would read the block around it
	}
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, corrupt(iter.Close())) }()
	start, next := iter.First, iter.Next
	if backwards {
		start, next = iter.Last, iter.Prev
	}
	for valid := start(); valid; valid = next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("%s: %w", describeKey(iter.Key()), corrupt(err))
		}
		if more, err := fn(iter.Key(), value); err != nil {
			return fmt.Errorf("%s: %w", describeKey(iter.Key()), err)
		} else if !more {
			return nil
		}
	}
	return nil // iter.Close returns what made the iterator invalid
}

// Scan calls fn for each row of the device in the range; see persistence.Archive.
func (a *Archive) Scan(ctx context.Context, shard messages.Shard, id messages.DeviceID, r persistence.Range, fn func(*persistence.Row) bool) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("scan archive: %w", err)
	}
	defer a.leave()
	if err := a.check(shard, id); err != nil {
		return err
	}
	f := familyOf(shard, id, 0)
	low, high := max(min(r.From, r.To), a.keeping.oldest(shard, id)), max(r.From, r.To)
	if low > high {
		return nil
	}
	s := scan{low: low, high: high, backwards: r.From > r.To, limit: r.Limit, floor: a.deleted(shard, id), ceiling: ceiling(r), fn: fn}
	s.lost = persistence.LostAlong(&r, low, high, a.lostIn(&f, low, high))
	b := blocks.Get().(*chunk.Block)
	defer func() { b.Reset(); blocks.Put(b) }()
	more := true
	err := a.walkFamily(ctx, &f, sliceOf(low), sliceOf(high), s.backwards, f.unread(&r, &s.lost), func(number int64, key, value []byte) (_ bool, err error) {
		b.Reset()
		if err := b.Decode(value); err != nil {
			if r.Damaged == nil {
				return false, err
			}
			s.lost.Tell(damagedSlices(number, number, fmt.Errorf("%s: %w", describeKey(key), err)))
			return true, nil
		}
		b.Normalize()
		more, err = s.rows(b)
		return more, err
	})
	if err == nil && more {
		err = s.lost.End()
	}
	if err != nil {
		return fmt.Errorf("scan archive: %w", err)
	}
	return nil
}

func ceiling(r persistence.Range) uint64 {
	if r.MaxSequence == 0 {
		return math.MaxUint64
	}
	return r.MaxSequence
}

// scan hands the rows of one chunk after the other on.
type scan struct {
	low, high      int64
	backwards      bool
	limit, given   int
	floor, ceiling uint64 // rows with floor < sequence <= ceiling are given
	lost           persistence.Lost
	fn             func(*persistence.Row) bool
	row            persistence.Row
}

// rows hands on those rows of b that belong to the scan; false when it is at its end.
func (s *scan) rows(b *chunk.Block) (more bool, err error) {
	from, to := b.Range(s.low, s.high)
	for n := range to - from {
		i := from + n
		if s.backwards {
			i = to - 1 - n
		}
		if sequence := b.Sequence(i); sequence <= s.floor || sequence > s.ceiling {
			continue
		}
		if err := s.lost.Reach(b.Time(i)); err != nil {
			return false, err
		}
		if s.lost.Hides(b.Time(i), b.Sequence(i)) {
			continue
		}
		b.Row(i, &s.row)
		if !s.fn(&s.row) {
			return false, nil
		}
		if s.given++; s.given == s.limit {
			return false, nil
		}
	}
	return true, nil
}

// Rollups is Scan for rollups; see persistence.Archive.
func (a *Archive) Rollups(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, r persistence.Range, fn func(*persistence.RollupRow) bool) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("scan rollups: %w", err)
	}
	defer a.leave()
	if err := a.check(shard, id); err != nil {
		return err
	}
	f := familyOf(shard, id, step)
	low, high := max(min(r.From, r.To), a.keeping.oldestRollup(shard, id, step)), max(r.From, r.To)
	if low > high {
		return nil
	}
	lost := persistence.LostAlong(&r, low, high, a.lostIn(&f, low, high))
	floor, ceiling, given := a.deleted(shard, id), ceiling(r), 0
	var row persistence.RollupRow
	more := true
	first, last := f.numbers(low, high)
	err := a.walkFamily(ctx, &f, first, last, r.From > r.To, f.unread(&r, &lost), func(start int64, key, value []byte) (bool, error) {
		if err := chunk.DecodeRollup(value, &row); err != nil {
			if r.Damaged == nil {
				return false, err
			}
			lost.Tell(f.times(start, start, fmt.Errorf("%s: %w", describeKey(key), err)))
			return true, nil
		}
		if row.Sequence <= floor || row.Sequence > ceiling {
			return true, nil
		}
		if err := lost.Reach(start); err != nil {
			return false, err
		}
		if lost.Hides(start, row.Sequence) {
			return true, nil
		}
		row.Step, row.Start = step, start
		given++
		more = fn(&row) && given != r.Limit
		return more, nil
	})
	if err == nil && more {
		err = lost.End()
	}
	if err != nil {
		return fmt.Errorf("scan rollups: %w", err)
	}
	return nil
}

// Records returns a device's or a site's records, oldest first.
func (a *Archive) Records(ctx context.Context, shard messages.Shard, id messages.DeviceID) ([]persistence.Record, error) {
	if err := a.enter(ctx); err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	defer a.leave()
	if err := a.check(shard, id); err != nil {
		return nil, err
	}
	prefix, floor := appendDevice(nil, kindRecord, shard, id), a.deleted(shard, id)
	var records []persistence.Record
	err := a.walk(ctx, prefix, after(prefix), false, func(key, value []byte) (bool, error) {
		if len(key) != len(prefix)+8 || len(value) < 8 {
			return false, errors.New("corrupt record")
		}
		sequence := binary.BigEndian.Uint64(key[len(prefix):])
		if sequence > floor {
			records = append(records, persistence.Record{Sequence: sequence, WriteTime: int64(binary.BigEndian.Uint64(value)), Payload: slices.Clone(value[8:])})
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return records, nil
}

// Devices calls fn for each name of the shard that has records, in order. It seeks from name to name.
func (a *Archive) Devices(ctx context.Context, shard messages.Shard, fn func(messages.DeviceID) bool) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	defer a.leave()
	if int(shard) >= a.shards {
		return fmt.Errorf("list devices: %w: shard %d, there are %d", persistence.ErrRefused, shard, a.shards)
	}
	prefix := binary.BigEndian.AppendUint16([]byte{kindRecord}, uint16(shard))
	iter, err := a.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	err = a.devices(ctx, iter, shard, fn)
	if err = errors.Join(err, iter.Close()); err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	return nil
}

func (a *Archive) devices(ctx context.Context, iter *pebble.Iterator, shard messages.Shard, fn func(messages.DeviceID) bool) error {
	var seek []byte
	for valid := iter.First(); valid; {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := iter.Key()
		id, rest, ok := readNames(key[3:])
		if !ok || len(rest) != 8 {
			return fmt.Errorf("%s: corrupt record", describeKey(key))
		}
		if floor := a.deleted(shard, id); binary.BigEndian.Uint64(rest) <= floor {
			// Records up to the marker are gone, or about to be: look for one behind it.
			seek = binary.BigEndian.AppendUint64(append(seek[:0], key[:len(key)-8]...), floor)
			valid = iter.SeekGE(append(seek, 0))
			continue
		}
		if !fn(id) {
			return nil
		}
		seek = append(append(seek[:0], key[:len(key)-8]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		valid = iter.SeekGE(seek)
	}
	return nil
}
