package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func options(seed uint64) Options {
	return Options{Seed: seed, Length: 30 * time.Minute, Members: 3, NATS: 3, Cassandra: 3, Network: true, Wiring: true}
}

// TestSameSeedSameSchedule: a seed says all.
func TestSameSeedSameSchedule(t *testing.T) {
	if diff := cmp.Diff(Schedule(options(7)), Schedule(options(7))); diff != "" {
		t.Errorf("two schedules of one seed differ:\n%s", diff)
	}
	if cmp.Equal(Schedule(options(7)), Schedule(options(8))) {
		t.Error("seeds 7 and 8 make the same schedule")
	}
}

// TestSchedule: every kind comes before any comes again, and nothing is asked for that is not there.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := options(rapid.Uint64().Draw(t, "seed"))
		o.Network, o.Wiring = rapid.Bool().Draw(t, "network"), rapid.Bool().Draw(t, "wiring")
		o.Members = rapid.IntRange(2, 6).Draw(t, "members")
		want := 0
		for _, k := range kinds {
			if (o.Network || !k.needsNetwork) && (o.Wiring || !k.needsWiring) {
				want++
			}
		}
		seen := map[Kind]bool{}
		length := time.Duration(0)
		for i, s := range Schedule(o) {
			length += s.length()
			if n := len(s.Faults); n < 1 || n > 2 || n == 2 && !together(s.Faults[0].Kind, s.Faults[1].Kind) {
				t.Fatalf("step %d has %v", i, s.Faults)
			}
			for _, f := range s.Faults {
				what := kinds[f.Kind]
				if what.needsNetwork && !o.Network || what.needsWiring && !o.Wiring {
					t.Fatalf("step %d: %v needs what is not there", i, f)
				}
				if f.Hold < what.shortest || f.Hold > what.longest && what.longest > 0 {
					t.Fatalf("step %d: %v is held too short or too long", i, f)
				}
				if f.Target < 0 || f.Target >= max(o.Members, 3) || f.Kind == CutMembers && f.Target == f.Other {
					t.Fatalf("step %d: %v has no such target", i, f)
				}
				if len(seen) < want && seen[f.Kind] {
					t.Fatalf("step %d: %v comes again, and only %d of %d kinds have come", i, f, len(seen), want)
				}
				seen[f.Kind] = true
			}
		}
		if len(seen) != want || length < o.Length {
			t.Fatalf("%d of %d kinds came in %v", len(seen), want, length)
		}
	})
}

// TestOnly: a run of a few kinds has those only.
func TestOnly(t *testing.T) {
	o := options(3)
	o.Only = []Kind{KillMember, KillCassandra}
	for _, s := range Schedule(o) {
		for _, f := range s.Faults {
			if !slices.Contains(o.Only, f.Kind) {
				t.Errorf("%v came", f)
			}
		}
	}
}
