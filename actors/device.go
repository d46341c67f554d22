package actors

import (
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Decision says what became of a reading. Each reading is counted under exactly one.
type Decision uint8

const (
	// Undecided is the zero value: no device has seen the reading yet.
	Undecided Decision = iota
	// InOrder: newer than everything the device had.
	InOrder
	// Late: inside the window, not the newest.
	Late
	// Stale: older than the window; archived and rolled up, not in the window.
	Stale
	// Duplicate: an event time the window holds (the reading replaces it), or, with Superseded, one
	// that a later reading of the same message brings again.
	Duplicate
	// Refused: not accepted; Arrived.Reason says why.
	Refused
	// AlreadyApplied: the message's sequence is not above the device's. Memory was not changed and
	// nothing counted; whether the row is written is decided by the shard's `stored` alone.
	AlreadyApplied
)

// Arrived is a reading on its way through a device, with where and when it came. The caller fills
// the first five fields; Apply sets the rest and, when Reading.Time was messages.NoTime, the time.
type Arrived struct {
	Sequence  uint64 // stream sequence, > 0
	Arrival   int64  // arrival time, ms
	WriteTime int64  // µs
	Message   int32  // the caller's name for the message
	Index     int32  // the reading's place in the message
	Reading   messages.Reading

	Decision   Decision
	Superseded bool   // Duplicate of a later reading in the same message: must not be written
	Assigned   bool   // Reading.Time was left out and taken from the arrival time
	Reason     string // why it was refused
}

// Limits bound which readings a device accepts.
type Limits struct {
	MaxFuture int64 // ms an event time may be ahead of the arrival; 0 = no limit
	MaxAge    int64 // ms an event time may be behind the arrival; 0 = no limit
}

// Dirty names a rollup that memory cannot tell: it is recomputed from the archive (RollupOf) once
// every row up to Sequence is stored, and written with this Sequence and WriteTime.
type Dirty struct {
	Step      messages.Step
	Start     int64
	Sequence  uint64 // of the last message that touched it
	WriteTime int64  // of that message, µs; 0 = not known (OpenRollups after a rebuild)
}

// StatusChange says that a device went online or offline, and when (by arrival times).
type StatusChange struct {
	Status messages.Status
	At     int64  // ms
	Before uint64 // stream sequence of the device when it was found out
}

// Outcome is what a call of Apply led to. It may be used again for the next call, which overwrites
// it; only the Channels of its rollups and the payloads of its records stay valid.
type Outcome struct {
	Rollups []persistence.RollupRow // closed, or closed before and changed; absolute
	Dirty   []Dirty
	Status  []StatusChange
	Records []persistence.Record // to be stored: that the device was seen first
	Counts  messages.Counts      // of this call, all messages together

	order []int32 // scratch: equal times within one message
}

// ControlResult is what a command led to.
type ControlResult struct {
	Applied bool                 // false: the device's sequence was there already
	Records []persistence.Record // to be stored; none for a delete, which removes the records
	Rollups []persistence.RollupRow
	Dirty   []Dirty
	Dropped int // readings that left the window
}

// Device is one device's state as of exactly one stream sequence: window, rollups, online state and
// counts. It is a plain value owned by one goroutine; it knows no clock and does no I/O. Readings
// given to it are copied.
type Device struct {
	id       messages.DeviceID
	sequence uint64
}

// NewDevice returns a device that nothing is known of, as of sequence 0. The settings are those in
// force; they are shared and must not change.
func NewDevice(id messages.DeviceID, effective *messages.Settings) *Device {
	panic("not yet")
}

// ID returns the device's name.
func (d *Device) ID() messages.DeviceID { return d.id }

// Sequence returns the stream sequence the state is as of; 0 = nothing was ever applied.
func (d *Device) Sequence() uint64 { return d.sequence }

// Status tells whether the device is heard of.
func (d *Device) Status() messages.Status { panic("not yet") }

// Due returns the arrival time (ms) after which silence means offline; 0 when the device is not online.
func (d *Device) Due() int64 { panic("not yet") }

// Apply takes everything the device got in one pull, in stream order: readings of several messages
// possibly, those of one message adjacent. It decides each reading, sets in[i].Decision and what
// belongs to it, and says in out what follows.
func (d *Device) Apply(in []Arrived, l *Limits, out *Outcome) { panic("not yet") }

// ApplyControl carries out a command. The settings are those of fleet and site, over which the
// device's own are laid.
func (d *Device) ApplyControl(sequence uint64, arrival, writeTime int64, c messages.Control, base *messages.Settings) ControlResult {
	panic("not yet")
}

// SetSettings puts other settings in force, when those of the fleet or the site changed or after
// DecodeSnapshot: own are the device's own (nil = none), effective the merged ones. Both are shared
// and must not change. It reports whether the floor was raised (see DeviceRecord); Record then gives
// what to store.
func (d *Device) SetSettings(effective, own *messages.Settings) bool { panic("not yet") }

// Own returns the device's own settings; nil = none. They must not be changed.
func (d *Device) Own() *messages.Settings { panic("not yet") }

// Tick reports the change to offline when now (ms) is past Due.
func (d *Device) Tick(now int64) (StatusChange, bool) { panic("not yet") }

// OpenRollups returns the running minute and hour as absolute rows, and as dirty those that memory
// does not hold whole. Their Sequence is the device's; WriteTime is 0 after a rebuild until the next message.
func (d *Device) OpenRollups() ([]persistence.RollupRow, []Dirty) { panic("not yet") }

// State returns what the device says of itself; the caller sets Shard.
func (d *Device) State() messages.State { panic("not yet") }

// Latest returns the newest reading of the window; false when it is empty.
func (d *Device) Latest() (messages.Sample, bool) { panic("not yet") }

// Window returns copies of the window's readings between two event times, both included. From > to:
// newest first. Limit 0 = all.
func (d *Device) Window(from, to int64, limit int) []messages.Sample { panic("not yet") }

// Summary returns statistics over the window, by channel.
func (d *Device) Summary() []messages.Summary { panic("not yet") }

// Row returns the device's line in the shard's column table.
func (d *Device) Row() messages.DeviceRow { panic("not yet") }

// Row returns the reading as the archive takes it. Only accepted, not superseded readings have one
// (see Written).
func (a *Arrived) Row() persistence.Row { panic("not yet") }

// Written tells whether the reading belongs into the archive: it was accepted, no later one of the
// same message replaces it, and its time is known. The time of a reading that is AlreadyApplied and
// came without one is not known any more: its row was stored before the snapshot that knows it.
func (a *Arrived) Written() bool { panic("not yet") }
