package actors

import (
	"log/slog"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Corruption is something in a store that is not as it was written. It was not used.
type Corruption struct {
	What               string // CorruptSnapshot, CorruptChunk or CorruptRollup
	Device             messages.DeviceID
	Step               messages.Step // of a rollup
	persistence.Damage               // the event times it is about; of a snapshot only Err
}

// What can be corrupt.
const (
	CorruptSnapshot = "snapshot" // its device is rebuilt from the archive, and has another one after the next round
	CorruptChunk    = "chunk"    // written again as far as window and stream still have its readings
	CorruptRollup   = "rollup"   // computed again, if its readings are there
)

// found reports a corruption.
func (x *executor) found(c Corruption) {
	if x.corrupt != nil {
		x.corrupt(c)
	}
}

// corrupt logs and counts what one of the shard's stores has damaged, and has the shard repair it. A store that lost a file brings
// thousands at once: of each kind the log names some each few seconds, the count has all.
func (m *Member) corrupt(shard messages.Shard, c Corruption) {
	if m.parts.Corrupt != nil {
		m.parts.Corrupt(c.What)
	}
	if c.What != CorruptSnapshot {
		m.tell(shard, func(core *core) { core.repair(c.Device, c.Step, c.From, c.To) })
	}
	unsaid, say := m.complaints.few("corrupt "+c.What, time.Now())
	if !say {
		return
	}
	attrs := []any{"what", c.What, "shard", int(shard), "site", c.Device.Site, "device", c.Device.Device}
	if c.From != 0 || c.To != 0 {
		attrs = append(attrs, timeAttr("from", c.From), timeAttr("to", c.To))
	}
	m.log.Error("stored data is damaged and is not used", append(attrs, "error", c.Err, "unsaid", unsaid)...)
}

// timeAttr is an event time for the log.
func timeAttr(name string, ms int64) slog.Attr { return slog.String(name, timeText(ms)) }

func timeText(ms int64) string {
	return time.UnixMilli(max(minTime, min(maxTime, ms))).UTC().Format(time.RFC3339Nano)
}
