package main

import (
	"context"
	"slices"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/internal/telemetry"
)

// figuresDeadline bounds how long the figures of all shards may take.
const figuresDeadline = 2 * time.Second

// shardFigures asks the shards for what /metrics shows. Of a shard that is too busy to answer it is what it said last.
func (n *node) shardFigures() []telemetry.Shard {
	ctx, cancel := context.WithTimeout(n.ctx, figuresDeadline)
	defer cancel()
	var out []telemetry.Shard
	for _, s := range n.member.Status(ctx) {
		if !s.Known() {
			continue
		}
		figures := figuresOf(&s.Stats)
		figures.Shard, figures.LagSeconds, figures.SnapshotSeconds = s.Shard, ageOf(s.Stats.OldestPending), ageOf(s.Stats.Unsnapshotted)
		out = append(out, figures)
	}
	past := n.member.Past()
	gone := figuresOf(&past)
	gone.Gone = true
	out = append(out, gone)
	return out
}

func figuresOf(f *actors.Stats) telemetry.Shard {
	return telemetry.Shard{
		Counts: f.Counts, Replayed: f.Replayed, Rejected: f.Rejected, Repeated: f.Repeated,
		Rollups: f.Rollups, Recomputed: f.Recomputed, RollupsKept: f.RollupsKept,
		ChunksRepaired: f.ChunksRepaired, ChunksLost: f.ChunksLost, RollupsRepaired: f.RollupsRepaired, RollupsLost: f.RollupsLost,
		Snapshots: f.Snapshots, Checkpoints: f.Checkpoints,
		Accounts: f.Accounts, Gaps: f.Gaps, Missing: f.Missing,
		Panics: f.Panics, Retries: f.Retries, Events: f.Events, Fenced: f.Fenced, InFlight: f.InFlight,
		Devices: f.Devices, Active: f.Active, Online: f.Online,
		Applied: f.Applied, Stored: f.Stored, Snapshotted: f.Snapshotted,
	}
}

// ageOf is how long ago a moment (ms) was, in seconds; 0 = never.
func ageOf(moment int64) float64 {
	if moment == 0 {
		return 0
	}
	return max(0, float64(time.Now().UnixMilli()-moment)/1000)
}

// unstored returns the bytes that were pulled and are not stored yet.
func (n *node) unstored() int {
	sum := 0
	for _, s := range n.shardFigures() {
		sum += s.InFlight
	}
	return sum
}

// oldestUnstored is the age of the oldest message that is not stored; 0 = there is none.
func (n *node) oldestUnstored() time.Duration {
	ctx, cancel := context.WithTimeout(n.ctx, figuresDeadline)
	defer cancel()
	oldest := 0.0
	for _, s := range n.member.Status(ctx) {
		oldest = max(oldest, ageOf(s.Stats.OldestPending))
	}
	return time.Duration(oldest * float64(time.Second))
}

// archiveFails tells, without asking it, that the archive takes no readings or cannot be reached.
func (n *node) archiveFails() bool {
	failing := n.metrics.Failing("archive")
	return slices.Contains(failing, "append") || slices.Contains(failing, "ping")
}

func (n *node) memberFigures() telemetry.Member {
	used, limit := int64(n.member.InFlight()), n.inFlightLimit()
	ctx, cancel := context.WithTimeout(n.ctx, figuresDeadline)
	defer cancel()
	producers, err := n.member.Producers(ctx)
	if err != nil {
		n.log.Debug("not all producers are counted", "error", err)
	}
	rejects, err := n.streams.RejectsState(ctx)
	disk := n.streams.Disk()
	fullest, fullErr := n.streams.Fullest(ctx)
	members, unowned := n.clusterSize()
	return telemetry.Member{
		Members: members, Unowned: unowned,
		HasFullest: fullErr == nil, Fullest: fullest,
		Producers: producers,
		DiskFree:  disk.Free, DiskTotal: disk.Total,
		HasRejects: err == nil, RejectsKept: rejects.Kept, RejectsBytes: rejects.Bytes, RejectsLost: rejects.Lost,
		CreditFree: max(0, limit-used), CreditTotal: limit,
		Ready: n.started() && !disk.Refusing && !disk.Off && !n.archiveFails(),
	}
}

// inFlightLimit is how many bytes this member may have pulled and not yet stored.
func (n *node) inFlightLimit() int64 {
	limits := n.limits.InForce()
	return limits.Pulled(serverName(n.cfg.Name))
}

// started tells whether the shards are there, as /readyz means it.
func (n *node) started() bool {
	if n.cluster != nil {
		return len(n.cluster.ready(n.member)) == 0
	}
	return len(n.member.Starting()) == 0
}

// totals answers the page's header.
func (n *node) totals(ctx context.Context) (api.Totals, error) {
	var t api.Totals
	shards, err := n.fleetStats(ctx)
	if err != nil {
		return t, outward(err)
	}
	for _, s := range shards {
		t.Devices += s.Devices
		t.Online += s.Online
		t.Readings += s.Readings
		t.OldestUnstoredSeconds = max(t.OldestUnstoredSeconds, ageOf(s.OldestPending))
	}
	sites, err := n.member.Sites(ctx)
	t.Sites = len(sites)
	return t, outward(err)
}

// fleetStats returns the figures of all shards: those of other members too. While a shard of this member
// starts, an only member leaves it out.
func (n *node) fleetStats(ctx context.Context) ([]actors.Stats, error) {
	if n.cluster != nil {
		return n.member.FleetStats(ctx)
	}
	var out []actors.Stats
	for _, s := range n.member.Status(ctx) {
		out = append(out, s.Stats)
	}
	return out, nil
}

func (n *node) operations() []api.Operation {
	list := n.metrics.Operations()
	out := make([]api.Operation, len(list))
	for i, o := range list {
		out[i] = api.Operation{
			Store: o.Store, Operation: o.Operation, Count: o.Count, Errors: o.Errors,
			P50: o.P50.Seconds(), P99: o.P99.Seconds(), Max: o.Max.Seconds(),
		}
	}
	return out
}

// granted is how many bytes a publisher that asks may have unstored of a site.
func (n *node) granted(site string) int64 { return n.streams.Granted(site, n.limits.Unstored(site)) }
