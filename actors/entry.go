package actors

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// phase says where a device's state is.
type phase uint8

const (
	fresh   phase = iota // nowhere: its first message makes it
	cold                 // in the snapshot store or the archive
	loading              // being fetched
	active               // in its actor
)

// maxWaitingAsks bounds the questions that wait for one device to be loaded.
const maxWaitingAsks = 64

// entry is a device's line in its shard's column table. It stays when the device is passivated, so
// that lists and offline checks wake nobody.
type entry struct {
	// What each reading touches is together.
	id         messages.DeviceID
	site       *siteState
	next       *entry    // the device that came after it in a batch last time; nil = not known
	inbox      []Arrived // readings of the pull at hand
	phase      phase
	unsaved    bool // its state has changed since the last snapshot was captured
	registered bool // the archive has, or is being given, a record of it
	loaded     bool // it has been active in this life
	deleted    bool // nothing came since it was deleted: hidden from lists
	draining   bool
	busy       *op    // handed to the actor and not answered: it panicked, or is being restored
	queue      []work // waits for busy or loading to end, in order
	shard      any    // the host's handle of the actor, nil = none
	gatherNo   uint64 // the gather that has rows of it ...
	gatherAt   int    // ... in this place
	seq        uint64 // of the device's state, as it last told
	due        int64  // it counts as offline after this, 0 = never
	class      string // its retention class, as it last told
	row        messages.DeviceRow

	snapSeq  uint64   // of its snapshot in the store, 0 = none that counts
	siteSeq  uint64   // of the last change of the site's settings that the device was told
	deleting int      // deletes under way in the archive: until then it tells what is gone
	lives    int      // actors it has had
	panics   int      // in a row
	guilty   []guilty // readings it panicked on for good
}

// ready tells whether the entry's actor can be handed an op now.
func (e *entry) ready() bool { return e.phase == active && e.busy == nil && len(e.queue) == 0 }

// told is the last message that the device was told of: a change of its site's settings may have raised its
// floor, and leaves its sequence as it is.
func (e *entry) told() uint64 { return max(e.seq, e.siteSeq) }

// expectedSnapshot is the sequence that a snapshot must have at least to be the entry's: one from
// before is of a store that went back. A device of this life without a snapshot of this generation has none.
func (e *entry) expectedSnapshot() uint64 {
	if e.loaded && e.snapSeq == 0 {
		return math.MaxUint64
	}
	return e.snapSeq
}

// work is what waits for an entry to be ready. Exactly one of its parts is set.
type work struct {
	in       []Arrived
	control  *controlWork
	settings *siteChange
	ask      *ask
}

// controlWork is a command with the place it has in the stream.
type controlWork struct {
	control   messages.Control
	base      *messages.Settings // the site's level then, merged
	sequence  uint64
	arrival   int64
	writeTime int64
	message   int32
}

// siteChange is a change of a site's settings with the place it has in the stream.
type siteChange struct {
	always    bool // whatever the device's sequence
	merged    *messages.Settings
	sequence  uint64
	arrival   int64
	writeTime int64
	message   int32
}

// ask is a question to a device. answer is called exactly once, from the goroutine that runs the core
// or the device.
type ask struct {
	read   func(*Device)
	answer func(error)
	err    error // read panicked
}

// run reads the device. A question that panics has changed nothing: the asker gets an error.
func (a *ask) run(d *Device) {
	defer func() {
		if r := recover(); r != nil {
			a.err = fmt.Errorf("answering failed: %v", r)
		}
	}()
	a.read(d)
}

type opKind uint8

const (
	opApply opKind = iota
	opControl
	opSettings
	opSnapshot
	opTick
	opAsk
)

// op is one thing a device's actor does. The actor fills in the result and passes it back; after that
// only the core touches it.
type op struct {
	kind   opKind
	entry  *entry
	limits *Limits

	in       []Arrived // opApply
	out      Outcome   // opApply
	control  *controlWork
	settings *siteChange
	base     *messages.Settings // opControl, opSettings: the site's level, merged
	now      int64              // opTick
	ask      *ask

	result  ControlResult           // opControl
	status  StatusChange            // opTick
	changed bool                    // opTick
	data    []byte                  // opSnapshot
	scratch []byte                  // opSnapshot
	resting bool                    // opSnapshot: it is offline, so its running rollups are written too
	open    []persistence.RollupRow // opSnapshot of a resting device
	dirty   []Dirty                 // the same
	raised  bool                    // opSettings: the floor was raised, so record is to be stored
	record  []byte

	row  messages.DeviceRow // after it
	gone bool               // it was deleted and has not sent since
	due  int64
	seq  uint64

	class string

	state    atomic.Int32 // handshake between the actor and the shard, see deviceActor
	waiting  bool         // it holds its messages open by itself
	attempts int
	probe    bool      // opApply after a panic: readings that fail by themselves are left out
	failing  []Arrived // those
	inspect  func(*Arrived)
}

// perform runs the op on the device. It is called inside the device's actor and may panic.
func (o *op) perform(d *Device) {
	switch o.kind {
	case opApply:
		o.apply(d)
	case opControl:
		c := o.control
		o.result = d.ApplyControl(c.sequence, c.arrival, c.writeTime, c.control, o.base)
	case opSettings:
		if o.settings.always || o.settings.sequence > d.Sequence() { // else its snapshot has come from beyond
			o.raised, o.record = applySettings(d, o.settings.sequence, o.base)
		}
	case opSnapshot:
		o.scratch = d.AppendSnapshot(o.scratch[:0])
		o.data = slices.Clone(o.scratch)
		if o.resting {
			o.open, o.dirty = d.OpenRollups()
		}
	case opTick:
		o.status, o.changed = d.Tick(o.now)
	case opAsk:
		o.ask.run(d)
		return
	}
	d.ReadRow(&o.row)
	o.due, o.seq, o.gone, o.class = d.Due(), d.Sequence(), d.gone(), d.effective.Retention
}

// apply has the device apply the op's readings. A test may look at each before.
func (o *op) apply(d *Device) {
	if o.probe {
		o.leaveOutFailing(d)
	}
	if o.inspect != nil {
		for i := range o.in {
			o.inspect(&o.in[i])
		}
	}
	if len(o.in) > 0 {
		d.Apply(o.in, o.limits, &o.out)
	} else {
		o.out = Outcome{}
	}
}

// leaveOutFailing tries each reading by itself on a copy of the device, a few times, and takes those
// that fail each time out of the op.
func (o *op) leaveOutFailing(d *Device) {
	state := d.AppendSnapshot(nil)
	var good []Arrived
	for i := range o.in {
		if reason := o.fails(state, o.in[i]); reason != "" {
			a := o.in[i]
			a.Decision, a.Reason = Refused, "the device failed on this reading: "+reason
			o.failing = append(o.failing, a)
		} else {
			good = append(good, o.in[i])
		}
	}
	o.in = good
}

// fails says how the device fails on a reading, or "".
func (o *op) fails(state []byte, a Arrived) (reason string) {
	for range maxAttempts {
		if reason = o.failsOnce(state, a); reason == "" {
			return ""
		}
	}
	return reason
}

func (o *op) failsOnce(state []byte, a Arrived) (reason string) {
	defer func() {
		if r := recover(); r != nil {
			reason = fmt.Sprint(r)
		}
	}()
	d, err := DecodeSnapshot(state)
	if err != nil {
		return err.Error()
	}
	if o.inspect != nil {
		o.inspect(&a)
	}
	var out Outcome
	d.Apply([]Arrived{a}, o.limits, &out)
	return ""
}

// applySettings puts the site's level, which the command of that sequence has set, in force under the device's own.
// When that raised the device's floor, record is what the archive must keep of it.
func applySettings(d *Device, sequence uint64, base *messages.Settings) (raised bool, record []byte) {
	effective, own := base, d.Own()
	if own != nil {
		merged := own.Over(*base)
		effective = &merged
	}
	before := d.floor
	d.raiseAgain(sequence)
	d.SetSettings(effective, own)
	if raised = d.floor > before; raised {
		record = EncodeDeviceRecord(d.Record())
	}
	return raised, record
}

// copied returns readings that do not refer to a network buffer or an arena any more.
func copied(in []Arrived) []Arrived {
	out := slices.Clone(in)
	for i := range out {
		r := &out[i].Reading
		r.Values = slices.Clone(r.Values)
		r.Quality = slices.Clone(r.Quality)
		r.Note = strings.Clone(r.Note)
	}
	return out
}

// pending is a message that has been taken in and is not done: something it brought is not stored,
// kept in rejects or announced yet.
type pending struct {
	sequence  uint64
	arrival   int64 // ms
	landmark  int64 // arrival in ns
	writeTime int64
	bytes     int    // that it counts for in bytes in flight
	wire      uint32 // bytes of the message
	open      int32  // things that are not done
	gatherNo  uint64 // the last gather that counts in open
	counts    messages.Counts
	rejected  uint32
	readings  uint32 // in the batch, for its producer's account
	repeated  bool   // the batch has been here before
	accounted bool
	producer  producerKey
	batch     uint64        // producer sequence
	retired   []producerKey // accounts that the shard lets go of here
}

// pendings is the queue of messages that are not done, in stream order. Messages are named by a
// number that grows by one with each and may wrap around.
type pendings struct {
	ring  []pending
	head  int // place of the oldest
	count int
	first int32 // name of the oldest
	bytes int
}

// push adds a message and returns its name.
func (q *pendings) push(p pending) int32 {
	if q.count == len(q.ring) {
		grown := make([]pending, max(64, 2*len(q.ring)))
		n := copy(grown, q.ring[q.head:])
		copy(grown[n:], q.ring[:q.head])
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = p
	q.count++
	q.bytes += p.bytes
	return q.first + int32(q.count) - 1
}

// at returns the message of that name, which must be in the queue.
func (q *pendings) at(name int32) *pending {
	return &q.ring[(q.head+int(name-q.first))&(len(q.ring)-1)]
}

// oldest returns the oldest message, nil when there is none.
func (q *pendings) oldest() *pending {
	if q.count == 0 {
		return nil
	}
	return &q.ring[q.head]
}

// pop removes the oldest message.
func (q *pendings) pop() {
	p := &q.ring[q.head]
	q.bytes -= p.bytes
	*p = pending{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	q.first++
}
