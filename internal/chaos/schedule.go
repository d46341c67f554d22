// Package chaos says what is done to a cluster on purpose, and when: a schedule of faults that is made of a
// seed alone, so that a run that failed can be done again, and the table of what came of each. It does
// nothing itself; tests/chaos_test.go does.
package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what is done.
type Kind string

// The kinds. Numbers are those of members, servers and so on, from 0.
const (
	KillMember     Kind = "kill -9 member"
	KillNATS       Kind = "kill -9 NATS server"
	KillNATSLeader Kind = "kill -9 NATS leader of the members' keys" // whichever that is
	KillCassandra  Kind = "kill -9 Cassandra node"
	WipeNATS       Kind = "disk of NATS server lost"
	WipeCassandra  Kind = "disk of Cassandra node lost"
	PauseMember    Kind = "SIGSTOP member"
	PauseNATS      Kind = "SIGSTOP NATS server"
	PauseCassandra Kind = "SIGSTOP Cassandra node"
	WipeRedis      Kind = "Redis wiped"
	RollBackRedis  Kind = "Redis rolled back"
	StopRedis      Kind = "Redis stopped"
	AddMember      Kind = "member added"
	RemoveMember   Kind = "member removed" // SIGTERM; it comes back
	ShiftClock     Kind = "member with a shifted clock"
	CutMember      Kind = "member cut off"
	CutMembers     Kind = "two members cut off from each other"
	CutSide        Kind = "member with NATS server and Cassandra node cut off" // they see each other
	KillAndBack    Kind = "kill -9 member and again while it starts"
)

// part is what a kind takes away. Two faults at the same time never take away the same.
type part int

const (
	member part = iota
	nats
	cassandra
	redis
	all // goes with nothing
)

// kind is what is known of a kind.
type kind struct {
	of            part
	shortest      time.Duration // that it lasts
	longest       time.Duration
	needsNetwork  bool
	needsWiring   bool // a build of the member with other parts handed in
	shiftsAtMost  time.Duration
	shiftsAtLeast time.Duration
}

var kinds = map[Kind]kind{
	KillMember:     {of: member},
	KillNATS:       {of: nats, shortest: time.Second, longest: 6 * time.Second},
	KillNATSLeader: {of: nats, shortest: 2 * time.Second, longest: 6 * time.Second},
	KillCassandra:  {of: cassandra, shortest: time.Second, longest: 8 * time.Second},
	WipeNATS:       {of: nats, shortest: 2 * time.Second, longest: 4 * time.Second},
	WipeCassandra:  {of: cassandra},
	PauseMember:    {of: member, shortest: 8 * time.Second, longest: 20 * time.Second},
	PauseNATS:      {of: nats, shortest: 4 * time.Second, longest: 12 * time.Second},
	PauseCassandra: {of: cassandra, shortest: 4 * time.Second, longest: 12 * time.Second},
	WipeRedis:      {of: redis},
	RollBackRedis:  {of: redis, shortest: 2 * time.Second, longest: 6 * time.Second},
	StopRedis:      {of: redis, shortest: 3 * time.Second, longest: 10 * time.Second},
	AddMember:      {of: member, shortest: 3 * time.Second, longest: 10 * time.Second},
	RemoveMember:   {of: member, shortest: 2 * time.Second, longest: 6 * time.Second},
	ShiftClock:     {of: member, shortest: 5 * time.Second, longest: 10 * time.Second, needsWiring: true, shiftsAtLeast: time.Minute, shiftsAtMost: 26 * time.Hour},
	CutMember:      {of: member, shortest: 8 * time.Second, longest: 20 * time.Second, needsNetwork: true},
	CutMembers:     {of: member, shortest: 6 * time.Second, longest: 12 * time.Second, needsNetwork: true},
	CutSide:        {of: all, shortest: 8 * time.Second, longest: 20 * time.Second, needsNetwork: true},
	KillAndBack:    {of: member, shortest: time.Second, longest: 3 * time.Second},
}

// Fault is one thing that is done.
type Fault struct {
	Kind   Kind
	Target int           // which member, server or node
	Other  int           // the second one, of CutMembers
	Hold   time.Duration // until it is undone; 0 = there is nothing to undo
	Shift  time.Duration // of ShiftClock: ahead of the true time, or behind it
}

// String names the fault as the table does.
func (f Fault) String() string {
	text := string(f.Kind)
	switch {
	case f.Kind == CutMembers:
		text += fmt.Sprintf(" (%d and %d)", f.Target, f.Other)
	case kinds[f.Kind].of != redis && f.Kind != KillNATSLeader && f.Kind != AddMember:
		text += fmt.Sprintf(" (%d)", f.Target)
	}
	if f.Shift != 0 {
		text += fmt.Sprintf(" by %v", f.Shift)
	}
	if f.Hold > 0 {
		text += fmt.Sprintf(" for %v", f.Hold)
	}
	return text
}

// Step is what is done at one time. The next step begins when the cluster has recovered.
type Step struct {
	Calm   time.Duration // time before it in which nothing is done
	Faults []Fault       // one, or two of different parts
}

// String names all faults of the step.
func (s Step) String() string {
	var names []string
	for _, f := range s.Faults {
		names = append(names, f.String())
	}
	return strings.Join(names, " + ")
}

// length is how long the step takes when the cluster recovers as it should.
func (s Step) length() time.Duration {
	hold := time.Duration(0)
	for _, f := range s.Faults {
		hold = max(hold, f.Hold)
	}
	return s.Calm + hold + recovery
}

// recovery is how long a step is reckoned to take after its fault is undone.
const recovery = 12 * time.Second

// Options say what there is that can fail.
type Options struct {
	Seed      uint64
	Length    time.Duration // about as long as the steps take in a cluster that recovers as it should; at least one step
	Members   int
	NATS      int
	Cassandra int
	Network   bool // machines can be cut off from one another
	Wiring    bool // there is a build of the member with other parts handed in
	Only      []Kind
}

// Schedule makes the steps of a seed: each kind that there can be once, in any order, then all again. It is pure.
func Schedule(o Options) []Step {
	rnd := rand.New(rand.NewPCG(o.Seed, 0x6368616f73))
	var possible []Kind
	for k, what := range kinds {
		if what.needsNetwork && !o.Network || what.needsWiring && !o.Wiring || len(o.Only) > 0 && !slices.Contains(o.Only, k) {
			continue
		}
		possible = append(possible, k)
	}
	slices.SortFunc(possible, func(a, b Kind) int { return cmp.Compare(a, b) }) // a map has no order
	if len(possible) == 0 {
		return nil
	}
	var steps []Step
	var deck []Kind
	for length := time.Duration(0); length < o.Length || len(steps) == 0; {
		step := Step{Calm: between(rnd, time.Second, 3*time.Second)}
		deck = o.deal(rnd, &step, deck, possible)
		if rnd.IntN(4) == 0 {
			deck = o.deal(rnd, &step, deck, possible)
		}
		length += step.length()
		steps = append(steps, step)
	}
	return steps
}

// deal adds the next fault of the deck that goes with those of the step, and returns the rest of the deck.
func (o *Options) deal(rnd *rand.Rand, step *Step, deck, possible []Kind) []Kind {
	if len(deck) == 0 {
		deck = slices.Clone(possible)
		rnd.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	}
	i := slices.IndexFunc(deck, func(k Kind) bool {
		return !slices.ContainsFunc(step.Faults, func(f Fault) bool { return !together(f.Kind, k) })
	})
	if i < 0 {
		return deck
	}
	step.Faults = append(step.Faults, o.fault(rnd, deck[i]))
	return slices.Delete(deck, i, i+1)
}

// together tells whether two kinds may be at the same time.
func together(a, b Kind) bool {
	of, other := kinds[a].of, kinds[b].of
	return of != other && of != all && other != all
}

// fault draws the rest of a fault.
func (o *Options) fault(rnd *rand.Rand, k Kind) Fault {
	what := kinds[k]
	f := Fault{Kind: k, Hold: between(rnd, what.shortest, what.longest)}
	switch what.of {
	case member:
		f.Target = rnd.IntN(o.Members)
	case nats:
		f.Target = rnd.IntN(o.NATS)
	case cassandra:
		f.Target = rnd.IntN(o.Cassandra)
	case all:
		f.Target = rnd.IntN(min(o.Members, o.NATS, o.Cassandra))
	}
	if k == CutMembers {
		f.Other = (f.Target + 1 + rnd.IntN(o.Members-1)) % o.Members
	}
	if what.shiftsAtMost > 0 {
		f.Shift = between(rnd, what.shiftsAtLeast, what.shiftsAtMost).Round(time.Second)
		if rnd.IntN(2) == 0 {
			f.Shift = -f.Shift
		}
	}
	return f
}

// between draws a time, to 100 ms.
func between(rnd *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	const grain = 100 * time.Millisecond
	return least + time.Duration(rnd.Int64N(int64((most-least)/grain)+1))*grain
}
