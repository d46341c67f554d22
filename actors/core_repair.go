package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// repairEvery is how long after one repair of a device's readings, or of its rollups of one step, the next may
	// begin, ms: what is not there cannot be recovered by asking more often.
	repairEvery = 600_000
	// repairsWaiting bounds the repairs that wait for their turn. Beyond it damage has to be found again.
	repairsWaiting = 256
	// repairsKnown bounds the repairs whose time is remembered. When it is full, the next one waits for repairEvery.
	repairsKnown = 4096
	// repairTries is how often a step of a repair is tried before it is given up.
	repairTries = 8
)

// repairs are what the shard does about damage in the archive, one stretch of one device after the other.
type repairs struct {
	waiting []*repairJob
	running *repairJob
	tried   map[repairKey]int64 // when they began, ms
}

type repairKey struct {
	id   messages.DeviceID
	step messages.Step
}

// repairStage is what a repair does now. Each is safe to do again, and what a crash leaves half done the next repair
// of the stretch does: until the last one is done all of it is still said to be damaged.
type repairStage uint8

const (
	settingAside repairStage = iota // what cannot be read, so that others can take its place
	recovering                      // looks what is still there of it
	computing                       // waits until rollups are computed
	appending                       // waits until what was recovered is stored
	settling                        // tells the archive what is left of the loss
)

// repairJob repairs what cannot be read of a device's readings (step 0) or of its rollups of one step, between two
// event times, as far as their readings are elsewhere.
type repairJob struct {
	retryable
	key      repairKey
	entry    *entry
	from, to int64
	stage    repairStage
	now      int64              // when it began, ms
	sequence uint64             // above all that was set aside
	losses   []persistence.Loss // before
	left     []persistence.Loss // of each, after
	held     []persistence.Row  // readings: the device's window ...
	above    int64              // ... which has all that are later than this
	minutes  bool               // it rolls up minutes
	load     loadJob            // readings: for the stream, as of what is snapshotted
	dirty    []bucketKey        // readings: rollups that those that were recovered are in
	kept     int64              // rollups: the end of the last one that could not be computed
	open     int                // rollups: to be computed
	applied  uint64             // when that was looked for: all that was set aside had been taken in
	after    uint64             // the gather that has what was recovered
}

// repaired is what became of one stage.
type repaired struct {
	stage  repairStage
	losses []persistence.Loss // of settingAside
	rows   []persistence.Row  // of recovering: readings that were found
	starts []int64            // or rollups that have readings
	above  int64              // what is later is complete
}

// repair has damage repaired that was found between two event times of a device.
func (c *core) repair(id messages.DeviceID, step messages.Step, from, to int64) {
	e := c.find(id)
	if c.lost != nil || e == nil || e.phase == fresh || e.deleted {
		return
	}
	key := repairKey{e.id, step}
	from, to = max(from, minTime), min(to, maxTime)
	for _, j := range c.repairs.waiting {
		if j.key == key {
			j.from, j.to = min(j.from, from), max(j.to, to)
			return
		}
	}
	if at, ok := c.repairs.tried[key]; ok && c.now-at < repairEvery || len(c.repairs.waiting) >= repairsWaiting {
		return
	}
	c.repairs.waiting = append(c.repairs.waiting, &repairJob{key: key, entry: e, from: from, to: to})
}

// stepRepair begins the next repair. A replay comes first: what it brings is not in the devices yet.
func (c *core) stepRepair() {
	r := &c.repairs
	if r.running != nil || len(r.waiting) == 0 || c.applied < c.startStored || c.draining || c.leaving > 0 || !c.mayTry() {
		return
	}
	j := r.waiting[0]
	r.waiting = slices.Delete(r.waiting, 0, 1)
	r.tried[j.key] = c.now
	r.running = j
	j.now, j.sequence, j.kept = c.now, c.saved.Reserved, never
	c.fx.repair(j)
}

// mayTry makes room for one more time that a repair began.
func (c *core) mayTry() bool {
	tried := c.repairs.tried
	if len(tried) >= repairsKnown {
		for key, at := range tried {
			if c.now-at >= repairEvery {
				delete(tried, key)
			}
		}
	}
	return len(tried) < repairsKnown
}

// repaired answers a repairJob.
func (c *core) repaired(j *repairJob, r repaired, err error) {
	if c.repairs.running != j || j.stage != r.stage || c.lost != nil {
		return
	}
	switch {
	case err != nil && j.attempts < repairTries:
		c.again(&j.retryable, err, "repair what is damaged of "+j.key.id.String(), func() { c.repairAgain(j) })
	case err != nil:
		c.endRepair(j)
	case r.stage == settingAside:
		if j.losses = r.losses; len(j.losses) == 0 {
			c.repairs.running = nil // all can be read
			return
		}
		j.stage, j.attempts = recovering, 0
		c.recover(j)
	case r.stage == recovering && j.key.step == 0:
		c.appendRecovered(j, r)
	case r.stage == recovering:
		j.stage = computing // this answer counts once
		c.caughtUp(j.entry, func() { c.computeRecovered(j, r) })
	default:
		c.endRepair(j)
		c.caughtUp(j.entry, func() { c.touchRecovered(j) })
	}
}

// caughtUp does something once the device has had all that was taken in for it. A rollup that is computed then is as of
// the newest message: what touches it later has a higher sequence.
func (c *core) caughtUp(e *entry, do func()) {
	if e.phase != loading && e.busy == nil && len(e.queue) == 0 && len(e.inbox) == 0 {
		do()
		return
	}
	c.retries = append(c.retries, retry{at: c.now + c.cfg.RetryFirst, do: func() { c.caughtUp(e, do) }})
}

func (c *core) repairAgain(j *repairJob) {
	if j.stage == recovering {
		c.recover(j) // window and stream have moved on
	} else {
		c.fx.repair(j)
	}
}

// recover has the executor look for what is lost. The device is asked after that was set aside: so whatever may have
// been appended to it before has come to the device, and is in its window or in the stream, if it is there at all.
func (c *core) recover(j *repairJob) {
	if j.key.step != 0 {
		c.fx.repair(j)
		return
	}
	c.ask(j.key.id, &ask{
		read: func(d *Device) {
			j.held, j.above = d.Held()
			j.minutes = minutesOn(d.effective)
		},
		answer: func(err error) {
			if err != nil { // it was deleted
				c.endRepair(j)
				return
			}
			e := j.entry
			j.applied = c.applied
			j.load = loadJob{
				generation: c.trusted(), snapshotted: c.saved.Snapshotted, stored: c.saved.Stored,
				wants: []loadWant{{
					entry: e, expected: e.expectedSnapshot(), asOf: c.saved.Snapshotted, settings: e.site.merged, latest: c.latest(),
					upTo: e.told(), guilty: slices.Clone(e.guilty), settingsHold: true,
					producers: c.saved.ProducersSnapshotted.clone(), writeTime: c.saved.WriteTimeSnapshotted,
				}},
			}
			c.fx.repair(j)
		},
	})
}

// appendRecovered gives the archive what was found of readings.
func (c *core) appendRecovered(j *repairJob, r repaired) {
	j.left = leftOf(j.losses, r.above, j.applied)
	j.dirty = j.dirty[:0]
	for _, step := range []messages.Step{messages.Minute, messages.Hour} {
		if step == messages.Minute && !j.minutes {
			continue
		}
		last := int64(never)
		for i := range r.rows { // in order of event time
			if start := step.Start(r.rows[i].Time); start > r.above && start != last {
				j.dirty = append(j.dirty, bucketKey{j.entry, step, start})
				last = start
			}
		}
	}
	if len(r.rows) > 0 {
		d := c.device(j.entry)
		d.Rows = append(d.Rows, r.rows...)
	}
	c.awaitAppended(j)
}

// computeRecovered has rollups computed from their readings, as if a reading had touched each of them now.
func (c *core) computeRecovered(j *repairJob, r repaired) {
	j.kept = max(j.kept, r.above)
	j.applied = c.applied
	for _, start := range r.starts {
		b := c.touch(bucketKey{j.entry, j.key.step, start}, c.applied, c.writeTime)
		b.repairs = append(b.repairs, j)
		j.open++
	}
	if j.open == 0 {
		c.computed(j)
	}
	c.wakeDirty()
}

// bucketDone says that a rollup of a repair was computed, or kept as it is.
func (c *core) bucketDone(j *repairJob, key bucketKey, kept bool) {
	if kept {
		j.kept = max(j.kept, key.start+int64(key.step)-1)
	}
	if j.open--; j.open == 0 {
		c.computed(j)
	}
}

func (c *core) computed(j *repairJob) {
	j.left = leftOf(j.losses, j.kept, j.applied)
	c.awaitAppended(j)
}

// leftOf is what is left of losses when all that is later than above is recovered. What was set aside came with messages
// up to applied.
func leftOf(losses []persistence.Loss, above int64, applied uint64) []persistence.Loss {
	left := slices.Clone(losses)
	for i := range left {
		left[i].To = max(left[i].From-1, min(left[i].To, above))
		left[i].Sequence = min(left[i].Sequence, applied)
	}
	return left
}

// awaitAppended goes on when all that was gathered so far is stored.
func (c *core) awaitAppended(j *repairJob) {
	j.stage, j.after = appending, c.gathered()
	c.wakeRepair()
}

// wakeRepair tells the archive what is left of the losses once what was recovered is stored.
func (c *core) wakeRepair() {
	if j := c.repairs.running; j != nil && j.stage == appending && j.after <= c.appendedThrough() {
		j.stage, j.attempts = settling, 0
		c.fx.repair(j)
	}
}

// touchRecovered has rollups computed that could not be while their readings were damaged.
func (c *core) touchRecovered(j *repairJob) {
	for _, key := range j.dirty {
		c.touch(key, c.applied, c.writeTime)
	}
	c.wakeDirty()
}

// endRepair counts and says what a repair came to. Of one that was given up nothing is recovered.
func (c *core) endRepair(j *repairJob) {
	c.repairs.running = nil
	if j.stage != settling {
		j.left = j.losses
	}
	for i, was := range j.losses {
		left := j.left[i]
		whole := left.To < left.From
		switch {
		case !whole && was.Sequence != j.sequence:
			continue // it was said before, and is no better
		case j.key.step == 0 && whole:
			c.stats.ChunksRepaired++
		case j.key.step == 0:
			c.stats.ChunksLost++
		case whole:
			c.stats.RollupsRepaired++
		default:
			c.stats.RollupsLost++
		}
		c.fx.note(repairNotice(c.shard, j, was, left))
	}
}

func repairNotice(shard messages.Shard, j *repairJob, was, left persistence.Loss) Notice {
	what := "readings"
	if j.key.step != 0 {
		what = fmt.Sprintf("rollups of %v", time.Duration(j.key.step)*time.Millisecond)
	}
	kind, stretch, became := NoticeRepaired, was, "were written again"
	if left.From <= left.To {
		kind, stretch, became = NoticeLost, left, "are not in its window or the stream any more"
		if j.key.step != 0 {
			became = "cannot be computed: their readings have expired, or are damaged too"
		}
	}
	return Notice{
		Kind: kind, Shard: shard, Count: 1,
		Text: fmt.Sprintf("damaged %s of device %s, event times %s to %s, %s", what, j.key.id, timeText(stretch.From), timeText(stretch.To), became),
	}
}
