package tests

import (
	"cmp"
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

const (
	chaosMembers = 3
	chaosServers = 3 // of NATS, and of Cassandra
	chaosSites   = 60
)

// chaosParts are the real parts of a run: three NATS servers, three Cassandra nodes, Redis and the members, each on
// a machine of its own where namespaces can be made, else all on loopback.
type chaosParts struct {
	t         *testing.T
	network   *testenv.Network // nil on loopback
	nats      []*testenv.NATSServer
	cassandra []*testenv.CassandraServer
	redis     *testenv.RedisServer
	dir       string // of the sites' credentials
	url       string // of all NATS servers
	config    string
	layout    string // of readings in Cassandra
	prefix    string // of Redis' keys
	program   string // of the members

	natsOn, cassandraOn []*testenv.Machine
	natsData            []string // folders of JetStream's files

	mu      sync.Mutex
	members []*keptMember
}

// startChaosParts starts the servers, and no member.
func startChaosParts(t *testing.T) *chaosParts {
	t.Helper()
	p := &chaosParts{t: t, dir: t.TempDir(), program: binary, layout: cmp.Or(os.Getenv("WELLHEAD_CHAOS_LAYOUT"), "rows")}
	if err := testenv.NetworkMissing(); err != nil && os.Getenv("CI") != "true" {
		t.Logf("NOT TESTED: nothing is cut off from anything: %v", err)
	} else {
		p.network = testenv.NewNetwork(t)
	}
	for range chaosServers {
		p.natsOn, p.cassandraOn = append(p.natsOn, p.machine()), append(p.cassandraOn, p.machine())
	}
	var starting sync.WaitGroup
	starting.Go(p.startCassandra)
	p.startNATS()
	p.startRedis()
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var hosts []string
	for _, c := range p.cassandra {
		hosts = append(hosts, fmt.Sprintf("%q", c.Addr))
	}
	p.prefix = testenv.Unique("chaos")
	p.config = settingsFile(t, fmt.Sprintf("shards: %d\nhttp-anonymous: true\nstream: %q\nstream.user: member\nstream.max-bytes: 64MiB\nstream.replicas: %d\n"+
		"archive: cassandra\nlayout: %s\ncassandra.hosts: [%s]\ncassandra.keyspace: %s\ncassandra.replication: {datacenter1: %d}\n"+
		"snapshots: redis\nredis.addresses: [%q]\nredis.prefix: %s\nwork.snapshot-within: 10s\n",
		clusterShards, p.url, chaosServers, p.layout, strings.Join(hosts, ", "), p.prefix, chaosServers, p.redis.Addr, p.prefix))
	t.Setenv("WELLHEAD_STREAM_PASSWORD", "secret")
	return p
}

// machine makes a machine; nil on loopback.
func (p *chaosParts) machine() *testenv.Machine {
	if p.network == nil {
		return nil
	}
	return p.network.Add(p.t)
}

// hostOf is the address of a machine; without a network each number has a loopback address of its own.
func hostOf(m *testenv.Machine, number int) string {
	if m == nil {
		return fmt.Sprintf("127.0.0.%d", number+1)
	}
	return m.Address
}

// startCassandra starts the nodes: the first alone, for the others to find it. Each holds everything, so they need
// no time to share it out. A kill -9 loses nothing that was acknowledged.
func (p *chaosParts) startCassandra() {
	ports, err := testenv.FreePorts("127.0.0.1", 2)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.cassandra = make([]*testenv.CassandraServer, chaosServers)
	start := func(i int) {
		o := testenv.CassandraOptions{
			On: p.cassandraOn[i], Host: hostOf(p.cassandraOn[i], i), CommitlogSync: "group", Joined: true, RingDelay: 2 * time.Second,
			Latest: p.layout == "chunks", Extra: fmt.Sprintf("initial_token: %d\n", int64(i-1)*(1<<62)),
			Seeds: net.JoinHostPort(hostOf(p.cassandraOn[0], 0), "7000"),
		}
		if p.network == nil {
			o.Port, o.StoragePort = ports[0], ports[1]
			o.Seeds = net.JoinHostPort(hostOf(nil, 0), fmt.Sprint(ports[1]))
		}
		p.cassandra[i] = testenv.OwnCassandra(p.t, o)
	}
	start(0)
	var others sync.WaitGroup
	for i := 1; i < chaosServers; i++ {
		others.Go(func() { start(i) })
	}
	others.Wait()
}

func (p *chaosParts) startRedis() {
	on := p.machine()
	var err error
	p.redis, err = testenv.StartRedis(p.t.Context(), p.t.TempDir(), testenv.RedisOptions{On: on})
	if err != nil {
		p.t.Error(err)
		return
	}
	p.t.Cleanup(func() { _ = p.redis.Kill() })
}

// startNATS starts the NATS servers with the printed configuration.
func (p *chaosParts) startNATS() {
	p.t.Helper()
	ports := [][2]int{}
	for i := range chaosServers {
		free := []int{4222, 6222}
		if p.network == nil {
			var err error
			if free, err = testenv.FreePorts(hostOf(nil, i), 2); err != nil {
				p.t.Error(err)
				return
			}
		}
		ports = append(ports, [2]int{free[0], free[1]})
	}
	address := func(i, port int) string {
		return net.JoinHostPort(hostOf(p.natsOn[i], i), fmt.Sprint(ports[i][port]))
	}
	secrets := "NATS_SYS_PASSWORD: \"sys\"\nWELLHEAD_MEMBER_PASSWORD: \"secret\"\n"
	var sites, routes, urls []string
	for i := range chaosSites {
		sites = append(sites, chaosSite(i))
		secrets += fmt.Sprintf("WELLHEAD_SITE_%s: \"of-%s\"\n", strings.ToUpper(chaosSite(i)), chaosSite(i))
	}
	for i := range chaosServers {
		routes, urls = append(routes, address(i, 1)), append(urls, "nats://"+address(i, 0))
	}
	p.url = strings.Join(urls, ",")
	for i := range chaosServers {
		p.natsData = append(p.natsData, filepath.Join(p.t.TempDir(), "jetstream"))
		text, stderr, code := runQuietly(p.t, time.Minute, "config", "nats", "--sites", strings.Join(sites, ","), "--shards", fmt.Sprint(clusterShards),
			"--store", p.natsData[i], "--listen", address(i, 0), "--cluster", strings.Join(routes, ","), "--cluster-listen", address(i, 1))
		if code != 0 {
			p.t.Errorf("wellhead config nats: exit %d: %s", code, stderr)
			return
		}
		s, err := testenv.StartNATS(p.t.Context(), p.natsOn[i], p.t.TempDir(), address(i, 0), fmt.Sprintf("NATS_NAME: \"n%d\"\n", i)+secrets+text)
		if err != nil {
			p.t.Error(err)
			return
		}
		p.t.Cleanup(func() { _ = s.Kill() })
		p.nats = append(p.nats, s)
	}
}

// chaosSite is the name of a site that sends.
func chaosSite(i int) string { return fmt.Sprintf("load%d", i) }

// credsOf writes the credential of a site.
func (p *chaosParts) credsOf(site string) string {
	path := filepath.Join(p.dir, site+".creds")
	if err := os.WriteFile(path, fmt.Appendf(nil, "site: %s\npassword: of-%s\n", site, site), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// newMember makes a member that does not run yet.
func (p *chaosParts) newMember() *keptMember {
	p.t.Helper()
	m := &keptMember{t: p.t, name: fmt.Sprintf("m%d", len(p.all())), on: p.machine(), program: p.program}
	host, ports := hostOf(m.on, 0), []int{8080, 4300}
	if m.on == nil {
		var err error
		if ports, err = testenv.FreePorts(host, 2); err != nil {
			p.t.Fatal(err)
		}
	}
	http := net.JoinHostPort(host, fmt.Sprint(ports[0]))
	m.http = "http://" + http
	m.args = []string{
		"serve", "--config", p.config, "--data", p.t.TempDir(), "--http", http,
		"--cluster", net.JoinHostPort(host, fmt.Sprint(ports[1])), "--name", m.name,
	}
	log, err := os.Create(filepath.Join(p.t.TempDir(), m.name+".log"))
	if err != nil {
		p.t.Fatal(err)
	}
	m.log = log
	m.run()
	p.t.Cleanup(func() {
		m.close()
		if p.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			p.t.Logf("the end of the log of %s:\n%s", m.name, tail(string(text), 4000))
		}
		log.Close()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = append(p.members, m)
	return m
}

// all are all members there ever were.
func (p *chaosParts) all() []*keptMember {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*keptMember(nil), p.members...)
}

// reachable are the members that run and can be asked now, as a load balancer would know them.
func (p *chaosParts) reachable() []*keptMember {
	var out []*keptMember
	for _, m := range p.all() {
		if m.askable() {
			out = append(out, m)
		}
	}
	return out
}
