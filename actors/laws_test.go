package actors

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// brokenLaws are the laws of replay and ownership, each with an edit that breaks it. The simulation
// must turn red under every one of them.
var brokenLaws = []struct{ law, file, from, to string }{
	{"snapshots follow the checkpoint", "core_snapshot.go", "full || h.snap.Sequence > c.saved.Stored", "full"},
	{"the marker follows all puts", "core_snapshot.go", "len(r.held) == 0 && r.putting == 0 && !r.marking", "!r.marking"},
	{"snapshotted never passes stored", "core_snapshot.go", "!r.marking && c.saved.Stored >= r.asOf", "!r.marking"},
	{"a put that conflicts voids the generation", "core_snapshot.go", "c.marker.Generation) + 1", "c.marker.Generation)"},
	{"the purge follows the checkpoint", "core_snapshot.go", "upTo := c.saved.Snapshotted", "upTo := c.applied"},
	{"rows above stored are written in a replay", "core_take.go", "return sequence <= c.startStored", "return sequence <= c.startStored+20"},
	{"memory changes only above the state's sequence", "device.go", "again := m.Sequence <= d.sequence", "again := false"},
	{"write times grow with the order", "core_take.go", "c.writeTime = max(m.Arrival/1000, c.writeTime+1)", "c.writeTime = m.Arrival / 1000_000 * 1000"},
	{"a stored message waits for its rows", "core_write.go", "		p.open++\n		c.gather.messages", "		p.open += 0\n		c.gather.messages"},
	{"a stored message waits for its rejects", "core_reject.go", "	p.open++\n	c.rejects.rejects", "	c.rejects.rejects"},
	{"a producer's batch counts once", "producers.go", "	if a.has(sequence) {", "	if false {"},
	{"an account leaves the checkpoint when the archive has it", "core_retire.go", "		c.again(&j.retryable, err, \"keep accounts of producers in the archive\", func() { c.fx.retire(j) })\n		return\n", ""},
	{"an account that leaves the table stays in the checkpoint", "core_retire.go", "if a := k.ProducersStored.drop(key); a != nil {", "if a := k.ProducersStored.drop(key); a != nil && !c.saving {"},
	{"a replay begins with the producers as of snapshotted", "core.go", "plan.Checkpoint.ProducersSnapshotted.clone()", "plan.Checkpoint.ProducersStored.clone()"},
	{"a rollup waits for the rows that touched it", "core_rollup.go", "b.after = c.gather.no", "b.after = 0"},
	{"older snapshots are void after the store went back", "start.go", "f.Marker.Snapshotted < c.Snapshotted", "false"},
	{"a stream that went back begins above all that was used", "start.go", "base := max(c.Reserved, c.Stored)", "base := uint64(0)"},
	{"a damaged snapshot is not used", "device_snapshot.go", "case crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]):", "case false:"},
	{"a lost snapshot is not taken for a new device", "execute.go", "d, err := x.rebuild(ctx, w)", "d, err := NewDevice(w.entry.id, w.settings), error(nil)"},
	{"a site's deletion reaches devices that are not in memory", "core_take.go", "e.phase != fresh {\n			c.giveWork(e, work{control", "e.phase == active {\n			c.giveWork(e, work{control"},
	{"a device that panicked was deleted with its site", "execute.go", "p.device.ApplyControl(seq, millis(m.Arrival), p.writeTime, c, &merged)", "_ = p.device"},
	{"a deleted site's settings are gone from the archive too", "core_take.go", "c.cfg.Fleet)\n		c.recordSite(s, name, p)", "c.cfg.Fleet)"},
	{"a state rebuilt from the archive is no deleted device", "core.go", "h.Row, h.Due, h.Gone", "h.Row, h.Due, h.Row.LastSeen == 0"},
	{"what is not recovered stays lost", "core_repair.go", "min(left[i].To, above))", "left[i].From-1)"},
	{"a window that was rebuilt past damage is not whole", "rebuild.go", "	r.d.drop(min(damage.To, latest))\n", ""},
	{"a loss shrinks when what was recovered is stored", "core_repair.go", "j.after <= c.appendedThrough()", "true"},
	{"what is said to be recovered was there", "core_repair.go", "j.held, j.above = d.Held()", "j.held, j.above = nil, never"},
	{"a repaired rollup waits for what its device has not had", "core_repair.go", "if e.phase != loading && e.busy == nil && len(e.queue) == 0 && len(e.inbox) == 0 {", "if true {"},
	{"a device that panicked is restored as of before", "core_device.go", "upTo: max(e.seq, e.siteSeq)", "upTo: 1"},
}

// TestBrokenLawsAreSeen breaks each law once and wants the simulation to fail. It takes minutes:
// `make break-laws` runs it.
func TestBrokenLawsAreSeen(t *testing.T) {
	if os.Getenv("WELLHEAD_BREAK_LAWS") == "" {
		t.Skip("set WELLHEAD_BREAK_LAWS=1, or use make break-laws")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range brokenLaws {
		t.Run(b.law, func(t *testing.T) {
			path := filepath.Join(dir, b.file)
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), b.from) == 0 {
				t.Fatalf("%s has no %q any more: bring this list up to date", b.file, b.from)
			}
			broken := filepath.Join(t.TempDir(), b.file)
			if err := os.WriteFile(broken, []byte(strings.ReplaceAll(string(source), b.from, b.to)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(t.TempDir(), "overlay.json")
			if err := os.WriteFile(list, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", list, "-run", "TestSimulation$", "-seeds", "1500", ".").CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("the law is broken and 1 500 seeds are green")
			case strings.Contains(string(out), "[build failed]"):
				t.Errorf("the edit does not compile:\n%s", out)
			default:
				at := strings.Index(string(out), "seed ")
				t.Logf("red: %.160s", string(out)[max(0, at):])
			}
		})
	}
}
