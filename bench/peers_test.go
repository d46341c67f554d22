package main

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTokenRanges wants the ranges to hold every token once.
func TestTokenRanges(t *testing.T) {
	next := int64(math.MinInt64)
	for i := range tokenRanges {
		from, to := tokenRange(i)
		if from != next || to <= from {
			t.Fatalf("range %d is %d to %d, want it to begin at %d", i, from, to, next)
		}
		next = to + 1
	}
	if next != math.MinInt64 { // one after the largest
		t.Errorf("the last range ends at %d", next-1)
	}
}

// TestCompare wants medians of the rounds that count, and a ratio of each round.
func TestCompare(t *testing.T) {
	seconds := map[string][]float64{"peer": {100, 10, 20, 40}, "ours": {1, 4, 4, 10}}
	lineOf := func(name string) line {
		n := -1
		return line{what: name, run: func(context.Context) (outcome, error) {
			n++
			return outcome{readings: 1000, seconds: seconds[name][n], cpu: seconds[name][n] / 2, peak: float64(n), checked: 1000}, nil
		}}
	}
	ours := lineOf("ours")
	ours.than = []int{0}
	got, err := (&bench{}).compare(t.Context(), "case", []line{lineOf("peer"), ours}, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	want := []figure{
		{Case: "case", What: "peer", Unit: "readings/s", Value: 50, Runs: []float64{100, 50, 25}, CPU: .5, Micros: 10_000, PeakMiB: 3, Checked: 3000},
		{Case: "case", What: "ours", Unit: "readings/s", Value: 250, Runs: []float64{250, 250, 100}, CPU: .5, Micros: 2000, PeakMiB: 3, Checked: 3000},
		{Case: "case", What: "ours ÷ peer", Unit: "×", Value: 4, Runs: []float64{2.5, 5, 4}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

// TestTaken wants the readings of all decisions and the messages of all shards added up.
func TestTaken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`# TYPE wellhead_readings_total counter
wellhead_readings_total{decision="in_order"} 1.5e+06
wellhead_readings_total{decision="late"} 2
wellhead_shard_pending_messages{shard="0"} 3
wellhead_shard_pending_messages{shard="63"} 4
wellhead_shards 64
`))
	}))
	defer server.Close()
	readings, unstored, err := (&member{http: server.URL}).taken(t.Context())
	if readings != 1_500_002 || unstored != 7 || err != nil {
		t.Errorf("got %d readings, %d messages, %v", readings, unstored, err)
	}
}
