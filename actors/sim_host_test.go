package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// simHost is the effects of one life of the core. What it is asked for happens later, may fail before
// or after it happened, and may be answered late, twice, or (after a crash) never, though it happens.
type simHost struct {
	w       *world
	x       *executor
	core    *core
	caution *caution
	devices map[*entry]*Device
	gone    bool // the core has crashed: answers go nowhere
}

// event is something that happens at a time.
type event struct {
	at   int64
	host *simHost // nil = the world's
	do   func()
}

// errSim is a store's failure.
var errSim = errors.New("simulated failure")

// carry has a job done later and its answer told later still, under the faults of the world. job does
// it if it really shall, and returns how to answer.
func (h *simHost) carry(job func(really bool) (answer func(err error))) {
	w := h.w
	w.at(w.delay(), h, func() {
		fault := w.faulty && w.rnd.IntN(10) == 0
		really := !fault || w.rnd.IntN(2) == 0
		answer := job(really)
		var err error
		if fault {
			err = errSim
		}
		w.answer(h, func() { answer(err) })
		if really && w.faulty && w.rnd.IntN(20) == 0 {
			w.answer(h, func() { answer(err) })
		}
	})
}

// boom makes the device fail on readings with that note, and kill ends the process.
func boom(a *Arrived) {
	switch {
	case strings.HasPrefix(a.Reading.Note, "boom"):
		panic("boom")
	case a.Reading.Note == "kill":
		panic(killed{})
	}
}

// poisoned tells whether the batch ends the process that hands it to the archive.
func poisoned(b *persistence.Batch) bool {
	for _, d := range b.Devices {
		for _, r := range d.Rows {
			if r.Note == "poison" {
				return true
			}
		}
	}
	return false
}

func (h *simHost) run(o *op) (done bool) {
	d := h.devices[o.entry]
	o.inspect = boom
	defer func() {
		if r := recover(); r != nil {
			if r != "boom" {
				panic(r)
			}
			d.Apply([]Arrived{{Sequence: 1 << 60, Reading: messages.Reading{Time: 1}}}, o.limits, &o.out) // spoiled
			delete(h.devices, o.entry)
			h.w.panics++
			h.w.answer(h, func() { h.core.failed(o, "boom") })
		}
	}()
	o.perform(d)
	o.state.Store(opDone)
	return true
}

func (h *simHost) install(e *entry, d *Device) { h.devices[e] = d }
func (h *simHost) stop(e *entry)               { delete(h.devices, e) }

func (h *simHost) append(g *gather) {
	h.carry(func(really bool) func(error) {
		var err error
		if poisoned(&g.batch) {
			if !h.gone {
				panic(killed{})
			}
			really = false
		}
		if really {
			err = h.x.archive.Append(context.Background(), &g.batch)
		}
		return func(fault error) {
			if fault != nil && !g.done {
				for i := range g.batch.Devices {
					if g.batch.Devices[i].Err == nil {
						g.batch.Devices[i].Err = fault
					}
				}
				err = fault
			}
			h.core.appended(g, err)
		}
	})
}

func (h *simHost) reject(j *rejectJob) {
	h.carry(func(really bool) func(error) {
		if really {
			for _, r := range j.rejects {
				h.w.rejects[fmt.Sprintf("%d-%d", r.Sequence, r.Index)] = r
			}
		}
		return func(fault error) { h.core.rejected(j, fault) }
	})
}

func (h *simHost) announce(j *announceJob) {
	h.carry(func(really bool) func(error) {
		if really {
			h.w.announced[j.ID]++
		}
		return func(fault error) { h.core.announced(j, fault) }
	})
}

func (h *simHost) load(j *loadJob) {
	h.carry(func(really bool) func(error) {
		var results []loadResult
		var err error
		if really {
			results, err = h.x.load(context.Background(), j)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.loaded(j, results, err)
		}
	})
}

func (h *simHost) recompute(j *recomputeJob) {
	h.carry(func(really bool) func(error) {
		var row persistence.RollupRow
		var kept bool
		var err error
		if really {
			row, kept, err = h.x.recompute(context.Background(), j.bucket)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.recomputed(j, row, kept, err)
		}
	})
}

func (h *simHost) deleteDevice(j *deleteJob) {
	h.carry(func(really bool) func(error) {
		if really {
			_ = h.x.deleteDevice(context.Background(), j)
		}
		return func(fault error) { h.core.deleted(j, fault) }
	})
}

func (h *simHost) putSnapshots(j *snapshotJob) {
	h.carry(func(really bool) func(error) {
		var actual persistence.Marker
		var err error
		if really {
			for _, s := range j.snapshots {
				if s.Sequence > h.core.saved.Stored && !h.gone {
					h.w.broke("a snapshot of %s at %d is ahead of the checkpoint's stored %d", s.Device, s.Sequence, h.core.saved.Stored)
				}
			}
			h.wantOnward(j.old, j.marker)
			actual, err = h.x.putSnapshots(context.Background(), j)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.snapshotsPut(j, actual, err)
		}
	})
}

// wantOnward wants a marker to be a newer one than that which it replaces.
func (h *simHost) wantOnward(old, marker persistence.Marker) {
	if marker.Generation < old.Generation || marker.Generation == old.Generation && marker.Puts <= old.Puts {
		h.w.broke("the marker goes back from %+v to %+v", old, marker)
	}
}

func (h *simHost) putMarker(j *markerJob) {
	h.carry(func(really bool) func(error) {
		var actual persistence.Marker
		var err error
		if really {
			h.wantOnward(j.old, j.marker)
			actual, err = h.x.putMarker(context.Background(), j)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.markerPut(j, actual, err)
		}
	})
}

func (h *simHost) saveCheckpoint(j *saveJob) {
	if k := &j.checkpoint; k.Snapshotted > k.Stored {
		h.w.broke("a checkpoint says snapshotted %d and stored %d", k.Snapshotted, k.Stored)
	}
	h.carry(func(really bool) func(error) {
		var err error
		if really {
			err = h.x.saveCheckpoint(context.Background(), j.data)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.checkpointSaved(j, err)
		}
	})
}

func (h *simHost) retire(j *retireJob) {
	h.carry(func(really bool) func(error) {
		var err error
		if really {
			err = h.x.retire(context.Background(), j)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.retired(j, err)
		}
	})
}

func (h *simHost) repair(j *repairJob) {
	stage := *j
	h.carry(func(really bool) func(error) {
		r, err := repaired{stage: stage.stage}, error(nil)
		if really {
			r, err = h.x.repair(context.Background(), &stage)
		}
		return func(fault error) {
			if fault != nil {
				err = fault
			}
			h.core.repaired(j, r, err)
		}
	})
}

func (h *simHost) purge(upTo uint64) {
	created, server := h.core.saved.Created, h.w.server
	h.w.at(h.w.delay(), h, func() {
		if server == h.w.server { // no request outlives the server that it was sent to
			_ = simLog{h.w}.Purge(context.Background(), 0, upTo, created)
		}
	})
}

func (h *simHost) release(int)              {}
func (h *simHost) charge(int)               {}
func (h *simHost) listening(string) bool    { return false }
func (h *simHost) event(string, []byte)     {}
func (h *simHost) toldStored(k *Checkpoint) {}
func (h *simHost) note(n Notice)            { h.w.notices[n.Kind]++ }

var _ effects = (*simHost)(nil)
