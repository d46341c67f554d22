package cassandra

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// chunkPage is the chunks that a server hands out at once: at most 3 MiB, usually an hour's.
const chunkPage = 100

var blocks = sync.Pool{New: func() any { return new(chunk.Block) }}

// scanChunks is Scan for layout Chunks: all chunks of a bucket are put together, in order, and handed on
// reading by reading. A chunk that is not as it was written ends the scan with an error that wraps
// persistence.ErrCorrupt and names device and time.
func (a *Archive) scanChunks(ctx context.Context, w *walk, id messages.DeviceID, r persistence.Range, fn func(*persistence.Row) bool) error {
	var broken error
	left := r.Limit
	if left == 0 {
		left = math.MaxInt
	}
	err := a.eachBucket(ctx, w, id, func(b *chunk.Block, bucket int64, d *inBucket) bool {
		losses, err := d.losses(w.deleted)
		if err != nil {
			if r.Damaged == nil {
				broken = err
				return false
			}
			// of the bucket's other chunks nothing is given out: a reading that replaced one of theirs may be lost
			length := a.bucketLength(readings)
			r.Damaged(persistence.Damage{From: bucket * length, To: bucket*length + length - 1, Err: fmt.Errorf("%v: %w", id, err)})
			return true
		}
		var given int
		var more bool
		given, more, broken = w.give(b, left, persistence.LostAlong(&r, w.low, w.high, losses), fn)
		left -= given
		return more && broken == nil
	})
	if broken != nil {
		err = broken
	}
	if err != nil {
		return fmt.Errorf("scan readings of %v: %w", id, unreachable(err))
	}
	return nil
}

// eachBucket calls fn for the buckets of a walk, in its order, until it returns false. The block is valid only during the call.
func (a *Archive) eachBucket(ctx context.Context, w *walk, id messages.DeviceID, fn func(b *chunk.Block, bucket int64, d *inBucket) bool) error {
	b := blocks.Get().(*chunk.Block)
	defer func() { b.Reset(); blocks.Put(b) }()
	open := func(ctx context.Context, bucket int64) *gocql.Query {
		return a.session.Query(cqlScanChunks, w.shard, w.group, bucket, id.Site, id.Device).WithContext(ctx)
	}
	var broken error
	w.page, w.limit = chunkPage, 0 // a limit on readings says nothing about chunks
	err := w.run(ctx, id, open, func(bucket int64, rows *gocql.Iter) bool {
		b.Reset()
		again := func() *gocql.Iter { return open(ctx, bucket).PageSize(w.page).Iter() }
		var d inBucket
		if d, broken = a.readBucket(b, bucket, rows, again); broken != nil {
			return false
		}
		return fn(b, bucket, &d)
	})
	return cmp.Or(err, broken)
}

// decodeChunks adds the readings of the chunks of one bucket to b, and notes to d. The chunks that d knows as damaged
// are left out; with an error comes the key of another one that is.
func (a *Archive) decodeChunks(b *chunk.Block, bucket int64, rows *gocql.Iter, d *inBucket) (damaged int64, err error) {
	length := a.bucketLength(readings)
	describe := func(part int64, err error) error {
		at := func(bucket int64) string { return time.UnixMilli(bucket * length).UTC().Format(time.RFC3339) }
		return fmt.Errorf("chunk %d of event times from %s to %s: %w", part, at(bucket), at(bucket+1), err)
	}
	var part int64
	var data []byte
	for rows.Scan(&part, &data) {
		if n, ok := readNote(data); ok {
			d.add(n)
			continue
		}
		if d.damaged[part] != nil {
			continue
		}
		from := b.Len()
		if err := b.Decode(data); err != nil {
			return part, describe(part, err)
		}
		for i := from; i < b.Len(); i++ {
			if bucketOf(b.Time(i), length) != bucket {
				return part, describe(part, fmt.Errorf("%w: it has a reading of %d ms", chunk.ErrCorrupt, b.Time(i)))
			}
		}
	}
	return 0, nil
}

// give calls fn for the block's readings that belong to the scan, at most limit, and tells of what is lost among them.
// more is false when the scan is at its end.
func (w *walk) give(b *chunk.Block, limit int, lost persistence.Lost, fn func(*persistence.Row) bool) (given int, more bool, err error) {
	var row persistence.Row
	from, to := b.Range(w.low, w.high)
	for n := range to - from {
		i := from + n
		if w.down {
			i = to - 1 - n
		}
		if w.skip(b.Sequence(i)) {
			continue
		}
		if err := lost.Reach(b.Time(i)); err != nil {
			return given, false, err
		}
		if lost.Hides(b.Time(i), b.Sequence(i)) {
			continue
		}
		b.Row(i, &row)
		given++
		if !fn(&row) || given == limit {
			return given, false, nil
		}
	}
	return given, true, lost.End()
}
