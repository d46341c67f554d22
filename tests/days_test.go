package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// dayAnswer is a page of rollups.
type dayAnswer struct {
	Rollups []struct {
		Start, Step string
		Count       int
		Channels    []struct{ Sum, Min, Max, First, Last float64 }
	}
	Cursor string
}

// starts returns what the page has, in short.
func (a *dayAnswer) starts() (out []string) {
	for _, r := range a.Rollups {
		out = append(out, fmt.Sprintf("%s %d", r.Start[:10], r.Count))
	}
	return out
}

// TestDaysOutside sends a reading every 5 hours of 3 years with a hole of one, and wants its days at every door: HTTP
// page by page in both directions, NATS, query and export.
func TestDaysOutside(t *testing.T) {
	m := startMember(t, t.TempDir())
	var want []string
	var lines strings.Builder
	begin := time.Date(2019, 12, 30, 0, 0, 0, 0, time.UTC)
	for at := begin; at.Before(begin.AddDate(3, 0, 0)); at = at.Add(5 * time.Hour) {
		if at.Year() == 2021 {
			continue
		}
		fmt.Fprintf(&lines, `{"device":"pump","time":%d,"values":[%d,null,0.5]}`+"\n", at.UnixMilli(), at.Hour())
		day := at.Format(time.DateOnly)
		if n := len(want); n > 0 && strings.HasPrefix(want[n-1], day) {
			var count int
			_, _ = fmt.Sscanf(want[n-1][11:], "%d", &count)
			want[n-1] = fmt.Sprintf("%s %d", day, count+1)
		} else {
			want = append(want, day+" 1")
		}
	}
	const device = "/api/v1/sites/oil/devices/pump"
	if err := m.request("POST", "/api/v1/sites/oil/readings?wait=stored", lines.String(), nil); err == nil || !strings.Contains(err.Error(), "400") {
		t.Fatalf("NDJSON sent as JSON: %v", err)
	}
	array := "[" + strings.ReplaceAll(strings.TrimSpace(lines.String()), "\n", ",") + "]"
	if err := m.request("POST", "/api/v1/sites/oil/readings?wait=stored", array, nil); err != nil {
		t.Fatal(err)
	}
	for _, backwards := range []bool{false, true} {
		span := "&from=2000-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"
		if backwards {
			span = "&to=2000-01-01T00:00:00Z&from=2100-01-01T00:00:00Z"
		}
		var got []string
		for cursor, pages := "", 0; pages < 100; pages++ {
			var a dayAnswer
			if err := m.get(device+"/rollups?step=1d&limit=100"+span+cursor, &a); err != nil {
				t.Fatal(err)
			}
			got = append(got, a.starts()...)
			if a.Cursor == "" {
				break
			}
			cursor = "&cursor=" + a.Cursor
		}
		if backwards {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("backwards %v: %d days, want %d", backwards, len(got), len(want))
		}
	}
	nc, err := nats.Connect(m.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answer, err := nc.Request("query.rollups.oil.pump", []byte(`{"step":"1d","from":"2020-01-01T00:00:00Z","to":"2020-01-01T00:00:00Z"}`), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var a dayAnswer
	if err := json.Unmarshal(answer.Data, &a); err != nil || len(a.Rollups) != 1 {
		t.Fatalf("query.rollups: %s, %v", answer.Data, err)
	}
	// The readings of that day are at 02, 07, 12, 17 and 22 o'clock.
	if r := a.Rollups[0]; r.Step != "1d" || r.Count != 5 || r.Channels[0].Sum != 60 || r.Channels[0].First != 2 || r.Channels[0].Last != 22 || r.Channels[2].Sum != 2.5 {
		t.Errorf("1 January 2020: %+v", r)
	}
	out, code := run(t, "query", "oil", "pump", "--server", m.http, "--rollups", "1d", "--limit", "2")
	if last := strings.Fields(want[len(want)-1])[0]; code != 0 || !strings.Contains(out, "channel") || !strings.Contains(out, last+"T00:00:00.000Z") {
		t.Errorf("query: exit %d: %s; want %s", code, out, last)
	}
	file := filepath.Join(t.TempDir(), "days.ndjson")
	if _, code := run(t, "export", "--server", m.http, "--site", "oil", "--rollups", "1d", "--out", file); code != 0 {
		t.Fatalf("export: exit %d", code)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), `"step":"1d"`) != len(want) {
		t.Errorf("export: %d days, %v; want %d", strings.Count(string(text), `"step":"1d"`), err, len(want))
	}
}

// TestRetentionClassesAtTheDoor names classes that are not configured, and sends what one class keeps and another does not.
func TestRetentionClassesAtTheDoor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("shards: 4\nretention: {default: 10d, short: 3h}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMember(t, t.TempDir(), "--config", file)
	for _, path := range []string{"/api/v1/sites/oil/settings", "/api/v1/sites/oil/devices/pump/settings"} {
		err := m.request("PUT", path, `{"retention":"shrot"}`, nil)
		if want := `here is no retention class \"shrot\", only default, short`; err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want 400 and %s", path, err, want)
		}
	}
	if err := m.request("PUT", "/api/v1/sites/oil/devices/brief/settings", `{"retention":"short"}`, nil); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-5 * time.Hour).UnixMilli()
	for device, stored := range map[string]bool{"brief": false, "lasting": true} {
		var answer struct {
			Accepted int
			Stored   bool
		}
		if err := m.request("POST", "/api/v1/sites/oil/readings?wait=stored", fmt.Sprintf(`{"device":%q,"time":%d,"values":[1]}`, device, old), &answer); err != nil || answer.Stored || answer.Accepted != 1 {
			t.Errorf("%s: %+v, %v; want it accepted and not said to be stored", device, answer, err)
		}
		var page struct{ Readings []any }
		if err := m.get("/api/v1/sites/oil/devices/"+device+"/readings", &page); err != nil || (len(page.Readings) == 1) != stored {
			t.Errorf("%s: %d readings, %v; want it stored %v", device, len(page.Readings), err, stored)
		}
	}
	m.rejects("site=oil", 1)
	err := m.request("POST", "/api/v1/sites/oil/readings", fmt.Sprintf(`{"device":"lasting","time":%d,"values":[1]}`, time.Now().AddDate(0, 0, -11).UnixMilli()), nil)
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a reading that no class keeps: %v, want 400", err)
	}
}
