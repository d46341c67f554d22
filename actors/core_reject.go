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
	for _, name := range j.messages {
		c.close(name)
	}
}

func cloned(id messages.DeviceID) messages.DeviceID {
	return messages.DeviceID{Site: string(append([]byte(nil), id.Site...)), Device: string(append([]byte(nil), id.Device...))}
}
