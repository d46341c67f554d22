package actors

import (
	"errors"
	"fmt"

	"github.com/wellhead/wellhead/messages"
)

// rejectMessage puts a whole message into rejects.
func (c *core) rejectMessage(name int32, m *messages.Message, id messages.DeviceID, kind messages.RejectKind, err error) {
	p := c.inFlight.at(name)
	c.addReject(name, messages.Reject{
		Shard: c.shard, Sequence: p.sequence, Index: -1, Subject: m.Subject, Device: cloned(id),
		Arrival: p.arrival, Kind: kind, Reason: err.Error(), Data: m.Data, Type: m.Type,
	})
}

// rejectGuilty puts a message into rejects that ended the process each time it was applied.
func (c *core) rejectGuilty(name int32, m *messages.Message, subject messages.ShardSubject) {
	reason := fmt.Sprintf("the process ended %d times while it applied this message and no other", guiltyAfter)
	id := messages.DeviceID{Site: subject.Site, Device: subject.Device}
	if !c.replaying(c.inFlight.at(name).sequence) {
		c.fx.note(Notice{Kind: NoticeGuilty, Shard: c.shard, Count: 1, Text: fmt.Sprintf("message %d of %s goes to rejects: %s", m.Sequence, m.Subject, reason)})
	}
	c.rejectMessage(name, m, id, messages.RejectFatal, errors.New(reason))
}

// rejectReading puts one reading that its decoder refused into rejects; the payload tells the rest.
func (c *core) rejectReading(name int32, m *messages.Message, subject messages.ShardSubject, r messages.RefusedReading) {
	p := c.inFlight.at(name)
	p.counts.Received++
	p.counts.Refused++
	p.readings++
	c.stats.Counts.Received++
	c.stats.Counts.Refused++
	c.addReject(name, messages.Reject{
		Shard: c.shard, Sequence: p.sequence, Index: messages.RefusedIndex(r), Subject: m.Subject,
		Device:  messages.DeviceID{Site: subject.Site, Device: subject.Device},
		Arrival: p.arrival, Kind: messages.RejectInvalid, Reason: fmt.Sprintf("block %d, reading %d: %s", r.Block, r.Reading, r.Reason),
		Data: m.Data, Type: m.Type,
	})
}

// rejectBlock puts all readings of a block into rejects.
func (c *core) rejectBlock(name int32, m *messages.Message, id messages.DeviceID, b *messages.Block, first int32, reason string) {
	p := c.inFlight.at(name)
	n := uint64(len(b.Readings))
	p.counts.Received += n
	p.counts.Refused += n
	p.readings += uint32(n)
	c.stats.Counts.Received += n
	c.stats.Counts.Refused += n
	c.fx.note(Notice{Kind: NoticeWrongShard, Shard: c.shard, Count: n, Text: reason})
	for i := range b.Readings {
		c.addReject(name, messages.Reject{
			Shard: c.shard, Sequence: p.sequence, Index: int(first) + i, Subject: m.Subject, Device: cloned(id),
			Arrival: p.arrival, Kind: messages.RejectWrongShard, Reason: reason, Data: messages.AppendReadingJSON(nil, b.Readings[i]), Type: messages.TypeJSON,
		})
	}
}

// rejectArrived puts a reading that its device refused, or panicked on, into rejects.
func (c *core) rejectArrived(e *entry, a *Arrived, kind messages.RejectKind, reason string) {
	c.addReject(a.Message, messages.Reject{
		Shard: c.shard, Sequence: a.Sequence, Index: int(a.Index),
		Subject: messages.ShardReadingsSubject(c.shard, e.id), Device: e.id, Arrival: a.Arrival,
		Kind: kind, Reason: reason, Data: messages.AppendReadingJSON(nil, a.Reading), Type: messages.TypeJSON,
	})
}

func (c *core) addReject(name int32, r messages.Reject) {
	p := c.inFlight.at(name)
	p.rejected++
	c.stats.Rejected[r.Kind]++
	if c.replaying(p.sequence) {
		return
	}
	if c.rejects == nil {
		c.rejects = &rejectJob{}
	}
	p.open++
	c.rejects.rejects = append(c.rejects.rejects, r)
	c.rejects.messages = append(c.rejects.messages, name)
}

func (c *core) sendRejects() {
	if j := c.rejects; j != nil && c.lost == nil {
		c.rejects = nil
		c.fx.reject(j)
	}
}

// rejected answers a rejectJob.
func (c *core) rejected(j *rejectJob, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "keep rejects", func() { c.fx.reject(j) })
		return
	}
	j.done = true
	for i := range j.rejects {
		c.noteRejected(&j.rejects[i])
	}
	for _, name := range j.messages {
		c.close(name)
	}
}

func cloned(id messages.DeviceID) messages.DeviceID {
	return messages.DeviceID{Site: string(append([]byte(nil), id.Site...)), Device: string(append([]byte(nil), id.Device...))}
}

// mostRejected bounds how many devices a shard says rejected events of in one second. What is beyond is
// said of their sites, or not at all: it is in rejects, and counted, anyway.
const mostRejected = 32

// mostReason is how much of a reason an event brings; bytes. A reason may quote what was sent.
const mostReason = 1024

// rejectedNews gathers the rejects of a device, or of a site, until they are said.
type rejectedNews struct {
	count  int
	newest messages.Reject
}

// noteRejected keeps in mind that something is in rejects now.
func (c *core) noteRejected(r *messages.Reject) {
	id := r.Device
	if messages.CheckName("site", id.Site) != nil {
		return // nobody listens to events of no site
	}
	if messages.CheckName("device", id.Device) != nil {
		id.Device = ""
	}
	n := c.rejectedNow[id]
	if n == nil && len(c.rejectedNow) >= mostRejected {
		id.Device = ""
		n = c.rejectedNow[id]
		if n == nil && len(c.rejectedNow) >= 2*mostRejected {
			return
		}
	}
	if n == nil {
		n = &rejectedNews{}
		c.rejectedNow[id] = n
	}
	n.count++
	n.newest = *r
	n.newest.Data = nil // it may be large
	n.newest.Reason = r.Reason[:min(len(r.Reason), mostReason)]
}

// sayRejected publishes what was noted, at most once a second.
func (c *core) sayRejected() {
	if len(c.rejectedNow) == 0 || c.now-c.rejectedAt < 1000 {
		return
	}
	c.rejectedAt = c.now
	for id, n := range c.rejectedNow {
		c.stats.Events++
		c.fx.event(messages.EventSubject(id, "rejected"), c.rejectedEvent(id, n))
	}
	clear(c.rejectedNow)
}

// rejectedEvent writes the event; shard, sequence and index are those of the newest reject.
func (c *core) rejectedEvent(id messages.DeviceID, n *rejectedNews) []byte {
	r := &n.newest
	b := append([]byte(nil), `{"site":"`...)
	b = append(b, id.Site...)
	if id.Device != "" {
		b = append(b, `","device":"`...)
		b = append(b, id.Device...)
	}
	b = fmt.Appendf(b, `","shard":%d,"epoch":%d,"count":%d,"kind":"%s","reason":`, c.shard, c.saved.Epoch, n.count, r.Kind)
	b = messages.AppendText(b, r.Reason)
	b = fmt.Appendf(b, `,"sequence":%d,"index":%d,"at":"`, r.Sequence, r.Index)
	b = messages.AppendTime(b, r.Arrival)
	return append(b, `"}`...)
}
