package actors

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// mishap is something rare that happens to a store.
func (w *world) mishap() {
	if !w.faulty {
		return
	}
	switch w.rnd.IntN(14) {
	case 5, 6:
		w.handOver()
	case 7, 8:
		if n := w.seed % 4; n == 1 || n == 2 { // only in some seeds: windows are not compared then
			w.damageArchive()
		}
	case 0: // the snapshot store is wiped
		*w.snaps = *newSimSnapshots()
	case 1: // the snapshot store goes back to an older state, later
		old := w.snaps.copy()
		w.at(int64(w.rnd.IntN(5000)), nil, func() { *w.snaps = *old })
	case 2: // a single snapshot is lost
		w.rebuilt = true
		for _, kept := range w.snaps.kept {
			delete(kept, messages.DeviceID{Site: "site", Device: w.names[w.rnd.IntN(len(w.names))]})
		}
	case 4: // a snapshot is damaged on its disk: a bit turns, or its end is missing
		for _, name := range w.names {
			w.damageSnapshot(name)
		}
		if w.rnd.IntN(6) == 0 {
			w.crash() // so that they are wanted
		}
	case 3:
		if w.rnd.IntN(2) == 0 {
			w.copied = &beside{w.stream.copy(), w.cells.copy(), w.leases.copy()}
		} else if w.seed%4 == 0 { // only in some seeds: it makes the check weaker
			w.streamGoesBack()
		}
	}
}

// What the simulation's handoffs came to: with all stored and snapshotted, and given over as they were.
var emptyHandoffs, deepHandoffs atomic.Int64

// What became of the damage that the simulation did to the archive.
var repairedSeen, lostSeen, rollupsSeen atomic.Int64

// damageArchive makes an hour of readings, or a rollup, of one device unreadable. Somebody may find that at once.
func (w *world) damageArchive() {
	id := messages.DeviceID{Site: "site", Device: w.names[w.rnd.IntN(len(w.names))]}
	times := slices.Sorted(maps.Keys(w.archive.rows[id]))
	if len(times) == 0 {
		return
	}
	step, slice := messages.Step(0), messages.Hour
	if w.rnd.IntN(2) == 0 {
		step = []messages.Step{messages.Minute, messages.Hour}[w.rnd.IntN(2)]
		slice = step
	} else if w.rnd.IntN(2) == 0 {
		slice = messages.Minute
	}
	from := slice.Start(times[w.rnd.IntN(len(times))])
	to := from + int64(slice) - 1
	if len(w.archive.losses(id, step, from, to)) > 0 {
		return // once is enough
	}
	w.rebuilt = true
	w.archive.damage(id, step, from, to)
	if w.host != nil && w.rnd.IntN(4) > 0 {
		w.host.core.repair(id, step, from, to)
	}
}

// handOver gives the shard to another life as Member.HandOver does: it works on while what it has is snapshotted, stops
// pulling, and ends when it is empty or for want of patience. What it has asked of the stores by then may still
// happen, beside the new life.
func (w *world) handOver() {
	h := w.host
	if h == nil || h.core.lost != nil {
		return
	}
	c := h.core
	c.leaving = c.applied
	for range w.rnd.IntN(8) {
		w.pull()
		w.advance(int64(w.rnd.IntN(100)))
		w.tick(false)
		if w.host != h || c.lost != nil {
			return
		}
	}
	if w.rnd.IntN(2) == 0 {
		for range w.rnd.IntN(40) {
			c.draining = true
			w.advance(5)
			w.mayEnd(func() { c.hurry(w.now) })
			if w.host != h || c.lost != nil {
				return
			}
			if c.drained() {
				break
			}
		}
	}
	empty, applied := c.drained(), c.applied
	if h.caution.ended(context.Background()) != nil {
		return // the pulling goroutine could not say so: to the next life it is a crash, which is not what is tried here
	}
	w.crash()
	if !empty {
		deepHandoffs.Add(1)
		return
	}
	emptyHandoffs.Add(1)
	if w.begin() && w.host.core.applied < applied {
		w.broke("a shard was handed over empty at %d, and its next owner begins at %d", applied, w.host.core.applied)
	}
}

// streamGoesBack puts the stream back to an older copy, or has it made anew, while the member is down.
func (w *world) streamGoesBack() {
	w.crash()
	w.wentBack = true
	w.server++
	w.certain = map[string]bool{}
	defer w.mustTell()
	switch w.rnd.IntN(4) {
	case 0: // with everything that is kept beside it, to an older copy of all
		if c := w.copied; c != nil {
			w.stream, w.cells, w.leases = c.stream.copy(), c.cells.copy(), c.leases.copy()
			w.lostBeside()
			return
		}
	case 1: // with everything that is kept beside it, made anew
		w.stream, w.cells, w.leases = newSimStream(time.UnixMilli(w.now)), newSimCells(), newSimCells()
		w.lostBeside()
		return
	}
	if w.rnd.IntN(2) == 0 {
		w.stream = newSimStream(time.UnixMilli(w.now))
		return
	}
	cut := min(len(w.stream.msgs), 1+w.rnd.IntN(10))
	w.stream.msgs = w.stream.msgs[:len(w.stream.msgs)-cut]
	w.stream.next -= uint64(cut)
}

// lostBeside hands the member the cells that went with the stream, and notes whether archive or
// snapshots must tell.
func (w *world) lostBeside() {
	w.member.parts.Checkpoints, w.member.parts.Leases = w.cells, w.leases
	witness, err := w.member.witness(context.Background(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if witness == nil {
		return
	}
	data, _, err := w.cells.Load(context.Background(), shardKey(0))
	if err != nil {
		w.told = true
		return
	}
	k, err := DecodeCheckpoint(data)
	if err != nil {
		w.t.Fatal(err)
	}
	w.told = w.told || k.Epoch < witness.Epoch
}

// beside is a copy of the stream and of what is kept beside it.
type beside struct {
	stream        *simStream
	cells, leases *simCells
}

// mustTell notes whether the stream now lacks something that was stored from it, and has more
// published before anybody looks: it must be told all the same.
func (w *world) mustTell() {
	data, _, err := w.cells.Load(context.Background(), shardKey(0))
	if err != nil {
		return
	}
	k, err := DecodeCheckpoint(data)
	if err != nil {
		w.t.Fatal(err)
	}
	if !w.stream.created.Equal(k.Created) || w.stream.next-1+k.Offset < k.Stored {
		w.told = true
	}
	for range w.rnd.IntN(30) {
		w.publish()
	}
}

// damageSnapshot spoils what the snapshot store has of one device, in every generation.
func (w *world) damageSnapshot(name string) {
	id := messages.DeviceID{Site: "site", Device: name}
	for _, kept := range w.snaps.kept {
		snap, ok := kept[id]
		if !ok || len(snap.Data) == 0 {
			continue
		}
		w.rebuilt = true
		if snap.Data = bytes.Clone(snap.Data); w.rnd.IntN(4) == 0 {
			snap.Data = snap.Data[:w.rnd.IntN(len(snap.Data))]
		} else {
			snap.Data[w.rnd.IntN(len(snap.Data))] ^= 1 << w.rnd.IntN(8)
		}
		kept[id] = snap
	}
}
