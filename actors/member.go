package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

	// Of a shard that is shared:
	seen    uint64    // revision of the lease that may be replaced by a claim
	claimed uint64    // revision of our claim, 0 = none yet
	paused  time.Time // when the owner before stopped pulling, to hand over; zero = it did not tell
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
		shards: make([]*shardHandle, cfg.Shards),
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
const drainEvery = 20 * time.Millisecond

// drain empties one shard, and tells whether it did; ended, if not nil, is closed when its actor ends.
func (m *Member) drain(ctx context.Context, s *shardActor, ended <-chan struct{}) bool {
	for ctx.Err() == nil {
		empty := make(chan bool, 1)
		m.system.Root.Send(s.self, ask2{
			with: func(c *core) {
				c.draining = true
				c.tick(m.now(), false)
				empty <- c.drained()
			},
			refuse: func(error) { empty <- true },
		})
		select {
		case done := <-empty:
			if done {
				return true
			}
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		}
		select {
		case <-time.After(drainEvery):
		case <-ctx.Done():
		}
	}
	return false
}

// lease is the value of a shard's lease.
type lease struct {
	Member  string `json:"member"` // empty = released
	Address string `json:"address,omitempty"`
	Paused  int64  `json:"paused,omitempty"` // of a released one: ms, when its owner stopped pulling
}

// begin takes a shard: claim, fences, checkpoint, table of devices, feed. See PlanStart.
func (m *Member) begin(ctx context.Context, shard messages.Shard) (*started, error) {
	p := m.parts
	claim, err := m.claim(ctx, shard)
	if err != nil {
		return nil, err
	}
	found := Found{Claim: claim, Snapshots: true, Now: m.now()}
	data, revision, err := p.Checkpoints.Load(ctx, shardKey(shard))
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	default:
		if found.Checkpoint, err = DecodeCheckpoint(data); err != nil {
			return nil, err
		}
	}
	if found.Stream, err = p.Log.State(ctx, shard); err != nil {
		return nil, fmt.Errorf("look at the stream: %w", err)
	}
	if found.Witness, err = m.witness(ctx, shard); err != nil {
		return nil, err
	}
	m.lookAtMarks(ctx, shard, &found)
	m.lookAtSnapshots(ctx, shard, &found)
	plan := PlanStart(found)
	k := &plan.Checkpoint
	if found.Snapshots {
		if err := p.Snapshots.RaiseFence(ctx, shard, k.Epoch); err != nil {
			return nil, fmt.Errorf("raise the fence: %w", err)
		}
	}
	caution, err := loadStarts(ctx, p.Starts, shard, k, found.Stream.Last+k.Offset)
	if err != nil {
		return nil, err
	}
	plan.Starts = caution.starts
	b := &started{plan: plan, marker: found.Marker, sites: map[string]siteRecord{}, caution: caution}
	b.exec = &executor{
		shard: shard, archive: p.Archive, snapshots: p.Snapshots, log: p.Log, cells: p.Checkpoints,
		outside: p.Outside, epoch: k.Epoch, offset: k.Offset, revision: revision, limits: &m.cfg.Limits, fleet: &m.cfg.Fleet,
		inspect: m.options.Inspect, guilty: plan.Starts.Guilty, accounts: m.cfg.Retire,
		corrupt: func(c Corruption) { m.corrupt(shard, c) },
	}
	if data, err = k.Encode(); err != nil {
		return nil, fmt.Errorf("encode the checkpoint: %w", err)
	}
	if err := b.exec.saveCheckpoint(ctx, data); err != nil {
		return nil, fmt.Errorf("save the first checkpoint: %w", err)
	}
	b.exec.witness, b.exec.witnessTime = Witness{Epoch: k.Epoch, Reserved: k.Reserved}, m.now()*1000
	if err := b.exec.bearWitness(ctx, 0, 0); err != nil {
		return nil, fmt.Errorf("have the archive keep the shard's start: %w", err)
	}
	if plan.Rebuild && found.Snapshots {
		m.beginGeneration(ctx, b)
	}
	if err := m.readTable(ctx, b, found.Snapshots); err != nil {
		return nil, err
	}
	if b.feed, err = p.Log.Open(ctx, shard, plan.From); err != nil {
		return nil, fmt.Errorf("open the feed: %w", err)
	}
	return b, nil
}

// lookAtMarks reads the arrivals of the messages that checkpoint and witness remember, as far as the
// stream still has them.
func (m *Member) lookAtMarks(ctx context.Context, shard messages.Shard, f *Found) {
	k := f.Checkpoint
	if k == nil {
		return
	}
	arrival := func(seq uint64, mark int64) int64 {
		if mark == 0 || seq <= k.Offset {
			return 0
		}
		msg, err := m.parts.Log.Get(ctx, shard, seq-k.Offset)
		if err != nil {
			return 0
		}
		return msg.Arrival
	}
	f.Landmark, f.StoredMark = arrival(k.Snapshotted, k.Landmark), arrival(k.Stored, k.StoredMark)
	if w := f.Witness; w != nil {
		f.Deleted = arrival(w.Deleted, w.DeletedMark)
	}
}

// witnessSite stands in the site's place of the archive's record of a shard's starts. No site can have
// this name.
const witnessSite = "@shard"

// witness returns what the archive keeps of the shard's newest start.
func (m *Member) witness(ctx context.Context, shard messages.Shard) (*Witness, error) {
	records, err := m.parts.Archive.Records(ctx, shard, messages.DeviceID{Site: witnessSite})
	if err != nil {
		return nil, fmt.Errorf("read what the archive knows of the shard's starts: %w", err)
	}
	if len(records) == 0 {
		return nil, nil
	}
	var w Witness
	if err := json.Unmarshal(records[len(records)-1].Payload, &w); err != nil {
		return nil, fmt.Errorf("read what the archive knows of the shard's starts: %w", err)
	}
	return &w, nil
}

// beginGeneration has the marker tell of the new generation, so that a start that comes before its
// first snapshots finds nothing amiss. If that fails, the first put finds out.
func (m *Member) beginGeneration(ctx context.Context, b *started) {
	k := &b.plan.Checkpoint
	marker := persistence.Marker{Generation: k.Generation, Snapshotted: k.Snapshotted, Puts: b.marker.Puts + 1}
	if err := m.parts.Snapshots.PutMarker(ctx, b.exec.shard, k.Epoch, b.marker, marker); err != nil {
		m.log.Warn("cannot store the marker of a new generation", "shard", int(b.exec.shard), "error", err)
		return
	}
	b.marker = marker
}

// claim writes the lease; its revision is part of the epoch.
func (m *Member) claim(ctx context.Context, shard messages.Shard) (uint64, error) {
	if m.options.Shared != nil {
		return m.claimShared(ctx, shard)
	}
	_, revision, err := m.parts.Leases.Load(ctx, shardKey(shard))
	if err != nil && !errors.Is(err, persistence.ErrNotFound) {
		return 0, fmt.Errorf("read the lease: %w", err)
	}
	data, err := json.Marshal(lease{Member: m.options.Name, Address: m.options.Address})
	if err != nil {
		return 0, fmt.Errorf("encode the lease: %w", err)
	}
	claim, err := m.parts.Leases.Save(ctx, shardKey(shard), data, revision)
	if err != nil {
		return 0, fmt.Errorf("claim the lease: %w", err)
	}
	return claim, nil
}

// snapshotPatienceAtStart is how long a start waits for the snapshot store before it goes on without.
const snapshotPatienceAtStart = 5 * time.Second

// lookAtSnapshots reads fence and marker. A store that cannot be reached is done without: states
// come from the archive.
func (m *Member) lookAtSnapshots(ctx context.Context, shard messages.Shard, f *Found) {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatienceAtStart)
	defer cancel()
	fence, err := m.parts.Snapshots.Fence(ctx, shard)
	if err == nil {
		f.Fence = fence
		f.Marker, err = m.parts.Snapshots.Marker(ctx, shard)
	}
	if err != nil {
		f.Snapshots = false
		m.complain("start without snapshots: the snapshot store cannot be reached: "+err.Error(), shard)
	}
}

// complain logs that a store fails, but not each time.
func (m *Member) complain(text string, shard messages.Shard) {
	if unsaid, say := m.complaints.due(text, time.Now()); say {
		m.log.Warn("a store failed, trying again", "shard", int(shard), "what", text, "unsaid", unsaid)
	}
}

// readTable fills the shard's column table: all names from the archive, lines from snapshots.
func (m *Member) readTable(ctx context.Context, b *started, snapshots bool) error {
	shard, k := b.exec.shard, &b.plan.Checkpoint
	var sites []messages.DeviceID
	err := m.parts.Archive.Devices(ctx, shard, func(id messages.DeviceID) bool {
		id = messages.DeviceID{Site: strings.Clone(id.Site), Device: strings.Clone(id.Device)}
		switch {
		case id.Site == witnessSite:
		case id.Device == "":
			sites = append(sites, id)
		default:
			b.devices = append(b.devices, id)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, id := range sites {
		records, err := m.parts.Archive.Records(ctx, shard, id)
		if err != nil {
			return fmt.Errorf("read the settings of site %s: %w", id.Site, err)
		}
		for _, r := range records {
			if own, err := decodeSiteRecord(r.Payload); err == nil && r.Sequence <= k.Snapshotted {
				b.sites[id.Site] = siteRecord{own: own, sequence: r.Sequence}
			}
		}
	}
	if b.plan.Rebuild || !snapshots {
		return nil
	}
	err = m.parts.Snapshots.Scan(ctx, shard, k.Generation, func(s persistence.Snapshot) bool {
		head, err := PeekSnapshot(s.Data)
		if err != nil {
			b.exec.found(Corruption{What: CorruptSnapshot, Device: s.Device, Damage: persistence.Damage{Err: err}})
		} else if head.Sequence == s.Sequence && head.Sequence <= k.Stored {
			b.snaps = append(b.snaps, head)
		}
		return true
	})
	if errors.Is(err, persistence.ErrCorrupt) {
		b.exec.found(Corruption{What: CorruptSnapshot, Damage: persistence.Damage{Err: err}})
	} else if err != nil {
		m.log.Warn("cannot list snapshots; devices are loaded one by one", "shard", int(shard), "error", err)
	}
	return nil
}

// siteRecord is a site's own settings and the sequence they came with.
type siteRecord struct {
	own      messages.Settings
	sequence uint64
}

func encodeSiteRecord(own messages.Settings) []byte {
	data, err := json.Marshal(own)
	if err != nil {
		panic(err) // plain strings and integers
	}
	return data
}

func decodeSiteRecord(data []byte) (messages.Settings, error) {
	var own messages.Settings
	err := json.Unmarshal(data, &own)
	return own, err
}
