package stream

import (
	"errors"
	"testing"
)

// TestTurnsOfASite lets a site have so many requests and not one more; another site is not touched.
func TestTurnsOfASite(t *testing.T) {
	var all turns
	var first *siteTurns
	for range siteRequests {
		s, err := all.enter(t.Context(), "busy", true)
		if err != nil {
			t.Fatal(err)
		}
		first = s
	}
	if _, err := all.enter(t.Context(), "busy", true); !errors.Is(err, ErrOverloaded) {
		t.Errorf("one request too many: got %v, want overloaded", err)
	}
	if !first.TryAcquire(siteMessages) || first.TryAcquire(1) {
		t.Errorf("a site has more or less than %d messages under way", siteMessages)
	}
	other, err := all.enter(t.Context(), "quiet", true)
	if err != nil || !other.TryAcquire(1) {
		t.Errorf("another site waits: %v", err)
	}
	all.leave("quiet", other)
	for range siteRequests {
		all.leave("busy", first)
	}
	if len(all.sites) != 0 {
		t.Errorf("%d sites are remembered, want none", len(all.sites))
	}
}
