package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Parts are what a member is put together from.
type Parts struct {
	Archive     persistence.Archive
	Snapshots   persistence.Snapshots
	Log         Log
	Checkpoints Cells
	Leases      Cells
	Starts      Cells // counts of starts, and messages that end the process
	Outside     Outside
	Stored      func(site, producer string, news StoredNews) // tells a producer how far it is stored; must not wait
	Notice      func(Notice)                                 // counts; nil = none
	Corrupt     func(what string)                            // counts what was found damaged; nil = none
}

// Options of a member.
type Options struct {
	Name     string // of the member, in leases
	Address  string // where other members reach it; may be empty
	Config   Config
	InFlight int // most bytes pulled and not yet stored; 0 = DefaultInFlight
	Parts    Parts
	Logger   *slog.Logger
	Now      func() int64 // ms; nil = the machine's clock
	// Shared is set when other members own shards too: then Start takes none, and Take, HandOver and Drop
	// say which this member has. nil = this member has them all, from Start to Stop.
	Shared *Shared
	// Inspect sees each reading inside its device's actor, just before the device does. It is for tests
	// that make a device panic; nil = none.
	Inspect func(*Arrived)
}

// Member runs the shards that this process holds, each as a supervised actor. All methods may be
// called by many goroutines.
type Member struct {
	options Options
	cfg     Config
	parts   Parts
	log     *slog.Logger
	now     func() int64
	credit  *Credit
	system  *actor.ActorSystem
	life    context.Context
	end     context.CancelFunc
	ticking sync.WaitGroup

	complaints complaints
	together   func(...func() error) error // atOnce, but in the simulation, which has one thing happen after the other

	mu     sync.Mutex
	shards []*shardHandle
	takes  uint64 // shards taken so far, for the names of their actors
	past   Stats  // counters of cores that have ended
}

// shardHandle is what a member knows of one shard's actor.
type shardHandle struct {
	pid     *actor.PID
	current *shardActor // the instance that runs, nil = none
	ready   bool
	plan    Plan
	ended   chan struct{}
	said    *Stats // the newest figures that its core gave; nil = none yet
	cores   int    // cores that have ended

	// Of a shard that is shared:
	seen    uint64    // revision of the lease that may be replaced by a claim
	claimed uint64    // revision of our claim, 0 = none yet
	paused  time.Time // when the owner before stopped pulling, to hand over; zero = it did not tell
	resumed uint64    // logical sequence at which its devices are where they were then
	leaving bool      // it is being handed over or dropped
}

// NewMember makes a member; Start starts it.
func NewMember(o Options) *Member {
	cfg := o.Config.WithDefaults()
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	m := &Member{
		options: o, cfg: cfg, parts: o.Parts, log: o.Logger, now: o.Now,
		credit: NewCredit(o.InFlight, cfg.Shards),
		shards: make([]*shardHandle, cfg.Shards), together: atOnce,
	}
	m.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return o.Logger.With("part", "actors") }),
		actor.WithDeadLetterRequestLogging(false),
	)
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// Start takes all shards, or, when they are shared, waits for Take. It returns at once; Starting tells
// which are not there yet.
func (m *Member) Start() error {
	for n := range m.shards {
		if m.options.Shared != nil {
			break
		}
		if err := m.spawn(messages.Shard(n), &shardHandle{ended: make(chan struct{})}, fmt.Sprintf("shard-%d", n)); err != nil {
			return err
		}
	}
	m.ticking.Add(1)
	go m.tick()
	return nil
}

// spawn makes a shard's actor.
func (m *Member) spawn(shard messages.Shard, h *shardHandle, name string) error {
	props := actor.PropsFromProducer(
		func() actor.Actor { return newShardActor(m, shard) },
		actor.WithSupervisor(deviceStrategy{m, shard}),
		actor.WithGuardian(shardStrategy{m}),
	)
	m.mu.Lock()
	m.shards[shard] = h
	m.mu.Unlock()
	pid, err := m.system.Root.SpawnNamed(props, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.shards[shard] = nil
		return fmt.Errorf("start shard %d: %w", shard, err)
	}
	h.pid = pid
	return nil
}

// shardStrategy restarts a shard that panicked from its checkpoint; its begin waits before it tries.
type shardStrategy struct{ member *Member }

// HandleFailure implements actor.SupervisorStrategy.
func (s shardStrategy) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	s.member.log.Error("a shard failed and is restarted from its checkpoint", "actor", child.Id, "reason", fmt.Sprint(reason))
	supervisor.RestartChildren(child)
}

func (m *Member) tick() {
	defer m.ticking.Done()
	ticker := time.NewTicker(tickEvery * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-m.life.Done():
			return
		case <-ticker.C:
			for _, s := range m.instances() {
				s.tick(m.now())
			}
		}
	}
}

// tell has a shard's core do something.
func (m *Member) tell(shard messages.Shard, do then) {
	var pid *actor.PID
	m.mu.Lock()
	if h := m.shards[shard]; h != nil {
		pid = h.pid
	}
	m.mu.Unlock()
	if pid != nil {
		m.system.Root.Send(pid, do)
	}
}

func (m *Member) instances() []*shardActor {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*shardActor
	for _, h := range m.shards {
		if h != nil && h.current != nil {
			out = append(out, h.current)
		}
	}
	return out
}

func (m *Member) running(s *shardActor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.shards[s.shard]; h != nil {
		h.pid, h.current, h.ready = s.self, s, false
	}
}

func (m *Member) started(s *shardActor, p Plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.shards[s.shard]
	if h == nil || h.current != s {
		return
	}
	h.ready, h.plan = true, p
	if !h.paused.IsZero() && h.resumed > s.core.applied {
		s.resumed = h.resumed
	} else {
		m.tellPause(h)
	}
}

// resumed tells how long the devices of a shard stood still.
func (m *Member) resumed(s *shardActor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.shards[s.shard]; h != nil && h.current == s {
		m.tellPause(h)
	}
}

// tellPause tells it once, if there was one; m.mu is held.
func (m *Member) tellPause(h *shardHandle) {
	if !h.paused.IsZero() {
		m.options.Shared.HandedOver(time.UnixMilli(m.now()).Sub(h.paused))
		h.paused = time.Time{}
	}
}

func (m *Member) stopped(s *shardActor) {
	m.mu.Lock()
	h := m.shards[s.shard]
	ended := h != nil && h.current == s
	if ended {
		h.current, h.ready = nil, false
		close(h.ended)
		if m.options.Shared != nil {
			m.shards[s.shard] = nil
		}
	}
	m.mu.Unlock()
	if ended && m.options.Shared != nil {
		m.options.Shared.Changed()
	}
}

// Starting returns the shards of this member that cannot answer yet.
func (m *Member) Starting() []messages.Shard {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []messages.Shard
	for n, h := range m.shards {
		if h == nil && m.options.Shared == nil || h != nil && !h.ready {
			out = append(out, messages.Shard(n))
		}
	}
	return out
}

// Stop hands everything over: no more pulling, everything stored, snapshotted and checkpointed, as
// far as ctx allows; then the actors end. What did not get done in time is replayed at the next start.
func (m *Member) Stop(ctx context.Context) error {
	var wait sync.WaitGroup
	if m.options.Shared != nil {
		m.handOverAll(ctx)
	}
	for _, s := range m.instances() {
		wait.Add(1)
		s.draining.Store(true)
		go func() {
			defer wait.Done()
			m.drain(ctx, s, nil)
		}()
	}
	wait.Wait()
	m.end()
	m.ticking.Wait()
	m.mu.Lock()
	handles := slices.Clone(m.shards)
	m.mu.Unlock()
	for _, h := range handles {
		if h != nil && h.pid != nil {
			m.system.Root.Stop(h.pid)
		}
	}
	for _, h := range handles {
		if h == nil || h.pid == nil {
			continue
		}
		select {
		case <-h.ended:
		case <-time.After(10 * time.Second):
			return errors.New("a shard did not end in time")
		}
	}
	m.system.Shutdown()
	return ctx.Err()
}

// drainEvery is how often a shard that drains is looked at, and told to go on.
const drainEvery = 5 * time.Millisecond

// drain empties one shard, and tells whether it did; ended, if not nil, is closed when its actor ends.
func (m *Member) drain(ctx context.Context, s *shardActor, ended <-chan struct{}) bool {
	return m.press(ctx, s, ended, drainEvery, func(c *core) bool {
		c.draining = true
		s.endPull()
		c.hurry(m.now())
		select {
		case <-s.pullEnded:
			return c.drained()
		default: // what a pull has brought is not in the core yet
			return c.lost != nil
		}
	})
}

// press has a shard's core do something again and again until it tells that all is done, and tells whether it
// did; a shard without a core has nothing to do.
func (m *Member) press(ctx context.Context, s *shardActor, ended <-chan struct{}, every time.Duration, do func(*core) bool) bool {
	for ctx.Err() == nil {
		answer := make(chan bool, 1)
		m.system.Root.Send(s.self, ask2{
			with:   func(c *core) { answer <- do(c) },
			refuse: func(error) { answer <- true },
		})
		select {
		case done := <-answer:
			if done {
				return true
			}
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
	return false
}
