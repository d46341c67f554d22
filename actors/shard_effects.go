package actors

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
)

// The methods in this file make shardActor the effects of its core. They run in the shard's
// goroutine and start what must wait in goroutines of their own; results come back by tell.

// work runs do in a goroutine under a deadline, and hands what it returns to the core.
func (s *shardActor) carryOut(do func(ctx context.Context, x *executor) then) {
	life, x := s.life, s.exec
	s.spawn(func() {
		if !s.member.permitted(life) {
			return
		}
		ctx, cancel := context.WithTimeout(life, operationDeadline)
		defer cancel()
		answer := do(ctx, x)
		if life.Err() == nil {
			s.tell(answer)
		}
	})
}

func (s *shardActor) run(o *op) bool {
	o.inspect = s.member.options.Inspect
	s.member.system.Root.Send(o.entry.shard.(*actor.PID), o)
	return !o.state.CompareAndSwap(opHanded, opWaiting)
}

func (s *shardActor) install(e *entry, d *Device) {
	if e.shard == nil {
		name := e.id.Site + "." + e.id.Device
		if e.lives > 0 {
			name += "." + strconv.Itoa(e.lives)
		}
		e.lives++
		pid, err := s.ctx.SpawnNamed(s.props, name)
		if err != nil {
			panic(fmt.Sprintf("spawn the actor of %s: %v", e.id, err))
		}
		e.shard = pid
	}
	s.member.system.Root.Send(e.shard.(*actor.PID), install{d})
}

// stop ends the actor. Its name stays taken for a while, so the next one of this device gets another.
func (s *shardActor) stop(e *entry) {
	s.ctx.Stop(e.shard.(*actor.PID))
	e.shard = nil
}

func (s *shardActor) append(g *gather) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		err := x.archive.Append(ctx, &g.batch)
		return func(c *core) { c.appended(g, err) }
	})
}

func (s *shardActor) reject(j *rejectJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		err := x.outside.Reject(ctx, j.rejects)
		return func(c *core) { c.rejected(j, err) }
	})
}

// announceTogether is how many announcements of a shard are under way at most: thousands of devices may come online
// in one pull, and other sites' messages wait behind them.
const announceTogether = 8

// announce has what is announced while others are under way wait, and go together after them: each by itself, with a
// goroutine of its own, cost more than the readings of the devices that come online.
func (s *shardActor) announce(j *announceJob) {
	s.announcements = append(s.announcements, j)
	if !s.announcing {
		s.announceWaiting()
	}
}

func (s *shardActor) announceWaiting() {
	n := min(len(s.announcements), announceTogether)
	jobs := s.announcements[:n:n]
	if s.announcements = s.announcements[n:]; len(s.announcements) == 0 {
		s.announcements = nil
	}
	s.announcing = true
	s.carryOut(func(ctx context.Context, x *executor) then {
		list := make([]messages.Announcement, n)
		for i, j := range jobs {
			list[i] = j.Announcement
		}
		errs := x.outside.Announce(ctx, list)
		return func(c *core) {
			if s.announcing = false; len(s.announcements) > 0 {
				s.announceWaiting()
			}
			for i, j := range jobs {
				jobs[i] = nil // what waits behind them shares their memory
				c.announced(j, errs[i])
			}
		}
	})
}

func (s *shardActor) load(j *loadJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		results, err := x.load(ctx, j)
		return func(c *core) { c.loaded(j, results, err) }
	})
}

func (s *shardActor) recompute(j *recomputeJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		row, kept, err := x.recompute(ctx, j.bucket)
		return func(c *core) { c.recomputed(j, row, kept, err) }
	})
}

// deleteParallel is how many deletions of a shard are under way at once: a command to a whole site
// deletes thousands of devices.
const deleteParallel = 8

func (s *shardActor) deleteDevice(j *deleteJob) {
	if s.deleting == deleteParallel {
		s.deletions = append(s.deletions, j)
		return
	}
	s.deleting++
	s.carryOut(func(ctx context.Context, x *executor) then {
		err := x.deleteDevice(ctx, j)
		return func(c *core) {
			s.deleting--
			if waiting := s.deletions; len(waiting) > 0 {
				next := waiting[0]
				s.deletions, waiting[0] = waiting[1:], nil
				s.deleteDevice(next)
			}
			c.deleted(j, err)
		}
	})
}

func (s *shardActor) putSnapshots(j *snapshotJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		actual, err := x.putSnapshots(ctx, j)
		return func(c *core) { c.snapshotsPut(j, actual, err) }
	})
}

func (s *shardActor) putMarker(j *markerJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		actual, err := x.putMarker(ctx, j)
		return func(c *core) { c.markerPut(j, actual, err) }
	})
}

func (s *shardActor) saveCheckpoint(j *saveJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		err := x.saveCheckpoint(ctx, j.data)
		return func(c *core) { c.checkpointSaved(j, err) }
	})
}

func (s *shardActor) retire(j *retireJob) {
	s.carryOut(func(ctx context.Context, x *executor) then {
		err := x.retire(ctx, j)
		return func(c *core) { c.retired(j, err) }
	})
}

func (s *shardActor) repair(j *repairJob) {
	stage := *j // the core may change its own meanwhile
	s.carryOut(func(ctx context.Context, x *executor) then {
		r, err := x.repair(ctx, &stage)
		return func(c *core) { c.repaired(j, r, err) }
	})
}

func (s *shardActor) purge(upTo uint64) {
	created := s.core.saved.Created
	life := s.life
	s.spawn(func() {
		ctx, cancel := context.WithTimeout(life, operationDeadline)
		defer cancel()
		if err := s.member.parts.Log.Purge(ctx, s.shard, upTo, created); err != nil && life.Err() == nil {
			s.log.Warn("cannot purge the stream, the next time will do", "error", err)
		}
	})
}

func (s *shardActor) release(bytes int) { s.member.credit.Release(s.shard, bytes) }

func (s *shardActor) charge(bytes int) { s.member.credit.Charge(s.shard, bytes) }

func (s *shardActor) listening(site string) bool { return s.member.parts.Outside.Listening(site) }

func (s *shardActor) event(subject string, data []byte) { s.member.parts.Outside.Event(subject, data) }

func (s *shardActor) note(n Notice) {
	switch n.Kind {
	case NoticeRetry:
		s.member.complain(n.Text, s.shard)
	case NoticeSnapshotsLost:
		if unsaid, say := s.member.complaints.due("snapshots lost", time.Now()); say {
			s.log.Error(n.Text, "kind", string(n.Kind), "unsaid", unsaid)
		}
	case NoticeRepaired:
		s.log.Warn(n.Text, "kind", string(n.Kind))
	default:
		s.log.Error(n.Text, "kind", string(n.Kind))
	}
	if s.member.parts.Notice != nil {
		s.member.parts.Notice(n)
	}
}

// toldStored tells producers how far they are stored. Of a run that the shard may have let go of before
// it tells what the archive knows too, once that was looked up.
func (s *shardActor) toldStored(k *Checkpoint) {
	if len(s.past) >= pastKept {
		maps.DeleteFunc(s.past, func(key producerKey, _ *account) bool { return k.ProducersStored.of[key] == nil })
	}
	for key, a := range k.ProducersStored.of {
		if a.Last <= s.toldUpTo {
			continue
		}
		before, known := s.past[key]
		if a.mayHavePast() && !known && len(s.past) < pastKept {
			s.lookUp(key, k.Stored)
			continue
		}
		s.tellStored(a, before)
	}
	s.toldUpTo = k.Stored
}

func (s *shardActor) tellStored(a, before *account) {
	if before != nil {
		a = before.with(a)
	}
	s.member.parts.Stored(a.Key.Site, a.Key.Producer, a.news(s.shard))
}

// pastKept bounds the runs whose past is remembered; of those beyond it producers are told without it.
const pastKept = 256

// lookUp asks the archive for the past of a run, and then tells the producer. Until it answers, the run
// counts as one without a past.
func (s *shardActor) lookUp(key producerKey, asOf uint64) {
	s.past[key] = nil
	s.carryOut(func(ctx context.Context, x *executor) then {
		before, err := past(ctx, x.archive, x.shard, key, asOf)
		return func(c *core) {
			if err != nil {
				s.log.Warn("cannot look up what was stored of a producer before", "site", key.Site, "producer", key.Producer, "error", err)
				delete(s.past, key) // the next time will do
				return
			}
			s.past[key] = before
			if a := c.saved.ProducersStored.of[key]; a != nil {
				s.tellStored(a, before)
			}
		}
	})
}

var _ effects = (*shardActor)(nil)
