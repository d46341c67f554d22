package actors

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// shardActor owns one shard: its core, its devices (supervised children), its feed and the goroutines
// that carry out what the core asks for. A shard that fails is restarted from its checkpoint by its
// member.
type shardActor struct {
	member *Member
	shard  messages.Shard
	log    *slog.Logger
	props  *actor.Props // of devices

	ctx           actor.Context
	self          *actor.PID
	life          context.Context // ends with this instance
	end           context.CancelFunc
	work          sync.WaitGroup // goroutines of this instance
	core          *core
	exec          *executor
	draining      atomic.Bool    // no more is pulled
	full          atomic.Bool    // the reserved sequences are used up
	toldUpTo      uint64         // stored, as of the last news to producers
	announcing    int            // announcements under way
	announcements []*announceJob // waiting for one of them to end; bounded by the messages in flight
	idle          atomic.Int64   // Unix ms since when the feed has waited for a message, 0 = it does not
}

// started is the result of begin.
type started struct {
	plan    Plan
	exec    *executor
	feed    Feed
	marker  persistence.Marker
	snaps   []knownSnapshot
	devices []messages.DeviceID
	sites   map[string]siteRecord
}

type knownSnapshot struct {
	row      messages.DeviceRow
	sequence uint64
	due      int64
}

// then is something to do with the core, in the shard's goroutine.
type then func(c *core)

// failedToStart says why begin gave up.
type failedToStart struct{ err error }

// beginAgain asks a shard without a core to try once more.
type beginAgain struct{}

// pulledMessages brings messages; done is closed when they are taken in.
type pulledMessages struct {
	msgs []messages.Message
	done chan struct{}
}

func newShardActor(m *Member, shard messages.Shard) *shardActor {
	s := &shardActor{member: m, shard: shard, log: m.log.With("shard", int(shard))}
	s.props = actor.PropsFromProducer(
		func() actor.Actor { return &deviceActor{shard: s} },
		actor.WithDispatcher(actor.NewSynchronizedDispatcher(300)),
		actor.WithMailbox(actor.UnboundedLockfree()),
	)
	return s
}

// Receive implements actor.Actor.
func (s *shardActor) Receive(ctx actor.Context) {
	s.ctx = ctx
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.start(ctx)
	case *actor.Stopping, *actor.Restarting:
		s.finish()
	case *actor.Stopped:
		s.member.stopped(s)
	case beginAgain:
		s.begin()
	case *started:
		s.takeOver(m)
	case failedToStart:
		s.tryLater(m.err)
	case pulledMessages:
		s.pulled(m)
	case then:
		if s.core != nil {
			m(s.core)
			s.check()
		}
	case ask2:
		s.ask(m)
	}
}

// ask2 carries a question for a device, or for the core, to the shard.
type ask2 struct {
	with   func(*core)
	refuse func(error)
}

func (s *shardActor) ask(m ask2) {
	if s.core == nil {
		m.refuse(ErrStarting)
		return
	}
	m.with(s.core)
	s.check()
}

// ErrStarting is what questions get while their shard has not started.
var ErrStarting = errors.New("the shard is starting")

// tell has the core do something, from any goroutine.
func (s *shardActor) tell(do then) { s.member.system.Root.Send(s.self, do) }

func (s *shardActor) start(ctx actor.Context) {
	s.self = ctx.Self()
	s.life, s.end = context.WithCancel(s.member.life)
	s.member.running(s)
	s.begin()
}

// begin takes the shard over, in a goroutine.
func (s *shardActor) begin() {
	life := s.life
	s.spawn(func() {
		ctx, cancel := context.WithTimeout(life, startDeadline)
		defer cancel()
		began, err := s.member.begin(ctx, s.shard)
		if err != nil {
			s.member.system.Root.Send(s.self, failedToStart{err})
			return
		}
		s.member.system.Root.Send(s.self, began)
	})
}

// startDeadline bounds one try to take a shard over.
const startDeadline = 5 * time.Minute

func (s *shardActor) spawn(do func()) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		do()
	}()
}

func (s *shardActor) tryLater(err error) {
	if s.life.Err() != nil {
		return
	}
	s.log.Error("shard cannot start, trying again", "error", err)
	self, root := s.self, s.member.system.Root
	s.later(time.Second+rand.N(time.Second), func() { root.Send(self, beginAgain{}) })
}

// later does something after a while, unless this instance has ended by then.
func (s *shardActor) later(wait time.Duration, do func()) {
	life := s.life
	s.spawn(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			do()
		case <-life.Done():
		}
	})
}

// takeOver makes the core from what begin found and starts pulling.
func (s *shardActor) takeOver(b *started) {
	if s.life.Err() != nil {
		b.feed.Close()
		return
	}
	seed := fnv.New64a()
	fmt.Fprint(seed, s.shard, b.plan.Checkpoint.Epoch)
	c := newCore(s.shard, s.member.cfg, b.plan, s, rand.New(rand.NewPCG(seed.Sum64(), 1)), s.member.now())
	c.marker = b.marker
	for name, site := range b.sites {
		c.knowSite(name, site.own, site.sequence)
	}
	for _, id := range b.devices {
		c.know(messages.DeviceRow{Device: id}, 0, 0)
	}
	for _, k := range b.snaps {
		c.know(k.row, k.sequence, k.due)
	}
	s.core, s.exec, s.toldUpTo = c, b.exec, b.plan.Checkpoint.Stored
	s.full.Store(false)
	s.spawn(func() { s.pull(b.feed, c.applied+1) })
	s.member.started(s, b.plan)
}

// finish ends this instance: its goroutines are waited for, its credit is given back.
func (s *shardActor) finish() {
	if s.end == nil {
		return
	}
	s.end()
	s.work.Wait()
	s.member.credit.Reset(s.shard)
	s.core, s.exec, s.end = nil, nil, nil
	s.announcing, s.announcements = 0, nil
}

// check ends a core that has lost its shard, and starts over after a while.
func (s *shardActor) check() {
	if s.core == nil || s.core.lost == nil {
		return
	}
	err := s.core.lost
	for _, child := range s.ctx.Children() {
		s.ctx.Stop(child)
	}
	s.finish()
	s.life, s.end = context.WithCancel(s.member.life)
	s.tryLater(fmt.Errorf("the shard was lost: %w", err))
}

func (s *shardActor) pulled(m pulledMessages) {
	if s.core != nil {
		s.core.creditShort = false
		s.core.pulled(s.member.now(), m.msgs)
		s.full.Store(!s.core.mayPull())
		s.check()
	}
	close(m.done)
}

// pull brings in messages from sequence next on while there is credit for them: one pull is taken in
// before the next begins.
// It owns the feed and closes it.
func (s *shardActor) pull(feed Feed, next uint64) {
	life := s.life
	defer func() {
		if feed != nil {
			feed.Close()
		}
	}()
	for life.Err() == nil && !s.draining.Load() {
		err := s.member.credit.Acquire(life, s.shard, MinPull, func() {
			s.tell(func(c *core) { c.shortOfCredit() })
		})
		if err != nil {
			return
		}
		s.idle.Store(s.member.now())
		msgs, err := feed.Pull(life, MinPull)
		s.idle.Store(0)
		cost := 0
		for i := range msgs {
			cost += messageCost(&msgs[i])
		}
		s.member.credit.Release(s.shard, MinPull-cost)
		if err != nil {
			if life.Err() != nil {
				return
			}
			if feed = s.reopen(life, feed, next, err); feed == nil {
				return
			}
			continue
		}
		done := make(chan struct{})
		s.member.system.Root.Send(s.self, pulledMessages{msgs, done})
		select {
		case <-done:
		case <-life.Done():
			return
		}
		if s.full.Load() {
			s.startAnew(life)
			return
		}
		if len(msgs) > 0 {
			next = msgs[len(msgs)-1].Sequence + s.exec.offset + 1
		}
	}
}

// errReserveUsed has a shard start anew, which reserves more sequences.
var errReserveUsed = errors.New("all reserved sequences are used")

// startAnew has the shard start anew, for want of sequences that may be used.
func (s *shardActor) startAnew(life context.Context) {
	s.tell(func(c *core) { c.lose(errReserveUsed) })
	<-life.Done()
}

// reopen replaces a feed that has failed; nil when the shard ends.
func (s *shardActor) reopen(life context.Context, old Feed, next uint64, err error) Feed {
	s.log.Warn("feed failed, opening another", "error", err)
	old.Close()
	for {
		select {
		case <-life.Done():
			return nil
		case <-time.After(time.Second):
		}
		feed, err := s.member.parts.Log.Open(life, s.shard, next-s.exec.offset)
		if err == nil {
			return feed
		}
		s.log.Warn("cannot open the feed", "error", err)
	}
}

// tick is called by the member's ticker.
func (s *shardActor) tick(now int64) {
	since := s.idle.Load()
	s.tell(func(c *core) { c.tick(now, since > 0 && now-since > 1000) })
}
