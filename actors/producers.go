package actors

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// maxIntervals bounds how many separate stretches beyond a gap are remembered for one producer and
// run. A batch that would need one more is applied all the same, but not accounted for: the same
// readings again only replace themselves.
const maxIntervals = 4096

// accountsBytes bounds a table of accounts in bytes of a checkpoint, which holds two and must fit into
// one message. Beyond it the runs that have been silent longest are retired.
const accountsBytes = 400 << 10

// retireAtOnce bounds the runs that one message retires because of their silence.
const retireAtOnce = 32

// producerKey names one counter: a producer's run at a site.
type producerKey struct {
	Site, Producer string
	Run            uint64
}

// interval is a stretch of producer sequences, both ends included.
type interval struct{ From, To uint64 }

// account says which sequences of one producer and run have been here. The zero value has seen none.
type account struct {
	Key         producerKey // under which it stands in its table
	Through     uint64      // every sequence up to here has been here
	Beyond      []interval  // stretches after a gap, ascending, never touching
	Readings    uint64      // readings received under this run
	Repeated    uint64      // batches that were here before
	Unaccounted uint64      // batches applied without a place to remember them
	Last        uint64      // stream sequence of the newest batch
	First, Seen int64       // arrival of the first and the newest batch, ms
}

// has tells whether the sequence has been here.
func (a *account) has(sequence uint64) bool {
	if sequence <= a.Through {
		return true
	}
	i := sort.Search(len(a.Beyond), func(i int) bool { return a.Beyond[i].To >= sequence })
	return i < len(a.Beyond) && a.Beyond[i].From <= sequence
}

// add notes the sequence; false when there is no room to remember it.
func (a *account) add(sequence uint64) bool {
	if sequence == a.Through+1 && len(a.Beyond) == 0 {
		a.Through++
		return true
	}
	i := sort.Search(len(a.Beyond), func(i int) bool { return a.Beyond[i].To+1 >= sequence })
	switch {
	case i < len(a.Beyond) && a.Beyond[i].To+1 == sequence:
		a.Beyond[i].To = sequence
		if i+1 < len(a.Beyond) && a.Beyond[i+1].From == sequence+1 {
			a.Beyond[i].To = a.Beyond[i+1].To
			a.Beyond = slices.Delete(a.Beyond, i+1, i+2)
		}
	case i < len(a.Beyond) && a.Beyond[i].From == sequence+1:
		a.Beyond[i].From = sequence
	case len(a.Beyond) >= maxIntervals:
		return false
	default:
		a.Beyond = slices.Insert(a.Beyond, i, interval{sequence, sequence})
	}
	if len(a.Beyond) > 0 && a.Beyond[0].From <= a.Through+1 {
		a.Through = a.Beyond[0].To
		a.Beyond = slices.Delete(a.Beyond, 0, 1)
	}
	return true
}

// gaps returns the stretches that are missing below the highest sequence that has been here.
func (a *account) gaps() [][2]uint64 {
	var out [][2]uint64
	next := a.Through + 1
	for _, b := range a.Beyond {
		out = append(out, [2]uint64{next, b.From - 1})
		next = b.To + 1
	}
	return out
}

// highest returns the highest sequence that has been here, 0 = none.
func (a *account) highest() uint64 {
	if n := len(a.Beyond); n > 0 {
		return a.Beyond[n-1].To
	}
	return a.Through
}

// count returns how many different sequences have been here.
func (a *account) count() uint64 {
	n := a.Through
	for _, b := range a.Beyond {
		n += b.To - b.From + 1
	}
	return n
}

// clone returns a deep copy.
func (a *account) clone() *account {
	c := *a
	c.Beyond = slices.Clone(a.Beyond)
	return &c
}

// with returns what two accounts of one run know together: a shard that had let go of the first began
// the second anew. What both have seen was applied twice, and counts as repeated.
func (a *account) with(b *account) *account {
	out := &account{
		Key: a.Key, Readings: a.Readings + b.Readings, Unaccounted: a.Unaccounted + b.Unaccounted,
		Last: max(a.Last, b.Last), First: earliest(a.First, b.First), Seen: max(a.Seen, b.Seen),
	}
	all := slices.Concat(a.stretches(), b.stretches())
	slices.SortFunc(all, func(x, y interval) int { return cmp.Compare(x.From, y.From) })
	for _, s := range all {
		n := len(out.Beyond)
		switch {
		case n > 0 && s.From <= out.Beyond[n-1].To+1:
			out.Beyond[n-1].To = max(out.Beyond[n-1].To, s.To)
		default:
			out.Beyond = append(out.Beyond, s)
		}
	}
	if len(out.Beyond) > 0 && out.Beyond[0].From == 1 {
		out.Through, out.Beyond = out.Beyond[0].To, out.Beyond[1:]
	}
	out.Repeated = a.Repeated + b.Repeated + a.count() + b.count() - out.count()
	return out
}

func (a *account) stretches() []interval {
	if a.Through == 0 {
		return a.Beyond
	}
	return append([]interval{{1, a.Through}}, a.Beyond...)
}

// earliest is the lower of two times, of which 0 is none.
func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// weight is at most what the account takes in a checkpoint, in bytes.
func (a *account) weight() int {
	return 260 + len(a.Key.Site) + len(a.Key.Producer) + 44*len(a.Beyond)
}

// producers is a shard's table of accounts as of one stream sequence. The zero value is empty.
type producers struct {
	of     map[producerKey]*account
	weight int // of all of them
}

// Retirement says when a shard lets go of a run, by the arrival of its newest batch. Times in ms.
type Retirement struct {
	Followed int64 // silence of a run whose producer has begun another one
	Idle     int64 // silence of any run
}

// noted is what became of one batch.
type noted struct {
	key       producerKey // that of the table: safe to keep
	repeated  bool        // it has been here before
	accounted bool
	retired   []producerKey // runs that the table has let go of
}

// note enters a batch that came with the stream sequence last, at arrival. Which runs it retires is
// decided by table and message alone, so that a replay decides the same. Names in key are copied
// when they are kept; site is one that may be kept.
func (p *producers) note(key producerKey, site string, sequence, last uint64, arrival int64, r Retirement) noted {
	var n noted
	a := p.of[key]
	if a == nil {
		key.Site, key.Producer = site, strings.Clone(key.Producer)
		n.retired = p.silent(key, arrival, r)
		a = p.at(key)
	}
	n.key = a.Key
	n.repeated, n.accounted = p.enter(a, sequence, last, arrival)
	for p.weight > accountsBytes && len(p.of) > 1 {
		n.retired = append(n.retired, p.drop(p.oldest(n.key)).Key)
	}
	return n
}

// enter notes a batch in an account of the table.
func (p *producers) enter(a *account, sequence, last uint64, arrival int64) (repeated, accounted bool) {
	a.Last, a.Seen = last, arrival
	if a.First == 0 {
		a.First = arrival
	}
	if a.has(sequence) {
		a.Repeated++
		return true, true
	}
	p.weight -= a.weight()
	accounted = a.add(sequence)
	p.weight += a.weight()
	if !accounted {
		a.Unaccounted++
	}
	return false, accounted
}

// at returns the account of a key, made when there is none.
func (p *producers) at(key producerKey) *account {
	a := p.of[key]
	if a == nil {
		a = &account{Key: key}
		p.put(a)
	}
	return a
}

// put adds an account that the table does not have.
func (p *producers) put(a *account) {
	if p.of == nil {
		p.of = map[producerKey]*account{}
	}
	p.of[a.Key] = a
	p.weight += a.weight()
}

// drop takes an account out; nil when there is none.
func (p *producers) drop(key producerKey) *account {
	a := p.of[key]
	if a != nil {
		p.weight -= a.weight()
		delete(p.of, key)
	}
	return a
}

// silent takes runs out that have been silent for long, now that a run begins: the oldest first.
func (p *producers) silent(begun producerKey, arrival int64, r Retirement) []producerKey {
	var found []*account
	for key, a := range p.of {
		silence := arrival - a.Seen
		followed := key.Site == begun.Site && key.Producer == begun.Producer
		if followed && silence >= r.Followed || silence >= r.Idle {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, olderAccount)
	var out []producerKey
	for _, a := range found[:min(len(found), retireAtOnce)] {
		out = append(out, p.drop(a.Key).Key)
	}
	return out
}

// oldest returns the run that has been silent longest, but for one.
func (p *producers) oldest(but producerKey) producerKey {
	var found *account
	for key, a := range p.of {
		if key != but && (found == nil || olderAccount(a, found) < 0) {
			found = a
		}
	}
	return found.Key
}

// olderAccount orders by the newest batch; ties go by name, so that a replay finds the same order.
func olderAccount(a, b *account) int {
	if a.Last != b.Last { // names are made for ties only: this is asked for every account when a run begins
		return cmp.Compare(a.Last, b.Last)
	}
	return cmp.Compare(a.Key.String(), b.Key.String())
}

// clone returns a deep copy.
func (p *producers) clone() producers {
	out := producers{of: make(map[producerKey]*account, len(p.of)), weight: p.weight}
	for key, a := range p.of {
		out.of[key] = a.clone()
	}
	return out
}

func (k producerKey) String() string {
	return k.Site + "/" + k.Producer + "/" + strconv.FormatUint(k.Run, 16)
}
