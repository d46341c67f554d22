package actors

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

var (
	simSeeds = flag.Int("seeds", 150, "how many seeds the simulation runs")
	simSeed  = flag.Uint64("seed", 0, "the one seed to run, 0 = -seeds of them")
)

// world is the whole simulation of one seed: one shard's core in one life after another, on stores
// that fail, lose answers, answer late and go back, against a model that does everything at once.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	seed   uint64
	now    int64
	events []event

	stream  *simStream
	cells   *simCells
	leases  *simCells
	starts  *simCells
	archive *simArchive
	snaps   *simSnapshots
	member  *Member
	host    *simHost

	faulty    bool
	panics    int
	crashes   int
	rejects   map[string]messages.Reject
	announced map[string]int
	notices   map[NoticeKind]int
	broken    []string
	rebuilt   bool // a snapshot was lost: some device's state may come from the archive

	names     []string          // devices of shard 0
	producers map[string]uint64 // their newest sequences
	runs      map[string]uint64 // their newest runs
	server    int               // how often the stream's server was put back
	wentBack  bool              // the stream went back: order between old and new is not the model's any more
	told      bool              // it lacked something that was stored, so somebody must have said so
	sent      []messages.Message
	startErr  error
	copied    *beside
	certain   map[string]bool // times published since the stream last went back
	guilty    map[uint64]bool // messages that a shard took for the end of its life
}

const simStart = int64(1_767_225_600_000) // 2026-01-01

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), now: simStart,
		stream: newSimStream(time.UnixMilli(simStart)), cells: newSimCells(), leases: newSimCells(), starts: newSimCells(),
		archive: newSimArchive(), snaps: newSimSnapshots(), faulty: true,
		rejects: map[string]messages.Reject{}, announced: map[string]int{}, notices: map[NoticeKind]int{},
		producers: map[string]uint64{}, runs: map[string]uint64{"p0": 1, "p1": 1}, guilty: map[uint64]bool{},
	}
	for i := 0; len(w.names) < 5; i++ {
		name := fmt.Sprintf("dev-%d", i)
		if messages.ShardOf(messages.DeviceID{Site: "site", Device: name}, 2) == 0 {
			w.names = append(w.names, name)
		}
	}
	config := simConfig()
	if seed%2 == 0 { // nothing gets so old; but each recompute looks at the rollup that is there
		config.Limits.Classes = persistence.Classes{"raw": {Readings: math.MaxInt64}}
	}
	w.member = &Member{
		cfg: config,
		log: slog.New(slog.DiscardHandler),
		now: func() int64 { return w.now },
		together: func(do ...func() error) error { // in order, so that a seed is always the same
			for _, one := range do {
				if err := one(); err != nil {
					return err
				}
			}
			return nil
		},
		parts: Parts{Archive: w.archive, Snapshots: w.snaps, Log: simLog{w}, Checkpoints: w.cells, Leases: w.leases, Starts: w.starts, Corrupt: func(string) { damagedSeen.Add(1) }},
	}
	return w
}

func simConfig() Config {
	c := Config{
		Shards: 2, FlushAge: 300, FlushBytes: 600, FlushParallel: 3, CheckpointEvery: 500,
		SnapshotWithin: 3000, PassivateAfter: 20_000, PurgeEvery: 2000, RetryFirst: 50, RetryMost: 400,
		SnapshotPatience: 8000,
	}
	c.Retire.Followed = 1
	c.Fleet.WindowCount = 8
	c.Fleet.OfflineAfter = 5000
	c.Limits.MaxFuture = 600_000
	return c.WithDefaults()
}

func (w *world) broke(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) delay() int64 { return int64(w.rnd.ExpFloat64() * 60) }

func (w *world) at(wait int64, h *simHost, do func()) {
	w.events = append(w.events, event{at: w.now + wait, host: h, do: do})
}

// answer tells a core something, unless it has crashed by then.
func (w *world) answer(h *simHost, do func()) {
	w.at(w.delay(), nil, func() {
		if !h.gone {
			do()
		}
	})
}

// advance lets time pass and makes happen what is due, in order.
func (w *world) advance(ms int64) {
	end := w.now + ms
	for {
		next := -1
		for i, e := range w.events {
			if e.at <= end && (next < 0 || e.at < w.events[next].at) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		e := w.events[next]
		w.events = slices.Delete(w.events, next, next+1)
		w.now = max(w.now, e.at)
		if w.host != nil {
			w.host.core.now = w.now
		}
		w.mayEnd(e.do)
	}
	w.now = end
}

// begin starts a new life.
func (w *world) begin() bool {
	b, err := w.member.begin(context.Background(), 0)
	if err != nil {
		w.startErr = err
		return false // a store is down: another try, later
	}
	b.exec.inspect = boom
	h := &simHost{w: w, x: b.exec, caution: b.caution, devices: map[*entry]*Device{}}
	for _, seq := range b.plan.Starts.Guilty {
		w.guilty[seq] = true
	}
	c := newCore(0, w.member.cfg, b.plan, h, rand.New(rand.NewPCG(w.seed, w.rnd.Uint64())), w.now)
	h.core = c
	c.populate(b)
	w.host = h
	b.exec.corrupt = func(found Corruption) {
		damagedSeen.Add(1)
		if found.What != CorruptSnapshot {
			w.answer(h, func() { c.repair(found.Device, found.Step, found.From, found.To) })
		}
	}
	return true
}

// crash ends the life. What it had asked of stores may still happen.
func (w *world) crash() {
	if w.host == nil {
		return
	}
	w.crashes++
	w.host.gone = true
	w.events = slices.DeleteFunc(w.events, func(e event) bool { return e.host == w.host && w.rnd.IntN(2) == 0 })
	w.host = nil
}

// pull hands the core what comes next in the stream.
func (w *world) pull() {
	c := w.host.core
	if c.inFlight.count > 60 || !c.mayPull() {
		return
	}
	next := uint64(1)
	if c.applied > c.current.Offset {
		next = c.applied - c.current.Offset + 1
	}
	msgs := w.stream.from(next, 1+w.rnd.IntN(12))
	if len(msgs) > 0 && w.host.caution.needed(msgs[0].Sequence+c.current.Offset) {
		w.pullCarefully(msgs[0])
		return
	}
	c.careful = false
	w.mayEnd(func() { c.pulled(w.now, msgs) })
}

// pullCarefully hands the core one message, after it was noted, when few enough are under way.
func (w *world) pullCarefully(m messages.Message) {
	c, g, seq := w.host.core, w.host.caution, m.Sequence+w.host.core.current.Offset
	if g.last != 0 && c.inFlight.count > g.leave(g.last) {
		return
	}
	g.underWay = 0
	if p := c.inFlight.oldest(); p != nil {
		g.underWay = p.sequence
	}
	if g.note(context.Background(), seq) != nil {
		return
	}
	c.careful = true
	w.mayEnd(func() { c.pulled(w.now, []messages.Message{m}) })
}

// killed is what a reading that ends the process panics with.
type killed struct{}

// mayEnd does something that a reading may make the end of the process.
func (w *world) mayEnd(do func()) {
	defer func() {
		if r := recover(); r != nil {
			if r != (killed{}) {
				panic(r)
			}
			w.crash()
		}
	}()
	do()
}

func (w *world) tick(caughtUp bool) {
	if w.host != nil {
		w.mayEnd(func() { w.host.core.tick(w.now, caughtUp) })
	}
	if w.host != nil && w.host.core.storeFails() {
		_ = w.host.caution.clear(context.Background())
	}
}

// step does one random thing.
func (w *world) step() {
	switch n := w.rnd.IntN(100); {
	case n < 40:
		w.publish()
	case n < 60:
		if w.host != nil {
			w.pull()
		}
	case n < 93:
		w.advance(int64(w.rnd.IntN(150)))
		w.tick(w.rnd.IntN(2) == 0)
	case n < 94:
		w.advance(int64(w.rnd.IntN(30_000)))
	case n < 95:
		w.crash()
	case n < 96:
		w.snaps.down = w.rnd.IntN(2) == 0
	default:
		w.mishap()
	}
	if w.host != nil && w.host.core.lost != nil {
		w.crash()
	}
	if w.host == nil {
		w.begin()
	}
}

// settle ends all faults and lets the shard finish.
func (w *world) settle() error {
	w.faulty = false
	w.snaps.down = false
	for i := 0; i < 3000; i++ {
		w.snaps.down = false
		if w.host == nil && !w.begin() {
			w.advance(100)
			continue
		}
		c := w.host.core
		if c.lost != nil {
			w.crash()
			continue
		}
		w.pull()
		w.advance(100)
		w.tick(false)
		if w.host == nil {
			continue
		}
		if c.applied == c.current.Offset+w.stream.next-1 || len(w.stream.msgs) == 0 {
			c.draining = true
			if c.drained() && len(w.events) == 0 {
				return nil
			}
		}
	}
	if w.host == nil {
		return fmt.Errorf("the shard does not start: %w", w.startErr)
	}
	c := w.host.core
	return fmt.Errorf("the shard does not come to rest: applied %d, stored %d, snapshotted %d, in flight %d, stream ends at %d",
		c.applied, c.current.Stored, c.saved.Snapshotted, c.inFlight.count, w.stream.next-1+c.current.Offset)
}

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		runSeed(t, *simSeed)
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // a seed lives for milliseconds: collecting took a third of the time
	var next, innocent atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := next.Add(1); seed <= uint64(*simSeeds) && !t.Failed(); seed = next.Add(1) {
				if !runSeed(t, seed) {
					innocent.Add(1)
				}
			}
		})
	}
	workers.Wait()
	if n := innocent.Load(); n > uint64(*simSeeds)/100+2 {
		t.Errorf("in %d of %d seeds a message was taken for one that ends the process and was not", n, *simSeeds)
	}
	if *simSeeds >= 100 && damagedSeen.Load() == 0 {
		t.Error("snapshots were damaged and nobody said so")
	}
	if *simSeeds >= 100 && (emptyHandoffs.Load() == 0 || deepHandoffs.Load() == 0) {
		t.Errorf("%d handoffs of an empty shard, %d of one that was behind: want some of each", emptyHandoffs.Load(), deepHandoffs.Load())
	}
	if *simSeeds >= 100 && (repairedSeen.Load() == 0 || lostSeen.Load() == 0 || rollupsSeen.Load() == 0) {
		t.Errorf("of damaged readings %d stretches were repaired and %d lost, of rollups %d repaired: want some of each", repairedSeen.Load(), lostSeen.Load(), rollupsSeen.Load())
	}
	if *simSeeds >= 100 && restingRollups.Load() == 0 {
		t.Error("no device that went offline had its running rollups in the archive")
	}
	if t.Failed() {
		t.Logf("to see a seed again: go test ./actors -run TestSimulation -seed N")
	} else {
		t.Logf("%d seeds, each with faults, crashes and stores that go back: nothing lost, nothing different", *simSeeds)
	}
}

// runSeed returns false when chance ended one message's lives so often that it went to rejects as if it
// were the reason: what has become of it is not the model's then.
func runSeed(t *testing.T, seed uint64) bool {
	w := newWorld(t, seed)
	for range 400 + w.rnd.IntN(600) {
		w.step()
	}
	if err := w.settle(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
		return true
	}
	if seed%2 == 0 {
		if err := w.startAgain(); err != nil {
			t.Errorf("seed %d: one more start: %v", seed, err)
			return true
		}
	}
	for _, b := range w.broken {
		t.Errorf("seed %d: %s", seed, b)
	}
	if !w.wentBack {
		for _, b := range w.archive.broken {
			t.Errorf("seed %d: %s", seed, b)
		}
	}
	if w.convictedInnocent() {
		return false
	}
	w.check()
	return true
}

// startAgain starts the shard once more with nothing to replay. In some seeds its snapshots are lost: then
// devices are rebuilt without being sent anything, and what their snapshots say must be good for another start.
func (w *world) startAgain() error {
	w.crash()
	if w.seed%4 == 2 {
		return w.settle()
	}
	*w.snaps, w.rebuilt = *newSimSnapshots(), true
	if err := w.settle(); err != nil {
		return err
	}
	for _, name := range w.names {
		// a device that is not known is no matter here
		_ = w.askNow(messages.DeviceID{Site: "site", Device: name}, func(*Device) {})
	}
	w.publish() // for one more round of snapshots
	if err := w.settle(); err != nil {
		return err
	}
	w.crash()
	return w.settle()
}

// convictedInnocent tells whether a message is held to end the process and does not.
func (w *world) convictedInnocent() bool {
	if w.wentBack {
		return false
	}
	for seq := range w.guilty {
		if data := w.sent[seq-1].Data; !bytes.Contains(data, []byte(`"kill"`)) && !bytes.Contains(data, []byte(`"poison"`)) {
			return true
		}
	}
	return false
}

// check compares what is stored and held with the model.
func (w *world) check() {
	if w.wentBack {
		w.checkNothingNewLost()
		return
	}
	m := newModel(w)
	for i := range w.sent {
		m.take(&w.sent[i])
	}
	k := w.host.core.saved
	if w.rebuilt || w.notices[NoticeSnapshotsLost] > 0 {
		// The archive keeps only the last of several readings with one time. A state rebuilt from it
		// cannot tell, in a replay, a correction from a first one: only their sum is certain.
		for _, n := range []*messages.Counts{&m.counts, &k.Counts} {
			*n = messages.Counts{Received: n.Received, Refused: n.Refused, InOrder: n.InOrder + n.Late + n.Stale + n.Duplicate}
		}
	}
	if diff := cmp.Diff(m.counts, k.Counts); diff != "" {
		w.t.Errorf("seed %d: counts (-model +checkpoint):\n%s", w.seed, diff)
	}
	w.checkAccounts(m)
	w.countDamage()
	for name, d := range m.devices {
		w.checkDevice(messages.DeviceID{Site: "site", Device: name}, d)
	}
	for key := range m.rejects {
		if _, ok := w.rejects[key]; !ok {
			w.t.Errorf("seed %d: %s is not in rejects", w.seed, key)
		}
	}
	for key, r := range w.rejects {
		if !m.rejects[key] {
			w.t.Errorf("seed %d: %s is in rejects and should not: %s", w.seed, key, r.Reason)
		}
	}
}

func (w *world) checkDevice(id messages.DeviceID, m *modelDevice) {
	rows := w.archive.rows[id]
	for t, want := range m.rows {
		got, ok := rows[t]
		if w.archive.lostAt(id, 0, t, want.Sequence) && (!ok || w.archive.lostAt(id, 0, t, got.Sequence)) {
			continue // an older one that was appended late is not given out either
		}
		if !ok {
			w.t.Errorf("seed %d: %s at %d is missing", w.seed, id, t)
			continue
		}
		got.WriteTime = 0
		if !sameRow(&want, &got) {
			diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty())
			w.t.Errorf("seed %d: %s at %d (-model +archive):\n%s", w.seed, id, t, diff)
		}
	}
	for t := range rows {
		if _, ok := m.rows[t]; !ok {
			w.t.Errorf("seed %d: %s at %d was never sent, or is deleted", w.seed, id, t)
		}
	}
	w.checkRollups(id, m)
	if w.hadDamage(id, 0, minTime, maxTime) {
		return // a state that was rebuilt meanwhile has less
	}
	var got []messages.Sample
	var open []persistence.RollupRow
	err := w.askNow(id, func(d *Device) { got = d.Window(minTime, maxTime, 0); open, _ = d.OpenRollups() })
	want := m.device.Window(minTime, maxTime, 0)
	if err != nil && len(want) > 0 {
		w.t.Errorf("seed %d: %s does not answer: %v", w.seed, id, err)
		return
	}
	if !slices.EqualFunc(want, got, sameSample) {
		diff := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty())
		w.t.Errorf("seed %d: window of %s (-model +device):\n%s", w.seed, id, diff)
	}
	for _, r := range open {
		if want := m.rollup(r.Step, r.Start); err == nil && !cmp.Equal(want.Rollup, r.Rollup, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()) {
			w.t.Errorf("seed %d: running rollup of %s: got %+v, want %+v", w.seed, id, r.Rollup, want.Rollup)
		}
	}
}

// The comparisons of what a seed has thousands of are written out: cmp, which names the difference when there
// is one, took a third of the simulation's time.

func sameValue(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func sameRow(a, b *persistence.Row) bool {
	return a.Time == b.Time && a.Sequence == b.Sequence && a.WriteTime == b.WriteTime && a.Note == b.Note && a.Flags == b.Flags &&
		slices.EqualFunc(a.Values, b.Values, sameValue) && slices.Equal(a.Quality, b.Quality)
}

func sameSample(a, b messages.Sample) bool {
	return a.Time == b.Time && a.Sequence == b.Sequence && a.Note == b.Note &&
		slices.EqualFunc(a.Values, b.Values, sameValue) && slices.Equal(a.Quality, b.Quality)
}

func sameRollup(a, b *messages.Rollup) bool {
	return a.Start == b.Start && a.Step == b.Step && a.Count == b.Count && slices.Equal(a.Channels, b.Channels)
}

// damagedSeen counts what the shards reported of damaged snapshots.
var damagedSeen atomic.Int64

// restingRollups counts the running rollups that were found in the archive: those of devices that went offline.
var restingRollups atomic.Int64

// checkRollups compares every bucket; a running one only where the archive has it as of its newest reading.
func (w *world) checkRollups(id messages.DeviceID, m *modelDevice) {
	newest := int64(minTime)
	for t := range m.rows {
		newest = max(newest, t)
	}
	done := map[bucketTime]bool{}
	for t := range m.rows {
		for _, step := range []messages.Step{messages.Minute, messages.Hour} {
			key := bucketTime{step, step.Start(t)}
			if done[key] {
				continue
			}
			done[key] = true
			if w.hadDamage(id, 0, key.start, key.start+int64(step)-1) || w.archive.lostAt(id, step, key.start, 0) {
				continue
			}
			got, want := w.archive.rollups[id][key], m.rollup(step, key.start)
			if key.start == step.Start(newest) {
				if got.Sequence < m.device.Sequence() {
					continue
				}
				restingRollups.Add(1)
			}
			if !sameRollup(&want.Rollup, &got.Rollup) {
				diff := cmp.Diff(want.Rollup, got.Rollup, cmpopts.EquateEmpty())
				w.t.Errorf("seed %d: rollup of %s, step %d at %d (-model +archive):\n%s", w.seed, id, step, key.start, diff)
			}
		}
	}
}

// hadDamage tells whether there were readings of a device that could not be read: what was made of them meanwhile is
// not the model's.
func (w *world) hadDamage(id messages.DeviceID, step messages.Step, from, to int64) bool {
	return slices.ContainsFunc(w.archive.damages, func(d *simDamage) bool {
		return d.id == id && d.step == step && (d.from <= to && d.to >= from)
	})
}

// countDamage notes what became of it.
func (w *world) countDamage() {
	for _, d := range w.archive.damages {
		whole := d.loss.To < d.loss.From
		switch {
		case d.step == 0 && whole:
			repairedSeen.Add(1)
		case d.step == 0 && d.aside:
			lostSeen.Add(1)
		case whole:
			rollupsSeen.Add(1)
		}
	}
}

// askNow asks a device and lets the world go on until it answers.
func (w *world) askNow(id messages.DeviceID, read func(*Device)) error {
	var err error
	answered := false
	w.host.core.ask(id, &ask{read: read, answer: func(e error) { err, answered = e, true }})
	for i := 0; !answered && i < 1000; i++ {
		w.advance(100)
		w.tick(false)
	}
	if !answered {
		return fmt.Errorf("no answer")
	}
	return err
}

// forgetCertain takes what a rejected message holds out of what must be stored.
func (w *world) forgetCertain(r *messages.Reject) {
	subject, err := messages.ParseShardSubject(r.Subject)
	if err != nil {
		w.t.Fatal(err)
	}
	if subject.Kind == messages.KindControl || subject.Kind == messages.KindSiteControl {
		return
	}
	var b messages.Batch
	if err := (&messages.Decoder{}).Message(r.Type, subject, r.Data, &b); err != nil {
		return // it was broken when it was published
	}
	for _, block := range b.Blocks {
		for _, reading := range block.Readings {
			delete(w.certain, fmt.Sprintf("%s %d", block.Device, reading.Time))
		}
	}
}

// checkNothingNewLost holds what must be so even when the stream went back: everything published
// since is stored, or in rejects with the message that was taken for the end of its life.
func (w *world) checkNothingNewLost() {
	if w.told && w.notices[NoticeWentBack] == 0 {
		w.t.Errorf("seed %d: the stream went back and nobody said so", w.seed)
	}
	for _, r := range w.rejects {
		if r.Kind == messages.RejectFatal {
			w.forgetCertain(&r)
		}
	}
	var missing []string
	for key := range w.certain {
		var device string
		var t int64
		if _, err := fmt.Sscanf(key, "%s %d", &device, &t); err != nil {
			w.t.Fatal(err)
		}
		if _, ok := w.archive.rows[messages.DeviceID{Site: "site", Device: device}][t]; !ok {
			missing = append(missing, key)
		}
	}
	sort.Strings(missing)
	if len(missing) > 0 {
		w.t.Errorf("seed %d: published after the stream went back, and not stored: %v", w.seed, missing)
	}
}
