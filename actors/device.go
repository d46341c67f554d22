package actors

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

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
// the first five fields; Apply sets the rest and, when Reading.Time was messages.NoTime, the time, and
// cuts omitted values off the end of Reading.Values.
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
	// Classes are the retention classes: a reading that would be gone on arrival is refused.
	Classes persistence.Classes
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
	Status   messages.Status
	At       int64  // ms
	Sequence uint64 // of the message that showed it; of the device's state when Tick did
}

// Outcome is what a call of Apply led to. It may be used again for the next call, which overwrites
// it; only the Channels of its rollups and the payloads of its records stay valid.
type Outcome struct {
	Rollups []persistence.RollupRow // closed, or closed before and changed; absolute
	Dirty   []Dirty                 // may name a bucket twice
	Status  []StatusChange
	Records []persistence.Record // to be stored: that the device was seen first
	Counts  messages.Counts      // of this call, all messages together

	order []int32 // scratch: places of a message's readings, by time
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
//
// Two numbers say what the window does not hold. floor: readings up to there are out for good, by a
// command. dropped: the highest event time of any accepted reading that is not in the window. All
// accepted readings above dropped are in the window; so a bucket that starts above it can be made
// anew from the window, and a reading at or below it may be one the device had before.
type Device struct {
	id        messages.DeviceID
	sequence  uint64
	writeTime int64 // of that message, µs; 0 = not known
	deletedAt uint64

	effective *messages.Settings // shared, never nil
	own       *messages.Settings // shared, nil = none

	firstSeen    int64 // arrival, valid when seen
	lastSeen     int64 // arrival, valid when status is not unknown
	newest       int64 // highest accepted event time; never = none
	lastAssigned int64 // highest event time taken from an arrival; never = none
	floor        int64 // never = none
	dropped      int64 // never = none
	seen         bool
	status       status
	counts       messages.Counts

	window   window
	hour     bucket // of newest
	minute   bucket // of newest, unless minutes are off
	previous bucket // the minute that closed last

	// later is what commands above the sequence of a rebuild set the floor to when they ran first. A
	// command that runs again must not depend on rows that were replaced since.
	later map[uint64]int64
}

// never is before every time there is.
const never = math.MinInt64

// Event times lie in the years 0 to 9999, which RFC 3339 can write; differences cannot overflow.
const (
	earliestTime = -62_167_219_200_000
	latestTime   = 253_402_300_799_999
)

const (
	defaultWindowCount  = 60
	maxWindowCount      = 1 << 20
	defaultOfflineAfter = 180_000
	noMinutesFrom       = 30_000 // expected interval, ms, from which minutes are not rolled up
)

type status uint8

const (
	unknown status = iota
	online
	offline
)

var statusNames = [...]messages.Status{messages.StatusUnknown, messages.StatusOnline, messages.StatusOffline}

// NewDevice returns a device that nothing is known of, as of sequence 0. The settings are those in
// force; they are shared and must not change.
func NewDevice(id messages.DeviceID, effective *messages.Settings) *Device {
	return &Device{id: id, effective: effective, newest: never, lastAssigned: never, floor: never, dropped: never}
}

// ID returns the device's name.
func (d *Device) ID() messages.DeviceID { return d.id }

// Sequence returns the stream sequence the state is as of; 0 = nothing was ever applied.
func (d *Device) Sequence() uint64 { return d.sequence }

// Own returns the device's own settings; nil = none. They must not be changed.
func (d *Device) Own() *messages.Settings { return d.own }

// Status tells whether the device is heard of.
func (d *Device) Status() messages.Status { return statusNames[d.status] }

// Due returns the arrival time (ms) after which silence means offline; 0 when the device is not online.
func (d *Device) Due() int64 {
	if d.status != online {
		return 0
	}
	return d.due()
}

func (d *Device) due() int64 {
	s := d.effective
	switch {
	case s.OfflineAfter > 0:
		return d.lastSeen + s.OfflineAfter
	case s.ExpectedInterval > 0:
		return d.lastSeen + 3*s.ExpectedInterval
	default:
		return d.lastSeen + defaultOfflineAfter
	}
}

func windowCount(s *messages.Settings) int {
	if s.WindowCount <= 0 {
		return defaultWindowCount
	}
	return min(s.WindowCount, maxWindowCount)
}

func minutesOn(s *messages.Settings) bool { return s.ExpectedInterval < noMinutesFrom }

// Tick reports the change to offline when now (ms) is past Due.
func (d *Device) Tick(now int64) (StatusChange, bool) {
	if d.status != online || now <= d.due() {
		return StatusChange{}, false
	}
	d.status = offline
	return StatusChange{Status: messages.StatusOffline, At: d.due(), Sequence: d.sequence}, true
}

// hear notes that a message arrived.
func (d *Device) hear(sequence uint64, arrival int64, out *Outcome) {
	if d.status == online && arrival > d.due() {
		d.status = offline
		out.Status = append(out.Status, StatusChange{Status: messages.StatusOffline, At: d.due(), Sequence: d.sequence})
	}
	if d.status != online {
		if d.status == unknown {
			d.lastSeen = arrival
		}
		d.status = online
		out.Status = append(out.Status, StatusChange{Status: messages.StatusOnline, At: arrival, Sequence: d.sequence})
	}
	d.lastSeen = max(d.lastSeen, arrival)
}

// reset empties out; memory that callers may keep is not used again.
func (out *Outcome) reset() {
	clear(out.Rollups)
	clear(out.Records)
	out.Rollups, out.Dirty, out.Status, out.Records = out.Rollups[:0], out.Dirty[:0], out.Status[:0], out.Records[:0]
	out.Counts = messages.Counts{}
}

// Apply takes everything the device got in one pull, in stream order: readings of several messages
// possibly, those of one message adjacent. It decides each reading, sets in[i].Decision and what
// belongs to it, and says in out what follows.
func (d *Device) Apply(in []Arrived, l *Limits, out *Outcome) {
	out.reset()
	r := roller{d: d, out: out}
	for i := 0; i < len(in); {
		j := i + 1
		for j < len(in) && in[j].Sequence == in[i].Sequence {
			j++
		}
		d.applyMessage(in[i:j], l, &r)
		i = j
	}
	r.flush()
	d.counts.Add(out.Counts)
}

func (d *Device) applyMessage(in []Arrived, l *Limits, r *roller) {
	m := &in[0]
	again := m.Sequence <= d.sequence
	if !again {
		d.sequence, d.writeTime = m.Sequence, m.WriteTime
		r.sequence, r.writeTime = m.Sequence, m.WriteTime
		d.hear(m.Sequence, m.Arrival, r.out)
		if !d.seen {
			d.seen, d.firstSeen = true, m.Arrival
			r.out.Records = append(r.out.Records, persistence.Record{
				Sequence: m.Sequence, WriteTime: m.WriteTime,
				Payload: EncodeDeviceRecord(DeviceRecord{Kind: RecordSeen, FirstSeen: m.Arrival}),
			})
		}
	}
	d.check(in, l, r.out, again)
	for i := range in {
		a := &in[i]
		if a.Decision == Undecided {
			if again {
				a.Decision = AlreadyApplied
				continue
			}
			d.decide(a, r)
		}
		if !again {
			r.out.count(a.Decision)
		}
	}
}

func (out *Outcome) count(dec Decision) {
	c := &out.Counts
	c.Received++
	switch dec {
	case InOrder:
		c.InOrder++
	case Late:
		c.Late++
	case Stale:
		c.Stale++
	case Duplicate:
		c.Duplicate++
	case Refused:
		c.Refused++
	}
}

// check decides what the readings of one message tell by themselves: which are refused, and which a
// later one of the same time replaces. Times that were left out are assigned.
func (d *Device) check(in []Arrived, l *Limits, out *Outcome, again bool) {
	rising := true
	last := int64(never)
	for i := range in {
		a := &in[i]
		if a.Assigned { // a second attempt after a panic
			a.Reading.Time = messages.NoTime
		}
		a.Decision, a.Superseded, a.Assigned, a.Reason = Undecided, false, false, ""
		if a.Reason = refusal(a, l); a.Reason == "" {
			a.Reason = d.beyondRetention(a, l)
		}
		if a.Reason != "" {
			a.Decision = Refused
			continue
		}
		if a.Reading.Time == messages.NoTime {
			if again {
				continue // what it was then is not known any more
			}
			a.Reading.Time, a.Assigned = a.Arrival, true
			if d.lastAssigned >= a.Arrival {
				a.Reading.Time = d.lastAssigned + 1
			}
			d.lastAssigned = a.Reading.Time
		}
		if a.Reading.Time <= last {
			rising = false
		}
		last = a.Reading.Time
	}
	if !rising {
		supersede(in, out)
	}
}

// Why a reading is refused for its time.
const (
	tooFarAhead  = "its time is too far ahead of its arrival"
	tooFarBehind = "its time is too far behind its arrival"
	outsideYears = "its time is outside the years 0 to 9999"
	beyondClass  = "it is older on arrival than its retention class keeps readings"
)

// refusedKind says in a word why a reading was refused.
func refusedKind(reason string) messages.RejectKind {
	switch reason {
	case tooFarAhead, tooFarBehind, outsideYears:
		return messages.RejectTime
	}
	if strings.HasPrefix(reason, beyondClass) {
		return messages.RejectTime
	}
	return messages.RejectInvalid
}

// beyondRetention returns why the reading is not accepted when its class keeps none so old: its event time
// against its arrival, never a clock, so that a replay decides the same.
func (d *Device) beyondRetention(a *Arrived, l *Limits) string {
	kept := l.Classes.Of(d.effective.Retention).Readings
	if kept == 0 || a.Reading.Time == messages.NoTime || a.Arrival-a.Reading.Time < kept.Milliseconds() {
		return ""
	}
	return fmt.Sprintf("%s: class %s, %v", beyondClass,
		cmp.Or(d.effective.Retention, persistence.DefaultClass), kept)
}

// refusal returns why the reading is not accepted, "" if it is, and cuts omitted values off its end.
func refusal(a *Arrived, l *Limits) string {
	r := &a.Reading
	n, infinite := min(1, len(r.Values)), false // a reading of omitted values only keeps one of them
	for c, v := range r.Values {
		if v == v {
			n = c + 1
			infinite = infinite || v-v != 0
		}
	}
	switch t := r.Time; {
	case t == messages.NoTime:
	case l.MaxFuture > 0 && t > a.Arrival+l.MaxFuture:
		return tooFarAhead
	case l.MaxAge > 0 && t < a.Arrival-l.MaxAge:
		return tooFarBehind
	case t < earliestTime || t > latestTime:
		return outsideYears
	}
	switch {
	case n == 0 && r.Note == "":
		return "it has neither values nor a note"
	case n > messages.MaxChannels:
		return "it has more than 64 values"
	case infinite:
		return "it has an infinite value"
	}
	r.Values = r.Values[:n]
	return ""
}

// supersede marks every accepted reading that has a later one of equal time in the message.
func supersede(in []Arrived, out *Outcome) {
	order := out.order[:0]
	for i := range in {
		if in[i].Decision == Undecided && in[i].Reading.Time != messages.NoTime {
			order = append(order, int32(i))
		}
	}
	out.order = order
	slices.SortFunc(order, func(a, b int32) int {
		if ta, tb := in[a].Reading.Time, in[b].Reading.Time; ta != tb {
			if ta < tb {
				return -1
			}
			return 1
		}
		return int(a - b)
	})
	for k := 1; k < len(order); k++ {
		if a := &in[order[k-1]]; a.Reading.Time == in[order[k]].Reading.Time {
			a.Decision, a.Superseded = Duplicate, true
		}
	}
}

// decide places an accepted reading: duplicate, stale, late or in order.
func (d *Device) decide(a *Arrived, r *roller) {
	w, reading := &d.window, &a.Reading
	t, count := reading.Time, int(w.count)
	var flags uint8
	if a.Assigned {
		flags = persistence.FlagAssigned
	}
	place := count
	if t <= d.newest && count > 0 && t <= w.timeAt(count-1) { // newest is at hand, the window's times are not
		var found bool
		if place, found = w.search(t); found {
			a.Decision = Duplicate
			d.replace(place, a, flags, r)
			return
		}
	}
	a.Decision = Late
	if t > d.newest {
		a.Decision, d.newest = InOrder, t
	}
	most := windowCount(d.effective)
	if t <= d.floor || d.tooOld(t) || place == 0 && count >= most {
		a.Decision = Stale
		d.drop(t)
	} else {
		for w.count > 0 && (int(w.count) >= most || d.tooOld(w.timeAt(0))) {
			d.drop(w.dropOldest())
			place--
		}
		w.reserve(len(reading.Values), most)
		w.insert(place, reading, a.Sequence, flags)
	}
	r.add(t, reading.Values, a.Decision == Stale)
}

// tooOld tells whether event time t is beyond the window's age.
func (d *Device) tooOld(t int64) bool {
	age := d.effective.WindowAge
	return age > 0 && t < d.newest-age
}

// drop notes that an accepted reading of event time t is not in the window.
func (d *Device) drop(t int64) { d.dropped = max(d.dropped, t) }

// replace puts a reading in the place of the one of the same time.
func (d *Device) replace(place int, a *Arrived, flags uint8, r *roller) {
	var before [messages.MaxChannels]float64
	w, reading := &d.window, &a.Reading
	old := w.valuesInto(before[:w.channels], place)
	w.reserveChannels(len(reading.Values))
	w.set(place, reading, a.Sequence, flags)
	if !sameValues(old, reading.Values) {
		r.replace(reading.Time, old, reading.Values)
	}
}

// ApplyControl carries out a command. The settings are those of fleet and site, over which the
// device's own are laid.
func (d *Device) ApplyControl(sequence uint64, arrival, writeTime int64, c messages.Control, base *messages.Settings) ControlResult {
	if sequence <= d.sequence {
		return ControlResult{}
	}
	result := ControlResult{Applied: true}
	before := int(d.window.count)
	d.sequence, d.writeTime = sequence, writeTime
	if c.Delete {
		*d = *NewDevice(d.id, base)
		d.sequence, d.writeTime, d.deletedAt = sequence, writeTime, sequence
		result.Dropped = before
		return result
	}
	d.raiseAgain(sequence)
	switch {
	case c.Settings != nil:
		own, effective := c.Settings, c.Settings.Over(*base)
		if isZero(own) {
			own = nil
		}
		if d.minute.held && !minutesOn(&effective) {
			var out Outcome
			r := roller{d: d, out: &out, sequence: sequence, writeTime: writeTime}
			r.emit(messages.Minute, &d.minute)
			result.Rollups, result.Dirty = out.Rollups, out.Dirty
		}
		d.SetSettings(&effective, own)
	case c.Trim != nil:
		floor := min(max(c.Trim.Before, earliestTime), latestTime+1) - 1
		if c.Trim.Before == 0 {
			floor = d.newest
		}
		d.raiseFloor(floor)
	}
	result.Dropped = before - int(d.window.count)
	result.Records = []persistence.Record{{Sequence: sequence, WriteTime: writeTime, Payload: EncodeDeviceRecord(d.Record())}}
	return result
}

func isZero(s *messages.Settings) bool {
	return s.WindowCount == 0 && s.WindowAge == 0 && s.ExpectedInterval == 0 && s.OfflineAfter == 0 && len(s.Channels) == 0 && s.Retention == ""
}

// raiseAgain raises the floor of a device that was rebuilt to where a command of that sequence, of its own or its site's,
// had raised it before: a window that lacks what was replaced since could give less.
func (d *Device) raiseAgain(sequence uint64) {
	if floor, ok := d.later[sequence]; ok {
		d.raiseFloor(floor)
	}
}

// raiseFloor drops readings up to event time floor for good; they are stale if they come again.
func (d *Device) raiseFloor(floor int64) {
	d.floor = max(d.floor, floor)
	for d.window.count > 0 && d.window.timeAt(0) <= d.floor {
		d.drop(d.window.dropOldest())
	}
	d.window.shrink(windowCount(d.effective))
}

// SetSettings puts other settings in force, when those of the fleet or the site changed or after
// DecodeSnapshot: own are the device's own (nil = none), effective the merged ones. Both are shared
// and must not change.
//
// A window that grows must not depend on how long readings were kept before: what it has dropped
// stays out, the floor says so. It reports whether the floor was raised; Record then gives what to store.
func (d *Device) SetSettings(effective, own *messages.Settings) bool {
	old, floor := d.effective, d.floor
	d.effective, d.own = effective, own
	if windowGrows(old, effective) {
		d.floor = max(d.floor, d.dropped)
	}
	w, most := &d.window, windowCount(effective)
	for w.count > 0 && (int(w.count) > most || d.tooOld(w.timeAt(0))) {
		d.drop(w.dropOldest())
	}
	w.shrink(most)
	if on := minutesOn(effective); on != d.minute.held && d.newest != never {
		d.minute, d.previous = bucket{}, bucket{}
		if on {
			d.minute.begin(messages.Minute.Start(d.newest))
			d.remake(messages.Minute, &d.minute)
		}
	}
	return d.floor > floor
}

// windowGrows tells whether readings outside the window by the old settings could be inside by the new.
func windowGrows(old, now *messages.Settings) bool {
	return windowCount(now) > windowCount(old) ||
		old.WindowAge > 0 && (now.WindowAge <= 0 || now.WindowAge > old.WindowAge)
}
