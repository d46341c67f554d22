package telemetry

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wellhead/wellhead/messages"
)

// Shard is what one shard of this member says of itself. Counters grow while the member runs and
// begin again at 0 with the process.
type Shard struct {
	Shard messages.Shard
	Gone  bool // these are the counters of shards that this member held before, added up: it has no gauges

	Counts      messages.Counts              // readings by decision
	Replayed    uint64                       // readings taken in again after a start
	Rejected    [messages.RejectKinds]uint64 // kept in rejects, by kind
	Repeated    uint64                       // batches that came again
	Rollups     uint64                       // rollup rows written
	Recomputed  uint64                       // rollups made again from the archive
	RollupsKept uint64                       // those that were not, because rows they count have expired
	// Stretches of damaged readings and rollups: written again whole, and not or not whole.
	ChunksRepaired, ChunksLost, RollupsRepaired, RollupsLost uint64

	Snapshots   uint64 // snapshots put
	Checkpoints uint64
	Panics      uint64
	Retries     uint64
	Events      uint64
	Fenced      uint64 // times that another owner was found to have the shard

	Accounts    int    // of producers' runs
	Gaps        int    // open ones of those
	Missing     uint64 // batches in them
	InFlight    int    // bytes pulled and not yet stored
	Devices     int    // known
	Active      int    // with an actor
	Online      int    // heard of
	Applied     uint64 // highest stream sequence taken in
	Stored      uint64 // highest stream sequence below which all are stored
	Snapshotted uint64
	LagSeconds  float64 // age of the oldest message that is not stored, by its arrival; 0 = none
	// SnapshotSeconds is how long ago the last round of snapshots ended; 0 = there is nothing to snapshot.
	SnapshotSeconds float64
}

// Member is what the whole member says of itself.
type Member struct {
	CreditFree  int64 // bytes that may still be pulled
	CreditTotal int64
	Ready       bool
	Producers   int    // of which the shards hold a run
	DiskFree    uint64 // bytes, of the disk under the embedded stream
	DiskTotal   uint64 // 0 = not known
	Members     int    // of the cluster, that are alive, as this one sees it
	Unowned     int    // shards that none of those owns

	HasFullest bool    // the next is known
	Fullest    float64 // how full the fullest shard's stream is, 0 to 1

	HasRejects   bool   // the next three are known
	RejectsKept  uint64 // rejects in their stream
	RejectsBytes uint64
	RejectsLost  uint64 // dropped because of its bounds
}

// Counter is one more counter, of a part that counts by itself (the streams, for example).
type Counter struct {
	Name string // without the prefix wellhead_, with _total
	Help string
	Read func() uint64
}

// Watch has the metrics ask for the shards and the member whenever they are scraped. Both functions
// must be quick and safe to call at any time. Call it once.
func (m *Metrics) Watch(shards func() []Shard, member func() Member) {
	m.registry.MustRegister(&shardCollector{shards: shards, member: member})
}

// Count adds counters that are read at each scrape.
func (m *Metrics) Count(counters ...Counter) {
	for _, c := range counters {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "wellhead_" + c.Name, Help: c.Help},
			func() float64 { return float64(c.Read()) }))
	}
}

type shardCollector struct {
	shards func() []Shard
	member func() Member
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wellhead_"+name, help, labels, nil)
}

var (
	readingsDesc = describe("readings_total", "Readings by what became of them: in_order, late, stale, duplicate, refused. Their sum is what was received.", "decision")
	rejectsDesc  = describe("rejects_total", "Messages and readings that a shard put into rejects, by reason: "+rejectReasons()+".", "reason")
	inFlightDesc = describe("in_flight_bytes", "Bytes pulled from the stream and not yet stored.")
	freeDesc     = describe("credit_free_bytes", "Bytes that may still be pulled.")
	totalDesc    = describe("credit_bytes", "Most bytes that may be pulled and not yet stored.")
	keptDesc     = describe("rejects_kept", "Rejects that are kept.")
	keptSizeDesc = describe("rejects_kept_bytes", "What the rejects that are kept take.")
	rejectsLost  = describe("rejects_lost_total", "Rejects that are gone because of rejects.max-bytes, rejects.max-age, or a million newer ones.")
	diskFreeDesc = describe("disk_free_bytes", "Free bytes of the disk under the embedded stream.")
	diskDesc     = describe("disk_bytes", "Bytes of the disk under the embedded stream.")
	readyDesc    = describe("ready", "1 when the member is ready, as /readyz says.")
	knownDesc    = describe("producers", "Producers of which the shards hold a run.")
	heldDesc     = describe("shards", "Shards that this member holds.")
	lagDesc      = describe("shard_lag_seconds", "Age of a shard's oldest message that is not stored.", "shard")
	oldestDesc   = describe("oldest_unstored_seconds", "Age of the member's oldest message that is not stored: the most of all shards' lags.")
	snapshotDesc = describe("shard_snapshot_age_seconds", "Time since a shard's last round of snapshots ended; 0 when there is nothing to snapshot.", "shard")
	fullestDesc  = describe("stream_fullest_ratio", "How full the fullest shard's stream is, of all shards: from 0 to 1, where publishers are refused.")
	membersDesc  = describe("cluster_members", "Members that are alive, as this member sees it.")
	unownedDesc  = describe("cluster_unowned_shards", "Shards that no living member owns, as this member sees it: they are moving, or nobody can take them.")
	pendingDesc  = describe("shard_pending_messages", "A shard's messages that were taken in and are not all stored yet.", "shard")
	behindDesc   = describe("shard_unsnapshotted_messages", "A shard's messages that a start would replay.", "shard")
)

// rejectReasons names the reasons of a shard.
func rejectReasons() string {
	var names []string
	for kind := messages.RejectOther + 1; kind < messages.RejectStray; kind++ {
		names = append(names, kind.String())
	}
	return strings.Join(names, ", ")
}

// sums are the counters and gauges that make sense for the member as a whole only.
var sums = []struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*Shard) float64
}{
	{describe("readings_replayed_total", "Readings taken in again after a start."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Replayed) }},
	{describe("batches_repeated_total", "Batches that a producer sent again and that were applied once."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Repeated) }},
	{describe("rollups_total", "Rollup rows written."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Rollups) }},
	{describe("rollups_recomputed_total", "Rollups made again from the archive."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Recomputed) }},
	{describe("rollups_kept_total", "Rollups that a reading touched late and that were left as they are: they count readings that have expired since, and would become smaller. The reading itself is stored."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.RollupsKept) }},
	{describe("chunks_repaired_total", "Damaged stretches of a device's readings that were written again whole, from its window and the stream."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.ChunksRepaired) }},
	{describe("chunks_lost_total", "Damaged stretches of a device's readings of which some are nowhere else any more."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.ChunksLost) }},
	{describe("rollups_repaired_total", "Damaged stretches of a device's rollups that were computed again from their readings."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.RollupsRepaired) }},
	{describe("rollups_lost_total", "Damaged stretches of a device's rollups that cannot be computed, because their readings have expired or are damaged too."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.RollupsLost) }},
	{describe("snapshots_total", "Snapshots put."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Snapshots) }},
	{describe("checkpoints_total", "Checkpoints made."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Checkpoints) }},
	{describe("device_panics_total", "Times that a device's actor panicked and was restarted."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Panics) }},
	{describe("store_retries_total", "Writes that were tried again."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Retries) }},
	{describe("shards_fenced_total", "Times that a shard of this member ended because another owner has it. One at each unplanned takeover is right."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Fenced) }},
	{describe("events_total", "Events published by devices."), prometheus.CounterValue, func(s *Shard) float64 { return float64(s.Events) }},
	{describe("producer_accounts", "Accounts that the shards hold: one for each producer, run and shard."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Accounts) }},
	{describe("producer_open_gaps", "Stretches of batches that are missing in those accounts."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Gaps) }},
	{describe("producer_batches_missing", "Batches that are missing in those accounts."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Missing) }},
	{describe("devices", "Devices known."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Devices) }},
	{describe("devices_active", "Devices with an actor in memory."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Active) }},
	{describe("devices_online", "Devices heard of lately."), prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.Online) }},
	{inFlightDesc, prometheus.GaugeValue, func(s *Shard) float64 { return float64(s.InFlight) }},
}

// Describe implements prometheus.Collector.
func (c *shardCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		readingsDesc, rejectsDesc, keptDesc, keptSizeDesc, rejectsLost, freeDesc, totalDesc, readyDesc, knownDesc, heldDesc, lagDesc,
		pendingDesc, behindDesc, oldestDesc, diskFreeDesc, diskDesc, snapshotDesc, fullestDesc, membersDesc, unownedDesc,
	} {
		out <- d
	}
	for _, s := range sums {
		out <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c *shardCollector) Collect(out chan<- prometheus.Metric) {
	shards, member := c.shards(), c.member()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var counts messages.Counts
	var rejected [messages.RejectKinds]uint64
	oldest, held := 0.0, 0
	for i := range shards {
		s := &shards[i]
		counts.Add(s.Counts)
		for kind, n := range s.Rejected {
			rejected[kind] += n
		}
		if s.Gone {
			continue
		}
		held++
		label := strconv.Itoa(int(s.Shard))
		gauge(lagDesc, s.LagSeconds, label)
		gauge(snapshotDesc, s.SnapshotSeconds, label)
		oldest = max(oldest, s.LagSeconds)
		gauge(pendingDesc, float64(s.Applied-min(s.Stored, s.Applied)), label)
		gauge(behindDesc, float64(s.Applied-min(s.Snapshotted, s.Applied)), label)
	}
	for _, r := range []struct {
		decision string
		n        uint64
	}{{"in_order", counts.InOrder}, {"late", counts.Late}, {"stale", counts.Stale}, {"duplicate", counts.Duplicate}, {"refused", counts.Refused}} {
		out <- prometheus.MustNewConstMetric(readingsDesc, prometheus.CounterValue, float64(r.n), r.decision)
	}
	for kind := messages.RejectOther + 1; kind < messages.RejectStray; kind++ {
		out <- prometheus.MustNewConstMetric(rejectsDesc, prometheus.CounterValue, float64(rejected[kind]), kind.String())
	}
	for _, sum := range sums {
		v := 0.0
		for i := range shards {
			v += sum.of(&shards[i])
		}
		out <- prometheus.MustNewConstMetric(sum.desc, sum.kind, v)
	}
	gauge(knownDesc, float64(member.Producers))
	if member.HasRejects {
		gauge(keptDesc, float64(member.RejectsKept))
		gauge(keptSizeDesc, float64(member.RejectsBytes))
		out <- prometheus.MustNewConstMetric(rejectsLost, prometheus.CounterValue, float64(member.RejectsLost))
	}
	gauge(oldestDesc, oldest)
	gauge(heldDesc, float64(held))
	gauge(membersDesc, float64(member.Members))
	gauge(unownedDesc, float64(member.Unowned))
	if member.HasFullest {
		gauge(fullestDesc, member.Fullest)
	}
	gauge(freeDesc, float64(member.CreditFree))
	gauge(totalDesc, float64(member.CreditTotal))
	if member.DiskTotal > 0 {
		gauge(diskFreeDesc, float64(member.DiskFree))
		gauge(diskDesc, float64(member.DiskTotal))
	}
	ready := 0.0
	if member.Ready {
		ready = 1
	}
	gauge(readyDesc, ready)
}
