package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

// startRedis starts a server of its own for the test.
func startRedis(t *testing.T, o testenv.RedisOptions) *testenv.RedisServer {
	t.Helper()
	s, err := testenv.StartRedis(t.Context(), t.TempDir(), o)
	if errors.Is(err, testenv.ErrMissing) {
		testenv.Missing(t, "redis-server", "apt-get install redis-server")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openWith(t testing.TB, o Options) *Snapshots {
	t.Helper()
	o.Prefix, o.Timeout = testenv.Unique("test"), 2*time.Second
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestTLS speaks to a server that wants TLS, a certificate of its authority, a user and a password.
func TestTLS(t *testing.T) {
	files := t.TempDir()
	testenv.Certificates(t, files)
	file := func(name string) string { return filepath.Join(files, name) }
	ports, err := testenv.FreePorts("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	startRedis(t, testenv.RedisOptions{Extra: []string{
		"--tls-port", strconv.Itoa(ports[0]), "--tls-cert-file", file("server.crt"), "--tls-key-file", file("server.key"),
		"--tls-ca-cert-file", file("ca.crt"), "--tls-auth-clients", "yes", "--user", "member", "on", ">secret", "~*", "&*", "+@all",
	}})
	ca, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	pair, err := tls.LoadX509KeyPair(file("client.crt"), file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	good := Options{
		Addrs: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))}, Username: "member", Password: "secret",
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}},
	}
	s := openWith(t, good)
	contract.Snapshots(t, func(*testing.T) persistence.Snapshots { return s })
	for what, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"an authority that is not known": {func(o *Options) { o.TLS = &tls.Config{Certificates: []tls.Certificate{pair}} }, "unknown authority"},
		"no certificate":                 {func(o *Options) { o.TLS = &tls.Config{RootCAs: pool} }, "certificate required"},
		"no TLS":                         {func(o *Options) { o.TLS = nil }, ""},
		"another password":               {func(o *Options) { o.Password = "wrong" }, "WRONGPASS"},
	} {
		o := good
		test.change(&o)
		if err := openWith(t, o).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", what, err, test.want)
		}
	}
}

// TestSentinel kills the master that a sentinel watches: the store goes on with the replica.
func TestSentinel(t *testing.T) {
	master := startRedis(t, testenv.RedisOptions{})
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := startRedis(t, testenv.RedisOptions{Extra: []string{"--replicaof", host, port}})
	sentinel := startRedis(t, testenv.RedisOptions{Sentinel: fmt.Sprintf("sentinel monitor fleet %s %s 1\nsentinel down-after-milliseconds fleet 1000\n"+
		"sentinel failover-timeout fleet 3000\nuser watcher on >watch ~* &* +@all\n", host, port), Extra: []string{"--protected-mode", "no"}})
	s := openWith(t, Options{Addrs: []string{sentinel.Addr}, Master: "fleet", SentinelUsername: "watcher", SentinelPassword: "watch"})
	contract.Snapshots(t, func(*testing.T) persistence.Snapshots { return s })
	held := fill(t.Context(), t, s, 2000)
	behind := openWith(t, Options{Addrs: []string{replica.Addr}})
	behind.prefix = s.prefix
	testenv.Eventually(t, 20*time.Second, func() error {
		if got, err := behind.Marker(t.Context(), 2000); err != nil || got != held {
			return fmt.Errorf("the replica has the marker %+v, %v; want %+v", got, err, held)
		}
		return nil
	})
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	testenv.Eventually(t, 40*time.Second, func() error {
		next := held
		next.Puts++
		return s.PutMarker(t.Context(), 2000, 3, held, next)
	})
	t.Logf("the replica takes writes %v after the kill", time.Since(begin).Round(10*time.Millisecond))
	wrong := openWith(t, Options{Addrs: []string{sentinel.Addr}, Master: "fleet", SentinelUsername: "watcher", SentinelPassword: "wrong"})
	if err := wrong.Ping(t.Context()); err == nil {
		t.Error("a sentinel took a wrong password")
	}
	if _, err := Open(Options{Addrs: []string{sentinel.Addr}, Master: "fleet", Cluster: true}); err == nil {
		t.Error("a cluster with sentinels was opened")
	}
}

// TestCluster keeps snapshots in a cluster of three servers, of which one address is known.
func TestCluster(t *testing.T) {
	var servers []*testenv.RedisServer
	buses, err := testenv.FreePorts("127.0.0.1", 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, bus := range buses {
		servers = append(servers, startRedis(t, testenv.RedisOptions{Extra: []string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000",
		}}))
	}
	clients := make([]*redis.Client, len(servers))
	for i, server := range servers {
		clients[i] = redis.NewClient(&redis.Options{Addr: server.Addr})
		defer clients[i].Close()
		first, last := i*5462, min(16383, i*5462+5461)
		if err := clients[i].Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", first, last).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, err := net.SplitHostPort(server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := clients[0].Do(t.Context(), "CLUSTER", "MEET", host, port, buses[i]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, client := range clients {
		testenv.Eventually(t, 20*time.Second, func() error {
			info, err := client.ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")) {
				err = errors.New(info)
			}
			return err
		})
	}
	s := openWith(t, Options{Addrs: []string{servers[0].Addr}, Cluster: true})
	contract.Snapshots(t, func(*testing.T) persistence.Snapshots { return s })
	for shard := range messages.Shard(32) {
		fill(t.Context(), t, s, 1000+shard)
	}
	for i, client := range clients {
		if n, err := client.DBSize(t.Context()).Result(); err != nil || n == 0 {
			t.Errorf("server %d holds %d keys, %v; want some of 32 shards", i, n, err)
		}
	}
}
