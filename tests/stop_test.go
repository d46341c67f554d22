package tests

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestStopHandsOver ends a member by SIGTERM. It stores, snapshots and checkpoints everything first,
// so the next start has nothing to replay.
func TestStopHandsOver(t *testing.T) {
	m := startMember(t, t.TempDir())
	flags := []string{"--site", "stop", "--devices", "100", "--readings", "100", "--start", "2026-03-01T00:00:00Z", "--seed", "3"}
	if _, code := run(t, append([]string{"simulate", "--server", m.nats, "--rate", "max"}, flags...)...); code != 0 {
		t.Fatalf("simulate: exit %d", code)
	}
	m.stop()
	m.start()
	verify(t, append([]string{"simulate", "--server", m.http, "--windows", "--rollups"}, flags...)...)
	for _, line := range strings.Split(m.metrics(), "\n") {
		if rest, ok := strings.CutPrefix(line, "wellhead_readings_replayed_total "); ok {
			if rest != "0" {
				t.Errorf("replayed %s readings after a stop in good order, want 0", rest)
			}
			return
		}
	}
	t.Error("no metric tells what was replayed")
}

// metrics returns /metrics.
func (m *member) metrics() string {
	m.t.Helper()
	resp, err := http.Get(m.http + "/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}
