package actors

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// spareParts are used again with each message.
type spareParts struct {
	batch   messages.Batch
	op      *op // of readings that arrived
	brief   *op // of what holds no message open: see brief
	inboxes [][]Arrived
}

// A shard has about as many inboxes in use as devices send in one pull.
const (
	mostSpareInboxes = 2048
	largestSpare     = 64       // readings of an inbox that is used again
	largestScratch   = 64 << 10 // bytes of a snapshot whose memory is used again
)

// inbox returns an empty inbox.
func (s *spareParts) inbox() []Arrived {
	n := len(s.inboxes)
	if n == 0 {
		return nil
	}
	in := s.inboxes[n-1]
	s.inboxes = s.inboxes[:n-1]
	return in
}

// giveBack takes an inbox that nobody refers to any more.
func (s *spareParts) giveBack(in []Arrived) {
	if len(s.inboxes) < mostSpareInboxes && cap(in) <= largestSpare {
		clear(in)
		s.inboxes = append(s.inboxes, in[:0])
	}
}

// pulled takes messages from the feed, in order. A message at or below what was taken already is
// skipped. msgs and their data must not change as long as the shard lives.
func (c *core) pulled(now int64, msgs []messages.Message) {
	c.now = now
	if c.lost != nil {
		return
	}
	first := c.inFlight.first + int32(c.inFlight.count)
	for i := range msgs {
		c.take(&msgs[i])
	}
	c.deliver()
	c.settleSettings()
	c.sendRejects()
	for name := first; name != c.inFlight.first+int32(c.inFlight.count); name++ {
		c.inFlight.at(name).open--
	}
	c.advance()
	if c.gather.due(c) {
		c.flush()
	}
	c.endStep()
}

// settleSettings has, once the replay is over, every device go by the settings in force: those of the
// fleet may be others than in the life before.
func (c *core) settleSettings() {
	if c.settled || c.replaying(c.applied) {
		return
	}
	c.settled = true
	for _, e := range c.entries {
		if e.phase == active || e.phase == loading {
			c.giveWork(e, work{settings: &siteChange{
				merged: e.site.merged, sequence: e.site.seq, always: true, writeTime: c.writeTime, message: noMessage,
			}})
		}
	}
}

// take decodes one message and puts its readings into the inboxes of their devices.
func (c *core) take(m *messages.Message) {
	seq := m.Sequence + c.current.Offset
	if seq <= c.applied {
		return
	}
	if c.applied == c.saved.Snapshotted {
		c.round.since = c.now
	}
	c.applied = seq
	c.round.bytesIn += len(m.Data)
	c.writeTime = max(m.Arrival/1000, c.writeTime+1)
	c.arrival, c.appliedLandmark = millis(m.Arrival), m.Arrival
	c.purged.bytes += len(m.Data)
	name := c.inFlight.push(pending{
		sequence: seq, arrival: c.arrival, landmark: m.Arrival, writeTime: c.writeTime,
		bytes: messageCost(m), wire: uint32(len(m.Data)), open: 1,
	})
	subject, err := messages.ParseShardSubject(m.Subject)
	if err == nil && subject.Shard != c.shard {
		err = fmt.Errorf("%w: it came to shard %d", messages.ErrInvalid, c.shard)
	}
	if err != nil {
		c.rejectMessage(name, m, messages.DeviceID{}, messages.RejectUndecodable, err)
		return
	}
	if _, guilty := slices.BinarySearch(c.guilty, seq); guilty {
		c.rejectGuilty(name, m, subject)
		return
	}
	switch subject.Kind {
	case messages.KindControl, messages.KindSiteControl:
		c.takeControl(name, m, subject)
	default:
		c.takeBatch(name, m, subject)
	}
}

// messageCost is what a message counts for in bytes in flight.
func messageCost(m *messages.Message) int { return len(m.Data) + len(m.Subject) + 64 }

// What a message takes in memory until it is stored, beside its own bytes; a reading is there as it was
// decoded and as a row.
const (
	pendingCost = int(unsafe.Sizeof(pending{}))
	readingCost = int(unsafe.Sizeof(messages.Reading{}) + unsafe.Sizeof(persistence.Row{}))
	valueCost   = 8
)

// charge counts what a message takes once it is decoded: ten times its bytes, for small readings.
func (c *core) charge(name int32, b *messages.Batch) {
	n := pendingCost
	for i := range b.Blocks {
		readings := b.Blocks[i].Readings
		n += len(readings) * readingCost
		for k := range readings {
			n += len(readings[k].Values) * valueCost
		}
	}
	c.inFlight.at(name).bytes += n
	c.inFlight.bytes += n
	c.fx.charge(n)
}

// takeBatch takes one message with readings.
func (c *core) takeBatch(name int32, m *messages.Message, subject messages.ShardSubject) {
	b := &c.spare.batch
	dec := c.gather.decoder
	if err := dec.Message(m.Type, subject, m.Data, b); err != nil {
		c.rejectMessage(name, m, messages.DeviceID{Site: subject.Site, Device: subject.Device}, messages.RejectUndecodable, err)
		return
	}
	p := c.inFlight.at(name)
	if b.Producer != "" && !c.account(p, subject.Site, b) {
		return
	}
	c.charge(name, b)
	site := c.siteOf(subject.Site)
	index := int32(0)
	var before *entry
	for i := range b.Blocks {
		block := &b.Blocks[i]
		e := site.deviceAfter(before, block.Device)
		if e == nil {
			id := messages.DeviceID{Site: subject.Site, Device: block.Device}
			if belongs := messages.ShardOf(id, c.cfg.Shards); belongs != c.shard {
				c.rejectBlock(name, m, id, block, index, fmt.Sprintf("device %s belongs to shard %d and was sent to shard %d: compute the shard as docs/wire.md says, or publish to readings.%s.%s", id, belongs, c.shard, id.Site, id.Device))
				index += int32(len(block.Readings))
				continue
			}
			e = c.entry(id.Site, id.Device)
		}
		before = e
		if len(e.inbox) == 0 && len(block.Readings) > 0 {
			c.touched = append(c.touched, e)
			e.inbox = c.spare.inbox()
		}
		for k := range block.Readings {
			e.inbox = append(e.inbox, Arrived{
				Sequence: p.sequence, Arrival: p.arrival, WriteTime: p.writeTime,
				Reading: block.Readings[k], Message: name, Index: index,
			})
			index++
		}
		p.readings += uint32(len(block.Readings))
	}
	c.round.readings += int(index)
	for _, r := range dec.Refused() {
		c.rejectReading(name, m, subject, r)
	}
}

// deviceAfter returns the site's device of that name, nil when there is none. A producer sends its devices in the same
// order again and again, so the one that came after the device before it last time is looked at first: that is a
// comparison with a line that is needed anyway, and the map is four lines more.
func (s *siteState) deviceAfter(before *entry, name string) *entry {
	if before == nil {
		return s.devices[name]
	}
	if e := before.next; e != nil && e.id.Device == name && e.site == s {
		return e
	}
	e := s.devices[name]
	before.next = e
	return e
}

// siteOf is site without copying the name when it is known.
func (c *core) siteOf(name string) *siteState {
	if s := c.sites[name]; s != nil {
		return s
	}
	return c.site(strings.Clone(name))
}

// account notes the batch under its producer; false when it has been here before and is not applied again.
func (c *core) account(p *pending, site string, b *messages.Batch) bool {
	n := c.producers.note(producerKey{site, b.Producer, b.Run}, c.siteOf(site).name, b.Sequence, p.sequence, p.arrival, c.cfg.Retire)
	p.producer, p.batch = n.key, b.Sequence
	p.repeated, p.accounted, p.retired = n.repeated, n.accounted, n.retired
	return !n.repeated
}

// takeControl takes a command.
func (c *core) takeControl(name int32, m *messages.Message, subject messages.ShardSubject) {
	id := messages.DeviceID{Site: subject.Site, Device: subject.Device}
	kind := messages.RejectUndecodable
	control, err := messages.DecodeControl(m.Type, m.Data)
	if err == nil && subject.Kind == messages.KindControl {
		if belongs := messages.ShardOf(id, c.cfg.Shards); belongs != c.shard {
			kind, err = messages.RejectWrongShard, fmt.Errorf("%w: device %s belongs to shard %d", messages.ErrInvalid, id, belongs)
		}
	}
	if err == nil && subject.Kind == messages.KindSiteControl && control.Trim != nil {
		err = fmt.Errorf("%w: windows are trimmed device by device; a whole site's settings can be changed, or all of it be deleted", messages.ErrInvalid)
	}
	if err != nil {
		c.rejectMessage(name, m, id, kind, err)
		return
	}
	c.deliver() // what came before it comes before it
	p := c.inFlight.at(name)
	if subject.Kind == messages.KindSiteControl {
		if control.Delete {
			c.deleteSite(name, p, subject.Site, control)
		} else {
			c.changeSite(name, p, subject.Site, *control.Settings)
		}
		return
	}
	e := c.entry(id.Site, id.Device)
	c.giveWork(e, work{control: &controlWork{
		control: control, base: e.site.merged, sequence: p.sequence, arrival: p.arrival, writeTime: p.writeTime, message: name,
	}})
}

// changeSite sets a site's settings and tells its devices. Cold ones are woken for it: what such a
// change takes out of a window must be known to the archive, or a rebuilt window would hold more.
func (c *core) changeSite(name int32, p *pending, site string, own messages.Settings) {
	s := c.siteOf(site)
	if p.sequence <= s.seq {
		return
	}
	s.set(own, p.sequence, c.cfg.Fleet)
	for _, e := range c.entries {
		if e.site == s && e.phase != fresh {
			c.giveWork(e, work{settings: &siteChange{
				merged: s.merged, sequence: p.sequence, arrival: p.arrival, writeTime: p.writeTime, message: name,
			}})
		}
	}
	c.recordSite(s, name, p)
}

// recordSite has the archive keep the site's own settings as of a command.
func (c *core) recordSite(s *siteState, name int32, p *pending) {
	if !c.replaying(p.sequence) {
		c.addRecord(messages.DeviceID{Site: s.name}, nil, persistence.Record{
			Sequence: p.sequence, WriteTime: p.writeTime, Payload: encodeSiteRecord(s.own),
		}, name)
	}
}

// deleteSite deletes all of a site's devices in this shard, as if each got the command, and its settings.
// The record of the site stays, empty: of several a rebuild goes by the newest. Cold devices are woken,
// for a deleted device's state is a snapshot like any other.
func (c *core) deleteSite(name int32, p *pending, site string, control messages.Control) {
	s := c.siteOf(site)
	if p.sequence > s.seq {
		s.set(messages.Settings{}, p.sequence, c.cfg.Fleet)
		c.recordSite(s, name, p)
	}
	for _, e := range c.entries {
		if e.site == s && e.phase != fresh {
			c.giveWork(e, work{control: &controlWork{
				control: control, base: s.merged, sequence: p.sequence, arrival: p.arrival, writeTime: p.writeTime, message: name,
			}})
		}
	}
}

// replaying tells whether a message was stored in an earlier life: it changes memory, but writes no
// rows and says no events.
func (c *core) replaying(sequence uint64) bool { return sequence <= c.startStored }

// deliver hands each touched device its readings, in one op.
func (c *core) deliver() {
	for i, e := range c.touched {
		c.touched[i] = nil
		in := e.inbox
		e.inbox = nil
		if !e.ready() {
			c.giveWork(e, work{in: copied(in)})
			c.spare.giveBack(in)
			continue
		}
		o := c.spare.op
		c.spare.op = nil
		if o == nil {
			o = &op{}
		}
		o.kind, o.entry, o.limits, o.in = opApply, e, &c.cfg.Limits, in
		if c.fx.run(o) {
			c.ran(o)
			c.spare.giveBack(in)
			o.reset()
			c.spare.op = o
		} else {
			c.await(o)
		}
	}
	c.touched = c.touched[:0]
}

// reset makes an op ready for its next use; the outcome and the row keep their memory.
func (o *op) reset() {
	o.entry, o.in = nil, nil
	o.state.Store(0)
}

// giveWork has the entry do something now if it is ready, and after all that waits already if not.
func (c *core) giveWork(e *entry, w work) {
	c.hold(w)
	if !e.ready() {
		e.queue = append(e.queue, w)
		c.wake(e)
		return
	}
	c.start(e, w)
}

// wake sees to it that an entry with work gets ready.
func (c *core) wake(e *entry) {
	switch e.phase {
	case fresh:
		d := NewDevice(e.id, e.site.merged)
		c.installed(e, d)
	case cold:
		c.cold = append(c.cold, c.want(e))
	}
}

// want says what is wanted of a cold device.
func (c *core) want(e *entry) loadWant {
	e.phase = loading
	return loadWant{
		entry: e, expected: e.expectedSnapshot(), asOf: c.rebuiltAsOf(e), settings: e.site.merged,
		latest: c.latest(), settingsAt: e.site.seq, settingsHold: !c.replaying(c.applied),
	}
}

// trusted is the generation whose snapshots count, 0 while they are void and the checkpoint does not
// say so yet.
func (c *core) trusted() uint64 {
	if c.saved.Generation != c.current.Generation {
		return 0
	}
	return c.saved.Generation
}

// rebuiltAsOf is up to where a cold device's rows in the archive make its state: nothing came for it
// since then.
func (c *core) rebuiltAsOf(e *entry) uint64 {
	if e.loaded {
		return max(c.startSnapshotted, e.told())
	}
	return c.startSnapshotted
}

// latest is an event time that no reading which was taken in is after.
func (c *core) latest() int64 { return c.now + c.cfg.Limits.MaxFuture }

// installed gives a device to its actor and starts what has waited for it.
func (c *core) installed(e *entry, d *Device) {
	e.phase, e.loaded = active, true
	c.fx.install(e, d)
	e.seq, e.row, e.due, e.deleted, e.class = d.Sequence(), d.Row(), d.Due(), d.gone(), d.effective.Retention
	c.drain(e)
}

// drain starts what waits for the entry.
func (c *core) drain(e *entry) {
	if e.draining {
		return
	}
	e.draining = true
	defer func() { e.draining = false }()
	for e.phase == active && e.busy == nil && len(e.queue) > 0 {
		w := e.queue[0]
		e.queue[0] = work{}
		e.queue = e.queue[1:]
		c.start(e, w)
	}
	if len(e.queue) == 0 {
		e.queue = nil
	}
}

// start turns work into an op and runs it. The messages of the work are held open already.
func (c *core) start(e *entry, w work) {
	if w.ask != nil {
		o := c.brief(opAsk, e)
		o.ask = w.ask
		c.launchBrief(o)
		return
	}
	o := &op{entry: e, limits: &c.cfg.Limits, waiting: true}
	switch {
	case w.in != nil:
		o.kind, o.in = opApply, w.in
	case w.control != nil:
		o.kind, o.control, o.base = opControl, w.control, w.control.base
	case w.settings != nil:
		o.kind, o.settings, o.base = opSettings, w.settings, w.settings.merged
	}
	c.launch(o)
}

// brief returns an empty op of that kind, for launchBrief.
func (c *core) brief(kind opKind, e *entry) *op {
	o := c.spare.brief
	if c.spare.brief = nil; o == nil {
		o = &op{}
	}
	o.kind, o.entry = kind, e
	return o
}

// launchBrief is launch; the op is used again when it is done at once, as it nearly always is.
func (c *core) launchBrief(o *op) {
	if c.launch(o) {
		row, scratch := o.row, o.scratch[:0]
		if cap(scratch) > largestScratch {
			scratch = nil
		}
		*o = op{} // by itself: with the two in it a whole op would be made on the stack first
		o.row, o.scratch = row, scratch
		c.spare.brief = o
	}
}

// launch runs an op that holds its messages by itself, and tells whether it is done.
func (c *core) launch(o *op) bool {
	o.entry.busy = o
	done := c.fx.run(o)
	if done {
		c.ran(o)
	}
	return done
}

// await keeps an op that the actor has not finished. Its readings leave the gather's arena.
func (c *core) await(o *op) {
	o.entry.busy = o
	if !o.waiting {
		o.in = copied(o.in)
		o.waiting = true
		c.hold(work{in: o.in})
	}
}

// hold counts w in the messages it comes from.
func (c *core) hold(w work) { c.eachMessage(w, func(name int32) { c.inFlight.at(name).open++ }) }

// letGo takes back what hold did.
func (c *core) letGo(w work) { c.eachMessage(w, c.close) }

func (c *core) eachMessage(w work, fn func(int32)) {
	switch {
	case w.control != nil:
		fn(w.control.message)
	case w.settings != nil:
		if w.settings.message != noMessage {
			fn(w.settings.message)
		}
	case len(w.in) > 0:
		last := w.in[0].Message - 1
		for i := range w.in {
			if name := w.in[i].Message; name != last {
				fn(name)
				last = name
			}
		}
	}
}

// close says that one thing of a message is done.
func (c *core) close(name int32) {
	p := c.inFlight.at(name)
	p.open--
	if p.open == 0 && name == c.inFlight.first {
		c.advance()
	}
}

// advance moves `stored` over messages that are done.
func (c *core) advance() {
	released := 0
	for p := c.inFlight.oldest(); p != nil && p.open == 0 && !c.retiringFull(); p = c.inFlight.oldest() {
		released += p.bytes
		if !c.replaying(p.sequence) {
			c.stored(p)
		}
		c.inFlight.pop()
	}
	if released > 0 {
		c.fx.release(released)
	}
}

// stored moves the checkpoint to be over one message.
func (c *core) stored(p *pending) {
	k := &c.current
	k.Stored, k.WriteTimeStored = p.sequence, p.writeTime
	k.StoredMark = p.landmark
	k.Counts.Add(p.counts)
	k.Rejected += uint64(p.rejected)
	if p.batch > 0 {
		c.retire(p)
		a := k.ProducersStored.at(p.producer)
		if repeated, _ := k.ProducersStored.enter(a, p.batch, p.sequence, p.arrival); repeated {
			k.Repeated++
		} else {
			a.Readings += uint64(p.readings)
		}
	}
}

// endStep sends what the step has gathered.
func (c *core) endStep() {
	c.sendRejects()
	if len(c.cold) > 0 && c.lost == nil {
		j := &loadJob{
			generation: c.trusted(), snapshotted: c.startSnapshotted,
			stored: c.saved.Stored, wants: c.cold,
		}
		c.cold = nil
		c.fx.load(j)
	}
}
