package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence"
)

// corrupt has pebble's own finding of damaged files wrap persistence.ErrCorrupt.
func corrupt(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w file: %w", persistence.ErrCorrupt, err)
	}
	return err
}

// damagedSlices is the damage of the slices with these numbers, both included.
func damagedSlices(first, last int64, err error) persistence.Damage {
	return persistence.Damage{From: first * slice, To: last*slice + slice - 1, Err: err}
}

// walkPast is walk over the chunks of one device, whose keys begin with prefix. Where a block of a file is
// damaged and r.Damaged is set it goes on behind it.
func (a *Archive) walkPast(ctx context.Context, prefix, lower, upper []byte, r *persistence.Range, fn func(key, value []byte) (bool, error)) error {
	backwards := r.From > r.To
	for {
		err := a.walk(ctx, lower, upper, backwards, func(key, value []byte) (bool, error) {
			if backwards {
				upper = append(upper[:0], key...)
			} else {
				lower = append(append(lower[:0], key...), 0)
			}
			return fn(key, value)
		})
		if err == nil || r.Damaged == nil || !errors.Is(err, persistence.ErrCorrupt) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		first, last, finding := a.unreadable(prefix, lower, upper, backwards)
		if finding != nil {
			return errors.Join(err, finding)
		}
		r.Damaged(damagedSlices(first, last, err))
		if backwards {
			upper = appendInt(slices.Clone(prefix), first)
		} else {
			lower = appendInt(slices.Clone(prefix), last+1)
		}
		if bytes.Compare(lower, upper) >= 0 {
			return nil
		}
	}
}

// unreadable returns the first and the last slice of a stretch that cannot be read, the nearest one to
// where a walk of [lower, upper) begins. Which keys a damaged block holds is not known: its neighbours are
// found by trying. Where several are damaged the stretch may reach from one to the next.
func (a *Archive) unreadable(prefix, lower, upper []byte, backwards bool) (first, last int64, err error) {
	key := func(number int64) []byte { return appendInt(slices.Clone(prefix), number) }
	readable := func(lower, upper []byte, backwards bool) bool {
		readErr := a.walk(context.Background(), lower, upper, backwards, func(_, _ []byte) (bool, error) { return false, nil })
		if readErr != nil && !errors.Is(readErr, persistence.ErrCorrupt) {
			err = readErr
		}
		return readErr == nil
	}
	low, high := readInt(lower[len(prefix):]), readInt(upper[len(prefix):]) // high: of the first slice behind
	if len(lower) > len(prefix)+8 {
		low++
	}
	count := int(high - low)
	if backwards {
		// from the newest on: the first end at which what is before it can be read, then what is behind it
		above := sort.Search(count, func(i int) bool { return readable(lower, key(high-1-int64(i)), true) })
		first = high - 1 - int64(above)
		behind := sort.Search(int(high-first-1), func(i int) bool { return readable(key(first+1+int64(i)), upper, false) })
		return first, first + int64(behind), err
	}
	behind := sort.Search(count, func(i int) bool { return readable(key(low+1+int64(i)), upper, false) })
	return low, low + int64(behind), err
}
