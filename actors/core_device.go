package actors

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// errors that questions are answered with.
var (
	errUnknownDevice = fmt.Errorf("%w: no such device has sent", persistence.ErrNotFound)
	errBusy          = errors.New("too many questions wait for this device")
)

// loaded answers a loadJob: results stand in the order of its wants.
func (c *core) loaded(j *loadJob, results []loadResult, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "load devices", func() {
			if w := &j.wants[0]; w.upTo > 0 { // what is left in the stream may have changed
				j.snapshotted, j.stored, w.asOf, w.expected = c.saved.Snapshotted, c.saved.Stored, c.saved.Snapshotted, w.entry.expectedSnapshot()
				j.generation = c.trusted()
				w.producers, w.writeTime = c.saved.ProducersSnapshotted.clone(), c.saved.WriteTimeSnapshotted
			}
			c.fx.load(j)
		})
		return
	}
	j.done = true
	for i := range j.wants {
		c.fetched(j.wants[i], results[i])
	}
	c.endStep()
}

// fetched puts a device in force that was wanted.
func (c *core) fetched(w loadWant, r loadResult) {
	e, d := w.entry, r.device
	if d == nil {
		d = NewDevice(e.id, w.settings)
	}
	if due := d.Due(); w.upTo == 0 && due > 0 && e.row.Status == messages.StatusOffline {
		d.Tick(due + 1) // it was told already
	}
	var raised bool
	var record []byte
	if !w.settingsHold && w.settingsAt <= d.Sequence() {
		// the device comes from beyond that command
	} else if raised, record = applySettings(d, w.settingsAt, w.settings); raised {
		c.addRecord(e.id, e, persistence.Record{
			Sequence: max(d.Sequence(), w.settingsAt), WriteTime: c.writeTime, Payload: record,
		}, noMessage)
	}
	e.snapSeq = r.snapshot
	e.unsaved = raised || d.Sequence() != r.snapshot // a replay may have brought it beyond its snapshot
	if failed := e.busy; failed != nil {
		e.busy = nil
		c.retryFailed(e, d, failed)
		return
	}
	c.installed(e, d)
}

// failed says that a device's actor panicked while it ran o, and stands restarted and empty. After a
// wait the device is restored as of before o, and o is tried again.
func (c *core) failed(o *op, reason string) {
	e := o.entry
	if c.lost != nil || e.busy != o {
		return
	}
	c.stats.Panics++
	e.panics++
	e.phase = loading
	o.attempts++
	c.fx.note(Notice{
		Kind: NoticePanic, Shard: c.shard, Count: 1,
		Text: fmt.Sprintf("device %s panicked: %s; it is restored and tries again", e.id, reason),
	})
	wait := min(int64(100)<<min(e.panics, 10), 10_000)
	wait += c.rnd.Int64N(wait/2 + 1)
	c.retries = append(c.retries, retry{at: c.now + wait, do: func() {
		c.fx.load(&loadJob{
			generation: c.trusted(), snapshotted: c.saved.Snapshotted, stored: c.saved.Stored,
			wants: []loadWant{{
				entry: e, expected: e.expectedSnapshot(), asOf: c.saved.Snapshotted, settings: e.site.merged, latest: c.latest(),
				upTo: e.told(), guilty: e.guilty, settingsHold: true,
				producers: c.saved.ProducersSnapshotted.clone(), writeTime: c.saved.WriteTimeSnapshotted,
			}},
		})
	}})
	c.sendRejects()
}

// maxAttempts is how often one reading is tried before it goes to rejects.
const maxAttempts = 3

// retryFailed gives the entry its restored device and tries again what failed: message by message,
// and then without the readings that fail by themselves. What has failed too often goes to rejects.
func (c *core) retryFailed(e *entry, d *Device, o *op) {
	e.phase = active
	c.fx.install(e, d)
	e.seq, e.row, e.due, e.deleted, e.class = d.Sequence(), d.Row(), d.Due(), d.gone(), d.effective.Retention
	switch {
	case o.kind == opApply && o.in[0].Message != o.in[len(o.in)-1].Message:
		c.retryByMessage(e, o)
	case o.attempts < maxAttempts:
		o.probe = o.kind == opApply
		o.failing = nil
		o.state.Store(opHanded)
		c.launch(o)
	default:
		c.giveUp(o)
		c.drain(e)
	}
}

func (c *core) retryByMessage(e *entry, o *op) {
	var parts []work
	for from := 0; from < len(o.in); {
		to := from + 1
		for to < len(o.in) && o.in[to].Message == o.in[from].Message {
			to++
		}
		w := work{in: o.in[from:to:to]}
		c.hold(w)
		parts = append(parts, w)
		from = to
	}
	c.letGo(work{in: o.in})
	e.queue = append(parts, e.queue...)
	c.drain(e)
}

// giveUp rejects what a device failed on each time it was tried.
func (c *core) giveUp(o *op) {
	const reason = "the device failed on this each time it was tried"
	switch o.kind {
	case opApply:
		for i := range o.in {
			o.in[i].Reason = reason
			c.rejectFailing(o.entry, &o.in[i])
		}
	case opControl:
		c.addReject(o.control.message, messages.Reject{
			Shard: c.shard, Sequence: o.control.sequence, Index: -1, Device: o.entry.id, Arrival: o.control.arrival,
			Subject: messages.ShardControlSubject(c.shard, o.entry.id), Kind: messages.RejectPanic, Reason: reason,
			Data: messages.AppendControl(nil, o.control.control), Type: messages.TypeProtobuf,
		})
	case opAsk:
		o.ask.answer(errors.New(reason))
	}
	if o.waiting {
		c.letGo(work{in: o.in, control: o.control, settings: o.settings})
	}
	c.sendRejects()
}

// rejectFailing puts a reading that its device fails on into rejects, and leaves it out from now on.
func (c *core) rejectFailing(e *entry, a *Arrived) {
	e.guilty = append(e.guilty, guilty{a.Sequence, a.Reading.Time})
	p := c.inFlight.at(a.Message)
	p.counts.Received++
	p.counts.Refused++
	c.stats.Counts.Received++
	c.stats.Counts.Refused++
	c.rejectArrived(e, a, messages.RejectPanic, a.Reason)
}

// ask puts a question to a device: read runs in its actor, then answer is called.
func (c *core) ask(id messages.DeviceID, a *ask) {
	e := c.find(id)
	switch {
	case c.lost != nil:
		a.answer(c.lost)
	case e == nil || e.phase == fresh || e.deleted:
		a.answer(errUnknownDevice)
	case len(e.queue) >= maxWaitingAsks:
		a.answer(errBusy)
	default:
		c.giveWork(e, work{ask: a})
		c.endStep()
	}
}

// list returns a site's lines, sorted by name, whose name comes after `after` and contains a text.
func (c *core) list(site, after, contains string, status messages.Status, limit int) []messages.DeviceRow {
	s := c.sites[site]
	if s == nil {
		return nil
	}
	var out []messages.DeviceRow
	for _, e := range s.devices {
		if e.deleted || e.phase == fresh || e.id.Device <= after ||
			status != "" && e.row.Status != status || contains != "" && !strings.Contains(e.id.Device, contains) {
			continue
		}
		out = append(out, e.row)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Device.Device < out[j].Device.Device })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	for i := range out {
		out[i].Values = slices.Clone(out[i].Values) // the line's memory is used again
	}
	return out
}

// widths names the site's devices in any order.
func (c *core) widths(site string) []messages.DeviceWidth {
	s := c.sites[site]
	if s == nil {
		return nil
	}
	out := make([]messages.DeviceWidth, 0, len(s.devices))
	for _, e := range s.devices {
		if !e.deleted && e.phase != fresh {
			out = append(out, messages.DeviceWidth{Device: e.id.Device, Channels: len(e.row.Values)})
		}
	}
	return out
}

// tickDevices tells offline what has been silent for too long, and passivates what has long been
// offline; once a second.
func (c *core) tickDevices(caughtUp bool) {
	if c.now-c.tickedAt < 1000 {
		return
	}
	c.tickedAt = c.now
	silent := c.arrival
	if caughtUp {
		silent = c.now
	}
	for _, e := range c.entries {
		switch {
		case e.due > 0 && silent > e.due && e.row.Status == messages.StatusOnline:
			c.goOffline(e)
		case c.cfg.PassivateAfter > 0 && e.ready() && e.row.Status == messages.StatusOffline &&
			silent-e.row.LastSeen > c.cfg.PassivateAfter && !e.unsaved && e.snapSeq == e.seq:
			e.phase = cold
			c.fx.stop(e)
		}
	}
}

// goOffline tells that a device is silent. A cold device is not woken for it: its line changes, and
// its state when it is loaded.
func (c *core) goOffline(e *entry) {
	switch {
	case e.ready():
		o := c.brief(opTick, e)
		o.now = e.due + 1
		c.launchBrief(o)
	case e.phase == cold:
		e.row.Status = messages.StatusOffline
		c.announceStatus(e, StatusChange{Status: messages.StatusOffline, At: e.due}, noMessage)
	}
}

// announced answers an announceJob.
func (c *core) announced(j *announceJob, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "announce "+j.Subject, func() { c.fx.announce(j) })
		return
	}
	j.done = true
	if j.message != noMessage {
		c.close(j.message)
	}
}
