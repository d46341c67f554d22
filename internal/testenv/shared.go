package testenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Environment variables that name servers which are there already.
const (
	CassandraVariable = "WELLHEAD_TEST_CASSANDRA"
	RedisVariable     = "WELLHEAD_TEST_REDIS"
)

// startTimeout is how long a server may take to answer; Cassandra takes 12 s on two idle cores.
const startTimeout = 3 * time.Minute

// shared is what the tests of this process share; started at the first call, ended by StopShared.
var shared struct {
	mu        sync.Mutex
	dir       string
	cassandra *CassandraServer
	redis     *RedisServer
}

// Cassandra returns a server that the tests share: the one that WELLHEAD_TEST_CASSANDRA names, or one
// for this test process, which the first call starts. Give each test a keyspace of its own (Unique).
func Cassandra(t testing.TB) *CassandraServer {
	t.Helper()
	if addr := os.Getenv(CassandraVariable); addr != "" {
		return &CassandraServer{Addr: addr}
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cassandra == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		s, err := StartCassandra(ctx, sharedDir(t, "cassandra"), CassandraOptions{})
		failed(t, err, "Cassandra", installCassandra)
		shared.cassandra = s
	}
	return shared.cassandra
}

// OwnCassandra starts a server for this test alone; it ends with the test.
func OwnCassandra(t testing.TB, o CassandraOptions) *CassandraServer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	s, err := StartCassandra(ctx, t.TempDir(), o)
	failed(t, err, "Cassandra", installCassandra)
	t.Cleanup(func() { endWithTest(t, s.Kill, s.Log) })
	return s
}

// Redis starts a server for this test alone; it ends with the test.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	s, err := StartRedis(t.Context(), t.TempDir(), RedisOptions{})
	failed(t, err, "Redis", installRedis)
	t.Cleanup(func() { endWithTest(t, s.Kill, filepath.Join(s.Dir, "redis.log")) })
	return s
}

// SharedRedis returns a server that the tests share: the one that WELLHEAD_TEST_REDIS names, or one for
// this test process. Give each test a key prefix of its own (Unique).
func SharedRedis(t testing.TB) *RedisServer {
	t.Helper()
	if addr := os.Getenv(RedisVariable); addr != "" {
		return &RedisServer{Addr: addr}
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.redis == nil {
		s, err := StartRedis(context.Background(), sharedDir(t, "redis"), RedisOptions{})
		failed(t, err, "Redis", installRedis)
		shared.redis = s
	}
	return shared.redis
}

// Main runs a package's tests and ends what they shared: call it from TestMain where Cassandra or
// SharedRedis are used. Without it the servers end with the process, and their folder stays.
func Main(m *testing.M) {
	code := m.Run()
	StopShared()
	os.Exit(code)
}

// StopShared ends the servers that Cassandra and SharedRedis started, and removes their data.
func StopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cassandra != nil {
		_ = shared.cassandra.Kill() // its data is thrown away: nothing to save
		shared.cassandra = nil
	}
	if shared.redis != nil {
		_ = shared.redis.Kill()
		shared.redis = nil
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
		shared.dir = ""
	}
}

func sharedDir(t testing.TB, name string) string {
	t.Helper()
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", "wellhead-testenv-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir = dir
	}
	return filepath.Join(shared.dir, name)
}

func failed(t testing.TB, err error, what, howToInstall string) {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		Missing(t, what, howToInstall)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func endWithTest(t testing.TB, kill func() error, log string) {
	if t.Failed() {
		t.Logf("end of the server's log:\n%s", tail(log, 2<<10))
	}
	if err := kill(); err != nil {
		t.Error(err)
	}
}
