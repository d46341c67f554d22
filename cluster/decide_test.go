package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

// start is when the members of these tests joined, each a second after the one before.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func seen(n int, suspects ...string) Seen {
	id := fmt.Sprintf("m%d", n)
	return Seen{Record: Record{ID: id, Name: id, Address: id + ":1", Started: start.Add(time.Duration(n) * time.Second), Suspects: suspects}}
}

func TestBury(t *testing.T) {
	tests := []struct {
		what    string
		members []Seen
		dead    []string
	}{
		{"nobody suspects", []Seen{seen(1), seen(2), seen(3)}, nil},
		{"one of three is not enough", []Seen{seen(1, "m3"), seen(2), seen(3)}, nil},
		{"two of three", []Seen{seen(1, "m3"), seen(2, "m3"), seen(3)}, []string{"m3"}},
		{"the only other", []Seen{seen(1, "m2"), seen(2)}, []string{"m2"}},
		{"the only other, younger", []Seen{seen(1), seen(2, "m1")}, []string{"m1"}},
		{"of two that cannot reach each other the older stays", []Seen{seen(1, "m2"), seen(2, "m1")}, []string{"m2"}},
		{"one that reaches nobody", []Seen{seen(1, "m2", "m3"), seen(2, "m1"), seen(3, "m1")}, []string{"m1"}},
		{"alone", []Seen{seen(1, "gone")}, nil},
	}
	for _, test := range tests {
		for range 2 {
			bury(test.members)
			var dead []string
			for _, m := range test.members {
				if m.Dead {
					dead = append(dead, m.ID)
				}
			}
			slices.Sort(dead)
			if diff := cmp.Diff(test.dead, dead); diff != "" {
				t.Errorf("%s: dead (-want +got):\n%s", test.what, diff)
			}
			slices.Reverse(test.members)
			for i := range test.members {
				test.members[i].Dead = false
			}
		}
	}
}

func view(members []Seen, owners ...string) *View {
	v := &View{Members: members, Leases: make([]Owned, len(owners))}
	for n, owner := range owners {
		if owner != "none" {
			v.Leases[n] = Owned{Lease: Lease{Member: owner}, Revision: uint64(10 + n)}
		}
	}
	return v
}

func TestDecide(t *testing.T) {
	dead := seen(3)
	dead.Dead = true
	draining := seen(1)
	draining.Draining = true
	tests := []struct {
		what      string
		view      *View
		held      map[messages.Shard]uint64
		unsettled bool
		want      []Step
	}{
		{"all are free, and this is the only member", view([]Seen{seen(1)}, "none", "", "gone"), nil, false, []Step{Take, Take, Take}},
		{"others may still come", view([]Seen{seen(1)}, "none", ""), nil, true, []Step{Stay, Stay}},
		{"what it has it keeps", view([]Seen{seen(1), seen(2)}, "m1", "m2"), map[messages.Shard]uint64{0: 10}, false, []Step{Stay, Stay}},
		{"an actor that ended is taken again", view([]Seen{seen(1), seen(2)}, "m1", "m2"), nil, false, []Step{Take, Stay}},
		{"a claim that the view does not show yet", view([]Seen{seen(1)}, "gone"), map[messages.Shard]uint64{0: 11}, false, []Step{Stay}},
		{"being taken", view([]Seen{seen(1)}, "gone"), map[messages.Shard]uint64{0: 0}, false, []Step{Stay}},
		{"another has claimed it since", view([]Seen{seen(1), seen(2)}, "m2", "m2"), map[messages.Shard]uint64{0: 9}, false, []Step{Drop, Stay}},
		{"another has claimed it, and nothing is settled", view([]Seen{seen(1), seen(2)}, "m2"), map[messages.Shard]uint64{0: 9}, true, []Step{Drop}},
		{"a dead member's", view([]Seen{seen(1), dead}, "m1", "m3"), map[messages.Shard]uint64{0: 10}, false, []Step{Stay, Take}},
		{"it drains", view([]Seen{draining, seen(2)}, "m1", "m2"), map[messages.Shard]uint64{0: 10}, false, []Step{HandOver, Stay}},
		{"it drains and is alone", view([]Seen{draining}, "m1"), map[messages.Shard]uint64{0: 10}, false, []Step{Stay}},
		{"its key is gone", view([]Seen{seen(2)}, "m1", "m2"), map[messages.Shard]uint64{0: 10}, false, []Step{Stay, Stay}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, Decide(test.view, "m1", test.held, !test.unsettled)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, diff)
		}
	}
}

// TestDecideSettles lets members decide in any order, each by a view that may be old, on leases that are
// claimed by compare-and-set: they come to rest with all shards owned and shared evenly, and nobody holds a
// shard without its lease.
func TestDecideSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []Seen
		for n := range rapid.IntRange(1, 5).Draw(t, "members") {
			members = append(members, seen(n))
		}
		shards := rapid.IntRange(1, 20).Draw(t, "shards")
		now := view(members, make([]string, shards)...)
		for n := range now.Leases {
			now.Leases[n].Member = rapid.SampledFrom([]string{"", "m0", "m1", "m2", "gone"}).Draw(t, "owner")
		}
		held := map[string]map[messages.Shard]uint64{}
		views := map[string]*View{}
		revision := uint64(100)
		for _, m := range members {
			held[m.ID], views[m.ID] = map[messages.Shard]uint64{}, now
		}
		claim := func(shard messages.Shard, id string) {
			revision++
			next := *now
			next.Leases = slices.Clone(now.Leases)
			next.Leases[shard] = Owned{Lease: Lease{Member: id}, Revision: revision}
			now = &next
		}
		turn := func(id string) (changed bool) {
			for n, step := range Decide(views[id], id, held[id], true) {
				shard := messages.Shard(n)
				switch {
				case step == Take && now.Leases[n].Revision == views[id].Leases[n].Revision:
					claim(shard, id)
					held[id][shard] = revision
				case step == HandOver && now.Leases[n].Revision == held[id][shard]:
					claim(shard, "")
					delete(held[id], shard)
				case step == HandOver, step == Drop:
					delete(held[id], shard)
				default:
					continue
				}
				changed = true
			}
			return changed
		}
		for range rapid.IntRange(0, 40).Draw(t, "turns") {
			id := rapid.SampledFrom(members).Draw(t, "member").ID
			if rapid.Bool().Draw(t, "looks") {
				views[id] = now
			}
			turn(id)
		}
		for range 4 * len(members) { // all look, again and again
			for _, m := range members {
				views[m.ID] = now
				turn(m.ID)
			}
		}
		for n, lease := range now.Leases {
			if _, holds := held[lease.Member][messages.Shard(n)]; !holds {
				t.Errorf("shard %d: the lease says %q, who does not hold it", n, lease.Member)
			}
		}
		for id, shardsOf := range held {
			if len(shardsOf) < shards/len(members) || len(shardsOf) > (shards+len(members)-1)/len(members) {
				t.Errorf("%s holds %d of %d shards", id, len(shardsOf), shards)
			}
		}
	})
}
