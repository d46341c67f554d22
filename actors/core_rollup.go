package actors

import (
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// bucketKey names one rollup of one device.
type bucketKey struct {
	entry *entry
	step  messages.Step
	start int64
}

// dirtyBucket is a rollup that memory does not hold whole: it is computed from the archive once every
// row that touched it is stored. Messages that touched it are done after that.
type dirtyBucket struct {
	key       bucketKey
	sequence  uint64 // of the newest message that touched it
	writeTime int64
	after     uint64  // every gather up to this one must be appended first
	messages  []int32 // that wait
	asked     int64   // when it was asked for, ms
	repairs   []*repairJob
	running   bool
	kept      bool // the archive's stays
	void      bool // its device was deleted
}

// addDirty notes rollups to compute, each once however often it is touched.
func (c *core) addDirty(e *entry, list []Dirty) {
	for _, d := range list {
		if c.replaying(d.Sequence) {
			continue
		}
		b := c.touch(bucketKey{e, d.Step, d.Start}, d.Sequence, d.WriteTime)
		if name := c.nameOf(d.Sequence); name != noMessage {
			c.inFlight.at(name).open++
			b.messages = append(b.messages, name)
		}
	}
}

// touch has a rollup computed once all that is gathered so far is stored.
func (c *core) touch(key bucketKey, sequence uint64, writeTime int64) *dirtyBucket {
	b := c.dirty[key]
	if b == nil || b.running {
		b = &dirtyBucket{key: key}
		c.dirty[key] = b
		c.dirtyWaiting = append(c.dirtyWaiting, b)
	}
	if sequence >= b.sequence {
		b.sequence, b.writeTime = sequence, writeTime
	}
	b.after = c.gathered()
	return b
}

// gathered returns the number of the gather up to which all must be appended for all that was gathered so far to be stored.
func (c *core) gathered() uint64 {
	if len(c.gather.batch.Devices) == 0 { // an empty one need never be appended
		return c.gather.no - 1
	}
	return c.gather.no
}

// forgetDirty lets go of a deleted device's rollups. Those that wait for their turn are passed over there.
func (c *core) forgetDirty(e *entry) {
	kept := c.dirtyWaiting[:0]
	for _, b := range c.dirtyWaiting {
		if b.key.entry != e {
			kept = append(kept, b)
			continue
		}
		delete(c.dirty, b.key)
		b.void = true
		c.finishBucket(b)
	}
	clear(c.dirtyWaiting[len(kept):])
	c.dirtyWaiting = kept
	for _, b := range c.dirtyReady {
		if b.key.entry == e && !b.void {
			delete(c.dirty, b.key)
			b.void = true
			c.finishBucket(b)
		}
	}
}

func (c *core) finishBucket(b *dirtyBucket) {
	list := b.messages
	b.messages = nil
	for _, name := range list {
		c.close(name)
	}
	for _, j := range b.repairs {
		c.bucketDone(j, b.key, b.kept)
	}
	b.repairs = nil
}

// appendedThrough returns the number of a gather up to which all are appended.
func (c *core) appendedThrough() uint64 {
	if len(c.openGather) > 0 {
		return c.openGather[0].no - 1
	}
	return c.gather.no - 1
}

// wakeDirty starts computing what is ready, a few at a time.
func (c *core) wakeDirty() {
	through := c.appendedThrough()
	kept := c.dirtyWaiting[:0]
	for _, b := range c.dirtyWaiting {
		if b.after <= through && b.key.entry.deleting == 0 {
			c.dirtyReady = append(c.dirtyReady, b)
		} else {
			kept = append(kept, b)
		}
	}
	clear(c.dirtyWaiting[len(kept):])
	c.dirtyWaiting = kept
	c.computeNext()
	c.wakeRepair()
}

func (c *core) computeNext() {
	for c.computing < c.cfg.RecomputeAtOnce && len(c.dirtyReady) > 0 {
		b := c.dirtyReady[0]
		c.dirtyReady = c.dirtyReady[1:]
		if b.void {
			continue
		}
		if b.after > c.appendedThrough() || b.key.entry.deleting > 0 {
			c.dirtyWaiting = append(c.dirtyWaiting, b) // touched again meanwhile, or about to be deleted
			continue
		}
		b.running, b.asked = true, c.now
		c.computing++
		c.fx.recompute(&recomputeJob{bucket: b})
	}
}

// recomputed answers a recomputeJob. kept: the archive's rollup stays as it is.
func (c *core) recomputed(j *recomputeJob, row persistence.RollupRow, kept bool, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "compute a rollup from the archive", func() { c.fx.recompute(j) })
		return
	}
	j.done = true
	c.computing--
	b := j.bucket
	if c.dirty[b.key] == b {
		delete(c.dirty, b.key)
	}
	switch {
	case b.void:
	case kept:
		b.kept = true
		c.stats.RollupsKept++
	default:
		c.stats.Recomputed++
		row.Sequence, row.WriteTime = b.sequence, b.writeTime
		c.addRollup(b.key.entry, row)
		for _, name := range b.messages {
			c.joins(name)
		}
	}
	c.finishBucket(b)
	c.computeNext()
	if c.gather.due(c) {
		c.flush()
	}
}
