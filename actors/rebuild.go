package actors

import (
	"encoding/json"
	"fmt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// DeviceRecord is what the archive keeps of a device beside its rows, as the payload of a
// persistence.Record: that it was seen first, or, absolute, what commands have set. Of several with
// settings the one with the highest sequence holds.
type DeviceRecord struct {
	Kind      string             `json:"kind"`                // RecordSeen or RecordRules
	FirstSeen int64              `json:"firstSeen,omitempty"` // RecordSeen: arrival time, ms
	Own       *messages.Settings `json:"own,omitempty"`       // RecordRules: the device's own settings
	Floor     *int64             `json:"floor,omitempty"`     // RecordRules: readings up to this event time are out of the window for good
}

// Kinds of a DeviceRecord.
const (
	RecordSeen  = "seen"
	RecordRules = "rules"
)

// deviceRecordVersion stands in every payload; a higher one is refused.
const deviceRecordVersion = 1

type versionedRecord struct {
	Version int `json:"v"`
	DeviceRecord
}

// EncodeDeviceRecord returns the payload for the archive.
func EncodeDeviceRecord(r DeviceRecord) []byte {
	data, err := json.Marshal(versionedRecord{deviceRecordVersion, r})
	if err != nil {
		panic(fmt.Sprintf("a device record cannot be written as json: %v", err)) // it has plain fields only
	}
	return data
}

// DecodeDeviceRecord reads a payload of EncodeDeviceRecord.
func DecodeDeviceRecord(payload []byte) (DeviceRecord, error) {
	var r versionedRecord
	if err := json.Unmarshal(payload, &r); err != nil {
		return DeviceRecord{}, fmt.Errorf("device record: %w: %w", messages.ErrInvalid, err)
	}
	if r.Version < 1 || r.Version > deviceRecordVersion {
		return DeviceRecord{}, fmt.Errorf("device record of version %d, known is %d: %w", r.Version, deviceRecordVersion, messages.ErrInvalid)
	}
	return r.DeviceRecord, nil
}

// Record returns the rules in force (own settings and floor) as a record to store.
func (d *Device) Record() DeviceRecord {
	r := DeviceRecord{Kind: RecordRules, Own: d.own}
	if d.floor != never {
		floor := d.floor
		r.Floor = &floor
	}
	return r
}

// Rebuild makes a device's state as of a stream sequence from the archive. Rows that were replaced
// after that sequence are not there any more; the replay of the stream brings their successors, and
// window and rollups are the same again after it. What cannot be told from the archive: that a row
// which was replaced had had its time assigned.
type Rebuild struct {
	d       *Device
	most    int
	minutes bool
	full    bool // the window can take no more
	enough  bool
}

// assignedReach is how far before the newest event time (ms) rows are looked at for times that were
// assigned, so that the next one is not the same: an assigned time that can still matter is at least
// the last arrival, which is at most Limits.MaxFuture (10 min) before the newest.
const assignedReach = 900_000

// NewRebuild begins with the device's records. Rules above asOf are not put in force, but a command
// of that sequence will set the same floor again. The settings are those of fleet and site.
func NewRebuild(id messages.DeviceID, records []persistence.Record, asOf uint64, base *messages.Settings) (*Rebuild, error) {
	d := NewDevice(id, base)
	d.sequence = asOf
	var rules uint64
	for _, record := range records {
		r, err := DecodeDeviceRecord(record.Payload)
		if err != nil {
			return nil, fmt.Errorf("rebuild %v from its record of sequence %d: %w", id, record.Sequence, err)
		}
		switch {
		case record.Sequence > asOf:
			if r.Floor != nil {
				if d.later == nil {
					d.later = make(map[uint64]int64)
				}
				d.later[record.Sequence] = *r.Floor
			}
		case r.Kind == RecordSeen:
			if !d.seen {
				d.seen, d.firstSeen = true, r.FirstSeen
			}
		case r.Kind == RecordRules && record.Sequence >= rules:
			rules = record.Sequence
			d.own, d.floor = r.Own, never
			if r.Floor != nil {
				d.floor = *r.Floor
			}
		}
	}
	if d.own != nil {
		merged := d.own.Over(*base)
		d.effective = &merged
	}
	return &Rebuild{d: d, most: windowCount(d.effective), minutes: minutesOn(d.effective)}, nil
}

// Add takes the next row, newest first; rows above asOf are skipped. It returns false when no further
// row is needed. The row is copied.
func (r *Rebuild) Add(row *persistence.Row) bool {
	d := r.d
	if r.enough || row.Sequence > d.sequence {
		return !r.enough
	}
	t := row.Time
	if d.newest == never {
		d.newest = t
		r.place(t)
	}
	if row.Flags&persistence.FlagAssigned != 0 {
		d.lastAssigned = max(d.lastAssigned, t)
	}
	inHour := d.hour.holds(messages.Hour, t)
	if inHour && d.hour.whole {
		d.hour.add(t, row.Values)
	}
	if d.minute.holds(messages.Minute, t) && d.minute.whole {
		d.minute.add(t, row.Values)
	}
	if t <= d.floor || d.tooOld(t) || int(d.window.count) >= r.most {
		d.drop(t)
		r.full = true
	} else {
		reading := messages.Reading{Time: t, Values: row.Values, Quality: row.Quality, Note: row.Note}
		d.window.reserve(len(row.Values), r.most)
		d.window.insert(0, &reading, row.Sequence, row.Flags)
	}
	r.enough = !inHour && r.full && t < d.newest-assignedReach
	return !r.enough
}

// place has the device hold the hour and the minute of event time t, its newest, which are whole unless damage may reach
// into them.
func (r *Rebuild) place(t int64) {
	d := r.d
	d.hour.begin(messages.Hour.Start(t))
	if r.minutes {
		d.minute.begin(messages.Minute.Start(t))
	}
	for _, b := range []*bucket{&d.hour, &d.minute} {
		if b.held && d.dropped >= b.start {
			b.spoil()
		}
	}
}

// Damaged says that readings between the last one added and the next cannot be read. The state goes without
// them, and knows that its window has not all up to there; but no hour or minute that had some counts as whole, now or when
// it is opened: memory would put its part in the place of what the archive has. latest is an event time that no reading
// is after, because a store does not know how far what it cannot read reaches.
func (r *Rebuild) Damaged(damage persistence.Damage, latest int64) {
	r.d.drop(min(damage.To, latest))
	for _, held := range []struct {
		b    *bucket
		step messages.Step
	}{{&r.d.hour, messages.Hour}, {&r.d.minute, messages.Minute}} {
		if b := held.b; b.held && damage.From < b.start+int64(held.step) && damage.To >= b.start {
			b.spoil()
		}
	}
}

// Finish returns the device. Its counts are zero and its status unknown until it sends.
func (r *Rebuild) Finish() *Device { return r.d }
