package cluster

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// Candidate is a member that shards may be assigned to.
type Candidate struct {
	ID       string
	Draining bool // it gets none
}

// Assign says which member should own each shard; "" where there is no candidate that takes shards. It
// is pure: members in any order give the same. It is balanced to within one shard, and moves as few shards
// as that allows: each member keeps what it has up to its share, by rendezvous hash, and what is left
// over goes to the members with room, again by rendezvous hash (the highest score of member and shard). What
// Assign returned, given to it as owners, comes back unchanged.
//
// owners has the present owner of each shard, "" = nobody; one that is no candidate counts as nobody. pins
// has shards that an operator wants at a member: they count as that member's own and are the last ones it
// gives away. A pin to somebody who is no candidate is passed over.
func Assign(members []Candidate, shards int, owners []string, pins map[messages.Shard]string) []string {
	out := make([]string, shards)
	var ids []string
	for _, m := range members {
		if !m.Draining {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return out
	}
	held := make(map[string][]messages.Shard, len(ids))
	for _, id := range ids {
		held[id] = nil
	}
	for n := range shards {
		owner := ""
		if n < len(owners) {
			owner = owners[n]
		}
		if _, there := held[pins[messages.Shard(n)]]; there {
			owner = pins[messages.Shard(n)]
		}
		if _, there := held[owner]; there {
			held[owner] = append(held[owner], messages.Shard(n))
		}
	}
	room := quotas(ids, shards, held)
	for _, id := range ids {
		slices.SortFunc(held[id], func(a, b messages.Shard) int {
			return cmp.Or(-compareBool(pins[a] == id, pins[b] == id), -cmp.Compare(score(id, a), score(id, b)), cmp.Compare(a, b))
		})
		for _, shard := range held[id][:min(len(held[id]), room[id])] {
			out[shard] = id
			room[id]--
		}
	}
	for n, owner := range out {
		if owner != "" {
			continue
		}
		best, most := "", uint64(0)
		for _, id := range ids {
			if s := score(id, messages.Shard(n)); room[id] > 0 && (best == "" || s > most) {
				best, most = id, s
			}
		}
		out[n] = best
		room[best]--
	}
	return out
}

// quotas says how many shards each member gets. Where they do not come out even, those that hold most
// get one more: so the fewest move.
func quotas(ids []string, shards int, held map[string][]messages.Shard) map[string]int {
	order := slices.Clone(ids)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(-cmp.Compare(len(held[a]), len(held[b])), cmp.Compare(a, b))
	})
	out := make(map[string]int, len(ids))
	for i, id := range order {
		out[id] = shards / len(ids)
		if i < shards%len(ids) {
			out[id]++
		}
	}
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// score is the rendezvous hash of a member and a shard: FNV-1a of the id, mixed with the shard by the
// finaliser of MurmurHash3 (public domain), because FNV alone spreads ids that differ in the last byte badly.
func score(id string, shard messages.Shard) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	x := h.Sum64() ^ (uint64(shard)+1)*0x9e3779b97f4a7c15
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
