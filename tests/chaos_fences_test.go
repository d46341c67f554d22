package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/chaos"
)

// TestChaosSeesMissingFences takes the fences away (a lease check that always says yes, checkpoints without
// compare-and-set, snapshots without a fence) and pauses owners under load. The watch of TestChaos must see it: this is
// the test of that test.
func TestChaosSeesMissingFences(t *testing.T) {
	r := startChaos(t, "wellhead-unfenced", chaosMembers)
	loaded := make(chan struct{})
	t.Cleanup(func() { <-loaded }) // it ends with the test's context
	go func() {
		defer close(loaded)
		r.load(t.Context(), 40*time.Second)
	}()
	for i := range chaosMembers {
		if err := r.do(t.Context(), chaos.Fault{Kind: chaos.PauseMember, Target: i, Hold: 20 * time.Second}); err != nil {
			t.Fatal(err)
		}
		hold(t.Context(), 5*time.Second)
		if len(r.fences.accepted()) > 0 {
			break
		}
	}
	for _, m := range r.parts.all() {
		m.close() // two owners of each shard never come to an end
	}
	wrong := r.fences.stop()
	if len(wrong) == 0 || !strings.Contains(wrong[0], "of an owner of before was accepted") {
		t.Errorf("without fences nothing was seen: %q", wrong)
	} else {
		t.Logf("seen as it should be: %d, the first: %s", len(wrong), wrong[0])
	}
}
