package tests

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestDoorRefuses sends readings around the limits of event times and wants to be told at once what the
// device would refuse: nothing that was called stored may be in rejects.
func TestDoorRefuses(t *testing.T) {
	m := startMember(t, t.TempDir(), "--config", settingsFile(t, "limits:\n  max-future: 1m\n  max-age: 1h\n"))
	var rows []string
	for _, ago := range []time.Duration{-2 * time.Minute, 0, 59 * time.Minute, 2 * time.Hour} {
		rows = append(rows, fmt.Sprintf(`{"device":"a","time":%d,"values":[1]}`, time.Now().Add(-ago).UnixMilli()))
	}
	var answer struct {
		Accepted, RefusedCount int
		Stored                 bool
		Refused                []struct {
			Index  int
			Reason string
		}
	}
	if err := m.request(http.MethodPost, "/api/v1/sites/oil/readings?wait=stored", "["+strings.Join(rows, ",")+"]", &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Accepted != 2 || !answer.Stored || len(answer.Refused) != 2 {
		t.Fatalf("got %+v, want two stored and two refused", answer)
	}
	for i, want := range []string{"max_future", "max_age"} {
		if r := answer.Refused[i]; r.Index != 3*i || !strings.Contains(r.Reason, want) {
			t.Errorf("got %+v, want number %d refused for %s", r, 3*i, want)
		}
	}
	var stored struct{ Readings []struct{ Time string } }
	if err := m.get("/api/v1/sites/oil/devices/a/readings", &stored); err != nil {
		t.Fatal(err)
	}
	if len(stored.Readings) != 2 {
		t.Errorf("the archive has %d readings, want the 2 that were called stored", len(stored.Readings))
	}
	if n := m.counter("wellhead_rejects_total"); n != 0 {
		t.Errorf("%v readings are in rejects, want none", n)
	}
}

// TestLostEventsAreCounted has a listener with hardly any buffer miss an event that is larger.
func TestLostEventsAreCounted(t *testing.T) {
	m := startMember(t, t.TempDir(), "--config", settingsFile(t, "limits:\n  live-buffer: 1KiB\n"))
	if n := m.counter("wellhead_live_events_lost_total"); n != 0 {
		t.Errorf("got %v events lost before anybody listens, want 0", n)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.http+"/api/v1/live?site=oil", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	minute := 0
	testenv.Eventually(t, 20*time.Second, func() error { // a member looks only once a second who listens
		var rows []string
		for i := range 60 {
			at := time.Date(2026, 3, 1, 0, minute, i, 0, time.UTC).Format(time.RFC3339)
			rows = append(rows, fmt.Sprintf(`{"device":"a","time":%q,"values":[1]}`, at))
		}
		minute++
		if err := m.request(http.MethodPost, "/api/v1/sites/oil/readings", "["+strings.Join(rows, ",")+"]", nil); err != nil {
			return err
		}
		if m.counter("wellhead_live_events_lost_total") == 0 {
			return errors.New("no lost event is counted")
		}
		return nil
	})
}

// settingsFile writes a configuration.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wellhead.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// counter returns a metric, summed over its labels.
func (m *member) counter(name string) float64 {
	m.t.Helper()
	sum, found := 0.0, false
	for _, line := range strings.Split(m.metrics(), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			m.t.Fatal(err)
		}
		sum, found = sum+n, true
	}
	if !found {
		m.t.Fatalf("there is no metric %s", name)
	}
	return sum
}
