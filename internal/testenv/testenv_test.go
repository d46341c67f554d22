package testenv

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestUniqueIsAKeyspaceName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z][a-z0-9_]{0,25}$`)
	a, b := Unique("contract"), Unique("averylongprefix")
	for _, name := range []string{a, b} {
		if !valid.MatchString(name) {
			t.Errorf("Unique = %q, want something like %v", name, valid)
		}
	}
	if one, other := Unique("x"), Unique("x"); a == b || one == other {
		t.Error("two names are equal")
	}
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := FreePorts("127.0.0.1", 20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if p == 0 || seen[p] {
			t.Errorf("port %d is zero or came twice", p)
		}
		seen[p] = true
	}
}

func TestOutsideAddressesAreRefused(t *testing.T) {
	if _, err := StartRedis(t.Context(), t.TempDir(), RedisOptions{Host: "0.0.0.0"}); err == nil || !strings.Contains(err.Error(), "loopback") {
		if _, found := exec.LookPath("redis-server"); found == nil {
			t.Errorf("StartRedis on 0.0.0.0: got %v, want a refusal", err)
		}
	}
	if err := PrintCassandraConfig(&bytes.Buffer{}, t.TempDir(), CassandraOptions{Host: "0.0.0.0"}); err == nil {
		t.Error("a configuration for 0.0.0.0 was made")
	}
}

func TestCassandraConfig(t *testing.T) {
	for sync, want := range map[string]string{"": "commitlog_sync: periodic", "group": "commitlog_sync: group", "batch": "commitlog_sync: batch"} {
		var b bytes.Buffer
		if err := PrintCassandraConfig(&b, "/somewhere", CassandraOptions{CommitlogSync: sync, Extra: "more: true"}); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{want, "rpc_address: 127.0.0.1", `"/somewhere/data/commitlog"`, "more: true"} {
			if !strings.Contains(b.String(), line) {
				t.Errorf("sync %q: no %q in\n%s", sync, line, b.String())
			}
		}
	}
}

func TestReadyFailsWithTheLog(t *testing.T) {
	p, err := startProcess(nil, filepath.Join(t.TempDir(), "log"), t.TempDir(), "sh", "-c", "echo out of luck; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	err = p.waitReady(t.Context(), func() error { return fmt.Errorf("not yet") })
	if err == nil || !strings.Contains(err.Error(), "out of luck") || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("waitReady = %v, want an error with the log and the reason", err)
	}
}

// redisCommand talks to Redis without a client library.
func redisCommand(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "%s\r\n", command)
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "$") && line != "$-1\r\n" {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestRedisStopsRestartsAndGoesBack(t *testing.T) {
	s := Redis(t)
	redisCommand(t, s.Addr, "SET a old")
	saved, err := s.SaveCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	redisCommand(t, s.Addr, "SET a new")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := redisCommand(t, s.Addr, "GET a"); got != "new" {
		t.Errorf("after a restart a = %q, want new", got)
	}
	if got, err := s.Values(t.Context(), "a", "nosuch", "a"); err != nil || !slices.Equal(got, []string{"new", "", "new"}) {
		t.Errorf("Values: got %q, %v", got, err)
	}
	if err := s.RestoreCopy(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	if got := redisCommand(t, s.Addr, "GET a"); got != "old" {
		t.Errorf("after the older copy a = %q, want old", got)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := redisCommand(t, s.Addr, "GET a"); got != "$-1" {
		t.Errorf("after a flush a = %q, want nothing", got)
	}
	pid := s.PID()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := askRedis(t.Context(), s.Addr, "PING"); err == nil {
		t.Errorf("process %d still answers after Stop", pid)
	}
}

func TestSharedRedisIsNotOursWhenNamed(t *testing.T) {
	t.Setenv(RedisVariable, "127.0.0.1:1")
	s := SharedRedis(t)
	if s.Addr != "127.0.0.1:1" {
		t.Errorf("Addr = %q, want the one of the variable", s.Addr)
	}
	for what, err := range map[string]error{"Stop": s.Stop(), "Pause": s.Pause(), "Flush": s.Flush(t.Context()), "Start": s.Start(t.Context())} {
		if err == nil {
			t.Errorf("%s of a server that is not ours did not fail", what)
		}
	}
}

func TestCassandraStopsPausesAndRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Cassandra twice: 25 s")
	}
	s := OwnCassandra(t, CassandraOptions{HeapMB: 512})
	if err := s.Execute(t.Context(), "INSERT INTO nosuch.readings (a) VALUES (1)"); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("insert into a keyspace that is not there: got %v, want Cassandra's error", err)
	}
	if n, err := s.Count(t.Context(), "SELECT count(*) FROM system.local"); n != 1 || err != nil {
		t.Errorf("servers that describe themselves: got %d, %v, want 1", n, err)
	}
	if n, err := s.Count(t.Context(), "SELECT key FROM system.local"); err == nil {
		t.Errorf("a word where a number is wanted: got %d, want an error", n)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := askCQL(t.Context(), s.Addr); err == nil {
		t.Error("a paused server answers")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 20*time.Second, func() error { return askCQL(t.Context(), s.Addr) })
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := askCQL(t.Context(), s.Addr); err == nil {
		t.Error("a killed server answers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := askCQL(t.Context(), s.Addr); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if _, err := os.Stat(s.Log); err != nil {
		t.Error(err)
	}
}
