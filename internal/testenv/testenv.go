// Package testenv starts the real servers that tests, benchmarks and development runs need: Apache
// Cassandra (from its Maven artefacts, see scripts/fetch-cassandra), Redis (the redis-server of the
// system) and NATS (nats-server, built from the version in go.mod). All listen on loopback only, on free ports, keep their data and logs in a folder of their
// own, and end with the process that started them.
//
// A server that is not installed makes a test skip, loudly; with CI=true it makes it fail (Missing).
//
// One `go test` run over many packages can share servers: with WELLHEAD_TEST_CASSANDRA=host:port and
// WELLHEAD_TEST_REDIS=host:port set (internal/testenv/cmd/servers prints such lines), Cassandra and
// SharedRedis use those, so each test must take a keyspace or key prefix of its own (Unique). Tests
// that stop, pause or empty a server take one of their own: OwnCassandra, Redis.
package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// ErrMissing means that what a server needs is not installed here.
var ErrMissing = errors.New("not installed")

// Missing ends the test because what is not there: it skips, or fails when CI=true. howToInstall is a
// command or a sentence.
func Missing(t testing.TB, what, howToInstall string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI=true; install it: %s", what, howToInstall)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s is missing; install it: %s", what, howToInstall)
}

// Recordings returns the folder of recorded public data, which WELLHEAD_TESTDATA names. It is no part of
// the repository; without it the test ends as with a server that is missing.
func Recordings(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WELLHEAD_TESTDATA")
	if dir == "" {
		Missing(t, "recorded data", "set WELLHEAD_TESTDATA to its folder")
	}
	return dir
}

// Unique returns a new name of at most 26 characters from [a-z0-9_], which begins with a letter: for a
// keyspace or a key prefix.
func Unique(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%.9s_%s", prefix, hex.EncodeToString(b[:]))
}

// FreePorts returns n different TCP ports that were free on host a moment ago.
func FreePorts(host string, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, fmt.Errorf("find a free port on %s: %w", host, err)
		}
		defer func() { _ = l.Close() }() // all stay open until all are found, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// Eventually calls ok until it returns nil, and fails the test with its last error when that has not
// happened within the given time.
func Eventually(t testing.TB, within time.Duration, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := poll(ctx, ok); err != nil {
		t.Fatalf("not within %v: %v", within, err)
	}
}

// poll calls ok every 20 ms until it returns nil or ctx ends; then it returns ok's last error.
func poll(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// root returns the folder of the module's sources.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
