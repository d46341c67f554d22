package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// clusterShards is the number of shards of these tests.
const clusterShards = 16

// fleetOfMembers is an outside NATS server, Cassandra and Redis, with members that share the shards.
type fleetOfMembers struct {
	outside
	t       *testing.T
	config  string
	members map[string]*member
}

// startFleet starts the servers, so many of NATS, and no member.
func startFleet(t *testing.T, natsServers int) *fleetOfMembers {
	t.Helper()
	cassandra, redis := testenv.Cassandra(t), testenv.SharedRedis(t)
	f := &fleetOfMembers{t: t, members: map[string]*member{}, outside: *startServers(t, natsServers, clusterShards, "kill")}
	name := testenv.Unique("cluster")
	f.config = settingsFile(t, f.settings(clusterShards)+fmt.Sprintf("archive: cassandra\ncassandra.hosts: [%q]\ncassandra.keyspace: %s\n"+
		"snapshots: redis\nredis.addresses: [%q]\nredis.prefix: %s\nwork.snapshot-within: 10s\n", cassandra.Addr, name, redis.Addr, name))
	return f
}

// join starts a member and waits until it has what is assigned to it.
func (f *fleetOfMembers) join(name string) *member {
	f.t.Helper()
	m := startMember(f.t, f.t.TempDir(), "--config", f.config, "--cluster", "127.0.0.1:0", "--name", name)
	f.members[name] = m
	f.member = m
	return m
}

// clusterStatus is what GET /api/v1/cluster says.
type clusterStatus struct {
	Shards  int
	Unowned []int
	Members []struct {
		Name, ID, State, Address, Version string
		Shards                            []int
		Starting                          int
		InFlightLimit                     int64
	}
	Of []struct {
		Shard, Devices int
		Member, State  string
		Lag            uint64
	}
}

// wantBalanced waits until these members, and no others, share all shards, to within one.
func (f *fleetOfMembers) wantBalanced(within time.Duration, names ...string) {
	f.t.Helper()
	begin := time.Now()
	asked := f.members[names[0]]
	testenv.Eventually(f.t, within, func() error {
		var s clusterStatus
		if err := asked.get("/api/v1/cluster", &s); err != nil {
			return err
		}
		have := map[string]int{}
		for _, m := range s.Members {
			if len(m.Shards) > 0 && m.Starting == 0 {
				have[m.Name] = len(m.Shards)
			}
		}
		for _, name := range names {
			if n := have[name]; n < clusterShards/len(names) || n > (clusterShards+len(names)-1)/len(names) {
				return fmt.Errorf("the shards are shared like this: %v", have)
			}
		}
		if len(have) != len(names) {
			return fmt.Errorf("the shards are shared like this: %v", have)
		}
		return nil
	})
	f.t.Logf("balanced over %v after %v", names, time.Since(begin).Round(10*time.Millisecond))
}

// wantAnswers waits until the member answers for a device of each shard.
func (f *fleetOfMembers) wantAnswers(m *member, within time.Duration) time.Duration {
	f.t.Helper()
	var list struct{ Devices []struct{ Device string } }
	of := map[messages.Shard]string{}
	begin := time.Now()
	testenv.Eventually(f.t, within, func() error {
		if err := m.get("/api/v1/sites/kill/devices?limit=1000", &list); err != nil {
			return err
		}
		for _, d := range list.Devices {
			of[messages.ShardOf(messages.DeviceID{Site: "kill", Device: d.Device}, clusterShards)] = d.Device
		}
		if len(of) < clusterShards {
			return fmt.Errorf("the list of devices has %d, of %d shards; want all %d", len(list.Devices), len(of), clusterShards)
		}
		return nil
	})
	for _, device := range of {
		testenv.Eventually(f.t, within-time.Since(begin), func() error {
			var state struct{ Partial bool }
			err := m.get("/api/v1/sites/kill/devices/"+device, &state)
			if err == nil && state.Partial {
				return fmt.Errorf("%s answers from the archive only", device)
			}
			return err
		})
	}
	return time.Since(begin)
}

// TestClusterScales has three members become four and three again under load, then kills one at will, stops
// another for longer than its key lives, and brings the killed one back. Nothing is lost and all is right.
func TestClusterScales(t *testing.T) {
	f := startFleet(t, 1)
	first := f.join("m1")
	f.join("m2")
	f.join("m3")
	f.wantBalanced(30*time.Second, "m1", "m2", "m3")
	events := f.listen()
	loaded := f.load(t, "500/s")

	f.join("m4")
	f.wantBalanced(30*time.Second, "m1", "m2", "m3", "m4")
	f.members["m4"].stop()
	f.wantBalanced(30*time.Second, "m1", "m2", "m3")

	f.members["m2"].kill()
	killed := time.Now()
	f.wantAnswers(first, 8*time.Second)
	t.Logf("all shards answer again %v after kill -9", time.Since(killed).Round(10*time.Millisecond))
	f.wantBalanced(30*time.Second, "m1", "m3")

	if err := f.members["m3"].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pause(t, 20*time.Second)
	if err := f.members["m3"].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.members["m2"].start()
	f.wantBalanced(60*time.Second, "m1", "m2", "m3")
	wantSent(t, loaded)
	f.member = first
	f.wantStored(t)
	for _, m := range f.members {
		f.member = m
		if m == f.members["m4"] {
			continue
		}
		f.wantNothingOlder(t)
		f.wantAnswers(m, 8*time.Second)
		if out, code := run(t, "audit", "--site", "kill", "--server", m.http, "--json"); code != 0 {
			t.Errorf("audit: exit %d: %s", code, out)
		}
	}
	events.wantAll(t, 30_000)
}

// heardEvents are the reading events of site kill.
type heardEvents struct {
	mu       sync.Mutex
	readings map[string]bool   // device and event time
	content  map[string]string // by shard, stream sequence and index
	repeated int
	wrong    []string
}

// listen hears all reading events from now on.
func (f *fleetOfMembers) listen() *heardEvents {
	f.t.Helper()
	return hearEvents(f.t, f.url, "events.kill.*.reading")
}

// hearEvents hears what a subject matches, from now on.
func hearEvents(t *testing.T, url, subject string, more ...nats.Option) *heardEvents {
	t.Helper()
	h := &heardEvents{readings: map[string]bool{}, content: map[string]string{}}
	nc, err := nats.Connect(url, append(more, nats.UserInfo("member", "secret"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe(subject, h.hear); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *heardEvents) hear(m *nats.Msg) {
	var event struct {
		Device   string
		Shard    int
		Readings []json.RawMessage
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := json.Unmarshal(m.Data, &event); err != nil {
		h.wrong = append(h.wrong, err.Error())
	}
	for _, text := range event.Readings {
		var r struct {
			Time     string
			Values   json.RawMessage
			Sequence uint64
			Index    int
		}
		if err := json.Unmarshal(text, &r); err != nil {
			h.wrong = append(h.wrong, err.Error())
		}
		key := fmt.Sprintf("%s shard %d sequence %d index %d", event.Device, event.Shard, r.Sequence, r.Index)
		content := r.Time + string(r.Values)
		if before, again := h.content[key]; again {
			h.repeated++
			if before != content {
				h.wrong = append(h.wrong, fmt.Sprintf("%s: %s and %s", key, before, content))
			}
		}
		h.content[key] = content
		h.readings[event.Device+" "+r.Time] = true
	}
}

// wantAll wants an event of each reading, and repeats to be the same as what they repeat.
func (h *heardEvents) wantAll(t *testing.T, sent int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("%d of %d readings were heard in events, %d repeated", len(h.readings), sent, h.repeated)
	if len(h.readings) != sent || len(h.wrong) > 0 {
		t.Errorf("heard of %d readings, want %d; wrong: %q", len(h.readings), sent, h.wrong[:min(len(h.wrong), 5)])
	}
}

// TestClusterOrders moves a shard, drains a member and lets it have shards again, under load.
func TestClusterOrders(t *testing.T) {
	f := startFleet(t, 1)
	first := f.join("m1")
	second := f.join("m2")
	f.wantBalanced(30*time.Second, "m1", "m2")
	loaded := f.load(t, "1000/s")
	order := func(args ...string) {
		t.Helper()
		out, code := run(t, append([]string{"cluster", "--server", first.http, "--data", first.args[2]}, args...)...)
		if code != 0 {
			t.Fatalf("cluster %v: exit %d: %s", args, code, out)
		}
	}
	shardsOf := func(name string) []int {
		var s clusterStatus
		if err := second.get("/api/v1/cluster", &s); err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Members {
			if m.Name == name {
				return m.Shards
			}
		}
		return nil
	}
	shard := shardsOf("m1")[0]
	order("move", fmt.Sprint(shard), "m2")
	testenv.Eventually(t, 20*time.Second, func() error {
		if has := shardsOf("m2"); !slices.Contains(has, shard) {
			return fmt.Errorf("shard %d is not among m2's: %v", shard, has)
		}
		return nil
	})
	f.wantBalanced(20*time.Second, "m1", "m2")
	order("drain", "m2")
	f.wantBalanced(20*time.Second, "m1")
	f.wantAnswers(second, 8*time.Second)
	order("undrain", "m2")
	f.wantBalanced(20*time.Second, "m1", "m2")
	out, code := run(t, "cluster", "status", "--server", second.http)
	if code != 0 || !strings.Contains(out, "m1") || !strings.Contains(out, "16 of 16 shards are owned") || !strings.Contains(out, fmt.Sprintf("%d at m2", shard)) {
		t.Errorf("cluster status: exit %d: %s", code, out)
	}
	if out, code := run(t, "limits", "set", "--member", "m2=192MiB", "--server", first.http); code != 0 {
		t.Errorf("limits set --member: exit %d: %s", code, out)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		var s clusterStatus
		if err := first.get("/api/v1/cluster", &s); err != nil {
			return err
		}
		if m1, m2 := s.Members[0].InFlightLimit, s.Members[1].InFlightLimit; m1 != 256<<20 || m2 != 192<<20 || second.counter("wellhead_credit_bytes") != 192<<20 {
			return fmt.Errorf("in flight at most %d and %d bytes, want 256 and 192 MiB", m1, m2)
		}
		return nil
	})
	if _, stderr, code := runWithin(t, 20*time.Second, "cluster", "drain", "nobody", "--server", first.http, "--data", first.args[2]); code == 0 || !strings.Contains(stderr, "nobody") {
		t.Errorf("draining nobody: exit %d, %q", code, stderr)
	}
	wantSent(t, loaded)
	f.wantStored(t)
	f.wantStatus(t)
	pauses := first.counter("wellhead_handoff_duration_seconds_count") + second.counter("wellhead_handoff_duration_seconds_count")
	stood := first.counter("wellhead_handoff_duration_seconds_sum") + second.counter("wellhead_handoff_duration_seconds_sum")
	t.Logf("%.0f handoffs, %.0f ms each", pauses, stood/pauses*1000)
	if pauses == 0 {
		t.Error("no handoff was measured")
	}
}

// wantStatus wants the status to have each shard with its devices, and nothing behind, now that all is stored.
func (f *fleetOfMembers) wantStatus(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		var s clusterStatus
		if err := f.member.get("/api/v1/cluster", &s); err != nil {
			return err
		}
		devices := 0
		for n, one := range s.Of {
			devices += one.Devices
			if one.Shard != n || one.State != "running" || one.Member == "" || one.Lag != 0 {
				return fmt.Errorf("a shard is %+v", one)
			}
		}
		if len(s.Of) != clusterShards || devices != 100 {
			return fmt.Errorf("%d shards with %d devices, want %d with 100", len(s.Of), devices, clusterShards)
		}
		return nil
	})
	out, code := run(t, "cluster", "status", "--shards", "--server", f.member.http)
	if lines := strings.Count(out, " running "); code != 0 || lines != clusterShards {
		t.Errorf("cluster status --shards: exit %d, %d shards run, want %d: %s", code, lines, clusterShards, out)
	}
}

// TestClusterWithoutNATS takes the NATS server away for longer than a member's key lives, under load. The
// members go on by themselves.
func TestClusterWithoutNATS(t *testing.T) {
	f := startFleet(t, 1)
	first := f.join("m1")
	second := f.join("m2")
	f.wantBalanced(30*time.Second, "m1", "m2")
	loaded := f.load(t, "1000/s")
	pause(t, 3*time.Second)
	if err := f.servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	pause(t, 20*time.Second)
	if err := f.servers[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	f.wantAnswers(first, 20*time.Second)
	t.Logf("all shards answer %v after NATS is back", time.Since(begin).Round(10*time.Millisecond))
	wantSent(t, loaded)
	f.wantBalanced(30*time.Second, "m1", "m2")
	f.wantStored(t)
	for _, m := range []*member{first, second} {
		f.member = m
		f.wantNothingOlder(t)
	}
}

// TestClusterRefuses: who does not belong is told why, and what to do.
func TestClusterRefuses(t *testing.T) {
	f := startFleet(t, 1)
	f.join("m1")
	embedded := settingsFile(t, "shards: 16\n")
	other := settingsFile(t, fmt.Sprintf("shards: 8\nstream: %q\nstream.user: member\narchive: cassandra\ncassandra.hosts: [\"127.0.0.1:1\"]\nsnapshots: redis\nredis.addresses: [\"127.0.0.1:1\"]\n", f.url))
	stranger := t.TempDir()
	if err := os.WriteFile(filepath.Join(stranger, "cluster.id"), []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what, config, dir, name, want string
	}{
		{"embedded parts", embedded, t.TempDir(), "m2", `set stream: nats://.*, archive: cassandra and cassandra.hosts, snapshots: redis and redis.addresses`},
		{"another number of shards", other, t.TempDir(), "m2", `is mapped to shard.*shards`},
		{"another cluster", f.config, stranger, "m2", `belongs to cluster another.*data folder`},
		{"the same name", f.config, t.TempDir(), "m1", `a member of the name "m1" answers at .*--name`},
	} {
		_, stderr, code := runWithin(t, 60*time.Second, "serve", "--config", test.config, "--data", test.dir,
			"--http", "127.0.0.1:0", "--nats", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--name", test.name)
		if code <= 0 || !regexp.MustCompile(test.want).MatchString(stderr) {
			t.Errorf("%s: exit %d, %q; want a refusal that speaks of %q", test.what, code, stderr, test.want)
		}
	}
}

// TestClusterOnThreeNATS kills the NATS server that leads the members' keys, under load. No member joins anew,
// all shards answer soon, and nothing is lost.
func TestClusterOnThreeNATS(t *testing.T) {
	f := startFleet(t, 3)
	first := f.join("m1")
	f.join("m2")
	f.wantBalanced(60*time.Second, "m1", "m2")
	ids := func() string {
		var s clusterStatus
		if err := first.get("/api/v1/cluster", &s); err != nil {
			return err.Error()
		}
		var all []string
		for _, m := range s.Members {
			all = append(all, m.ID)
		}
		return strings.Join(all, " ")
	}
	before := ids()
	loaded := f.load(t, "1000/s")
	f.wantAnswers(first, 30*time.Second)
	nc, err := nats.Connect(f.url, nats.UserInfo("member", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	victim := -1
	testenv.Eventually(t, 30*time.Second, func() error {
		answer, err := nc.Request("$JS.API.STREAM.INFO.KV_wellhead-members", nil, 2*time.Second)
		if err != nil {
			return err
		}
		var info struct{ Cluster struct{ Leader string } }
		if err := json.Unmarshal(answer.Data, &info); err != nil {
			return err
		}
		_, err = fmt.Sscanf(info.Cluster.Leader, "n%d", &victim)
		return err
	})
	if err := f.servers[victim].Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	received := func() (n uint64) {
		var totals struct{ Readings uint64 }
		if err := first.get("/api/v1/totals", &totals); err != nil {
			return 0
		}
		return totals.Readings
	}
	var last uint64
	testenv.Eventually(t, 15*time.Second, func() error {
		now := received()
		if last == 0 || now <= last {
			last = now
			return fmt.Errorf("nothing flows: %d readings", now)
		}
		return nil
	})
	f.wantAnswers(first, 15*time.Second-time.Since(begin))
	t.Logf("all shards answer and readings flow %v after the kill of n%d", time.Since(begin).Round(10*time.Millisecond), victim)
	pause(t, 3*time.Second)
	if err := f.servers[victim].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSent(t, loaded)
	f.member = first
	f.wantStored(t)
	if after := ids(); after != before {
		t.Errorf("the members are %s, before they were %s: somebody joined anew", after, before)
	}
	f.wantNothingOlder(t)
}
