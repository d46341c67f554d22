package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

// situation is what Assign is asked about.
type situation struct {
	members []Candidate
	shards  int
	owners  []string
	pins    map[messages.Shard]string
}

func drawSituation(t *rapid.T) situation {
	var s situation
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 12), 1, 8, rapid.ID[int]).Draw(t, "members") {
		s.members = append(s.members, Candidate{ID: fmt.Sprintf("m%d", n), Draining: rapid.IntRange(0, 4).Draw(t, "draining") == 0})
	}
	s.shards = rapid.IntRange(1, 100).Draw(t, "shards")
	for range s.shards {
		owner := rapid.IntRange(-1, 12).Draw(t, "owner") // some are nobody, some are gone
		if owner < 0 {
			s.owners = append(s.owners, "")
		} else {
			s.owners = append(s.owners, fmt.Sprintf("m%d", owner))
		}
	}
	return s
}

func (s *situation) assign() []string { return Assign(s.members, s.shards, s.owners, s.pins) }

// counts returns how many shards each member that takes some has.
func (s *situation) counts(t *rapid.T, assigned []string) map[string]int {
	out := map[string]int{}
	for _, m := range s.members {
		if !m.Draining {
			out[m.ID] = 0
		}
	}
	for shard, id := range assigned {
		if _, takes := out[id]; !takes && (id != "" || len(out) > 0) {
			t.Fatalf("shard %d is assigned to %q, who takes none", shard, id)
		}
		if id != "" {
			out[id]++
		}
	}
	return out
}

// TestAssignIsBalanced: all shards have an owner, nobody has two more than another, and who drains has none.
func TestAssignIsBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSituation(t)
		least, most := s.shards, 0
		for _, n := range s.counts(t, s.assign()) {
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 {
			t.Errorf("somebody has %d shards and somebody has %d", least, most)
		}
	})
}

// TestAssignMovesLittle: no other assignment that is balanced moves fewer shards. How few are possible is
// counted by trying who gets the odd ones.
func TestAssignMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSituation(t)
		assigned := s.assign()
		counts := s.counts(t, assigned)
		if len(counts) == 0 {
			return
		}
		var held []int
		for id := range counts {
			n := 0
			for _, owner := range s.owners {
				if owner == id {
					n++
				}
			}
			held = append(held, n)
		}
		best := 0
		for odd := range 1 << len(held) { // who gets one more
			kept, more := 0, 0
			for i, n := range held {
				share := s.shards / len(held)
				if odd>>i&1 == 1 {
					share, more = share+1, more+1
				}
				kept += min(n, share)
			}
			if more == s.shards%len(held) {
				best = max(best, kept)
			}
		}
		kept := 0
		for n, owner := range s.owners {
			if assigned[n] == owner {
				kept++
			}
		}
		if kept != best {
			t.Errorf("%d shards stay where they are, %d could", kept, best)
		}
	})
}

// TestAssignIsDetermined: the members' order says nothing, and what was assigned stays.
func TestAssignIsDetermined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSituation(t)
		assigned := s.assign()
		other := s
		other.members = append(slices.Clone(s.members), s.members[0])
		seed := rapid.Uint64().Draw(t, "order")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(other.members), func(i, j int) {
			other.members[i], other.members[j] = other.members[j], other.members[i]
		})
		if diff := cmp.Diff(assigned, other.assign()); diff != "" {
			t.Errorf("members in another order are assigned other shards:\n%s", diff)
		}
		other.owners = assigned
		if diff := cmp.Diff(assigned, other.assign()); diff != "" {
			t.Errorf("what was assigned is assigned differently:\n%s", diff)
		}
	})
}

// TestAssignGrowsAndShrinks: three members become six and three again, and only what must moves.
func TestAssignGrowsAndShrinks(t *testing.T) {
	s := situation{shards: 64}
	join := func(ids ...string) (moved int) {
		s.members = nil
		for _, id := range ids {
			s.members = append(s.members, Candidate{ID: id})
		}
		before := s.owners
		s.owners = s.assign()
		for n := range before {
			if before[n] != s.owners[n] {
				moved++
			}
		}
		return moved
	}
	join("a", "b", "c")
	if got := join("a", "b", "c", "d"); got != 16 {
		t.Errorf("with a fourth member %d of 64 shards move, want 16", got)
	}
	if got := join("a", "b", "c"); got != 16 {
		t.Errorf("without the fourth member %d of 64 shards move, want 16", got)
	}
}

// TestAssignPins: a pinned shard goes where it should, and the balance stays.
func TestAssignPins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSituation(t)
		shard := messages.Shard(rapid.IntRange(0, s.shards-1).Draw(t, "shard"))
		to := rapid.SampledFrom(s.members).Draw(t, "to")
		s.pins = map[messages.Shard]string{shard: to.ID}
		if rapid.Bool().Draw(t, "it has them all") {
			for n := range s.owners {
				s.owners[n] = to.ID
			}
		}
		assigned := s.assign()
		counts := s.counts(t, assigned)
		if !to.Draining && s.shards >= len(counts) && assigned[shard] != to.ID {
			t.Errorf("shard %d is pinned to %s and assigned to %s", shard, to.ID, assigned[shard])
		}
		for id, n := range counts {
			if n > (s.shards+len(counts)-1)/len(counts) {
				t.Errorf("%s has %d shards", id, n)
			}
		}
	})
}
