package actors

import (
	"maps"
	"slices"
	"sort"
	"strconv"
)

// maxIntervals bounds how many separate stretches beyond a gap are remembered for one producer and
// run. A batch that would need one more is applied all the same, but not accounted for: the same
// readings again only replace themselves.
const maxIntervals = 4096

// maxRuns bounds the runs remembered in a shard. Beyond it the one that has been silent longest is forgotten.
const maxRuns = 10_000

// producerKey names one counter: a producer's run at a site.
type producerKey struct {
	Site, Producer string
	Run            uint64
}

// interval is a stretch of producer sequences, both ends included.
type interval struct{ From, To uint64 }

// account says which sequences of one producer and run have been here. The zero value has seen none.
type account struct {
	Key      producerKey // under which it stands in its table
	Through  uint64      // every sequence up to here has been here
	Beyond   []interval  // stretches after a gap, ascending, never touching
	Readings uint64      // readings received under this run
	Repeated uint64      // batches that were here before
	Last     uint64      // stream sequence of the newest batch
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

// producers is a shard's table of accounts as of one stream sequence.
type producers map[producerKey]*account

// at returns the account of a key, made when there is none.
func (p producers) at(key producerKey) *account {
	a := p[key]
	if a == nil {
		if len(p) >= maxRuns {
			p.forgetOldest()
		}
		a = &account{}
		p[key] = a
	}
	return a
}

// forgetOldest drops the run that has been silent longest; ties go by name, so that a replay forgets the same one.
func (p producers) forgetOldest() {
	var victim producerKey
	var found *account
	for key, a := range p {
		if found == nil || a.Last < found.Last || a.Last == found.Last && key.String() < victim.String() {
			victim, found = key, a
		}
	}
	delete(p, victim)
}

// clone returns a deep copy.
func (p producers) clone() producers {
	out := maps.Clone(p)
	if out == nil {
		return producers{}
	}
	for key, a := range out {
		c := *a
		c.Beyond = slices.Clone(a.Beyond)
		out[key] = &c
	}
	return out
}

func (k producerKey) String() string {
	return k.Site + "/" + k.Producer + "/" + strconv.FormatUint(k.Run, 16)
}
