package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurnsPause has a site that decoded for 40 ms pause as long when another site is there, and not
// when it is alone.
func TestTurnsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		decode := func(site string, span time.Duration) (waited time.Duration) {
			began := time.Now()
			release, err := all.take(t.Context(), site)
			if err != nil {
				t.Fatal(err)
			}
			waited = time.Since(began)
			<-time.After(span)
			release()
			return waited
		}
		all.slots = 1
		decode("busy", 40*time.Millisecond)
		if got := decode("busy", 40*time.Millisecond); got != 0 {
			t.Errorf("alone: waited %v, want 0", got)
		}
		if got := decode("quiet", time.Millisecond); got != 0 {
			t.Errorf("another site: waited %v, want 0", got)
		}
		decode("busy", 40*time.Millisecond)
		if got := decode("busy", time.Second); got != 40*time.Millisecond {
			t.Errorf("with another site: waited %v, want 40ms", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), longestPause/2)
		defer cancel()
		decode("quiet", time.Millisecond)
		release, err := all.take(t.Context(), "busy")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.take(ctx, "busy"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn that does not come: got %v, want the deadline", err)
		}
		release()
		<-time.After(2 * longestPause)
		all.mu.Lock()
		defer all.mu.Unlock()
		if len(all.sites) != 0 {
			t.Errorf("%d sites are remembered, want none", len(all.sites))
		}
	})
}
