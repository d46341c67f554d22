package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// What cannot be read stays where it is: a key whose value, or whose file's block, is damaged cannot be written anew,
// because the next reader would merge the new value with the old one. Instead the stretch is set aside under a mark,
// and from then on its chunks or rollups are those under other keys, which carry the mark's generation. So
// nothing is deleted that somebody may still want to look at, and nothing is read again that is damaged.

// family is all chunks, or all rollups of one step, of one device. They are numbered: chunks by slice, rollups by start (ms).
type family struct {
	kind  byte // kindChunk or kindRollup
	shard messages.Shard
	id    messages.DeviceID
	step  messages.Step // 0 for chunks
}

func familyOf(shard messages.Shard, id messages.DeviceID, step messages.Step) family {
	if step == 0 {
		return family{kindChunk, shard, id, 0}
	}
	return family{kindRollup, shard, id, step}
}

// appendPrefix appends what stands before the number in the keys of one generation.
func (f *family) appendPrefix(dst []byte, generation uint64) []byte {
	kind := f.kind
	if generation > 0 {
		kind = anew(kind)
	}
	dst = appendDevice(dst, kind, f.shard, f.id)
	if f.kind == kindRollup {
		dst = appendInt(dst, int64(f.step))
	}
	if generation > 0 {
		dst = binary.BigEndian.AppendUint64(dst, generation)
	}
	return dst
}

// anew is the kind of the keys that take the place of damaged ones.
func anew(kind byte) byte {
	if kind == kindRollup {
		return kindRollupAnew
	}
	return kindChunkAnew
}

// numbers returns the numbers of event times from low to high; bounded, so that differences do not overflow.
func (f *family) numbers(low, high int64) (first, last int64) {
	if f.kind == kindChunk {
		return sliceOf(low), sliceOf(high)
	}
	return max(low, math.MinInt64/4), min(high, math.MaxInt64/4)
}

// times is the damage of the chunks or rollups with these numbers, both included.
func (f *family) times(first, last int64, err error) persistence.Damage {
	if f.kind == kindChunk {
		return damagedSlices(first, last, err)
	}
	return persistence.Damage{From: first, To: last + int64(f.step) - 1, Err: err}
}

// unread is how a scan of r tells of numbers that cannot be read; nil when nobody is to be told.
func (f *family) unread(r *persistence.Range, lost *persistence.Lost) func(first, last int64, err error) {
	if r.Damaged == nil {
		return nil
	}
	return func(first, last int64, err error) { lost.Tell(f.times(first, last, err)) }
}

// readable returns why a value is not what was written.
func (f *family) readable(value []byte) error {
	if f.kind == kindRollup {
		return chunk.DecodeRollup(value, new(persistence.RollupRow))
	}
	b := blocks.Get().(*chunk.Block)
	defer func() { b.Reset(); blocks.Put(b) }()
	b.Reset()
	return b.Decode(value)
}

// aside is a stretch of one family that was set aside.
type aside struct {
	kind        byte
	step        messages.Step
	generation  uint64 // grows with each of a device
	first, last int64
	loss        persistence.Loss
}

func (x *aside) of(f *family) bool { return x.kind == f.kind && x.step == f.step }

// value is what stands under the mark: kind, step, first, last, and the loss.
func (x *aside) value() []byte {
	out := []byte{x.kind}
	for _, v := range []int64{int64(x.step), x.first, x.last, x.loss.From, x.loss.To, int64(x.loss.Sequence)} {
		out = binary.BigEndian.AppendUint64(out, uint64(v))
	}
	return out
}

func readAside(generation uint64, value []byte) (x aside, ok bool) {
	if len(value) != 1+6*8 {
		return x, false
	}
	number := func(i int) int64 { return int64(binary.BigEndian.Uint64(value[1+8*i:])) }
	x = aside{kind: value[0], step: messages.Step(number(0)), generation: generation, first: number(1), last: number(2)}
	x.loss = persistence.Loss{From: number(3), To: number(4), Sequence: uint64(number(5)), Mark: generation}
	return x, true
}

func (a *Archive) loadAsides() error {
	return a.walk(context.Background(), []byte{kindAside}, []byte{kindAside + 1}, false, func(key, value []byte) (bool, error) {
		id, rest, ok := readNames(key[3:])
		if !ok || len(rest) != 8 {
			return false, errors.New("damaged")
		}
		x, ok := readAside(binary.BigEndian.Uint64(rest), value)
		if !ok {
			return false, errors.New("damaged")
		}
		device := deviceKey{messages.Shard(binary.BigEndian.Uint16(key[1:])), id}
		a.asides[device] = append(a.asides[device], x)
		return true, nil
	})
}

// asidesOf returns what was set aside of a family, by generation. Few devices have any.
func (a *Archive) asidesOf(f *family) []aside {
	a.markersMu.RLock()
	defer a.markersMu.RUnlock()
	if len(a.asides) == 0 {
		return nil
	}
	var out []aside
	for _, x := range a.asides[deviceKey{f.shard, f.id}] {
		if x.of(f) {
			out = append(out, x)
		}
	}
	return out
}

// generationOf returns under which generation the chunk or rollup of that number is.
func generationOf(asides []aside, number int64) (generation uint64) {
	for i := range asides { // of several the newest counts, which stands last
		if asides[i].first <= number && number <= asides[i].last {
			generation = asides[i].generation
		}
	}
	return generation
}

// segment is numbers, both included, whose keys are of one generation.
type segment struct {
	first, last int64
	generation  uint64
}

// segments parts the numbers from first to last by generation, in order.
func segments(asides []aside, first, last int64) []segment {
	parts := []segment{{first, last, 0}}
	for i := range asides {
		x := &asides[i]
		var cut []segment
		for _, p := range parts {
			low, high := max(p.first, x.first), min(p.last, x.last)
			if low > high {
				cut = append(cut, p)
				continue
			}
			if p.first < low {
				cut = append(cut, segment{p.first, low - 1, p.generation})
			}
			cut = append(cut, segment{low, high, x.generation})
			if high < p.last {
				cut = append(cut, segment{high + 1, p.last, p.generation})
			}
		}
		parts = cut
	}
	return parts
}

// walkFamily calls fn for each chunk or rollup of the family from number first to last, backwards if so asked, until
// it returns false or an error. damaged is told of each stretch that cannot be read, in their order; nil: the first one is an error.
func (a *Archive) walkFamily(ctx context.Context, f *family, first, last int64, backwards bool, damaged func(first, last int64, err error), fn func(number int64, key, value []byte) (bool, error)) error {
	parts := segments(a.asidesOf(f), first, last)
	if backwards {
		slices.Reverse(parts)
	}
	for _, p := range parts {
		prefix, more := f.appendPrefix(nil, p.generation), true
		err := a.walkPast(ctx, prefix, sliceKey(prefix, p.first), sliceKey(prefix, p.last+1), backwards, damaged, func(key, value []byte) (_ bool, err error) {
			more, err = fn(readInt(key[len(prefix):]), key, value)
			return more, err
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// lostIn returns the losses of a family between two event times, whole. Those that were deleted since are none.
func (a *Archive) lostIn(f *family, low, high int64) []persistence.Loss {
	deleted := a.deleted(f.shard, f.id)
	var out []persistence.Loss
	for _, x := range a.asidesOf(f) {
		if l := x.loss; l.From <= l.To && l.From <= high && l.To >= low && l.Sequence > deleted {
			out = append(out, l)
		}
	}
	return out
}

// SetAside goes through the range once; see persistence.Archive.
func (a *Archive) SetAside(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, from, to int64, sequence uint64) ([]persistence.Loss, error) {
	if err := a.enter(ctx); err != nil {
		return nil, fmt.Errorf("set aside: %w", err)
	}
	defer a.leave()
	err := a.check(shard, id)
	if err == nil {
		err = a.mayWrite()
	}
	f := familyOf(shard, id, step)
	if err == nil {
		err = a.setAside(ctx, &f, from, to, sequence)
	}
	if err != nil {
		return nil, fmt.Errorf("set aside of %v: %w", id, err)
	}
	return a.lostIn(&f, from, to), nil
}

// setAside searches before it locks the shard, because that may take seconds; then it looks whether all is as it was.
func (a *Archive) setAside(ctx context.Context, f *family, from, to int64, sequence uint64) error {
	for {
		known := len(a.asidesOf(f))
		found, err := a.unreadableIn(ctx, f, from, to)
		if err != nil || len(found) == 0 {
			return err
		}
		lock := a.locks[f.shard]
		if err := lock.Acquire(ctx, alone); err != nil {
			return err
		}
		if len(a.asidesOf(f)) == known {
			return a.mark(ctx, f, found, sequence)
		}
		lock.Release(alone) // somebody else did
	}
}

// unreadable is what a mark is made of: what cannot be read, and what can but goes aside with it.
type unreadable struct {
	first, last int64 // cannot be read
	behind      int64 // from last + 1 to here nothing can be read downwards
}

// unreadableIn returns the stretches of a family that cannot be read between two event times.
func (a *Archive) unreadableIn(ctx context.Context, f *family, from, to int64) ([]unreadable, error) {
	var found []unreadable
	damaged := func(first, last int64, _ error) { found = append(found, unreadable{first, last, last}) }
	first, last := f.numbers(from, to)
	err := a.walkFamily(ctx, f, first, last, false, damaged, func(number int64, _, value []byte) (bool, error) {
		if f.readable(value) != nil {
			damaged(number, number, nil)
		}
		return true, nil
	})
	for i := range found {
		if err == nil {
			err = a.lookBehind(ctx, f, &found[i], last)
		}
	}
	return found, err
}

// lookBehind finds what cannot be read downwards behind a stretch, though it can be read upwards: to give a key out
// pebble looks at the next one, which may be in the damaged block.
func (a *Archive) lookBehind(ctx context.Context, f *family, u *unreadable, last int64) error {
	for {
		next, there := int64(0), false
		if err := a.walkFamily(ctx, f, u.behind+1, last, false, func(int64, int64, error) {}, func(number int64, _, _ []byte) (bool, error) {
			next, there = number, true
			return false, nil
		}); err != nil || !there {
			return err
		}
		err := a.walkFamily(ctx, f, u.behind+1, next, true, nil, func(int64, []byte, []byte) (bool, error) { return true, nil })
		if !errors.Is(err, persistence.ErrCorrupt) {
			return err
		}
		u.behind = next
	}
}

// mark sets aside what was found, and writes again what lies behind it. The shard's lock is held, and released when the
// marks are in force.
func (a *Archive) mark(ctx context.Context, f *family, found []unreadable, sequence uint64) error {
	device := deviceKey{f.shard, f.id}
	a.markersMu.RLock()
	all := slices.Clone(a.asides[device])
	a.markersMu.RUnlock()
	generation := uint64(0)
	if n := len(all); n > 0 {
		generation = all[n-1].generation
	}
	known, batch := len(all), a.db.NewBatch()
	for _, u := range found {
		generation++
		x := aside{kind: f.kind, step: f.step, generation: generation, first: u.first, last: u.behind}
		d := f.times(u.first, u.last, nil)
		x.loss = persistence.Loss{From: d.From, To: d.To, Sequence: sequence, Mark: generation}
		all = append(all, x)
		prefix := f.appendPrefix(nil, generation)
		if err := a.walkFamily(ctx, f, u.last+1, u.behind, false, nil, func(number int64, _, value []byte) (bool, error) {
			return true, batch.Merge(sliceKey(prefix, number), value, nil)
		}); err != nil {
			a.locks[f.shard].Release(alone)
			batch.Close() // it was never applied: nothing to be told
			return err
		}
	}
	return a.keepAsides(ctx, batch, device, all, all[known:])
}

// keepAsides writes marks of a device, of which all is the whole list then, and releases the shard's lock when they are in force.
func (a *Archive) keepAsides(ctx context.Context, batch *pebble.Batch, device deviceKey, all, changed []aside) error {
	for i := range changed {
		key := binary.BigEndian.AppendUint64(appendDevice(nil, kindAside, device.shard, device.id), changed[i].generation)
		_ = batch.Set(key, changed[i].value(), nil) // a batch in memory takes everything
	}
	device.id = messages.DeviceID{Site: string([]byte(device.id.Site)), Device: string([]byte(device.id.Device))}
	return a.queue.do(ctx, batch, true, func(err error) {
		if err == nil {
			a.markersMu.Lock()
			a.asides[device] = all
			a.markersMu.Unlock()
		}
		a.locks[device.shard].Release(alone)
	})
}

// Recovered rewrites one mark; see persistence.Archive.
func (a *Archive) Recovered(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, left persistence.Loss) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	defer a.leave()
	err := a.check(shard, id)
	if err == nil {
		err = a.mayWrite()
	}
	if err == nil {
		err = a.recovered(ctx, familyOf(shard, id, step), left)
	}
	if err != nil {
		return fmt.Errorf("recovered of %v: %w", id, err)
	}
	return nil
}

func (a *Archive) recovered(ctx context.Context, f family, left persistence.Loss) error {
	lock := a.locks[f.shard]
	if err := lock.Acquire(ctx, alone); err != nil {
		return err
	}
	device := deviceKey{f.shard, f.id}
	a.markersMu.RLock()
	all := slices.Clone(a.asides[device])
	a.markersMu.RUnlock()
	at := slices.IndexFunc(all, func(x aside) bool { return x.of(&f) && x.generation == left.Mark })
	if at < 0 {
		lock.Release(alone)
		return nil
	}
	loss := &all[at].loss // which never grows again
	loss.To, loss.Sequence = min(loss.To, left.To), min(loss.Sequence, left.Sequence)
	return a.keepAsides(ctx, a.db.NewBatch(), device, all, all[at:at+1])
}

// anyAside tells whether anything of a device was set aside.
func (a *Archive) anyAside(shard messages.Shard, id messages.DeviceID) bool {
	a.markersMu.RLock()
	defer a.markersMu.RUnlock()
	return len(a.asides[deviceKey{shard, id}]) > 0
}

// rewriteAround deletes all chunks and rollups of a device, what was set aside unread, and sets those again that hold
// something above the sequence. The marks stay, for what is written under them.
func (a *Archive) rewriteAround(ctx context.Context, batch *pebble.Batch, shard messages.Shard, id messages.DeviceID, sequence uint64) error {
	for _, kind := range []byte{kindChunk, kindChunkAnew, kindRollup, kindRollupAnew} {
		prefix := appendDevice(nil, kind, shard, id)
		if err := batch.DeleteRange(prefix, after(prefix), nil); err != nil {
			return err
		}
	}
	e := encoders.Get().(*encoder)
	defer e.release()
	for _, step := range []messages.Step{0, messages.Minute, messages.Hour} {
		f := familyOf(shard, id, step)
		first, last := f.numbers(math.MinInt64, math.MaxInt64)
		if err := a.walkFamily(ctx, &f, first, last, false, nil, func(_ int64, key, value []byte) (bool, error) {
			left, err := e.above(f.kind, value, sequence)
			switch {
			case err != nil:
				a.log.Error("what cannot be read is deleted with its device", "key", describeKey(key), "error", err)
			case len(left) > 0:
				return true, batch.Set(key, left, nil)
			}
			return true, nil
		}); err != nil {
			return err
		}
	}
	return nil
}
