package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// errSnapshotsWentBack means that the snapshot store has lost the shard's fence: it went back.
var errSnapshotsWentBack = errors.New("the snapshot store went back")

// executor carries out what a core asks of stores and stream. Its methods wait; the shard calls them
// from goroutines of their own. They keep no state but the checkpoint's revision.
type executor struct {
	shard     messages.Shard
	archive   persistence.Archive
	snapshots persistence.Snapshots
	log       Log
	cells     Cells // checkpoints
	outside   Outside
	epoch     messages.Epoch
	offset    uint64   // logical sequence = offset + stream sequence
	revision  uint64   // of the checkpoint
	guilty    []uint64 // messages that are not applied any more, ascending

	witnessing  sync.Mutex
	witness     Witness
	witnessTime int64  // write time of the last, µs
	witnessed   uint64 // deletions up to this sequence are known to the archive

	limits  *Limits
	inspect func(*Arrived) // a test's look at readings, nil = none
	fleet   *messages.Settings

	accounts Retirement
	corrupt  func(Corruption) // is told of what cannot be read; nil = nobody, and reading it is an error
}

// load fetches states: from snapshots, else from the archive.
func (x *executor) load(ctx context.Context, j *loadJob) ([]loadResult, error) {
	found := map[messages.DeviceID]*Device{}
	var r snapshotReader
	if j.generation > 0 {
		ids := make([]messages.DeviceID, len(j.wants))
		for i := range j.wants {
			ids[i] = j.wants[i].entry.id
		}
		for part := range slices.Chunk(ids, 500) {
			snaps, err := x.snapshots.Get(ctx, x.shard, j.generation, part)
			if errors.Is(err, persistence.ErrCorrupt) {
				x.found(Corruption{What: CorruptSnapshot, Device: part[0], Damage: persistence.Damage{Err: fmt.Errorf("get snapshots of %d devices: %w", len(part), err)}})
				continue
			}
			if err != nil {
				break // the archive knows it all: a snapshot is only a shortcut
			}
			for _, s := range snaps {
				d, err := r.device(s.Data)
				if err == nil && (d.Sequence() != s.Sequence || d.ID() != s.Device) {
					err = fmt.Errorf("%w snapshot: it is of %v at %d", persistence.ErrCorrupt, d.ID(), d.Sequence())
				}
				if err != nil {
					x.found(Corruption{What: CorruptSnapshot, Device: s.Device, Damage: persistence.Damage{Err: err}})
				} else if s.Sequence <= j.stored {
					found[s.Device] = d
				}
			}
		}
	}
	results := make([]loadResult, len(j.wants))
	for i := range j.wants {
		w := &j.wants[i]
		if w.upTo > 0 {
			if err := x.settingsAsOf(ctx, w); err != nil {
				return nil, err
			}
		}
		d := found[w.entry.id]
		if d != nil && (d.Sequence() < w.expected || w.upTo > 0 && d.Sequence() > w.upTo) {
			d = nil
		}
		if d != nil {
			results[i] = loadResult{device: d, snapshot: d.Sequence()}
		} else {
			d, err := x.rebuild(ctx, w)
			if err != nil {
				return nil, err
			}
			results[i] = loadResult{device: d}
		}
		if w.again != nil {
			w.again.begin(results[i].device)
		}
		if w.upTo > 0 {
			d, err := x.replay(ctx, results[i].device, w)
			if err != nil {
				return nil, err
			}
			results[i].device = d
		}
	}
	return results, nil
}

// bearWitness has the archive keep the shard's start: before the first message is taken, and before a
// deletion at that sequence is carried out, whose command arrived at landmark (ns).
func (x *executor) bearWitness(ctx context.Context, deleted uint64, landmark int64) error {
	x.witnessing.Lock()
	defer x.witnessing.Unlock()
	if deleted > 0 && deleted <= x.witnessed {
		return nil // with a whole site many devices are deleted by one command
	}
	if deleted > x.witness.Deleted {
		x.witness.Deleted, x.witness.DeletedMark = deleted, landmark
	}
	x.witnessTime++
	payload, err := json.Marshal(x.witness)
	if err != nil {
		return err
	}
	err = x.archive.Append(ctx, &persistence.Batch{Shard: x.shard, Devices: []persistence.DeviceRows{{
		Device:  messages.DeviceID{Site: witnessSite},
		Records: []persistence.Record{{Sequence: uint64(x.epoch), WriteTime: x.witnessTime, Payload: payload}},
	}}})
	if err == nil {
		x.witnessed = x.witness.Deleted
	}
	return err
}

// deleteDevice removes a device's past from the archive. A stream that has lost the command would give
// its sequence out again, and the archive would take new readings for deleted ones: so it knows first.
func (x *executor) deleteDevice(ctx context.Context, j *deleteJob) error {
	if err := x.bearWitness(ctx, j.sequence, j.landmark); err != nil {
		return fmt.Errorf("have the archive keep that a device is deleted: %w", err)
	}
	return x.archive.Delete(ctx, x.shard, j.entry.id, j.sequence, j.writeTime)
}

// settingsAsOf finds the site's level as of w.asOf, where a replay of the device begins.
func (x *executor) settingsAsOf(ctx context.Context, w *loadWant) error {
	site := messages.DeviceID{Site: w.entry.id.Site}
	records, err := x.archive.Records(ctx, x.shard, site)
	if err != nil {
		return fmt.Errorf("read the settings of site %s: %w", site.Site, err)
	}
	settings := *x.fleet
	for _, r := range records {
		if own, err := decodeSiteRecord(r.Payload); err == nil && r.Sequence <= w.asOf {
			settings = own.Over(*x.fleet)
		}
	}
	w.settings = &settings
	return nil
}

// rebuild makes a device's state from the archive, as of w.asOf.
func (x *executor) rebuild(ctx context.Context, w *loadWant) (*Device, error) {
	id := w.entry.id
	records, err := x.archive.Records(ctx, x.shard, id)
	if err != nil {
		return nil, fmt.Errorf("read records of %s: %w", id, err)
	}
	r, err := NewRebuild(id, records, w.asOf, w.settings)
	if err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", id, err)
	}
	newestFirst := persistence.Range{From: maxTime, To: minTime, MaxSequence: w.asOf}
	if x.corrupt != nil {
		newestFirst.Damaged = func(d persistence.Damage) {
			x.found(Corruption{What: CorruptChunk, Device: id, Damage: d})
			r.Damaged(d, w.latest)
		}
	}
	if w.asOf > 0 {
		if err := x.archive.Scan(ctx, x.shard, id, newestFirst, r.Add); err != nil {
			return nil, fmt.Errorf("read readings of %s: %w", id, err)
		}
	}
	return r.Finish(), nil
}

// All event times there can be, years 0001 to 9999, in ms.
const (
	minTime = -62135596800000
	maxTime = 253402300799999
)

// replay brings one device from its sequence to w.upTo by reading the stream again from w.asOf. Rows
// and events are not said again; readings known as guilty are left out.
func (x *executor) replay(ctx context.Context, d *Device, w *loadWant) (*Device, error) {
	feed, err := x.log.Open(ctx, x.shard, w.asOf+1-x.offset)
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", w.entry.id, err)
	}
	defer feed.Close()
	p := replayer{x: x, device: d, want: w, producers: w.producers.clone(), next: w.asOf + 1, writeTime: w.writeTime}
	for p.next <= w.upTo {
		msgs, err := feed.Pull(ctx, MinPull)
		if err != nil {
			return nil, fmt.Errorf("replay %s: %w", w.entry.id, err)
		}
		for i := range msgs {
			if err := p.take(&msgs[i]); err != nil {
				return nil, err
			}
		}
	}
	return p.device, nil
}

// replayer feeds one device from the stream, deciding as the core did.
type replayer struct {
	x         *executor
	device    *Device
	want      *loadWant
	producers producers
	next      uint64
	writeTime int64
	dec       messages.Decoder
	batch     messages.Batch
}

func (p *replayer) take(m *messages.Message) error {
	seq := m.Sequence + p.x.offset
	if seq > p.next && p.next == p.want.asOf+1 {
		return fmt.Errorf("replay %s: messages %d to %d have left the stream meanwhile", p.want.entry.id, p.next, seq-1)
	}
	p.next = seq + 1
	p.writeTime = max(m.Arrival/1000, p.writeTime+1)
	subject, err := messages.ParseShardSubject(m.Subject)
	_, guilty := slices.BinarySearch(p.x.guilty, seq)
	if ours := err == nil && seq <= p.want.upTo && subject.Shard == p.x.shard && !guilty; !ours {
		return nil
	}
	switch id := p.device.ID(); subject.Kind {
	case messages.KindSiteControl:
		c, err := messages.DecodeControl(m.Type, m.Data)
		if err == nil && subject.Site == id.Site {
			p.siteControl(seq, m, c)
		}
	case messages.KindControl:
		if subject.Site != id.Site || subject.Device != id.Device {
			return nil
		}
		if c, err := messages.DecodeControl(m.Type, m.Data); err == nil {
			p.device.ApplyControl(seq, millis(m.Arrival), p.writeTime, c, p.want.settings)
		}
	case messages.KindBatch, messages.KindReadings:
		p.dec.Reset()
		if p.dec.Message(m.Type, subject, m.Data, &p.batch) == nil && !p.repeats(subject.Site, seq, m.Arrival) && subject.Site == id.Site {
			p.apply(m, seq)
		}
	}
	return nil
}

// siteControl applies a command to the device's whole site.
func (p *replayer) siteControl(seq uint64, m *messages.Message, c messages.Control) {
	var own messages.Settings // none, after a delete
	if c.Settings != nil {
		own = *c.Settings
	}
	merged := own.Over(*p.x.fleet)
	switch {
	case c.Delete:
		p.want.settings = &merged
		p.device.ApplyControl(seq, millis(m.Arrival), p.writeTime, c, &merged)
	case c.Settings != nil:
		p.want.settings = &merged
		if seq > p.device.Sequence() {
			applySettings(p.device, seq, &merged)
		}
	}
}

// repeats tells whether the batch had been here before, and notes it.
func (p *replayer) repeats(site string, seq uint64, arrival int64) bool {
	if p.batch.Producer == "" {
		return false
	}
	key := producerKey{site, p.batch.Producer, p.batch.Run}
	return p.producers.note(key, strings.Clone(site), p.batch.Sequence, seq, millis(arrival), p.x.accounts).repeated
}

func (p *replayer) apply(m *messages.Message, seq uint64) {
	var in []Arrived
	for i := range p.batch.Blocks {
		b := &p.batch.Blocks[i]
		if b.Device != p.device.ID().Device {
			continue
		}
		for _, r := range b.Readings {
			if !slices.Contains(p.want.guilty, guilty{seq, r.Time}) {
				in = append(in, Arrived{Sequence: seq, Arrival: millis(m.Arrival), WriteTime: p.writeTime, Reading: r})
			}
		}
	}
	if len(in) > 0 {
		in = p.applyOrLeaveOut(in)
	}
	if p.want.again != nil {
		p.want.again.add(in)
	}
}

// applyOrLeaveOut applies readings and returns those that it did. When the device panics it goes back to before them, and
// those that it fails on are left out, as they were when they went to rejects.
func (p *replayer) applyOrLeaveOut(in []Arrived) []Arrived {
	before := p.device.AppendSnapshot(nil)
	o := &op{kind: opApply, in: in, limits: p.x.limits, inspect: p.x.inspect}
	if p.tries(o) {
		return o.in
	}
	for _, probe := range []bool{true, false} {
		d, err := DecodeSnapshot(before)
		if err != nil {
			panic(fmt.Sprintf("a snapshot that was made just now cannot be read: %v", err))
		}
		p.device = d
		if !probe {
			break // not even without them: the whole message is left out
		}
		if o.probe = true; p.tries(o) {
			return o.in
		}
	}
	return nil
}

// tries applies o and tells whether the device survived it.
func (p *replayer) tries(o *op) (ok bool) {
	defer func() { ok = recover() == nil }()
	o.apply(p.device)
	return true
}

// recompute computes a rollup from all rows of its bucket. kept: the archive's own counts more readings than
// there are rows now, so some have expired since (a bucket's readings only grow in number, but for a deletion,
// which takes the rollup too); it knows more, is returned, and nothing is to be written.
//
// It is kept, too, when some of the bucket's rows cannot be read: it knows them, or nobody does. One that cannot be read
// itself is replaced, unless some of its readings may have expired: what it counted nobody knows then.
//
// A replay finds either the one that was kept or the one that was written, and what has expired meanwhile only
// makes it keep that. More late readings than have expired do make a smaller one: rows do not tell a reading that
// was new from one that replaced another.
func (x *executor) recompute(ctx context.Context, b *dirtyBucket) (row persistence.RollupRow, kept bool, err error) {
	key := b.key
	var rows []persistence.Row
	within := persistence.Range{From: key.start, To: key.start + int64(key.step) - 1}
	damaged := false
	if x.corrupt != nil {
		within.Damaged = func(d persistence.Damage) {
			damaged = true
			x.found(Corruption{What: CorruptChunk, Device: key.entry.id, Damage: d})
		}
	}
	err = x.archive.Scan(ctx, x.shard, key.entry.id, within, func(r *persistence.Row) bool {
		rows = append(rows, persistence.Row{Time: r.Time, Sequence: r.Sequence, Values: slices.Clone(r.Values)})
		return true
	})
	if err != nil {
		return row, false, err
	}
	if damaged {
		return row, true, nil
	}
	row = RollupOf(key.step, key.start, rows)
	if x.limits.Classes.Forever() {
		return row, false, nil
	}
	// Whatever the device's class is now: it may have been another when the rows came.
	at := persistence.Range{From: key.start, To: key.start, Limit: 1}
	if x.corrupt != nil { // the new one takes its place
		at.Damaged = func(d persistence.Damage) {
			kept = kept || key.start <= x.expired(b.asked)
			x.found(Corruption{What: CorruptRollup, Device: key.entry.id, Step: key.step, Damage: d})
		}
	}
	err = x.archive.Rollups(ctx, x.shard, key.entry.id, key.step, at, func(r *persistence.RollupRow) bool {
		if kept = r.Count > row.Count; kept {
			row = *r
			row.Channels = slices.Clone(r.Channels)
		}
		return false
	})
	return row, kept, err
}

// putSnapshots stores states and moves the marker; the one that is there comes with an error that tells
// of it. A fence below our epoch means that the store went back: it is raised
// again and errSnapshotsWentBack returned; one above it, that the shard has a newer owner.
func (x *executor) putSnapshots(ctx context.Context, j *snapshotJob) (persistence.Marker, error) {
	return x.afterPut(ctx, x.snapshots.Put(ctx, x.shard, x.epoch, j.old, j.marker, j.snapshots))
}

// putMarker replaces the marker; the one that is there comes with an error that tells of it.
func (x *executor) putMarker(ctx context.Context, j *markerJob) (persistence.Marker, error) {
	marker, err := x.afterPut(ctx, x.snapshots.PutMarker(ctx, x.shard, x.epoch, j.old, j.marker))
	if err == nil {
		// Older generations count no more; that some stay until the next round does no harm.
		_ = x.snapshots.Drop(ctx, x.shard, x.epoch, j.marker.Generation)
	}
	return marker, err
}

// afterPut looks at the marker when err tells of it, and raises a fence that was lost.
func (x *executor) afterPut(ctx context.Context, err error) (persistence.Marker, error) {
	if errors.Is(err, persistence.ErrFenced) {
		err = x.refence(ctx, err)
	}
	if !errors.Is(err, errSnapshotsWentBack) && !errors.Is(err, persistence.ErrConflict) {
		return persistence.Marker{}, err
	}
	actual, readErr := x.snapshots.Marker(ctx, x.shard)
	if readErr != nil {
		return persistence.Marker{}, fmt.Errorf("read the marker: %w", readErr)
	}
	return actual, err
}

func (x *executor) refence(ctx context.Context, fenced error) error {
	fence, err := x.snapshots.Fence(ctx, x.shard)
	switch {
	case err != nil:
		return fmt.Errorf("read the fence: %w", err)
	case fence > x.epoch:
		return fenced
	case fence == x.epoch:
		return errors.New("the snapshot store refused our own epoch") // try again
	}
	if err := x.snapshots.RaiseFence(ctx, x.shard, x.epoch); err != nil {
		return err
	}
	return errSnapshotsWentBack
}

// saveCheckpoint saves by compare-and-set. After an error whose outcome is unknown it looks whether
// its own value is there.
func (x *executor) saveCheckpoint(ctx context.Context, data []byte) error {
	revision, err := x.cells.Save(ctx, shardKey(x.shard), data, x.revision)
	if errors.Is(err, persistence.ErrConflict) {
		there, now, readErr := x.cells.Load(ctx, shardKey(x.shard))
		if readErr != nil {
			return fmt.Errorf("read the checkpoint after a conflict: %w", readErr)
		}
		if now > x.revision && string(there) == string(data) {
			x.revision = now
			return nil
		}
		return err
	}
	if err == nil {
		x.revision = revision
	}
	return err
}

func shardKey(shard messages.Shard) string { return fmt.Sprintf("shard.%d", shard) }

// operationDeadline bounds one try of one store operation.
const operationDeadline = 30 * time.Second
