package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestRedisAway runs a member whose Redis is never there, and kills it in the middle. Nothing is lost,
// windows and rollups are right, a metric and the log say it, and the log is no flood.
func TestRedisAway(t *testing.T) {
	redis := testenv.Redis(t)
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	config := settingsFile(t, fmt.Sprintf("snapshots: redis\nredis.addresses: [%q]\nwork.snapshot-within: 4s\n", redis.Addr))
	m := startMember(t, t.TempDir(), "--config", config)
	load := m.loads("away", 200, outageSeconds(t, 8), 3000)
	pause(t, outage(t, 5*time.Second))
	if up := m.counter(`wellhead_store_up{store="snapshots"}`); up != 0 {
		t.Errorf("the snapshot store is up (%v), want 0", up)
	}
	if up := m.counter(`wellhead_store_up{store="archive"}`); up != 1 {
		t.Errorf("the archive is up (%v), want 1", up)
	}
	m.kill()
	m.start()
	load.wantStored()
	text, err := os.ReadFile(m.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "the snapshot store cannot be reached") {
		t.Error("the log does not say that the snapshot store cannot be reached")
	}
	if n := strings.Count(string(text), "\n"); n > 100 {
		t.Errorf("the log has %d lines, want no flood", n)
	}
}
