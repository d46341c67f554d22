package actors

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// repair carries out one stage of a repair. It does not change j.
func (x *executor) repair(ctx context.Context, j *repairJob) (r repaired, err error) {
	r.stage = j.stage
	switch {
	case j.stage == settingAside:
		r.losses, err = x.archive.SetAside(ctx, x.shard, j.key.id, j.key.step, j.from, j.to, j.sequence)
	case j.stage == recovering && j.key.step == 0:
		err = x.recoverReadings(ctx, j, &r)
	case j.stage == recovering:
		r.starts, r.above, err = x.recoverable(ctx, j)
	default:
		for _, left := range j.left {
			err = cmp.Or(err, x.archive.Recovered(ctx, x.shard, j.key.id, j.key.step, left))
		}
	}
	return r, err
}

// replayed is what the replay of a device has shown of its readings.
type replayed struct {
	above int64             // all readings later than this are in rows
	rows  []persistence.Row // of the messages that were replayed
	times map[uint64]int64  // their write times, by sequence
}

// begin notes what the device had before the replay: a reading later than all of those comes in it.
func (r *replayed) begin(d *Device) {
	r.above, r.times = max(d.newest, d.dropped), map[uint64]int64{}
}

func (r *replayed) add(in []Arrived) {
	for i := range in {
		a := &in[i]
		r.times[a.Sequence] = a.WriteTime
		if a.Written() {
			row := a.Row()
			row.Values, row.Quality = slices.Clone(row.Values), slices.Clone(row.Quality)
			row.Note = string([]byte(row.Note))
			r.rows = append(r.rows, row)
		}
	}
}

// recoverReadings finds those readings of a repair's losses that are in the device's window, or in the stream behind what
// is snapshotted, as they were written, and the event time above which those are all there ever were. Earlier ones are
// left out: what replaced them may be lost, and what they were assigned may be another time. A reading of the window that
// the stream does not have any more gets the write time of its end, so that it is older than all that came since, for
// the archive too.
func (x *executor) recoverReadings(ctx context.Context, j *repairJob, r *repaired) error {
	again, load := &replayed{}, j.load
	load.wants = slices.Clone(load.wants)
	w := &load.wants[0]
	w.again, w.producers = again, w.producers.clone()
	if _, err := x.load(ctx, &load); err != nil {
		return err
	}
	found := map[int64]persistence.Row{}
	for _, row := range j.held {
		row.WriteTime = w.writeTime
		if at, ok := again.times[row.Sequence]; ok {
			row.WriteTime = at
		}
		found[row.Time] = row
	}
	for _, row := range again.rows {
		if row.Sequence >= found[row.Time].Sequence {
			found[row.Time] = row
		}
	}
	r.above = min(j.above, again.above)
	maps.DeleteFunc(found, func(t int64, _ persistence.Row) bool {
		return t <= r.above || !slices.ContainsFunc(j.losses, func(l persistence.Loss) bool { return l.From <= t && t <= l.To })
	})
	r.rows = slices.SortedFunc(maps.Values(found), func(a, b persistence.Row) int { return cmp.Compare(a.Time, b.Time) })
	return nil
}

// repairRollups bounds the rollups, and repairRows the readings looked at for them, of one repair; the newest
// are taken.
const (
	repairRollups = 2000
	repairRows    = 500_000
)

// recoverable returns the starts of those rollups of a repair's losses that have readings, newest first, and an event
// time up to which there may be more: not looked at, or with readings that have expired.
func (x *executor) recoverable(ctx context.Context, j *repairJob) (starts []int64, above int64, err error) {
	step := j.key.step
	above = x.expired(j.now)
	rows := 0
	for _, loss := range j.losses {
		r := persistence.Range{From: loss.To, To: max(loss.From, above+1), Damaged: func(persistence.Damage) {}} // such are kept when they are computed
		if r.From < r.To {
			continue
		}
		err = x.archive.Scan(ctx, x.shard, j.key.id, r, func(row *persistence.Row) bool {
			start := step.Start(row.Time)
			if rows++; len(starts) == repairRollups || rows == repairRows {
				above = max(above, start+int64(step)-1)
				return false
			}
			if !slices.Contains(starts[max(0, len(starts)-1):], start) {
				starts = append(starts, start)
			}
			return true
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return slices.DeleteFunc(starts, func(start int64) bool { return start <= above }), above, nil
}

// expired returns the event time up to which readings may have expired: by the shortest class, whatever the
// device's is now.
func (x *executor) expired(now int64) int64 {
	if kept := x.limits.Classes.Shortest().Readings; kept > 0 {
		return now - kept.Milliseconds()
	}
	return never
}

// askRepairWithin bounds how long a question that met damage waits until the owner of its shard knows.
const askRepairWithin = time.Second

// met has damage repaired that a question met between two event times, and returns err.
func (m *Member) met(ctx context.Context, id messages.DeviceID, step messages.Step, from, to int64, err error) error {
	if !errors.Is(err, persistence.ErrCorrupt) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askRepairWithin)
	defer cancel()
	q := question{Kind: askRepair, Shard: messages.ShardOf(id, m.cfg.Shards), Device: id, Step: step, From: min(from, to), To: max(from, to)}
	if _, told := routed(ctx, m, q, m.repair); told != nil {
		m.log.Warn("damage is not repaired before it is met again", "site", id.Site, "device", id.Device, "error", told)
	}
	return err
}

// repair has one shard of this member repair what is damaged.
func (m *Member) repair(ctx context.Context, q *question) (bool, error) {
	return ofCore(ctx, m, q.Shard, func(c *core) bool {
		c.repair(q.Device, q.Step, q.From, q.To)
		return true
	})
}
