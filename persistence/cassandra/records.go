package cassandra

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Records returns all records that were not deleted. See persistence.Archive.
func (a *Archive) Records(ctx context.Context, shard messages.Shard, id messages.DeviceID) ([]persistence.Record, error) {
	if err := a.checkShard(shard); err != nil {
		return nil, err
	}
	group := a.group(id)
	deleted, err := a.deleted(ctx, int16(shard), group, id)
	if err != nil {
		return nil, fmt.Errorf("read records of %v: %w", id, unreachable(err))
	}
	rows := a.session.Query(cqlReadRecords, int16(shard), group, id.Site, id.Device).WithContext(ctx).Iter()
	var all []persistence.Record
	var sequence, writeTime int64
	for {
		var payload []byte
		if !rows.Scan(&sequence, &payload, &writeTime) {
			break
		}
		if uint64(sequence) > deleted {
			all = append(all, persistence.Record{Sequence: uint64(sequence), WriteTime: writeTime, Payload: payload})
		}
	}
	if err := rows.Close(); err != nil {
		return nil, fmt.Errorf("read records of %v: %w", id, unreachable(err))
	}
	return all, nil
}

// listing is one group's part of the list of devices.
type listing struct {
	rows *gocql.Iter
	next messages.DeviceID
	more bool
}

// advance goes to the next device that has records.
func (l *listing) advance() {
	var recorded, deleted int64 // nulls come as 0
	for {
		l.more = l.rows.Scan(&l.next.Site, &l.next.Device, &recorded, &deleted)
		if !l.more || recorded > deleted {
			return
		}
	}
}

// Devices merges the lists of the shard's groups. See persistence.Archive.
func (a *Archive) Devices(ctx context.Context, shard messages.Shard, fn func(messages.DeviceID) bool) error {
	if err := a.checkShard(shard); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	groups := make([]listing, a.options.Groups)
	for i := range groups {
		groups[i].rows = a.session.Query(cqlListDevices, int16(shard), int16(i)).WithContext(ctx).PageSize(pageSize).Iter()
		groups[i].advance()
	}
	for {
		var first *listing
		for i := range groups {
			if l := &groups[i]; l.more && (first == nil || before(l.next, first.next)) {
				first = l
			}
		}
		if first == nil || !fn(first.next) {
			break
		}
		first.advance()
	}
	var err error
	for i := range groups {
		err = cmp.Or(err, groups[i].rows.Close())
	}
	if err != nil {
		return fmt.Errorf("list devices of shard %d: %w", shard, err)
	}
	return nil
}

func before(a, b messages.DeviceID) bool {
	return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Device, b.Device)) < 0
}

// Delete first writes up to where nothing counts: from then on nothing of it is seen, whatever is
// written later. The rest frees space: tombstones, only in buckets where the device has rows.
// See persistence.Archive.
func (a *Archive) Delete(ctx context.Context, shard messages.Shard, id messages.DeviceID, sequence uint64, writeTime int64) error {
	if err := a.checkShard(shard); err != nil {
		return err
	}
	if why := checkEntry(0, sequence, writeTime, 0); why != "" {
		return fmt.Errorf("delete %v: %s: %w", id, why, persistence.ErrRefused)
	}
	a.forget(int16(shard), id)
	d := deletion{a, int16(shard), a.group(id), id, writeTime}
	err := a.session.Query(cqlInsertDeleted, d.shard, d.group, id.Site, id.Device, int64(sequence), writeTime).WithContext(ctx).Exec()
	if err == nil {
		err = a.session.Query(cqlDelRecords, writeTime, d.shard, d.group, id.Site, id.Device).WithContext(ctx).Exec()
	}
	for _, step := range []messages.Step{readings, messages.Minute, messages.Hour} {
		if err == nil {
			err = d.run(ctx, step)
		}
	}
	if err != nil {
		return fmt.Errorf("delete %v: %w", id, err)
	}
	return nil
}

// deletion frees the space of a deleted device.
type deletion struct {
	archive      *Archive
	shard, group int16
	id           messages.DeviceID
	writeTime    int64
}

// run deletes the device's rows of one step, several buckets at once.
func (d deletion) run(ctx context.Context, step messages.Step) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buckets := d.archive.buckets(ctx, d.shard, d.group, step, math.MinInt64, math.MaxInt64, true)
	results := make(chan error)
	running := 0
	var err error
	var bucket int64
	for err == nil && buckets.Scan(&bucket) {
		if running == maxAhead {
			err = <-results
			running--
		}
		running++
		go func(bucket int64) { results <- d.bucket(ctx, step, bucket) }(bucket) // the next Scan writes to ours
	}
	for ; running > 0; running-- {
		err = cmp.Or(err, <-results)
	}
	return cmp.Or(err, buckets.Close())
}

func (d deletion) bucket(ctx context.Context, step messages.Step, bucket int64) error {
	s, id := d.archive.session, d.id
	probe := s.Query(d.archive.statement(cqlHasReadings, cqlHasChunks), d.shard, d.group, bucket, id.Site, id.Device)
	remove := s.Query(d.archive.statement(cqlDelReadings, cqlDelChunks), d.writeTime, d.shard, d.group, bucket, id.Site, id.Device)
	if step != readings {
		probe, remove = s.Query(cqlHasRollups, d.shard, d.group, int(step), bucket, id.Site, id.Device), s.Query(cqlDelRollups, d.writeTime, d.shard, d.group, int(step), bucket, id.Site, id.Device)
	}
	var oldest int64
	if err := probe.WithContext(ctx).Scan(&oldest); errors.Is(err, gocql.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return remove.WithContext(ctx).Exec()
}
