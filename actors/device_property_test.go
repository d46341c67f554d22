package actors

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

var testID = messages.DeviceID{Site: "site", Device: "device-1"}

// store does with an outcome what a shard does, on a dumb archive.
func (a *plainArchive) store(in []Arrived, out *Outcome) {
	for i := range in {
		if in[i].Written() {
			a.write(in[i].Row())
		}
	}
	for _, r := range out.Records {
		a.writeRecord(r)
	}
	a.storeRollups(out)
}

func (a *plainArchive) storeRollups(out *Outcome) {
	for _, r := range out.Rollups {
		a.writeRollup(r)
	}
	for _, d := range out.Dirty {
		r := RollupOf(d.Step, d.Start, a.newestFirst())
		r.Sequence, r.WriteTime = d.Sequence, d.WriteTime
		if r.Count > 0 {
			a.writeRollup(r)
		}
	}
}

// run applies messages to a device in pulls of the sizes drawn and stores what follows.
func run(t *rapid.T, d *Device, list []plainMessage, base *messages.Settings, archive *plainArchive) []Decision {
	var decisions []Decision
	var out Outcome
	for len(list) > 0 {
		if c := list[0].control; c != nil {
			result := d.ApplyControl(list[0].sequence, list[0].arrival, list[0].writeTime(), *c, base)
			if c.Delete {
				archive.delete(list[0].sequence)
			}
			for _, r := range result.Records {
				archive.writeRecord(r)
			}
			archive.storeRollups(&Outcome{Rollups: result.Rollups, Dirty: result.Dirty})
			list = list[1:]
			continue
		}
		n := rapid.IntRange(1, 4).Draw(t, "pull")
		var in []Arrived
		for n > 0 && len(list) > 0 && list[0].control == nil {
			in = append(in, list[0].arrived()...)
			list = list[1:]
			n--
		}
		d.Apply(in, &plainLimits, &out)
		archive.store(in, &out)
		for i := range in {
			decisions = append(decisions, in[i].Decision)
		}
	}
	return decisions
}

// checkAgainst compares a device and what it made of an archive with the dumb version.
func checkAgainst(t *rapid.T, d *Device, archive *plainArchive, p *plainDevice) {
	t.Helper()
	if err := equalWindow(d.Window(math.MaxInt64, math.MinInt64, 0), p.archive.window(p.settings, p.floor)); err != nil {
		t.Fatalf("window: %v", err)
	}
	if len(archive.rows) != len(p.archive.rows) {
		t.Fatalf("archive has %d rows, want %d", len(archive.rows), len(p.archive.rows))
	}
	for at, want := range p.archive.rows {
		got, ok := archive.rows[at]
		if !ok || got.Sequence != want.Sequence || got.Note != want.Note || got.Flags != want.Flags || !sameValues(got.Values, want.Values) {
			t.Fatalf("archived row: got %+v, want %+v", got, want)
		}
	}
	if d.floor != p.floor {
		t.Fatalf("floor %d, want %d", d.floor, p.floor)
	}
	newest := p.archive.newest()
	if newest == never {
		return
	}
	for _, step := range []messages.Step{messages.Minute, messages.Hour} {
		open := d.State().Minute
		if step == messages.Hour {
			open = d.State().Hour
		}
		if open != nil {
			if err := equalRollup(*open, p.archive.rollup(step, step.Start(newest))); err != nil {
				t.Fatalf("open rollup: %v", err)
			}
		}
		for at := range p.archive.rows {
			start := step.Start(at)
			if start == step.Start(newest) {
				continue
			}
			got, ok := archive.rollups[plainBucket{step, start}]
			if !ok {
				t.Fatalf("no rollup of step %d from %d", step, start)
			}
			if err := equalRollup(got.Rollup, p.archive.rollup(step, start)); err != nil {
				t.Fatalf("stored rollup: %v", err)
			}
		}
	}
}

func drawBase(t *rapid.T) messages.Settings {
	base := drawSettings(t)
	base.WindowCount = max(base.WindowCount, 1)
	return base
}

func TestDeviceDoesWhatTheDumbOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		list := drawMessages(t, true)
		d, archive := NewDevice(testID, &base), newPlainArchive()
		p := &plainDevice{archive: newPlainArchive(), base: base, settings: base, floor: never, lastAssigned: never}
		for len(list) > 0 {
			n := min(rapid.IntRange(1, 12).Draw(t, "until the next look"), len(list))
			got := run(t, d, list[:n], &base, archive)
			var want []Decision
			for _, m := range list[:n] {
				if m.control != nil {
					p.control(m)
				} else {
					want = append(want, p.message(m)...)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("decisions: got %v, want %v", got, want)
			}
			if d.counts != p.counts {
				t.Fatalf("counts: got %+v, want %+v", d.counts, p.counts)
			}
			checkAgainst(t, d, archive, p)
			list = list[n:]
		}
	})
}

func TestDeviceGoesOnFromASnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		list := drawMessages(t, true)
		at := rapid.IntRange(0, len(list)).Draw(t, "snapshot after")
		d, archive := NewDevice(testID, &base), newPlainArchive()
		run(t, d, list[:at], &base, archive)
		data := d.AppendSnapshot([]byte("before"))[len("before"):]
		restored, err := DecodeSnapshot(data)
		if err != nil {
			t.Fatal(err)
		}
		if again := restored.AppendSnapshot(nil); !bytes.Equal(again, data) {
			t.Fatalf("snapshot of the restored device: got %x, want %x", again, data)
		}
		head, err := peek(data)
		row := head.Row
		if err != nil || head.Sequence != d.Sequence() || head.Due != d.Due() || head.Gone != d.gone() || row.Counts != d.Row().Counts || row.Newest != d.Row().Newest ||
			row.Status != d.Row().Status || row.LastSeen != d.Row().LastSeen || row.Device != testID || !sameValues(row.Values, d.Row().Values) {
			t.Fatalf("peek: got %+v %v, want %+v %d %d %v", head, err, d.Row(), d.Sequence(), d.Due(), d.gone())
		}

		// The replay begins somewhere at or before the snapshot.
		from := rapid.IntRange(0, at).Draw(t, "replay from")
		run(t, restored, list[from:], &base, archive)
		run(t, d, list[at:], &base, newPlainArchive())
		if got, want := restored.AppendSnapshot(nil), d.AppendSnapshot(nil); !bytes.Equal(got, want) {
			t.Fatalf("end: got %x, want %x", got, want)
		}
	})
}

func TestDeviceRebuiltFromTheArchive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		list := drawMessages(t, false)
		at := rapid.IntRange(0, len(list)).Draw(t, "rebuilt as of")
		d, archive := NewDevice(testID, &base), newPlainArchive()
		run(t, d, list, &base, archive)

		var asOf uint64
		if at > 0 {
			asOf = list[at-1].sequence
		}
		rebuild, err := NewRebuild(testID, archive.records, asOf, &base)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range archive.newestFirst() {
			if !rebuild.Add(&row) {
				break
			}
		}
		rebuilt := rebuild.Finish()
		run(t, rebuilt, list[at:], &base, archive)

		if rebuilt.Sequence() != d.Sequence() {
			t.Fatalf("sequence: got %d, want %d", rebuilt.Sequence(), d.Sequence())
		}
		if rebuilt.firstSeen != d.firstSeen {
			t.Fatalf("first seen: got %d, want %d", rebuilt.firstSeen, d.firstSeen)
		}
		p := &plainDevice{archive: newPlainArchive(), base: base, settings: base, floor: never, lastAssigned: never}
		for _, m := range list {
			if m.control != nil {
				p.control(m)
			} else {
				p.message(m)
			}
		}
		checkAgainst(t, rebuilt, archive, p)
	})
}
