package messages

// ProducerRun names what a producer has sent under one run: its batches are counted from 1 in each shard.
type ProducerRun struct {
	Site, Producer string
	Run            uint64
}

// ProducerAccount says what became of a run's batches, by shard. The zero values mean none.
type ProducerAccount struct {
	ProducerRun
	Shards []ShardAccount // those that got a batch, ascending
}

// ShardAccount is one shard's part of a ProducerAccount. All but the times count batches, unless said otherwise.
type ShardAccount struct {
	Shard       Shard
	Received    uint64      // that came, repeated ones too
	Stored      uint64      // different ones that are in the archive
	Readings    uint64      // readings in those
	Duplicates  uint64      // that came again
	Unaccounted uint64      // stored, and not in Stored: there was no room to remember their sequences
	Through     uint64      // highest sequence with all before it stored
	Highest     uint64      // highest sequence stored
	Missing     uint64      // sequences below Highest that are not stored
	Gaps        [][2]uint64 // stretches of those, both ends included, ascending
	First, Last int64       // arrival of the first and the newest batch, ms
	Retired     bool        // the shard has let go of the run; the archive keeps the account
}

// AuditQuery chooses accounts.
type AuditQuery struct {
	Site     string      // empty = all
	Producer string      // empty = all; needs Site
	After    ProducerRun // those behind it, in the order of site, producer, run; zero = from the first
	Since    int64       // only runs whose newest batch arrived at or after this, ms
	Open     bool        // only runs with gaps
	Limit    int         // most runs looked at
}

// Wants tells whether an account is one of those that Since and Open choose.
func (q *AuditQuery) Wants(a *ProducerAccount) bool {
	last, missing := int64(0), uint64(0)
	for i := range a.Shards {
		last, missing = max(last, a.Shards[i].Last), missing+a.Shards[i].Missing
	}
	return last >= q.Since && (!q.Open || missing > 0)
}

// Recount is what a count of the archive found. The zero value has counted nothing.
type Recount struct {
	Readings    uint64 // in the period
	Values      uint64 // in those
	Omitted     uint64 // values left out in those
	First, Last int64  // event times of the oldest and the newest reading, ms; good when Readings > 0
}

// Count counts one reading.
func (r *Recount) Count(time int64, values []float64) {
	if r.Readings == 0 {
		r.First, r.Last = time, time
	}
	r.Readings++
	r.First, r.Last = min(r.First, time), max(r.Last, time)
	omitted := uint64(0)
	for _, v := range values {
		if v != v { // NaN
			omitted++
		}
	}
	r.Omitted += omitted
	r.Values += uint64(len(values)) - omitted
}

// Add adds what another count found.
func (r *Recount) Add(o Recount) {
	switch {
	case o.Readings == 0:
		return
	case r.Readings == 0:
		*r = o
		return
	}
	r.Readings += o.Readings
	r.Values += o.Values
	r.Omitted += o.Omitted
	r.First, r.Last = min(r.First, o.First), max(r.Last, o.Last)
}
