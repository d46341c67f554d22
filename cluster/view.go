package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

const (
	memberPrefix = "member."
	drainPrefix  = "drain." // and a member's name: an operator wants it to have no shards
	pinPrefix    = "pin."   // and a shard: an operator wants it at the member of that name
	clusterKey   = "cluster"
)

// Record is what a member says of itself, each second, in a key that ends after TTL.
type Record struct {
	ID       string    `json:"id"` // new at each join
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Version  string    `json:"version"`
	Protocol int       `json:"protocol"`
	Started  time.Time `json:"started"`
	Draining bool      `json:"draining,omitempty"` // it is about to end
	Suspects []string  `json:"suspects,omitempty"` // ids of members that it cannot reach
	Figures  Figures   `json:"figures"`
}

// Figures are what an operator sees of a member.
type Figures struct {
	Shards   int     `json:"shards"`
	Starting int     `json:"starting"`
	Devices  int     `json:"devices"`
	Readings uint64  `json:"readings"` // received since the member started
	InFlight int     `json:"inFlight"` // bytes pulled and not yet stored
	Limit    int64   `json:"limit"`    // most of them
	Oldest   float64 `json:"oldest"`   // age of the oldest reading that is not stored, seconds
	// Of has the shards that run, one each; a member of an earlier version leaves it out.
	Of []ShardFigures `json:"of,omitempty"`
}

// ShardFigures are what an operator sees of one shard.
type ShardFigures struct {
	Shard    int     `json:"n"`
	Devices  int     `json:"devices"`
	Stored   uint64  `json:"stored"`           // stream sequence up to which all is stored
	InFlight int     `json:"inFlight"`         // bytes pulled and not yet stored
	Oldest   float64 `json:"oldest,omitempty"` // as Figures.Oldest
}

// Seen is a record as the store has it.
type Seen struct {
	Record
	Revision uint64 `json:"-"`
	Dead     bool   `json:"dead"`    // the others cannot reach it: its shards are being claimed
	Drained  bool   `json:"drained"` // an operator has drained it
}

// Owned is a lease as the store has it; Revision 0 = there is none.
type Owned struct {
	Lease
	Revision uint64
}

// View is what the stores hold at one moment.
type View struct {
	Read    time.Time
	Members []Seen // by name and id
	Leases  []Owned
	Pins    map[messages.Shard]string // names of members
}

// decodeView reads what the stores hold. A key that cannot be read is passed over: it is of a newer version.
func decodeView(now time.Time, shards int, members, leases []Entry) *View {
	v := &View{Read: now, Leases: make([]Owned, shards), Pins: map[messages.Shard]string{}}
	drained := map[string]bool{}
	for _, e := range members {
		switch kind, rest := splitKey(e.Key); kind {
		case memberPrefix:
			seen := Seen{Revision: e.Revision}
			if json.Unmarshal(e.Value, &seen.Record) == nil && seen.ID == rest {
				v.Members = append(v.Members, seen)
			}
		case drainPrefix:
			drained[rest] = true
		case pinPrefix:
			if n, err := strconv.Atoi(rest); err == nil && n >= 0 && n < shards {
				v.Pins[messages.Shard(n)] = string(e.Value)
			}
		}
	}
	for _, e := range leases {
		var n int
		if _, err := fmt.Sscanf(e.Key, "shard.%d", &n); err != nil || n < 0 || n >= shards {
			continue
		}
		if l, err := DecodeLease(e.Value); err == nil {
			v.Leases[n] = Owned{Lease: l, Revision: e.Revision}
		}
	}
	slices.SortFunc(v.Members, func(a, b Seen) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for i := range v.Members {
		v.Members[i].Drained = drained[v.Members[i].Name]
	}
	bury(v.Members)
	return v
}

func splitKey(key string) (prefix, rest string) {
	head, rest, _ := strings.Cut(key, ".")
	return head + ".", rest
}

// bury marks the members that are taken for dead: two others, or the only other, say that they cannot reach
// it. What a dead one says of others counts no more, and the youngest are judged first: so of two that cannot
// reach each other the older one stays, and everybody who reads the same records comes to the same.
func bury(members []Seen) {
	order := make([]*Seen, len(members))
	for i := range members {
		order[i] = &members[i]
	}
	slices.SortFunc(order, func(a, b *Seen) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID)) })
	for _, m := range order {
		tellers := 0
		for _, other := range order {
			if other != m && !other.Dead && slices.Contains(other.Suspects, m.ID) {
				tellers++
			}
		}
		m.Dead = tellers > 0 && tellers >= min(2, len(members)-1)
	}
}

// Member returns the member of that id, nil when there is none.
func (v *View) Member(id string) *Seen {
	for i := range v.Members {
		if v.Members[i].ID == id {
			return &v.Members[i]
		}
	}
	return nil
}

// Owner returns where a shard's owner is reached; "" when it has none that is alive.
func (v *View) Owner(shard messages.Shard) (id, address string) {
	l := v.Leases[shard]
	if m := v.Member(l.Member); m != nil && !m.Dead {
		return m.ID, m.Address
	}
	return "", ""
}

// Assignment says who should own each shard, by this view.
func (v *View) Assignment() []string {
	var candidates []Candidate
	byName := map[string]string{}
	for _, m := range v.Members {
		if m.Dead {
			continue
		}
		candidates = append(candidates, Candidate{ID: m.ID, Draining: m.Draining || m.Drained})
		byName[m.Name] = m.ID
	}
	owners := make([]string, len(v.Leases))
	for n := range owners {
		owners[n], _ = v.Owner(messages.Shard(n))
	}
	pins := map[messages.Shard]string{}
	for shard, name := range v.Pins {
		pins[shard] = byName[name]
	}
	return Assign(candidates, len(owners), owners, pins)
}

// Assigned returns the shards that a view assigns to a member.
func (v *View) Assigned(id string) []messages.Shard {
	var out []messages.Shard
	for n, owner := range v.Assignment() {
		if owner == id {
			out = append(out, messages.Shard(n))
		}
	}
	return out
}
