package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestRedisGoesBack wipes Redis, puts it back to an older state and stops it, under load, with the
// member killed after each. Snapshots are only a shortcut: the answers stay right.
func TestRedisGoesBack(t *testing.T) {
	redis := testenv.Redis(t)
	config := filepath.Join(t.TempDir(), "wellhead.yaml")
	text := fmt.Sprintf("snapshots: redis\nredis:\n  addresses: [%q]\nwork:\n  snapshot-within: 4s\n", redis.Addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMember(t, t.TempDir(), "--config", config)
	flags := []string{"--site", "back", "--devices", "200", "--readings", "500", "--start", "2026-03-01T00:00:00Z", "--seed", "5"}
	loaded := make(chan int, 1)
	go func() {
		_, code := run(t, append([]string{"simulate", "--server", m.nats, "--rate", "4000/s"}, flags...)...)
		loaded <- code
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pause(t, 5*time.Second) // a round of snapshots or two
	copied, err := redis.SaveCopy(t.Context())
	must(err)
	must(redis.Flush(t.Context()))
	pause(t, 3*time.Second)
	m.kill()
	m.start()
	must(redis.RestoreCopy(t.Context(), copied))
	pause(t, 3*time.Second)
	m.kill()
	m.start()
	must(redis.Flush(t.Context()))
	must(redis.RestoreCopy(t.Context(), copied))
	m.kill()
	m.start()
	if code := <-loaded; code != 0 {
		t.Fatalf("simulate: exit %d", code)
	}
	m.kill()
	m.start()
	verify(t, append([]string{"simulate", "--server", m.http, "--windows", "--rollups"}, flags...)...)
}

// pause lets a load go on for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
