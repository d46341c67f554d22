package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// centers is a Cassandra of two data centers, dc1 with two nodes and dc2 with one, each on a machine of its own.
type centers struct {
	network *testenv.Network
	on      [3]*testenv.Machine
	nodes   [3]*testenv.CassandraServer
}

func startCenters(t *testing.T) *centers {
	t.Helper()
	c := &centers{network: testenv.NewNetwork(t)}
	for i := range c.on {
		c.on[i] = c.network.Add(t)
	}
	start := func(i int) {
		dc := "dc1"
		if i == 2 {
			dc = "dc2"
		}
		c.nodes[i] = testenv.OwnCassandra(t, testenv.CassandraOptions{
			On: c.on[i], DataCenter: dc, HeapMB: 1536, CommitlogSync: "group", Joined: true, RingDelay: 5 * time.Second, Seeds: c.seed(0),
			Extra: fmt.Sprintf("initial_token: %d\n", int64(i-1)*(1<<62)),
		})
	}
	start(0)
	var others sync.WaitGroup
	others.Go(func() { start(1) })
	others.Go(func() { start(2) })
	others.Wait()
	if t.Failed() {
		t.FailNow()
	}
	c.wantAllUp(t)
	return c
}

// seed is a node's address for the other nodes.
func (c *centers) seed(i int) string { return net.JoinHostPort(c.on[i].Address, "7000") }

// settings are those of a member that asks one data center at some of its nodes.
func (c *centers) settings(keyspace, center, consistency string, nodes ...int) string {
	var hosts []string
	for _, i := range nodes {
		hosts = append(hosts, fmt.Sprintf("%q", c.nodes[i].Addr))
	}
	text := fmt.Sprintf("archive: cassandra\ncassandra.hosts: [%s]\ncassandra.keyspace: %s\ncassandra.replication: {dc1: 2, dc2: 1}\n"+
		"cassandra.consistency: %s\ncassandra.timeout: 3s\n", strings.Join(hosts, ", "), keyspace, consistency)
	if center != "" {
		text += "cassandra.data-center: " + center + "\n"
	}
	return text
}

// nodetool runs a command that docs/operations.md names.
func (c *centers) nodetool(t *testing.T, node int, args ...string) string {
	t.Helper()
	out, err := c.nodes[node].Nodetool(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantUp wants the node to see so many nodes that are up and have joined.
func (c *centers) wantUp(t *testing.T, node, want int) {
	t.Helper()
	testenv.Eventually(t, 2*time.Minute, func() error {
		out, err := c.nodes[node].Nodetool(t.Context(), "status")
		if err == nil && strings.Count("\n"+out, "\nUN ") != want {
			err = fmt.Errorf("not %d nodes are up:\n%s", want, out)
		}
		return err
	})
}

// wantAllUp wants every node to see all of them, without which none makes a keyspace in both data centers.
func (c *centers) wantAllUp(t *testing.T) {
	t.Helper()
	for i := range c.nodes {
		c.wantUp(t, i, len(c.nodes))
	}
}

// TestTwoDataCenters cuts one data center off and heals it, under load, then the other: what is stored is what the
// member's own data center has, and nothing is stored in the other instead. After a repair the other alone has
// everything. Then a node is lost with its disk and replaced by the documented commands, and alone has everything too.
func TestTwoDataCenters(t *testing.T) {
	c := startCenters(t)
	keyspace := testenv.Unique("centers")
	dir, config := t.TempDir(), filepath.Join(t.TempDir(), "wellhead.yaml")
	rewrite(t, config, c.settings(keyspace, "dc1", "LOCAL_QUORUM", 0, 1))
	m := startMember(t, dir, "--config", config)
	load := m.loads("kill", 100, 45, 300)

	pause(t, 5*time.Second)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.network.CutOff(c.on[2])) // dc2
	before := m.appends()
	pause(t, 8*time.Second)
	if after := m.appends(); after < before+10 {
		t.Errorf("with dc2 cut off the archive took rows %v times, and 8 s later %v times", before, after)
	}
	must(c.network.Heal())

	must(c.network.CutOff(c.on[0], c.on[1])) // dc1, which is the member's
	m.wantNotReady("archive")
	before = m.appends()
	pause(t, 8*time.Second)
	if after := m.appends(); after != before {
		t.Errorf("with dc1 cut off %v rows or more were stored, where nobody of dc1 finds them", after-before)
	}
	must(c.network.Heal())
	load.wantStored()

	c.wantAllUp(t)
	c.nodetool(t, 2, "repair", "-full", keyspace)
	m.stop()
	must(c.network.CutOff(c.on[0], c.on[1]))
	rewrite(t, config, c.settings(keyspace, "dc2", "LOCAL_QUORUM", 2))
	m.start()
	load.wantStored()
	m.stop()
	must(c.network.Heal())

	c.wantAllUp(t)
	must(c.nodes[1].Kill())
	c.wantUp(t, 0, 2)
	c.wantUp(t, 2, 2)
	must(c.nodes[1].Replace(t.Context(), c.seed(0)))
	c.wantAllUp(t)
	must(c.network.CutOff(c.on[0], c.on[2]))
	rewrite(t, config, c.settings(keyspace, "dc1", "LOCAL_ONE", 1))
	m.start()
	load.wantStored()
	m.stop()
	must(c.network.Heal())

	c.wantAllUp(t)
	rewrite(t, config, c.settings(keyspace, "", "LOCAL_QUORUM", 0, 1))
	_, stderr, code := runWithin(t, time.Minute, m.args...)
	if code <= 0 || !strings.Contains(stderr, "set cassandra.data-center") {
		t.Errorf("without a data center: exit %d, %q; want a refusal that says what to set", code, stderr)
	}
}

// rewrite replaces a member's settings.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// appends is how often the archive has taken rows.
func (m *member) appends() float64 {
	return m.counter(`wellhead_store_operation_seconds_count{operation="append",outcome="ok",store="archive"}`)
}
