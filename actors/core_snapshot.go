package actors

import (
	"errors"
	"fmt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Bounds of one snapshotJob, and of what is captured and waits for a checkpoint.
const (
	snapshotsPerPut   = 256
	snapshotPutBytes  = 1 << 20
	snapshotHeldBytes = 8 << 20
)

// What makes a round of snapshots due. One state costs about as much as taking in eight readings again after a
// start, so a fleet in which a device seldom sends is not written anew for each reading; docs/adr/0014.
const (
	snapshotPays = 8       // readings a device
	snapshotHold = 4 << 20 // bytes that a round may keep from being purged, where the stream has four times the room
	snapshotMost = 3       // times SnapshotWithin
)

// snapshotRound goes over all devices that have changed, oldest change first, and captures their
// states. Once every one is in the store, the stream is covered up to where the round began.
//
// The order is the law: a state captured at sequence s goes to the store only after a checkpoint with
// stored >= s is saved, so no snapshot is ever ahead of its checkpoint.
type snapshotRound struct {
	no        uint64
	running   bool
	startedAt int64
	endedAt   int64

	since    int64 // when the first message came that no round has covered
	readings int   // that came since it began
	bytesIn  int   // the same, as they came

	asOf      uint64 // applied when it began
	writeTime int64
	landmark  int64
	producers producers

	queue   []*entry
	perTick int
	held    []heldSnapshot // captured, waiting for a checkpoint
	bytes   int            // of held
	putting int            // jobs under way
	marking bool
}

type heldSnapshot struct {
	entry *entry
	snap  persistence.Snapshot
}

// stepSnapshots begins a round when it is time, captures its share, and stores what may be stored.
func (c *core) stepSnapshots() {
	r := &c.round
	if c.failingSince > 0 && c.now-c.failingSince > c.cfg.SnapshotPatience && c.applied >= c.startStored {
		c.workWithoutSnapshots()
	}
	hurry := c.draining || c.leaving > c.current.Snapshotted
	if !r.running {
		if c.applied <= c.current.Snapshotted || c.saved.Generation != c.current.Generation || !hurry && !c.roundPays() {
			return
		}
		c.beginRound()
	}
	if hurry {
		r.perTick = len(c.entries)
	}
	for n := r.perTick; n > 0 && len(r.queue) > 0 && r.bytes < snapshotHeldBytes; n-- {
		e := r.queue[0]
		r.queue = r.queue[1:]
		switch {
		case e.ready():
			o := c.brief(opSnapshot, e)
			o.resting = e.row.Status == messages.StatusOffline
			c.launchBrief(o)
		case e.phase == loading || e.phase == active:
			r.queue = append(r.queue, e)
		}
	}
	c.putHeld()
	if len(r.queue) == 0 && len(r.held) == 0 && r.putting == 0 && !r.marking && c.saved.Stored >= r.asOf {
		r.marking = true
		c.fx.putMarker(&markerJob{
			old: c.marker, round: r.no,
			marker: c.nextMarker(r.asOf),
		})
	}
}

// roundPays tells whether enough has come since the last round began to write all changed states anew.
func (c *core) roundPays() bool {
	r := &c.round
	switch waited := c.now - r.startedAt; {
	case waited < c.cfg.SnapshotWithin/2:
		return false
	case waited >= snapshotMost*c.cfg.SnapshotWithin:
		return true
	default:
		return r.readings >= snapshotPays*len(c.entries) || r.bytesIn >= c.mayHold
	}
}

func (c *core) beginRound() {
	r := &c.round
	*r = snapshotRound{
		no: r.no + 1, running: true, startedAt: c.now, endedAt: r.endedAt, since: r.since,
		asOf: c.applied, writeTime: c.writeTime, landmark: c.appliedLandmark, producers: c.producers.clone(),
	}
	for _, e := range c.entries {
		if e.phase == loading || e.phase == active && (e.unsaved || e.busy != nil || len(e.queue) > 0) {
			r.queue = append(r.queue, e)
		}
	}
	ticks := max(1, int(c.cfg.SnapshotWithin/2/tickEvery))
	r.perTick = (len(r.queue) + ticks - 1) / ticks
}

// tickEvery is how often tick is called, ms.
const tickEvery = 100

// captured takes a device's state.
func (c *core) captured(o *op) {
	r := &c.round
	h := heldSnapshot{o.entry, persistence.Snapshot{Device: o.entry.id, Sequence: o.seq, Data: o.data}}
	o.entry.unsaved = false
	r.held = append(r.held, h)
	r.bytes += len(o.data)
	for _, row := range o.open {
		if row.WriteTime > 0 {
			c.addRollup(o.entry, row)
		}
	}
	for _, d := range o.dirty {
		if d.WriteTime > 0 {
			c.addDirty(o.entry, []Dirty{d})
		}
	}
	if len(o.dirty) > 0 {
		c.wakeDirty() // there may be nothing to append that would
	}
}

// putHeld stores captured states that a saved checkpoint covers.
func (c *core) putHeld() {
	r := &c.round
	if c.saved.Generation != c.current.Generation {
		return
	}
	if r.putting == 0 { // one at a time: each moves the marker
		j := &snapshotJob{old: c.marker, marker: c.nextMarker(c.current.Snapshotted), round: r.no}
		kept := r.held[:0]
		for _, h := range r.held {
			full := len(j.snapshots) >= snapshotsPerPut || j.bytes >= snapshotPutBytes
			if full || h.snap.Sequence > c.saved.Stored {
				kept = append(kept, h)
				continue
			}
			j.snapshots = append(j.snapshots, h.snap)
			j.entries = append(j.entries, h.entry)
			j.bytes += len(h.snap.Data)
		}
		clear(r.held[len(kept):])
		r.held = kept
		r.bytes -= j.bytes
		if len(j.snapshots) == 0 {
			return
		}
		r.putting++
		c.fx.putSnapshots(j)
	}
}

// snapshotsPut answers a snapshotJob.
func (c *core) snapshotsPut(j *snapshotJob, actual persistence.Marker, err error) {
	if j.done || c.lost != nil {
		return
	}
	if j.round != c.round.no {
		j.done = true
		return
	}
	if c.wentBackUnder(actual, j.old, j.marker, &err) {
		j.done = true
		return
	}
	if err != nil {
		c.snapshotsFailing()
		c.again(&j.retryable, err, "store snapshots", func() { c.fx.putSnapshots(j) })
		return
	}
	j.done = true
	c.failingSince = 0
	c.marker = j.marker
	c.round.putting--
	for i, e := range j.entries {
		e.snapSeq = j.snapshots[i].Sequence
	}
	c.stats.Snapshots += uint64(len(j.snapshots))
	c.putHeld()
}

// markerPut answers a markerJob; actual is the marker found in the store when err is ErrConflict.
func (c *core) markerPut(j *markerJob, actual persistence.Marker, err error) {
	if j.done || c.lost != nil || j.round != c.round.no || !c.round.running {
		j.done = true
		return
	}
	if c.wentBackUnder(actual, j.old, j.marker, &err) {
		j.done = true
		return
	}
	if err != nil {
		c.snapshotsFailing()
		c.again(&j.retryable, err, "store the marker", func() { c.fx.putMarker(j) })
		return
	}
	j.done = true
	c.failingSince = 0
	r := &c.round
	c.marker = j.marker
	c.current.Snapshotted = r.asOf
	c.current.Landmark = r.landmark
	c.current.WriteTimeSnapshotted = r.writeTime
	c.current.ProducersSnapshotted = r.producers
	r.running, r.marking, r.endedAt = false, false, c.now
}

// nextMarker is the marker after the next put. It says no more than this owner's checkpoint, though one before, that ended
// between its last marker and the checkpoint that goes with it, may have said more: what this owner puts may be older than
// what it replaces, and a store that goes back to that moment must be found out.
func (c *core) nextMarker(snapshotted uint64) persistence.Marker {
	return persistence.Marker{Generation: c.current.Generation, Snapshotted: snapshotted, Puts: c.marker.Puts + 1}
}

// wentBackUnder tells whether the answer to a put shows that the store went back, and then begins a new
// generation. A conflict with the very marker that was to be put is an earlier try that went through:
// err is cleared.
func (c *core) wentBackUnder(actual, old, put persistence.Marker, err *error) bool {
	switch {
	case errors.Is(*err, errSnapshotsWentBack):
		c.marker = actual
		c.voidSnapshots("the snapshot store has lost the shard's fence")
		return true
	case !errors.Is(*err, persistence.ErrConflict):
		return false
	case actual == put:
		*err = nil
		return false
	}
	c.marker = actual
	c.voidSnapshots(fmt.Sprintf("the snapshot store's marker is %+v and should be %+v", actual, old))
	return true
}

func (c *core) snapshotsFailing() {
	if c.failingSince == 0 {
		c.failingSince = c.now
	}
}

// voidSnapshots begins a new generation: what is in the store counts no more. States in memory are
// good; those of cold devices come from the archive.
func (c *core) voidSnapshots(why string) {
	c.current.Generation = max(c.current.Generation, c.marker.Generation) + 1
	c.round = snapshotRound{no: c.round.no + 1, startedAt: c.round.startedAt, endedAt: c.now, since: c.round.since}
	for _, e := range c.entries {
		e.snapSeq = 0
		e.unsaved = true
	}
	c.fx.note(Notice{
		Kind: NoticeSnapshotsLost, Shard: c.shard, Count: 1,
		Text: fmt.Sprintf("%s; going on under generation %d", why, c.current.Generation),
	})
}

// workWithoutSnapshots gives up on a store that has failed for long: from now on a start rebuilds
// from the archive, so the stream can be purged up to `stored`. Not before a replay is over: what is
// below `stored` must stay in the stream until memory has it too.
func (c *core) workWithoutSnapshots() {
	c.failingSince = 0
	c.voidSnapshots("the snapshot store cannot be reached")
	k := &c.current
	k.Snapshotted, k.WriteTimeSnapshotted, k.Landmark = k.Stored, k.WriteTimeStored, k.StoredMark
	k.ProducersSnapshotted = k.ProducersStored.clone()
	c.round.startedAt = c.now
}

// stepCheckpoint saves a checkpoint when there is something to say, at most every CheckpointEvery. When all is stored
// it waits only a fifth of that: there is nothing that could join it.
func (c *core) stepCheckpoint() {
	hurry := c.draining || c.leaving > c.saved.Snapshotted
	every := c.cfg.CheckpointEvery
	if c.inFlight.count == 0 {
		every /= 5
	}
	if c.saving || !hurry && c.now-c.savedAt < every {
		return
	}
	k, s := &c.current, &c.saved
	if k.Stored == s.Stored && k.Snapshotted == s.Snapshotted && k.Generation == s.Generation && len(k.Retiring) == len(s.Retiring) {
		return
	}
	j := &saveJob{checkpoint: *k}
	j.checkpoint.ProducersStored = k.ProducersStored.clone()
	var err error
	if j.data, err = j.checkpoint.Encode(); err != nil {
		c.lose(fmt.Errorf("encode checkpoint: %w", err))
		return
	}
	c.saving = true
	c.fx.saveCheckpoint(j)
}

// checkpointSaved answers a saveJob.
func (c *core) checkpointSaved(j *saveJob, err error) {
	if j.done || c.lost != nil {
		return
	}
	switch {
	case errors.Is(err, persistence.ErrConflict):
		c.lose(fmt.Errorf("save checkpoint: %w", persistence.ErrFenced))
		return
	case err != nil:
		c.again(&j.retryable, err, "save checkpoint", func() { c.fx.saveCheckpoint(j) })
		return
	}
	j.done = true
	c.saving, c.savedAt = false, c.now
	c.stats.Checkpoints++
	c.saved = j.checkpoint
	c.fx.toldStored(&c.saved)
	c.putHeld()
}

// purgeState says what was purged last.
type purgeState struct {
	upTo  uint64 // logical sequence
	at    int64
	bytes int // taken in since
}

// stepPurge removes from the stream what a saved checkpoint says is snapshotted. The message at
// `snapshotted` stays: it is the landmark that tells a stream put back to an older copy.
func (c *core) stepPurge() {
	p := &c.purged
	upTo := c.saved.Snapshotted
	if upTo <= p.upTo+1 || upTo <= c.saved.Offset+1 {
		return
	}
	if c.now-p.at < c.cfg.PurgeEvery && p.bytes < c.cfg.PurgeBytes {
		return
	}
	p.upTo, p.at, p.bytes = upTo-1, c.now, 0
	c.fx.purge(upTo - 1 - c.saved.Offset)
}
