package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHeadlineFleets wants exactly as many readings as were asked for, of different event times for each
// device, and none of them later than now.
func TestHeadlineFleets(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, n := range []int{1, headlineDevices - 1, headlineDevices, headlineDevices + 1, 500_000, headlineReadings} {
		total, after := 0, time.Time{}
		for i, p := range headlineFleets(n, now) {
			if total += p.devices * p.readings; p.devices < 1 || p.readings < 1 {
				t.Errorf("%d readings: a fleet of %+v", n, p)
			}
			if i > 0 && p.start.Before(after) {
				t.Errorf("%d readings: a fleet begins at %v, and the one before it ends at %v", n, p.start, after)
			}
			if after = p.start.Add(time.Duration(p.readings) * time.Second); after.Add(-time.Second).After(now) {
				t.Errorf("%d readings: the last is at %v", n, after.Add(-time.Second))
			}
		}
		if total != n {
			t.Errorf("%d readings: got fleets of %d", n, total)
		}
	}
	want := []part{{10_000, 3114, now.Truncate(time.Second).Add(-3114 * time.Second)}, {5914, 1, now.Truncate(time.Second)}}
	if diff := cmp.Diff(want, headlineFleets(headlineReadings, now), cmp.AllowUnexported(part{})); diff != "" {
		t.Errorf("the whole headline (-want +got):\n%s", diff)
	}
}
