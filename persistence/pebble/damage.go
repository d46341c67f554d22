package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
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
	d := persistence.Damage{From: math.MinInt64, To: math.MaxInt64, Err: err}
	if first > math.MinInt64/slice {
		d.From = first * slice
	}
	if last < math.MaxInt64/slice {
		d.To = last*slice + slice - 1
	}
	return d
}

// walkPast is walk over the chunks or rollups of one device, whose keys begin with prefix. Where a block of a file is
// damaged it tells damaged of the numbers that it cannot read, and goes on behind it; damaged nil: that is an error.
func (a *Archive) walkPast(ctx context.Context, prefix, lower, upper []byte, backwards bool, damaged func(first, last int64, err error), fn func(key, value []byte) (bool, error)) error {
	for {
		var at []byte // the last key that was given out; the walk holds on to its bounds
		err := a.walk(ctx, lower, upper, backwards, func(key, value []byte) (bool, error) {
			at = append(at[:0], key...)
			return fn(key, value)
		})
		if err == nil || damaged == nil || !errors.Is(err, persistence.ErrCorrupt) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case at == nil:
		case backwards:
			upper = at
		default:
			lower = append(at, 0)
		}
		first, last, finding := a.unreadable(prefix, lower, upper, backwards)
		if finding != nil {
			return errors.Join(err, finding)
		}
		// Pebble gives a key out only when it has seen the next one, so the last before the damage is still to come.
		before, behind := [2][]byte{lower, sliceKey(prefix, first)}, [2][]byte{sliceKey(prefix, last+1), upper}
		if backwards {
			before, behind = behind, before
		}
		more := true
		if err := a.walk(ctx, before[0], before[1], backwards, func(key, value []byte) (_ bool, err error) {
			more, err = fn(key, value)
			return more, err
		}); err != nil || !more {
			return err
		}
		damaged(first, last, err)
		if lower, upper = behind[0], behind[1]; bytes.Compare(lower, upper) >= 0 {
			return nil
		}
	}
}

func sliceKey(prefix []byte, number int64) []byte { return appendInt(slices.Clone(prefix), number) }

// unreadable returns the first and the last number of a stretch that cannot be read, the nearest one to
// where a walk of [lower, upper) begins. Which keys a damaged block holds is not known: its neighbours are
// found by trying. Each try that meets the block is dear: pebble turns each of its bits, to see whether one
// makes it good. Where several are damaged the stretch may reach from one to the next.
func (a *Archive) unreadable(prefix, lower, upper []byte, backwards bool) (first, last int64, err error) {
	// readable: all of it, or only where a walk begins
	readable := func(lower, upper []byte, all bool) bool {
		readErr := a.walk(context.Background(), lower, upper, backwards, func(_, _ []byte) (bool, error) { return all, nil })
		if readErr != nil && !errors.Is(readErr, persistence.ErrCorrupt) {
			err = readErr
		}
		return readErr == nil
	}
	low, high := readInt(lower[len(prefix):]), readInt(upper[len(prefix):]) // high: of the first slice behind
	if len(lower) > len(prefix)+8 {
		low++
	}
	key := func(number int64) []byte { return sliceKey(prefix, number) }
	if backwards {
		first = high - 1 - int64(firstGood(int(high-low), func(i int) bool { return readable(lower, key(high-1-int64(i)), false) }))
		last = first + int64(sort.Search(int(high-1-first), func(i int) bool { return readable(key(first+1+int64(i)), upper, true) }))
		return first, last, err
	}
	last = low + int64(firstGood(int(high-low), func(i int) bool { return readable(key(low+1+int64(i)), upper, false) }))
	first = last - int64(sort.Search(int(last-low), func(i int) bool { return readable(lower, key(last-int64(i)), true) }))
	return first, last, err
}

// firstGood is sort.Search where n-1 is good for certain. It tries n-2 first: where a device's last block is damaged
// none is good, and each try of a search would fail, dearly.
func firstGood(n int, good func(int) bool) int {
	if n < 2 || !good(n-2) {
		return n - 1
	}
	return sort.Search(n-2, good)
}
