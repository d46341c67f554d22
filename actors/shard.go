package actors

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
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
	taken         *pulledMessages          // whose done is to be closed, nil = none
	draining      atomic.Bool              // no more is pulled
	endPull       context.CancelFunc       // ends a pull that waits
	pullEnded     chan struct{}            // closed when all that was pulled is taken in, and no more will be
	full          atomic.Bool              // the reserved sequences are used up
	resumed       uint64                   // where its devices are where they were before it was handed over, 0 = they are
	toldUpTo      uint64                   // stored, as of the last news to producers
	past          map[producerKey]*account // of runs that were looked up in the archive
	announcing    bool                     // some are under way
	announcements []*announceJob           // waiting for these to end; bounded by the messages in flight
	deleting      int                      // deletions under way
	deletions     []*deleteJob             // waiting for one of them to end; bounded by the devices
	idle          atomic.Int64             // Unix ms since when the feed has waited for a message, 0 = it does not
}

// started is the result of begin.
type started struct {
	plan    Plan
	exec    *executor
	feed    Feed
	marker  persistence.Marker
	snaps   []SnapshotHead
	devices []messages.DeviceID
	sites   map[string]siteRecord
	caution *caution
}

// then is something to do with the core, in the shard's goroutine.
type then func(c *core)

// failedToStart says why begin gave up.
type failedToStart struct{ err error }

// beginAgain asks a shard without a core to try once more.
type beginAgain struct{}

// pulledMessages brings messages; done is closed when they are taken in and at most leave messages of
// the shard are under way. oldest is then the oldest of those, 0 = none. failing is told when a store
// fails meanwhile.
type pulledMessages struct {
	msgs    []messages.Message
	leave   int
	done    chan struct{}
	failing chan struct{}
	oldest  uint64
}

func newPulled(msgs []messages.Message, leave int) *pulledMessages {
	return &pulledMessages{msgs: msgs, leave: leave, done: make(chan struct{}), failing: make(chan struct{}, 1)}
}

func newShardActor(m *Member, shard messages.Shard) *shardActor {
	s := &shardActor{member: m, shard: shard, log: m.log.With("shard", int(shard))}
	s.props = actor.PropsFromProducer(
		func() actor.Actor { return &deviceActor{shard: s} },
		actor.WithMailbox(func() actor.Mailbox { return &turns{} }),
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
	case *pulledMessages:
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
	if errors.Is(err, ErrNotOwner) {
		s.log.Debug("the shard is not this member's", "reason", err)
		s.ctx.Stop(s.self)
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
	s.core, s.exec, s.toldUpTo = c, b.exec, b.plan.Checkpoint.Stored
	c.populate(b)
	s.past = map[producerKey]*account{}
	s.full.Store(false)
	feed, caution, next := b.feed, b.caution, c.applied+1 // and not b: it holds states, which are the devices' now
	pulling, end := context.WithCancel(s.life)
	s.endPull, s.pullEnded = end, make(chan struct{})
	ended := s.pullEnded
	s.spawn(func() { s.pull(pulling, ended, feed, caution, next) })
	s.member.started(s, b.plan)
}

// finish ends this instance: its goroutines are waited for, its credit is given back.
func (s *shardActor) finish() {
	if s.end == nil {
		return
	}
	s.end()
	s.work.Wait()
	if s.core != nil {
		s.member.coreEnded(s.shard, s.core.stats)
	}
	s.member.credit.Reset(s.shard)
	s.core, s.exec, s.end, s.taken = nil, nil, nil, nil
	s.announcing, s.announcements = false, nil
	s.deleting, s.deletions = 0, nil
}

// check is called after each step of the core: it lets the feed go on, and ends a core that has lost
// its shard, to start over after a while.
func (s *shardActor) check() {
	if s.core == nil {
		return
	}
	s.goOn()
	if s.resumed != 0 && s.core.applied >= s.resumed {
		s.resumed = 0
		s.member.resumed(s)
	}
	if s.core.lost == nil {
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

func (s *shardActor) pulled(m *pulledMessages) {
	if s.core == nil {
		close(m.done)
		return
	}
	s.taken = m
	s.core.creditShort, s.core.careful = false, m.leave < math.MaxInt
	s.core.pulled(s.member.now(), m.msgs)
	s.full.Store(!s.core.mayPull())
	s.check()
}

// goOn lets the goroutine that pulls go on when few enough messages are under way and the archive keeps up.
func (s *shardActor) goOn() {
	m := s.taken
	if m == nil {
		return
	}
	if m.leave == math.MaxInt && s.core.behind() {
		return
	}
	if s.core.inFlight.count > m.leave {
		if s.core.storeFails() {
			select {
			case m.failing <- struct{}{}:
			default:
			}
		}
		return
	}
	if p := s.core.inFlight.oldest(); p != nil {
		m.oldest = p.sequence
	}
	s.taken = nil
	close(m.done)
}

// pull brings in messages from sequence next on while there is credit for them: one pull is taken in
// before the next begins. It closes ended, and then the feed, which it owns.
func (s *shardActor) pull(pulling context.Context, ended chan<- struct{}, feed Feed, caution *caution, next uint64) {
	life := s.life
	defer func() {
		close(ended)
		if feed != nil {
			feed.Close()
		}
		if s.draining.Load() {
			s.keepThat(caution.ended)
		}
	}()
	for s.member.permitted(life) && !s.draining.Load() {
		err := s.member.credit.Acquire(pulling, s.shard, MinPull, func() {
			s.tell(func(c *core) { c.shortOfCredit() })
		})
		if err != nil {
			return
		}
		s.idle.Store(s.member.now())
		s.member.credit.pulling(MinPull)
		msgs, err := feed.Pull(pulling, MinPull)
		s.member.credit.pulling(-MinPull)
		s.idle.Store(0)
		cost := 0
		for i := range msgs {
			cost += messageCost(&msgs[i])
		}
		s.member.credit.Release(s.shard, MinPull-cost)
		if err != nil {
			if pulling.Err() != nil {
				return
			}
			if feed = s.reopen(pulling, feed, next, err); feed == nil {
				return
			}
			continue
		}
		if !s.handOn(life, caution, msgs) {
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

// handOn has the core take messages: with care those that need it, the others at once. It tells
// whether the shard goes on.
func (s *shardActor) handOn(life context.Context, caution *caution, msgs []messages.Message) bool {
	for len(msgs) > 0 && caution.needed(msgs[0].Sequence+s.exec.offset) {
		if !s.handOnCarefully(life, caution, &msgs[0]) {
			return false
		}
		msgs = msgs[1:]
	}
	if caution.over() {
		if err := caution.end(life); err != nil && life.Err() == nil {
			s.log.Warn("the next start will be careful without need", "error", err)
		}
	}
	if len(msgs) == 0 {
		return true
	}
	return s.await(life, newPulled(msgs, math.MaxInt), nil)
}

// handOnCarefully has the core take one message, after it was noted.
func (s *shardActor) handOnCarefully(life context.Context, caution *caution, m *messages.Message) bool {
	seq := m.Sequence + s.exec.offset
	for {
		err := caution.note(life, seq)
		if err == nil {
			break
		}
		s.log.Warn("cannot note the message that is to be applied with care, trying again", "error", err)
		select {
		case <-life.Done():
			return false
		case <-time.After(time.Second):
		}
	}
	caution.bytes += messageCost(m)
	p := newPulled([]messages.Message{*m}, caution.leave(seq))
	if !s.await(life, p, func() { s.keepThat(caution.clear) }) {
		return false
	}
	caution.underWay = p.oldest
	return true
}

// keepThat keeps that nothing under way ends the process, by caution.clear or caution.ended.
func (s *shardActor) keepThat(innocent func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := innocent(ctx); err != nil {
		s.log.Warn("a message that only waits for a store stays noted as one that may end the process", "error", err)
	}
}

// await hands messages to the core and waits until it goes on; it tells whether the shard does.
// waits, if not nil, is called when they wait for a store that fails, or for long.
func (s *shardActor) await(life context.Context, p *pulledMessages, waits func()) bool {
	s.member.system.Root.Send(s.self, p)
	if waits == nil {
		select {
		case <-p.done:
			return true
		case <-life.Done():
			return false
		}
	}
	timer := time.NewTimer(innocentAfter * time.Millisecond)
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return true
		case <-p.failing:
			waits()
		case <-timer.C:
			waits()
		case <-life.Done():
			return false
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

// reopen replaces a feed that has failed; nil when no more is pulled.
func (s *shardActor) reopen(pulling context.Context, old Feed, next uint64, err error) Feed {
	s.log.Warn("feed failed, opening another", "error", err)
	old.Close()
	for {
		select {
		case <-pulling.Done():
			return nil
		case <-time.After(time.Second):
		}
		feed, err := s.member.parts.Log.Open(pulling, s.shard, next-s.exec.offset)
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
