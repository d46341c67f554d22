package tests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/chaos"
)

const (
	// wellWithin is how long the cluster may take until all is well again after a fault.
	wellWithin = 3 * time.Minute
	// statusWithin is how long a member may take to tell how the shards are shared.
	statusWithin = 10 * time.Second
	// loadDevices is how many each of the sites has at least that send, one after the other.
	loadDevices = 100
)

// chaosRun is a cluster under load and faults, and what was seen of it.
type chaosRun struct {
	t        *testing.T
	parts    *chaosParts
	probes   *probes
	fences   *fenceWatch
	events   *heardEvents
	begun    time.Time
	rate     int           // readings/s
	wiredDir func() string // of a build of cmd/wellhead's tests
	spare    *keptMember

	redisTouched bool
	rows         []chaos.Row

	mu    sync.Mutex
	wrong []string
	sites [][]string // flags of what was sent
}

// TestChaos runs a cluster of real parts under load, does what the seed says to it, and compares all that was sent
// with what is stored. WELLHEAD_CHAOS_SEED and WELLHEAD_CHAOS_DURATION say which run; WELLHEAD_CHAOS_ONLY has some kinds
// of faults only, by their names, separated by commas, and WELLHEAD_CHAOS_RATE sets the readings a second (500).
func TestChaos(t *testing.T) {
	seed := uint64(numberFrom(t, "WELLHEAD_CHAOS_SEED", 1))
	length, err := time.ParseDuration(cmp.Or(os.Getenv("WELLHEAD_CHAOS_DURATION"), "2m"))
	if err != nil {
		t.Fatalf("WELLHEAD_CHAOS_DURATION: %v", err)
	}
	r := startChaos(t, "", chaosMembers)
	o := chaos.Options{
		Seed: seed, Length: length, Members: chaosMembers, NATS: chaosServers, Cassandra: chaosServers,
		Network: r.parts.network != nil, Wiring: true,
	}
	for _, kind := range strings.Split(os.Getenv("WELLHEAD_CHAOS_ONLY"), ",") {
		if kind != "" {
			o.Only = append(o.Only, chaos.Kind(strings.TrimSpace(kind)))
		}
	}
	steps := chaos.Schedule(o)
	if len(steps) == 0 {
		t.Fatalf("WELLHEAD_CHAOS_ONLY=%q names no kind of fault that there can be here", os.Getenv("WELLHEAD_CHAOS_ONLY"))
	}
	t.Logf("seed %d makes %d steps; the same again: make chaos SEED=%d DURATION=%v", seed, len(steps), seed, length)
	r.run(steps, min(length, 5*time.Minute))
	for _, wrong := range r.wrong {
		t.Error(wrong)
	}
}

// startChaos starts everything, with so many members, and waits until all is well. wired names a build of the members
// with other parts handed in; empty = the program.
func startChaos(t *testing.T, wired string, members int) *chaosRun {
	t.Helper()
	r := &chaosRun{t: t, rate: numberFrom(t, "WELLHEAD_CHAOS_RATE", 500), wiredDir: sync.OnceValue(func() string { return buildWired(t) })}
	t.Cleanup(r.sayAgain) // behind what the parts' cleanups print of their logs
	r.parts = startChaosParts(t)
	if wired != "" {
		r.parts.program = r.wired(wired)
	}
	for range members {
		r.parts.newMember().start()
	}
	began := time.Now()
	if err := r.well(t.Context(), time.Time{}, 2*wellWithin); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d members share the shards after %v", members, time.Since(began).Round(time.Millisecond))
	r.fences = watchFences(t, r.parts)
	r.probes = startProbes(t.Context(), r.parts)
	r.events = r.hear()
	t.Cleanup(r.probes.stop)
	return r
}

// buildWired builds the tests of cmd/wellhead, which are members with other parts handed in.
func buildWired(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(dir, "wellhead.test"), "../cmd/wellhead")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("build the members with other parts: %v: %s", err, out)
	}
	return dir
}

// hear hears the reading events of all sites that send.
func (r *chaosRun) hear() *heardEvents {
	r.t.Helper()
	return hearEvents(r.t, r.parts.url, "events.*.*.reading", nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
}

// report notes that something is wrong.
func (r *chaosRun) report(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// sayAgain repeats what was wrong.
func (r *chaosRun) sayAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, wrong := range r.wrong {
		r.t.Logf("wrong: %s", wrong)
	}
}

// run does the steps under load and checks everything afterwards. round is how long one site sends.
func (r *chaosRun) run(steps []chaos.Step, round time.Duration) {
	ctx, t := r.t.Context(), r.t
	loading, enough := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		r.load(loading, round)
	}()
	if err := r.well(ctx, time.Now(), wellWithin); err != nil {
		r.report("before anything was done: %v", err)
	}
	r.begun = time.Now()
	for i, step := range steps {
		hold(ctx, step.Calm)
		row := r.step(ctx, step)
		r.rows = append(r.rows, row)
		t.Logf("step %d of %d: %v: no answer for %v, nothing stored for %v at most; well after %v %s", i+1, len(steps), step,
			chaos.Quantile(row.Answers, 1).Round(time.Millisecond), chaos.Quantile(row.Stored, 1).Round(time.Millisecond), row.Recovered.Round(time.Millisecond), row.Wrong)
	}
	enough()
	<-loaded
	r.check()
	var table strings.Builder
	if err := chaos.WriteTable(&table, r.rows); err != nil {
		t.Error(err)
	}
	t.Logf("what was done, and what came of it:\n%s", &table)
}

// step does one step and waits until all is well.
func (r *chaosRun) step(ctx context.Context, step chaos.Step) chaos.Row {
	row := chaos.Row{Step: step, At: time.Since(r.begun)}
	owners, replayed := r.owners(ctx), r.replayed(ctx)
	began := time.Now()
	var faults sync.WaitGroup
	for _, f := range step.Faults {
		faults.Go(func() {
			if err := r.do(ctx, f); err != nil {
				r.report("%v: %v", f, err)
			}
		})
	}
	faults.Wait()
	undone := time.Now()
	if err := r.well(ctx, undone, wellWithin); err != nil {
		row.Wrong = err.Error()
		r.report("%v: not well %v later: %v", step, wellWithin, err)
	}
	end := time.Now()
	row.Recovered = end.Sub(undone)
	row.Answers, row.Stored = r.probes.gaps(began, end)
	for shard, owner := range r.owners(ctx) {
		if owner != owners[shard] {
			row.Moved++
		}
	}
	for life, n := range r.replayed(ctx) {
		row.Replayed += int(n - replayed[life])
	}
	return row
}

// well waits until all members that should run share all shards, and each shard has answered and stored something
// after this moment, if the probes run.
func (r *chaosRun) well(ctx context.Context, moment time.Time, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var wrong error // the last one that is not our own deadline
	for {
		err := r.shared(ctx)
		if err == nil && r.probes != nil {
			err = r.probes.since(moment)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || wrong == nil {
			wrong = err
		}
		hold(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return wrong
		}
	}
}

// shared tells what is wrong with how the shards are shared.
func (r *chaosRun) shared(ctx context.Context) error {
	var want []string
	for _, m := range r.parts.all() {
		m.mu.Lock()
		if m.running {
			want = append(want, m.name)
		}
		m.mu.Unlock()
	}
	asked := r.parts.reachable()
	if len(asked) < len(want) {
		return fmt.Errorf("%d of %d members run", len(asked), len(want))
	}
	var s clusterStatus
	for _, m := range asked {
		s = clusterStatus{}
		if err := m.get(ctx, statusWithin, "/api/v1/cluster", &s); err != nil {
			return err
		}
		if len(s.Unowned) > 0 {
			return fmt.Errorf("%s sees no owner of %v", m.name, s.Unowned)
		}
		var have []string
		for _, other := range s.Members {
			if other.State == "alive" && len(other.Shards) > 0 && other.Starting == 0 {
				have = append(have, other.Name)
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return fmt.Errorf("%s sees that %v have shards, want %v", m.name, have, want)
		}
	}
	return nil
}

// owners are the ids of the members that own the shards.
func (r *chaosRun) owners(ctx context.Context) map[int]string {
	owners := map[int]string{}
	for _, m := range r.parts.reachable() {
		var s clusterStatus
		if m.get(ctx, statusWithin, "/api/v1/cluster", &s) != nil {
			continue
		}
		for _, other := range s.Members {
			for _, shard := range other.Shards {
				owners[shard] = other.ID
			}
		}
		break
	}
	return owners
}

// replayed is how many readings each process has taken in again, by member and start.
func (r *chaosRun) replayed(ctx context.Context) map[string]float64 {
	out := map[string]float64{}
	for _, m := range r.parts.reachable() {
		n, err := m.metric(ctx, "wellhead_readings_replayed_total")
		if err == nil {
			out[fmt.Sprint(m.name, m.life())] = n
		}
	}
	return out
}

// metric reads one of the member's metrics.
func (m *keptMember) metric(ctx context.Context, name string) (float64, error) {
	var text string
	if err := m.get(ctx, 10*time.Second, "/metrics", &text); err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", m.name, name)
}

// load has one site after the other send until ctx ends, then the last one to its end.
func (r *chaosRun) load(ctx context.Context, round time.Duration) {
	devices := max(loadDevices, r.rate/10)
	for i := range chaosSites {
		flags := []string{
			"--site", chaosSite(i), "--devices", fmt.Sprint(devices), "--interval", "1s", "--channels", "4", "--seed", fmt.Sprint(100 + i),
			"--readings", fmt.Sprint(int(round.Seconds()) * r.rate / devices), "--start", "2026-03-01T00:00:00Z", "--batch", "50",
		}
		args := append([]string{"simulate", "--server", r.parts.url, "--creds", r.parts.credsOf(chaosSite(i)), "--rate", fmt.Sprintf("%d/s", r.rate), "--json"}, flags...)
		_, stderr, code := runQuietly(r.t, round+5*time.Minute, args...)
		if code != 0 {
			r.report("simulate: exit %d: %s", code, tail(stderr, 500))
		}
		r.mu.Lock()
		r.sites = append(r.sites, flags)
		r.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
	r.report("there are no more than %d sites: the run was too long", chaosSites)
}

// check compares everything that was sent with what is there, and looks for older owners that got through.
func (r *chaosRun) check() {
	ctx, t := r.t.Context(), r.t
	if err := r.well(ctx, time.Now(), wellWithin); err != nil {
		r.report("at the end: %v", err)
		return
	}
	r.probes.stop()
	first := r.parts.reachable()[0]
	sent := 0
	for _, flags := range r.sites {
		out, stderr, code := runQuietly(t, 5*time.Minute, append([]string{"verify", "simulate", "--server", first.http, "--rollups", "--windows", "--wait", "60s"}, flags...)...)
		if code != 0 {
			r.report("verify: exit %d: %s%s", code, tail(out, 1500), tail(stderr, 500))
		}
		sent++
	}
	if out, stderr, code := runQuietly(t, time.Minute, "audit", "--server", first.http); code != 0 {
		r.report("audit: exit %d: %s%s", code, tail(out, 1500), tail(stderr, 500))
	}
	probed, err := r.probes.check(ctx, first)
	if err != nil {
		r.report("the probes: %v", err)
	}
	for _, wrong := range r.fences.stop() {
		r.report("%s", wrong)
	}
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	t.Logf("%d sites were compared, and %d readings of the probes; %d checkpoints were watched; %d readings were heard in events, %d repeated",
		sent, probed, r.fences.seen, len(r.events.readings), r.events.repeated)
	if len(r.events.wrong) > 0 {
		r.report("events: %q", r.events.wrong[:min(len(r.events.wrong), 5)])
	}
	r.checkBack(ctx)
}

// checkBack wants no member to have found anything older than it should be, but for the snapshots that we took away.
func (r *chaosRun) checkBack(ctx context.Context) {
	for _, m := range r.parts.reachable() {
		for _, what := range []string{"stream", "hole", "snapshots"} {
			n, err := m.metric(ctx, fmt.Sprintf("wellhead_went_back_total{what=%q}", what))
			if err == nil && n > 0 && (what != "snapshots" || !r.redisTouched) {
				err = errors.New("it found something older than it should be: " + what)
			}
			if err != nil {
				r.report("%s: %v", m.name, err)
			}
		}
	}
}
