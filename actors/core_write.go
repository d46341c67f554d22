package actors

import (
	"errors"
	"sync"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// gather is what goes to the archive in one append: rows of many devices and messages.
type gather struct {
	retryable
	no       uint64
	batch    persistence.Batch
	messages []int32 // that wait for it, each once
	since    int64   // when its first row came
	latest   int64   // when rows came last
	handed   int64   // when it was handed to the archive
	bytes    int     // wire bytes of those messages
	rollups  uint64
	decoder  *messages.Decoder // owns the memory that rows of its batch refer to
}

func (c *core) newGather() *gather {
	c.gatherNo++
	g := &gather{no: c.gatherNo, batch: persistence.Batch{Shard: c.shard}}
	g.decoder = decoders.Get().(*messages.Decoder)
	g.batch.Devices = *deviceRows.Get().(*[]persistence.DeviceRows)
	if c.gather != nil {
		if before := len(c.gather.batch.Devices); cap(g.batch.Devices) < before {
			g.batch.Devices = make([]persistence.DeviceRows, 0, before+before/8)
		}
	}
	return g
}

// Memory that the next gather of any shard uses again, after those that were large: under a flood. What
// is not used for a while is freed, or it would be gigabytes afterwards. Small gathers leave theirs to the
// collector: what 64 shards keep for the next second is more than the second's garbage.
var (
	decoders   = sync.Pool{New: func() any { return &messages.Decoder{} }}
	deviceRows = sync.Pool{New: func() any { return new([]persistence.DeviceRows) }}
)

// pooledFrom is the wire bytes from which a gather's memory is kept.
const pooledFrom = 16 << 10

// recycle lets go of the memory of a gather that is stored.
func (g *gather) recycle() {
	if devices := g.batch.Devices; g.bytes >= pooledFrom && 4*len(devices) >= cap(devices) {
		g.decoder.Reset()
		decoders.Put(g.decoder)
		letGo(devices)
		devices = devices[:0]
		deviceRows.Put(&devices)
	}
	g.batch.Devices, g.decoder = nil, nil
}

// endOfFlood is the part of FlushBytes from which a gather waits only that part of FlushIdle for more: it is what a
// flood has left, and whoever sent it waits to hear that it is stored. A fleet that sends once a second has less.
const endOfFlood = 8

// due tells whether the gather should be handed to the archive now.
func (g *gather) due(c *core) bool {
	if len(g.batch.Devices) == 0 || c.flushing >= c.cfg.FlushParallel {
		return false
	}
	if g.bytes >= c.cfg.FlushBytes/endOfFlood && c.now-g.latest >= c.cfg.FlushIdle/endOfFlood {
		return true
	}
	return g.bytes >= c.cfg.FlushBytes || c.now-g.since >= c.cfg.FlushAge || c.now-g.latest >= c.cfg.FlushIdle || c.creditShort || c.careful || c.draining
}

// flush hands the gather at hand to the archive.
func (c *core) flush() {
	g := c.gather
	c.gather = c.newGather()
	g.handed = c.now
	c.openGather = append(c.openGather, g)
	c.flushing++
	c.fx.append(g)
}

// behindAfter is how long the archive may take for what it was given before no more is pulled; ms. What comes
// faster than it is stored waits in the stream then, where it costs nothing: with all the bytes in flight
// that a member may have, 1.3 million readings waited 20 s each in memory for Cassandra, and a third of the
// member's CPU went into looking through them for garbage (measured).
const behindAfter = 300

// outdated is how old what was pulled last must be for nobody to gain by pulling more while the archive fails; ms.
const outdated = 10_000

// behind tells whether the archive works and does not keep up: as many appends as may be are under way and the next is
// full, or it takes long for as much as makes a flush due. Without the first a shard took in, in the time until the second
// was seen, what a slow archive stored in a minute, and then nothing for that minute. A smaller append that waits for a slow
// disk holds nobody up, least of all those who listen to what comes meanwhile. While the archive fails pulling goes on as
// far as there is credit, so that what comes meanwhile is seen in windows and by subscribers; but not where they see what came
// long ago: there it would only move a backlog from the stream into memory.
func (c *core) behind() bool {
	if c.draining {
		return false
	}
	if c.storeFails() {
		return c.now-c.arrival > outdated
	}
	if c.flushing >= c.cfg.FlushParallel && c.gather.bytes >= c.cfg.FlushBytes {
		return true
	}
	bytes, late := 0, false
	for _, g := range c.openGather {
		bytes += g.bytes
		late = late || c.now-g.handed > behindAfter
	}
	return late && bytes >= c.cfg.FlushBytes
}

// device returns the gather's place for a device.
func (c *core) device(e *entry) *persistence.DeviceRows {
	g := c.gather
	if e.gatherNo != g.no {
		e.gatherNo, e.gatherAt = g.no, g.place(e.id)
	}
	if len(g.batch.Devices) == 1 && g.since == 0 {
		g.since = c.now
	}
	g.latest = c.now
	d := &g.batch.Devices[e.gatherAt]
	d.Class = e.class // of several in one gather the last holds, as in the archive
	return d
}

// place makes room for one more device, using again the slices of an earlier gather.
func (g *gather) place(id messages.DeviceID) int {
	n := len(g.batch.Devices)
	if n < cap(g.batch.Devices) {
		g.batch.Devices = g.batch.Devices[:n+1]
		d := &g.batch.Devices[n]
		d.Device = id
	} else {
		g.batch.Devices = append(g.batch.Devices, persistence.DeviceRows{Device: id})
	}
	return n
}

// joins has the message wait for the gather at hand.
func (c *core) joins(name int32) {
	p := c.inFlight.at(name)
	if p.gatherNo != c.gather.no {
		p.gatherNo = c.gather.no
		p.open++
		c.gather.messages = append(c.gather.messages, name)
		c.gather.bytes += int(p.wire)
	}
}

// noMessage stands for work that no message waits for.
const noMessage = int32(-1 << 31)

// addRecord gives the archive a record of a device (e) or, with e nil, of a site.
func (c *core) addRecord(id messages.DeviceID, e *entry, r persistence.Record, name int32) {
	var d *persistence.DeviceRows
	if e != nil {
		d = c.device(e)
	} else {
		d = &c.gather.batch.Devices[c.gather.place(id)]
		if c.gather.since == 0 {
			c.gather.since = c.now
		}
		c.gather.latest = c.now
	}
	d.Records = append(d.Records, r)
	if name != noMessage {
		c.joins(name)
	}
}

// ran takes the result of an op.
func (c *core) ran(o *op) {
	if c.lost != nil {
		return
	}
	e := o.entry
	if e.busy == o {
		e.busy = nil
		e.panics = 0
	}
	if o.kind != opAsk {
		e.class = o.class
	}
	switch o.kind {
	case opApply:
		c.ranApply(o)
	case opControl:
		c.ranControl(o)
	case opSettings:
		c.ranSettings(o)
	case opSnapshot:
		c.captured(o)
	case opTick:
		if o.changed {
			c.announceStatus(e, o.status, noMessage)
		}
	case opAsk:
		o.ask.answer(o.ask.err)
	}
	if o.kind != opAsk {
		if o.kind != opSnapshot && (o.seq != e.seq || o.changed || o.raised) {
			e.unsaved = true
		}
		e.row, o.row = o.row, e.row // the memory of the row before is used for the next one
		e.seq, e.due, e.deleted = o.seq, o.due, o.gone
	}
	if o.waiting {
		held := work{in: o.in, control: o.control, settings: o.settings}
		if len(held.in) == 0 {
			held.in = o.failing // of the same one message
		}
		c.letGo(held)
	}
	if len(e.queue) > 0 {
		c.drain(e)
	}
}

// ranApply takes what became of readings: rows for the archive, rejects, rollups, events.
func (c *core) ranApply(o *op) {
	e := o.entry
	var d *persistence.DeviceRows
	spoken := 0
	for i := range o.failing {
		c.rejectFailing(e, &o.failing[i])
	}
	for i := range o.in {
		a := &o.in[i]
		p := c.inFlight.at(a.Message)
		countDecision(&p.counts, a.Decision)
		if c.replaying(a.Sequence) {
			c.stats.Replayed++
			continue
		}
		if a.Decision == Refused {
			c.rejectArrived(e, a, refusedKind(a.Reason), a.Reason)
			continue
		}
		spoken++
		if !a.Written() {
			continue
		}
		if d == nil {
			d = c.device(e)
		}
		c.joins(a.Message)
		d.Rows = append(d.Rows, a.Row())
	}
	c.stats.Counts.Add(o.out.Counts)
	for _, r := range o.out.Records {
		e.registered = true
		if !c.replaying(r.Sequence) {
			c.addRecord(e.id, e, r, c.nameOf(r.Sequence))
		}
	}
	c.addRollups(e, o.out.Rollups)
	c.addDirty(e, o.out.Dirty)
	for _, s := range o.out.Status {
		if name := c.nameOf(s.Sequence); !c.replaying(s.Sequence) {
			c.announceStatus(e, s, name)
		}
	}
	if spoken > 0 && c.fx.listening(e.id.Site) {
		c.sayReadings(e, o.in)
	}
}

func countDecision(n *messages.Counts, d Decision) {
	switch d {
	case InOrder:
		n.InOrder++
	case Late:
		n.Late++
	case Stale:
		n.Stale++
	case Duplicate:
		n.Duplicate++
	case Refused:
		n.Refused++
	default:
		return
	}
	n.Received++
}

// nameOf returns the name of the message with that sequence; noMessage when it is not in flight.
func (c *core) nameOf(sequence uint64) int32 {
	q := &c.inFlight
	low, high := 0, q.count
	for low < high {
		mid := (low + high) / 2
		if q.at(q.first+int32(mid)).sequence < sequence {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < q.count && q.at(q.first+int32(low)).sequence == sequence {
		return q.first + int32(low)
	}
	return noMessage
}

// addRollups gives the archive rollups that memory holds whole. The messages that closed them wait.
func (c *core) addRollups(e *entry, rollups []persistence.RollupRow) {
	for i := range rollups {
		r := &rollups[i]
		if c.replaying(r.Sequence) {
			continue
		}
		c.addRollup(e, *r)
		if name := c.nameOf(r.Sequence); name != noMessage {
			c.joins(name)
		}
	}
}

func (c *core) addRollup(e *entry, r persistence.RollupRow) {
	d := c.device(e)
	d.Rollups = append(d.Rollups, r)
	c.gather.rollups++
	c.stats.Rollups++
}

// ranControl takes what a command led to.
func (c *core) ranControl(o *op) {
	w, e := o.control, o.entry
	if c.replaying(w.sequence) || !o.result.Applied {
		return
	}
	for _, r := range o.result.Records {
		c.addRecord(e.id, e, r, w.message)
	}
	c.addRollups(e, o.result.Rollups)
	c.addDirty(e, o.result.Dirty)
	if w.control.Delete {
		e.registered = false
		c.inFlight.at(w.message).open++
		e.deleting++
		c.forgetDirty(e)
		c.fx.deleteDevice(&deleteJob{
			entry: e, sequence: w.sequence, landmark: c.inFlight.at(w.message).landmark, writeTime: w.writeTime, message: w.message,
		})
	}
}

func (c *core) ranSettings(o *op) {
	w := o.settings
	o.entry.siteSeq = max(o.entry.siteSeq, w.sequence)
	if o.raised && !c.replaying(w.sequence) {
		c.addRecord(o.entry.id, o.entry, persistence.Record{
			Sequence: max(w.sequence, o.seq), WriteTime: w.writeTime, Payload: o.record,
		}, w.message)
	}
}

// deleted answers a deleteJob.
func (c *core) deleted(j *deleteJob, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "delete device "+j.entry.id.String(), func() { c.fx.deleteDevice(j) })
		return
	}
	j.done = true
	j.entry.deleting--
	c.close(j.message)
	c.wakeDirty()
}

// appended answers an append: err is what Append returned, and the devices in the batch have their own.
func (c *core) appended(g *gather, err error) {
	if g.done || c.lost != nil {
		return
	}
	if err != nil {
		c.appendFailed(g, err)
		return
	}
	g.done = true
	c.flushing--
	for i, other := range c.openGather {
		if other == g {
			c.openGather = append(c.openGather[:i], c.openGather[i+1:]...)
			break
		}
	}
	g.recycle()
	for _, name := range g.messages {
		c.close(name)
	}
	c.wakeDirty()
	if c.gather.due(c) {
		c.flush()
	}
}

// letGo forgets what the rows refer to, and keeps the memory of the rows of readings.
func letGo(devices []persistence.DeviceRows) {
	for i := range devices {
		d := &devices[i]
		clear(d.Rows)
		*d = persistence.DeviceRows{Rows: d.Rows[:0]}
	}
}

// appendFailed keeps what is not stored for the next try, and takes out what never will be.
func (c *core) appendFailed(g *gather, err error) {
	kept := make([]persistence.DeviceRows, 0, len(g.batch.Devices))
	for _, d := range g.batch.Devices {
		switch {
		case d.Err == nil:
		case errors.Is(d.Err, persistence.ErrFenced):
			err = d.Err
			kept = append(kept, d)
		case errors.Is(d.Err, persistence.ErrRefused):
			kept = c.splitRefused(g, d, kept)
		default:
			kept = append(kept, d)
		}
	}
	g.batch.Devices = kept
	if len(kept) == 0 {
		c.sendRejects()
		c.appended(g, nil)
		return
	}
	for i := range kept {
		kept[i].Err = nil
	}
	c.again(&g.retryable, err, "append to the archive", func() { c.fx.append(g) })
}

// splitRefused parts what the archive refused into single rows, and puts a row that was refused by
// itself into rejects.
func (c *core) splitRefused(g *gather, d persistence.DeviceRows, kept []persistence.DeviceRows) []persistence.DeviceRows {
	if len(d.Rows)+len(d.Rollups)+len(d.Records) == 1 {
		for _, row := range d.Rows {
			name := c.nameOf(row.Sequence)
			if name == noMessage {
				continue
			}
			c.inFlight.at(name).counts.Refused++
			c.addReject(name, messages.Reject{
				Shard: c.shard, Sequence: row.Sequence, Index: messages.RowIndex(row.Time),
				Subject: messages.ShardReadingsSubject(c.shard, d.Device), Device: d.Device, Arrival: c.inFlight.at(name).arrival,
				Kind: messages.RejectArchive, Reason: d.Err.Error(), Type: messages.TypeJSON,
				Data: messages.AppendReadingJSON(nil, messages.Reading{Time: row.Time, Values: row.Values, Quality: row.Quality, Note: row.Note}),
			})
		}
		return kept
	}
	for i := range d.Rows {
		kept = append(kept, persistence.DeviceRows{Device: d.Device, Class: d.Class, Rows: d.Rows[i : i+1 : i+1]})
	}
	for i := range d.Rollups {
		kept = append(kept, persistence.DeviceRows{Device: d.Device, Class: d.Class, Rollups: d.Rollups[i : i+1 : i+1]})
	}
	for i := range d.Records {
		kept = append(kept, persistence.DeviceRows{Device: d.Device, Class: d.Class, Records: d.Records[i : i+1 : i+1]})
	}
	return kept
}
