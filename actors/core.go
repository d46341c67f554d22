package actors

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Config is what a shard goes by. Times are milliseconds.
type Config struct {
	Shards int // number of shards of the cluster
	Limits Limits
	Fleet  messages.Settings // fleet defaults

	FlushAge      int64 // longest a row waits for company before it is handed to the archive; default 1 000
	FlushIdle     int64 // or, when none joins it for so long; default 1 500
	FlushBytes    int   // wire bytes that make a flush due; default 256 KiB
	FlushParallel int   // flushes of the shard under way at once; default 4

	CheckpointEvery int64 // least time between two checkpoints, a fifth of it when all is stored; default 1 000
	SnapshotWithin  int64 // a round of snapshots takes at most about this long, when devices send often; default 60 000
	PassivateAfter  int64 // idle time after which a device that is offline leaves memory; default 900 000, 0 = never
	PurgeBytes      int   // bytes snapshotted that make a purge due; default 8 MiB
	PurgeEvery      int64 // or this much time; default 10 000
	RecomputeAtOnce int   // rollups recomputed from the archive at once; default 4

	Retire Retirement // when the account of a producer's run moves to the archive; default 10 min, and idle 24 h

	RetryFirst int64 // wait before the first retry of a store operation; default 100
	RetryMost  int64 // longest wait between two; default 5 000
	// SnapshotPatience is how long the snapshot store may fail before the shard works on without it:
	// generation + 1, and states come from the archive; default 120 000.
	SnapshotPatience int64
}

// WithDefaults fills zero fields.
func (c Config) WithDefaults() Config {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	setInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	setInt(&c.Shards, 64)
	set(&c.FlushAge, 1000)
	set(&c.FlushIdle, 1500)
	setInt(&c.FlushBytes, 256<<10)
	setInt(&c.FlushParallel, 4)
	set(&c.CheckpointEvery, 1000)
	set(&c.SnapshotWithin, 60_000)
	set(&c.PassivateAfter, 900_000)
	setInt(&c.PurgeBytes, 8<<20)
	set(&c.PurgeEvery, 10_000)
	setInt(&c.RecomputeAtOnce, 4)
	set(&c.Retire.Followed, 600_000)
	set(&c.Retire.Idle, 86_400_000)
	set(&c.RetryFirst, 100)
	set(&c.RetryMost, 5_000)
	set(&c.SnapshotPatience, 120_000)
	setInt(&c.Fleet.WindowCount, 60)
	return c
}

// core is a shard without its actor: it takes messages, results and ticks one at a time, decides, and
// asks effects for the rest. It knows no clock (now is handed in), starts no goroutine and does no I/O,
// so the simulation runs the very code that production runs.
//
// Sequences in it are logical (stream sequence + offset).
type core struct {
	shard messages.Shard
	cfg   Config
	fx    effects
	rnd   *rand.Rand

	now     int64 // ms, of the last call
	saved   Checkpoint
	current Checkpoint // as of stored: what the next save will say, but for Snapshotted
	lost    error      // not nil: the shard is no longer ours, or broken; nothing is done any more

	startStored      uint64 // stored when this life began: what is at or below it is replayed
	startSnapshotted uint64
	guilty           []uint64 // messages that end the process, ascending
	careful          bool     // set by the shard while messages are applied with care: all is flushed at once
	settled          bool     // the replay is over, and settings are those in force

	applied         uint64 // highest logical sequence taken in
	appliedLandmark int64  // arrival (ns) of that message
	writeTime       int64  // last given
	arrival         int64  // of the newest message, ms
	producers       producers
	sites           map[string]*siteState
	entries         []*entry
	inFlight        pendings
	touched         []*entry // with readings of the pull at hand
	rejects         *rejectJob
	rejectedNow     map[messages.DeviceID]*rejectedNews // to be said
	rejectedAt      int64                               // when they were said last
	cold            []loadWant                          // to be loaded at the end of this step
	gather          *gather
	gatherNo        uint64 // of the gather at hand
	flushing        int
	openGather      []*gather // sealed and not appended, ascending
	dirty           map[bucketKey]*dirtyBucket
	dirtyWaiting    []*dirtyBucket
	dirtyReady      []*dirtyBucket
	creditShort     bool // set by the shard while its feed waits for credit
	tickedAt        int64
	failingSince    int64 // since when the snapshot store has failed without a break, 0 = it works
	computing       int
	retries         []retry

	round    snapshotRound
	mayHold  int                // bytes of the stream that wait for a round
	marker   persistence.Marker // as we know it in the store
	leaving  uint64             // snapshots are to cover this sequence soon: the shard is about to be handed over; 0 = it is not
	draining bool               // no more is pulled: everything is to be stored, snapshotted and checkpointed soon
	retiring bool               // accounts are on their way to the archive
	saving   bool
	savedAt  int64
	purged   purgeState
	spare    spareParts
	repairs  repairs
	stats    Stats
}

// Stats are figures of a shard for metrics; all but the gauges only grow while the shard lives.
type Stats struct {
	Counts      messages.Counts              // decided in this life, replayed ones too
	Replayed    uint64                       // readings taken in again from below `stored`
	Rejected    [messages.RejectKinds]uint64 // by kind
	Repeated    uint64                       // batches that came again
	Rollups     uint64
	Recomputed  uint64
	RollupsKept uint64 // not recomputed: rows they count have expired

	// Stretches of damaged readings and rollups: written again whole, and not or not whole.
	ChunksRepaired, ChunksLost, RollupsRepaired, RollupsLost uint64

	Snapshots     uint64
	Checkpoints   uint64
	Panics        uint64
	Accounts      int    // of producers' runs, gauge
	Gaps          int    // open ones of those, gauge
	Missing       uint64 // batches in them, gauge
	Retries       uint64
	Events        uint64
	Readings      uint64 // received in all lives, gauge
	InFlight      int    // bytes, gauge
	Devices       int    // gauge
	Active        int    // gauge
	Online        int    // gauge
	Applied       uint64 // gauge
	Stored        uint64 // gauge
	Snapshotted   uint64 // gauge
	OldestPending int64  // arrival (ms) of the oldest message that is not stored, 0 = none
	Fenced        uint64 // times that another owner was found to have the shard
	Unsnapshotted int64  // since when (ms) no round of snapshots has ended though there is something to snapshot, 0 = there is nothing
}

// addCounters adds the counters of s2 to s, and none of its gauges.
func (s *Stats) addCounters(s2 Stats) {
	s.Counts.Add(s2.Counts)
	for kind, n := range s2.Rejected {
		s.Rejected[kind] += n
	}
	for _, c := range [][2]*uint64{
		{&s.Replayed, &s2.Replayed},
		{&s.Repeated, &s2.Repeated},
		{&s.Rollups, &s2.Rollups},
		{&s.Recomputed, &s2.Recomputed},
		{&s.RollupsKept, &s2.RollupsKept},
		{&s.ChunksRepaired, &s2.ChunksRepaired},
		{&s.ChunksLost, &s2.ChunksLost},
		{&s.RollupsRepaired, &s2.RollupsRepaired},
		{&s.RollupsLost, &s2.RollupsLost},
		{&s.Snapshots, &s2.Snapshots},
		{&s.Checkpoints, &s2.Checkpoints},
		{&s.Panics, &s2.Panics},
		{&s.Retries, &s2.Retries},
		{&s.Events, &s2.Events},
		{&s.Fenced, &s2.Fenced},
	} {
		*c[0] += *c[1]
	}
}

// siteState is what a shard holds of one site.
type siteState struct {
	name    string
	own     messages.Settings  // the site's level
	merged  *messages.Settings // over the fleet's; shared with devices, never changed
	seq     uint64             // of the command that set it
	devices map[string]*entry
}

// retry is a job that waits for its next try.
type retry struct {
	at    int64
	store bool // it waits for a store that fails, not for a device that is restored
	do    func()
}

// storeFails tells whether anything waits for a store that fails.
func (c *core) storeFails() bool {
	return slices.ContainsFunc(c.retries, func(r retry) bool { return r.store })
}

// newCore makes a core from a plan. Entries are added with know before the first message.
func newCore(shard messages.Shard, cfg Config, plan Plan, fx effects, rnd *rand.Rand, now int64) *core {
	c := &core{
		shard: shard, cfg: cfg, fx: fx, rnd: rnd, now: now,
		saved: plan.Checkpoint, current: plan.Checkpoint,
		startStored: plan.Checkpoint.Stored, startSnapshotted: plan.Checkpoint.Snapshotted, guilty: plan.Starts.Guilty,
		applied:   plan.Checkpoint.Snapshotted,
		writeTime: plan.Checkpoint.WriteTimeSnapshotted,
		producers: plan.Checkpoint.ProducersSnapshotted.clone(),
		sites:     map[string]*siteState{},
		dirty:     map[bucketKey]*dirtyBucket{},

		rejectedNow: map[messages.DeviceID]*rejectedNews{},
		repairs:     repairs{tried: map[repairKey]int64{}},
	}
	c.current.ProducersStored = plan.Checkpoint.ProducersStored.clone()
	c.savedAt = now
	c.round.endedAt = now
	c.purged.at = now
	c.mayHold = snapshotHold
	if limit := plan.StreamLimit; limit > 0 {
		c.mayHold = int(min(snapshotHold, limit/4))
	}
	c.gather = c.newGather()
	if plan.WentBack != "" {
		fx.note(Notice{
			Kind: NoticeWentBack, Shard: shard, Count: 1,
			Text: plan.WentBack + "; all that is in it is taken as new",
		})
	}
	if plan.Hole > 0 {
		fx.note(Notice{
			Kind: NoticeHole, Shard: shard, Count: plan.Hole,
			Text: "messages are gone from the stream that no checkpoint says are stored; going on from the first that is there",
		})
	}
	if plan.Rebuild && plan.WentBack == "" && plan.Checkpoint.Stored > 0 {
		fx.note(Notice{
			Kind: NoticeSnapshotsLost, Shard: shard, Count: 1,
			Text: fmt.Sprintf("snapshots are missing or older than the checkpoint; states come from the archive, under generation %d", plan.Checkpoint.Generation),
		})
	}
	if s := plan.Starts; s.Until > c.applied {
		fx.note(Notice{
			Kind: NoticeCareful, Shard: shard, Count: 1,
			Text: fmt.Sprintf("%d starts since the checkpoint last moved: messages up to %d are applied with care, to find the one that ends the process", s.Count, s.Until),
		})
	}
	return c
}

// populate fills the table of devices with what the shard's start has found.
func (c *core) populate(b *started) {
	c.marker = b.marker
	for name, site := range b.sites {
		c.site(name).set(site.own, site.sequence, c.cfg.Fleet)
	}
	for _, id := range b.devices {
		c.know(&SnapshotHead{Row: messages.DeviceRow{Device: id}})
	}
	for i := range b.snaps {
		c.know(&b.snaps[i])
	}
	c.endStep()
}

// know adds a device that the snapshot store, or, with sequence 0, only the archive knows of.
func (c *core) know(h *SnapshotHead) {
	e := c.find(h.Row.Device)
	if e == nil {
		e = c.newEntry(c.siteOf(h.Row.Device.Site), h.Row.Device.Device)
	}
	h.Row.Device = e.id // its name is there once
	e.phase, e.registered = cold, true
	e.seq, e.snapSeq = h.Sequence, h.Sequence
	if h.Sequence > 0 {
		// A state rebuilt from the archive was never heard of either: that does not make it a deleted one.
		e.row, e.due, e.deleted = h.Row, h.Due, h.Gone
	}
	if h.state != nil {
		h.state.id = e.id
		c.fetched(c.want(e), loadResult{device: h.state, snapshot: h.Sequence})
	}
}

// set puts other settings in force at the site's level.
func (s *siteState) set(own messages.Settings, sequence uint64, fleet messages.Settings) {
	merged := own.Over(fleet)
	s.own, s.seq, s.merged = own, sequence, &merged
}

// populated tells whether any of its devices has sent and is not deleted.
func (s *siteState) populated() bool {
	for _, e := range s.devices {
		if !e.deleted && e.phase != fresh {
			return true
		}
	}
	return false
}

func (c *core) site(name string) *siteState {
	s := c.sites[name]
	if s == nil {
		s = &siteState{name: name, devices: map[string]*entry{}}
		s.set(messages.Settings{}, 0, c.cfg.Fleet)
		c.sites[s.name] = s
	}
	return s
}

// entry returns the line of a device in the shard's table, made when there is none.
func (c *core) entry(site, device string) *entry {
	s := c.siteOf(site)
	if e := s.devices[device]; e != nil {
		return e
	}
	return c.newEntry(s, strings.Clone(device))
}

// newEntry makes the line of a device that the table does not have.
func (c *core) newEntry(s *siteState, device string) *entry {
	id := messages.DeviceID{Site: s.name, Device: device}
	e := &entry{id: id, site: s, row: messages.DeviceRow{Device: id, Status: messages.StatusUnknown}}
	s.devices[device] = e
	c.entries = append(c.entries, e)
	return e
}

// find returns the line of a device, nil when the shard knows none.
func (c *core) find(id messages.DeviceID) *entry {
	if s := c.sites[id.Site]; s != nil {
		return s.devices[id.Device]
	}
	return nil
}

// mayPull tells whether the core takes more messages: their sequences must stay within what the saved
// checkpoint reserves.
func (c *core) mayPull() bool {
	return c.lost == nil && c.applied+100_000 < c.saved.Reserved
}

// tick is called about ten times a second. caughtUp tells that the feed has nothing more right now,
// so that silence of a device is silence, not our own lag.
func (c *core) tick(now int64, caughtUp bool) {
	if !c.doDue(now) {
		return
	}
	c.tickDevices(caughtUp)
	c.sayRejected()
	c.stepSnapshots()
	c.stepCheckpoint()
	c.stepPurge()
	c.stepRetire()
	c.stepRepair()
	c.endStep()
}

// doDue does what is due at that time; false = the core has lost its shard, and does nothing.
func (c *core) doDue(now int64) bool {
	c.now = now
	if c.lost != nil {
		return false
	}
	c.retryDue()
	if c.gather.due(c) {
		c.flush()
	}
	return true
}

// hurry does what a shard that is to be handed over, or that drains, waits for, and nothing that goes through all devices for
// another reason: it is called far more often than tick.
func (c *core) hurry(now int64) {
	if !c.doDue(now) {
		return
	}
	c.stepSnapshots()
	c.stepCheckpoint()
	c.endStep()
}

// again asks for a job once more, later; the wait doubles up to RetryMost, with jitter. A fenced
// store means that the shard has a newer owner.
func (c *core) again(r *retryable, err error, what string, do func()) {
	if errors.Is(err, persistence.ErrFenced) {
		c.lose(fmt.Errorf("%s: %w", what, err))
		return
	}
	c.stats.Retries++
	if r.attempts == 0 {
		c.fx.note(Notice{Kind: NoticeRetry, Shard: c.shard, Count: 1, Text: what + ": " + err.Error()})
	}
	wait := min(c.cfg.RetryFirst<<min(r.attempts, 16), c.cfg.RetryMost)
	wait += c.rnd.Int64N(wait/2 + 1)
	r.attempts++
	c.retries = append(c.retries, retry{at: c.now + wait, store: true, do: do})
}

func (c *core) retryDue() {
	waiting := c.retries[:0]
	var due []func()
	for _, r := range c.retries {
		if r.at <= c.now {
			due = append(due, r.do)
		} else {
			waiting = append(waiting, r)
		}
	}
	clear(c.retries[len(waiting):])
	c.retries = waiting
	for _, do := range due {
		do()
	}
}

// shortOfCredit says that the feed waits for credit: what is gathered goes to the archive at once.
func (c *core) shortOfCredit() {
	c.creditShort = true
	if c.gather.due(c) {
		c.flush()
	}
}

// drained tells whether nothing is left to do: the next owner will find it all in the checkpoint.
func (c *core) drained() bool {
	if c.lost != nil {
		return true
	}
	k := &c.saved
	return c.inFlight.count == 0 && !c.round.running && k.Stored == c.applied && k.Snapshotted == c.applied &&
		len(c.gather.batch.Devices) == 0 && c.flushing == 0 // running rollups, which no message waits for
}

// lose ends the core: what is under way is left to the next owner.
func (c *core) lose(err error) {
	if c.lost == nil {
		c.lost = err
		if errors.Is(err, persistence.ErrFenced) {
			c.stats.Fenced++
		}
	}
}

// statistics returns the shard's figures as of now.
func (c *core) statistics() Stats {
	s := c.stats
	s.Devices = len(c.entries)
	for _, e := range c.entries {
		if e.phase == active {
			s.Active++
		}
		if e.row.Status == messages.StatusOnline {
			s.Online++
		}
	}
	s.Accounts = len(c.saved.ProducersStored.of)
	for _, a := range c.saved.ProducersStored.of {
		s.Gaps += len(a.Beyond)
		s.Missing += a.highest() - a.count()
	}
	s.InFlight = c.inFlight.bytes
	s.Applied, s.Stored, s.Snapshotted = c.applied, c.current.Stored, c.saved.Snapshotted
	s.Readings = c.current.Counts.Received
	for i := range c.inFlight.count {
		p := c.inFlight.at(c.inFlight.first + int32(i))
		if c.replaying(p.sequence) { // it is stored
			continue
		}
		if s.OldestPending == 0 {
			s.OldestPending = p.arrival
		}
		s.Readings += p.counts.Received
	}
	if c.applied > c.saved.Snapshotted {
		s.Unsnapshotted = max(c.round.endedAt, c.round.since)
	}
	return s
}

// millis converts a stream's arrival time to milliseconds.
func millis(arrival int64) int64 { return arrival / int64(time.Millisecond) }
