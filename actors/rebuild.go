package actors

import (
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

// EncodeDeviceRecord returns the payload for the archive.
func EncodeDeviceRecord(r DeviceRecord) []byte { panic("not yet") }

// DecodeDeviceRecord reads a payload of EncodeDeviceRecord.
func DecodeDeviceRecord(payload []byte) (DeviceRecord, error) { panic("not yet") }

// Record returns the rules in force (own settings and floor) as a record to store.
func (d *Device) Record() DeviceRecord { panic("not yet") }

// Rebuild makes a device's state as of a stream sequence from the archive.
type Rebuild struct{}

// NewRebuild begins with the device's records; those above asOf are skipped. The settings are those
// of fleet and site.
func NewRebuild(id messages.DeviceID, records []persistence.Record, asOf uint64, base *messages.Settings) (*Rebuild, error) {
	panic("not yet")
}

// Add takes the next row, newest first; rows above asOf are skipped. It returns false when no further
// row is needed. The row is copied.
func (r *Rebuild) Add(row *persistence.Row) bool { panic("not yet") }

// Finish returns the device. Its counts are zero and its status unknown until it sends.
func (r *Rebuild) Finish() *Device { panic("not yet") }
