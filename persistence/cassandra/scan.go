package cassandra

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// pageSize is the rows that a server hands out at once.
	pageSize = 3000
	// maxAhead is how many buckets a long scan asks for before it needs them.
	maxAhead = 8
)

// Scan visits only buckets that exist. See persistence.Archive.
func (a *Archive) Scan(ctx context.Context, shard messages.Shard, id messages.DeviceID, r persistence.Range, fn func(*persistence.Row) bool) error {
	w := a.walk(shard, id, readings, r)
	if a.options.Layout == Chunks {
		return a.scanChunks(ctx, w, id, r, fn)
	}
	statement := cqlScanUp
	if w.down {
		statement = cqlScanDown
	}
	open := func(ctx context.Context, bucket int64) *gocql.Query {
		return a.session.Query(statement, w.shard, w.group, bucket, id.Site, id.Device, w.low, w.high).WithContext(ctx)
	}
	var row persistence.Row
	var values doubles
	var sequence int64
	var flags int8
	found := 0
	take := func(_ int64, rows *gocql.Iter) bool {
		for rows.Scan(&row.Time, &values, &row.Quality, &row.Note, &sequence, &flags) {
			if w.skip(uint64(sequence)) {
				continue
			}
			row.Values, row.Sequence, row.Flags = values, uint64(sequence), uint8(flags)
			found++
			if !fn(&row) || found == r.Limit {
				return false
			}
		}
		return true
	}
	if err := w.run(ctx, id, open, take); err != nil {
		return fmt.Errorf("scan readings of %v: %w", id, unreachable(err))
	}
	return nil
}

// Rollups visits only buckets that exist. See persistence.Archive.
func (a *Archive) Rollups(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, r persistence.Range, fn func(*persistence.RollupRow) bool) error {
	if step <= 0 {
		return fmt.Errorf("scan rollups of %v: there is no step of %d ms", id, step)
	}
	statement := cqlRollupsUp
	if r.From > r.To {
		statement = cqlRollupsDown
	}
	w := a.walk(shard, id, step, r)
	open := func(ctx context.Context, bucket int64) *gocql.Query {
		return a.session.Query(statement, w.shard, w.group, int(step), bucket, id.Site, id.Device, w.low, w.high).WithContext(ctx)
	}
	row := persistence.RollupRow{Rollup: messages.Rollup{Step: step}}
	var c columns
	var sequence int64
	var broken error
	found := 0
	take := func(_ int64, rows *gocql.Iter) bool {
		for rows.Scan(&row.Start, &row.Count, &c.counts, &c.mins, &c.maxs, &c.sums, &c.firsts, &c.lasts, &sequence) {
			if w.skip(uint64(sequence)) {
				continue
			}
			row.Sequence = uint64(sequence)
			if row.Channels, broken = c.channels(row.Channels); broken != nil {
				return false
			}
			found++
			if !fn(&row) || found == r.Limit {
				return false
			}
		}
		return true
	}
	if err := cmp.Or(w.run(ctx, id, open, take), broken); err != nil {
		return fmt.Errorf("scan rollups of %v: %w", id, unreachable(err))
	}
	return nil
}

// walk goes through a device's rows, bucket by bucket.
type walk struct {
	archive     *Archive
	shard       int16
	group       int16
	step        messages.Step
	low, high   int64
	down        bool
	limit       int
	page        int // rows of a table asked for at once
	maxSequence uint64
	deleted     uint64 // rows up to here do not count
}

func (a *Archive) walk(shard messages.Shard, id messages.DeviceID, step messages.Step, r persistence.Range) *walk {
	return &walk{
		archive: a, shard: int16(shard), group: a.group(id), step: step,
		low: min(r.From, r.To), high: max(r.From, r.To), down: r.From > r.To,
		limit: r.Limit, page: pageSize, maxSequence: r.MaxSequence,
	}
}

func (w *walk) skip(sequence uint64) bool {
	return sequence <= w.deleted || w.maxSequence > 0 && sequence > w.maxSequence
}

// run opens each existing bucket of the range in order and has take read it, until that returns false.
func (w *walk) run(ctx context.Context, id messages.DeviceID, open func(ctx context.Context, bucket int64) *gocql.Query, take func(bucket int64, rows *gocql.Iter) bool) error {
	if err := w.archive.checkShard(messages.Shard(w.shard)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if w.deleted, err = w.archive.deleted(ctx, w.shard, w.group, id); err != nil {
		return err
	}
	buckets := w.archive.buckets(ctx, w.shard, w.group, w.step, w.low, w.high, w.down)
	type asked struct {
		bucket int64
		rows   chan *gocql.Iter
	}
	var ahead []asked // in order
	defer func() {
		cancel()
		for _, next := range ahead {
			_ = (<-next.rows).Close()
		}
		_ = buckets.Close()
	}()
	page := w.page
	if w.limit > 0 {
		page = min(max(w.limit, 10), w.page)
	}
	// Most scans end in the first bucket, so there is one at first; long ones need more at once.
	for width := 1; ; width = min(2*width, maxAhead) {
		var bucket int64
		for len(ahead) < width && buckets.Scan(&bucket) {
			next := asked{bucket, make(chan *gocql.Iter, 1)}
			query := open(ctx, bucket).PageSize(page)
			go func() { next.rows <- query.Iter() }()
			ahead = append(ahead, next)
		}
		if len(ahead) == 0 {
			return buckets.Close()
		}
		next := ahead[0]
		ahead = ahead[1:]
		rows := <-next.rows
		more := take(next.bucket, rows)
		if err := rows.Close(); err != nil || !more {
			return err
		}
	}
}

// buckets lists the buckets of a group that overlap event times low to high.
func (a *Archive) buckets(ctx context.Context, shard, group int16, step messages.Step, low, high int64, down bool) *gocql.Iter {
	statement := cqlBucketsUp
	if down {
		statement = cqlBucketsDown
	}
	length := a.bucketLength(step)
	return a.session.Query(statement, shard, group, int(step), bucketOf(low, length), bucketOf(high, length)).
		WithContext(ctx).PageSize(pageSize).Iter()
}

// deleted returns up to which stream sequence nothing of the device counts.
func (a *Archive) deleted(ctx context.Context, shard, group int16, id messages.DeviceID) (uint64, error) {
	var sequence int64 // a null, too, comes as 0
	err := a.session.Query(cqlReadDeleted, shard, group, id.Site, id.Device).WithContext(ctx).Scan(&sequence)
	if err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return 0, fmt.Errorf("read whether it was deleted: %w", err)
	}
	return uint64(sequence), nil
}

// unreachable marks an error of a read that says nothing of what was asked: no server answered.
func unreachable(err error) error {
	var readTimeout *gocql.RequestErrReadTimeout
	var tooFew *gocql.RequestErrUnavailable
	var network net.Error
	for _, away := range []error{
		gocql.ErrNoConnections, gocql.ErrConnectionClosed, gocql.ErrTimeoutNoResponse, gocql.ErrNoStreams,
		gocql.ErrUnavailable, io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, away) {
			return fmt.Errorf("%w: %w", persistence.ErrUnreachable, err)
		}
	}
	if errors.As(err, &readTimeout) || errors.As(err, &tooFew) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", persistence.ErrUnreachable, err)
	}
	return err
}
