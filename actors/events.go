package actors

import (
	"fmt"
	"strconv"

	"github.com/wellhead/wellhead/messages"
)

// sayReadings publishes what the device got in one pull, newest last, to whoever listens. shard,
// epoch, sequence and index tell a repeat after a restart.
func (c *core) sayReadings(e *entry, in []Arrived) {
	b := c.eventHead(nil, e.id)
	b = append(b, `,"readings":[`...)
	said := false
	for i := range in {
		a := &in[i]
		if c.replaying(a.Sequence) || !a.Written() {
			continue
		}
		if said {
			b = append(b, ',')
		}
		said = true
		b = messages.AppendSampleJSON(b, messages.Sample{Reading: a.Reading, Sequence: a.Sequence})
		b = b[:len(b)-1] // the sample's closing brace: two more members follow
		b = append(b, `,"index":`...)
		b = strconv.AppendInt(b, int64(a.Index), 10)
		b = append(b, `,"decision":"`...)
		b = append(b, a.Decision.String()...)
		b = append(b, `"}`...)
	}
	if !said {
		return
	}
	b = append(b, `]}`...)
	c.stats.Events++
	c.fx.event(messages.EventSubject(e.id, "reading"), b)
}

// eventHead begins an event's JSON object.
func (c *core) eventHead(b []byte, id messages.DeviceID) []byte {
	b = append(b, `{"site":"`...)
	b = append(b, id.Site...)
	b = append(b, `","device":"`...)
	b = append(b, id.Device...)
	b = append(b, `","shard":`...)
	b = strconv.AppendUint(b, uint64(c.shard), 10)
	b = append(b, `,"epoch":`...)
	return strconv.AppendUint(b, uint64(c.saved.Epoch), 10)
}

// announceStatus publishes online or offline, acknowledged by the stream of events. The message that
// led to it, if any, is done after that.
func (c *core) announceStatus(e *entry, s StatusChange, name int32) {
	b := c.eventHead(nil, e.id)
	b = append(b, `,"status":"`...)
	b = append(b, s.Status...)
	b = append(b, `","at":"`...)
	b = messages.AppendTime(b, s.At)
	b = append(b, `"}`...)
	if name != noMessage {
		c.inFlight.at(name).open++
	}
	c.stats.Events++
	c.fx.announce(&announceJob{
		Announcement: messages.Announcement{
			Subject: messages.EventSubject(e.id, string(s.Status)),
			ID:      fmt.Sprintf("%s-%s-%d", e.id, s.Status, s.At),
			Data:    b,
		},
		message: name,
	})
}
