package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: got %d %s, want 200", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestOperationsTellDurationsAndErrors(t *testing.T) {
	m := New()
	observe := m.Store("archive")
	for i := range 100 {
		d := time.Millisecond
		if i >= 98 {
			d = 300 * time.Millisecond
		}
		observe("append", d, nil)
	}
	observe("append", 40*time.Second, errors.New("gone"))
	m.Store("snapshots")("get", time.Microsecond, fmt.Errorf("look: %w", persistence.ErrNotFound))

	got := m.Operations()
	if len(got) != 2 {
		t.Fatalf("got %d operations, want 2", len(got))
	}
	a := got[0]
	if a.Store != "archive" || a.Operation != "append" || a.Count != 101 || a.Errors != 1 || a.Max != 40*time.Second {
		t.Errorf("append: got %+v", a)
	}
	if a.P50 < 500*time.Microsecond || a.P50 > time.Millisecond {
		t.Errorf("append p50: got %v, want within the bucket of 0.5-1 ms", a.P50)
	}
	if a.P99 < 200*time.Millisecond || a.P99 > 500*time.Millisecond {
		t.Errorf("append p99: got %v, want within the bucket of 200-500 ms", a.P99)
	}
	if want := (Operation{"snapshots", "get", 1, 0, time.Microsecond, time.Microsecond, time.Microsecond}); got[1] != want {
		t.Errorf("got %+v, want %+v", got[1], want)
	}
}

func TestMetricsNameTheOutcome(t *testing.T) {
	m := New()
	for _, err := range []error{nil, persistence.ErrNotFound, persistence.ErrConflict, persistence.ErrFenced, persistence.ErrRefused, errors.New("other")} {
		m.Store("archive")("append", time.Millisecond, err)
	}
	text := scrape(t, m)
	for _, outcome := range []string{"ok", "not_found", "conflict", "fenced", "refused", "error"} {
		want := fmt.Sprintf(`wellhead_store_operation_seconds_count{operation="append",outcome=%q,store="archive"} 1`, outcome)
		if !strings.Contains(text, want) {
			t.Errorf("missing %s", want)
		}
	}
}

func TestShardsAreReadAtEachScrape(t *testing.T) {
	m := New()
	shards := []Shard{
		{Shard: 3, Counts: messages.Counts{Received: 10, InOrder: 9, Refused: 1}, Applied: 100, Stored: 90, Snapshotted: 50, LagSeconds: 1.5, SnapshotSeconds: 40, Fenced: 1, Devices: 4, InFlight: 1000},
		{Shard: 4, Counts: messages.Counts{Received: 5, InOrder: 5}, Devices: 2, InFlight: 24},
		{Gone: true, Counts: messages.Counts{Received: 7, InOrder: 7}, Fenced: 2},
	}
	m.Watch(func() []Shard { return shards }, func() Member {
		return Member{CreditFree: 7, CreditTotal: 8, Ready: true, Members: 3, Unowned: 2, HasFullest: true, Fullest: 0.25}
	})
	m.Count(Counter{"feed_gaps_total", "Gaps.", func() uint64 { return 12 }})
	text := scrape(t, m)
	for _, want := range []string{
		`wellhead_readings_total{decision="in_order"} 21`,
		`wellhead_readings_total{decision="refused"} 1`,
		`wellhead_shard_lag_seconds{shard="3"} 1.5`,
		`wellhead_shard_pending_messages{shard="3"} 10`,
		`wellhead_shard_unsnapshotted_messages{shard="3"} 50`,
		`wellhead_devices 6`,
		`wellhead_in_flight_bytes 1024`,
		`wellhead_shards 2`,
		`wellhead_credit_free_bytes 7`,
		`wellhead_ready 1`,
		`wellhead_feed_gaps_total 12`,
		`wellhead_shard_snapshot_age_seconds{shard="3"} 40`,
		`wellhead_shards_fenced_total 3`,
		`wellhead_cluster_members 3`,
		`wellhead_cluster_unowned_shards 2`,
		`wellhead_stream_fullest_ratio 0.25`,
		`wellhead_went_back_total{what="stream"} 0`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	shards[1].Devices = 5
	if !strings.Contains(scrape(t, m), "\nwellhead_devices 9\n") {
		t.Error("the second scrape does not show the change")
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud", "shard", 3)
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud","shard":3`) {
		t.Errorf("got %s", got)
	}
	out.Reset()
	if log, err = NewLogger(&out, "text", "info"); err != nil {
		t.Fatal(err)
	}
	log.Info("plain")
	if got := out.String(); !strings.Contains(got, "Z level=INFO msg=plain") {
		t.Errorf("got %s", got)
	}
	var failures []string
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}} {
		if _, err := NewLogger(&out, bad[0], bad[1]); err != nil {
			failures = append(failures, err.Error())
		}
	}
	want := []string{`log format "xml": use text or json`, `log level "loud": use debug, info, warn or error`}
	if diff := cmp.Diff(want, failures); diff != "" {
		t.Error(diff)
	}
}

// TestFailing names an operation from its first failure to its next success; an answer is no failure.
func TestFailing(t *testing.T) {
	m := New()
	observe := m.Store("archive")
	observe("append", 0, errors.New("no connection"))
	observe("scan", 0, fmt.Errorf("device: %w", persistence.ErrNotFound))
	if got := m.Failing("archive"); len(got) != 1 || got[0] != "append" {
		t.Errorf("failing: got %v, want append", got)
	}
	if got := m.Failing("snapshots"); len(got) != 0 {
		t.Errorf("failing of another store: got %v, want none", got)
	}
	observe("append", 0, nil)
	if got := m.Failing("archive"); len(got) != 0 {
		t.Errorf("failing after a success: got %v, want none", got)
	}
}

// TestServers tells of a server that answers, of one that does not and so is only down, and of what was said last.
func TestServers(t *testing.T) {
	m := New()
	told := m.Servers()
	if text := scrape(t, m); strings.Contains(text, "wellhead_cassandra_") {
		t.Errorf("before anybody was asked: got %s", text)
	}
	told([]Server{
		{
			Server: "a:9042", Up: true, Known: true, Pools: []Pool{{"MutationStage", 2, 7, 3}}, Clients: 5, HintFiles: 4, Compacting: 1, CompactionBytes: 99,
			Tables: []Table{{Table: "readings", DiskBytes: 1 << 20, MaxPartitionBytes: 2 << 20, Writes: 12, Reads: 5}},
		},
		{Server: "b:9042", Clients: 8},
	})
	text := scrape(t, m)
	for _, want := range []string{
		`wellhead_cassandra_up{server="a:9042"} 1`,
		`wellhead_cassandra_up{server="b:9042"} 0`,
		`wellhead_cassandra_pending_tasks{pool="MutationStage",server="a:9042"} 7`,
		`wellhead_cassandra_blocked_tasks_total{pool="MutationStage",server="a:9042"} 3`,
		`wellhead_cassandra_clients{server="a:9042"} 5`,
		`wellhead_cassandra_hint_files{server="a:9042"} 4`,
		`wellhead_cassandra_compaction_remaining_bytes{server="a:9042"} 99`,
		`wellhead_cassandra_table_disk_bytes{server="a:9042",table="readings"} 1.048576e+06`,
		`wellhead_cassandra_table_max_partition_bytes{server="a:9042",table="readings"} 2.097152e+06`,
		`wellhead_cassandra_table_operations_total{operation="read",server="a:9042",table="readings"} 5`,
		`wellhead_cassandra_table_operations_total{operation="write",server="a:9042",table="readings"} 12`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	if strings.Contains(text, `clients{server="b:9042"`) {
		t.Error("it tells of the clients of a server that did not answer")
	}
	told(nil)
	if strings.Contains(scrape(t, m), "a:9042") {
		t.Error("it tells of a server that is there no more")
	}
}
