package tests

import (
	"context"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/chaos"
)

// TestChaosScales has three members become six, and three again, under load. WELLHEAD_CHAOS_RATE sets the readings a
// second (500), WELLHEAD_CHAOS_LAYOUT how Cassandra keeps them (rows).
func TestChaosScales(t *testing.T) {
	r := startChaos(t, "", chaosMembers)
	ctx, enough := context.WithCancel(t.Context())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		r.load(ctx, 40*time.Second)
	}()
	r.begun = time.Now()
	change := func(what string, do func(m *keptMember) error, members ...*keptMember) {
		t.Helper()
		began := time.Now()
		for _, m := range members {
			if err := do(m); err != nil {
				t.Error(err)
			}
		}
		if err := r.well(t.Context(), time.Now(), wellWithin); err != nil {
			t.Fatal(err)
		}
		answers, stored := r.probes.gaps(began, time.Now())
		t.Logf("%s: well after %v; no answer for %v, nothing stored for %v at most", what, time.Since(began).Round(time.Millisecond),
			chaos.Quantile(answers, 1).Round(time.Millisecond), chaos.Quantile(stored, 1).Round(time.Millisecond))
	}
	var more []*keptMember
	for range chaosMembers {
		more = append(more, r.parts.newMember())
	}
	change("three more join", func(m *keptMember) error { m.start(); return nil }, more...)
	count, sum := 0.0, 0.0
	for _, m := range r.parts.all() {
		for name, to := range map[string]*float64{"wellhead_handoff_duration_seconds_count": &count, "wellhead_handoff_duration_seconds_sum": &sum} {
			n, err := m.metric(t.Context(), name)
			if err != nil {
				t.Error(err)
			}
			*to += n
		}
	}
	t.Logf("%.0f shards were handed over, devices stood still for %.0f ms each", count, 1000*sum/count)
	change("they leave again", (*keptMember).stop, more...)
	enough()
	<-loaded
	r.check()
	for _, wrong := range r.wrong {
		t.Error(wrong)
	}
}
