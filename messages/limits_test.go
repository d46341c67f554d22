package messages

import "testing"

// A limit of one member or site goes before the one of all, and what is set before what is configured.
func TestLimitsOver(t *testing.T) {
	l := Limits{Members: map[string]int64{"m2": 1 << 30}, Sites: map[string]int64{"a": 2 << 20}}.Over(
		Limits{InFlight: 256 << 20, SiteUnstored: 64 << 20, Members: map[string]int64{"m2": 1, "m3": 3 << 30}})
	for member, want := range map[string]int64{"m1": 256 << 20, "m2": 1 << 30, "m3": 3 << 30} {
		if got := l.Pulled(member); got != want {
			t.Errorf("in flight at %s: got %d, want %d", member, got, want)
		}
	}
	for site, want := range map[string]int64{"a": 2 << 20, "b": 64 << 20} {
		if got := l.Unstored(site); got != want {
			t.Errorf("unstored of %s: got %d, want %d", site, got, want)
		}
	}
}
