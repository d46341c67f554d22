package main

import (
	"context"
	"slices"
	"time"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/messages"
)

// backlogDeadline bounds how long the streams and checkpoints are looked at for one status.
const backlogDeadline = 2 * time.Second

// clusterStatus answers GET cluster. Members and shards are as this member's view has them; how far each
// shard is behind comes from its stream's end. What cannot be found out in time is left at 0, and logged.
func (n *node) clusterStatus(ctx context.Context) (api.Cluster, error) {
	out := api.Cluster{Shards: n.cfg.Shards, Unowned: []int{}, Pins: []api.ClusterPin{}, Members: []api.ClusterMember{}}
	figures := make([]*cluster.ShardFigures, n.cfg.Shards) // of the shards that run
	if n.cluster == nil {
		out.Members = append(out.Members, n.alone(figures))
	} else {
		n.together(&out, figures)
	}
	for shard := range n.cfg.Shards {
		one := api.ClusterShard{Shard: shard, State: "unowned"}
		for i := range out.Members {
			if m := &out.Members[i]; slices.Contains(m.Shards, shard) {
				one.Member, one.State = m.Name, "starting"
			}
		}
		if f := figures[shard]; f != nil {
			one.State, one.Devices, one.InFlight, one.OldestUnstoredSeconds = "running", f.Devices, f.InFlight, f.Oldest
		}
		out.Of = append(out.Of, one)
	}
	if n.cluster != nil {
		view := n.cluster.members.View()
		for shard, owner := range view.Assignment() {
			if one := &out.Of[shard]; one.State == "running" && owner != "" && owner != view.Leases[shard].Member {
				one.State = "moving"
			}
		}
	}
	n.addLags(ctx, out.Of, figures)
	for i := range out.Members {
		m := &out.Members[i]
		for _, shard := range m.Shards {
			m.Lag += out.Of[shard].Lag
			m.OldestUnstoredSeconds = max(m.OldestUnstoredSeconds, out.Of[shard].OldestUnstoredSeconds)
		}
	}
	return out, nil
}

// together says what the view has, and puts what the members say of their shards into figures.
func (n *node) together(out *api.Cluster, figures []*cluster.ShardFigures) {
	out.ID = n.cluster.members.Cluster().ID
	self, _ := n.cluster.members.Self()
	view := n.cluster.members.View()
	owned := map[string][]int{}
	for shard := range view.Leases {
		if id, _ := view.Owner(messages.Shard(shard)); id != "" {
			owned[id] = append(owned[id], shard)
		} else {
			out.Unowned = append(out.Unowned, shard)
		}
		if name := view.Pins[messages.Shard(shard)]; name != "" {
			out.Pins = append(out.Pins, api.ClusterPin{Shard: shard, Member: name})
		}
	}
	for i := range view.Members {
		m := &view.Members[i]
		one := memberOf(m.Figures)
		one.Name, one.ID, one.Address, one.Version, one.State, one.Self = m.Name, m.ID, m.Address, m.Version, stateOf(m), m.ID == self
		one.Started, one.Shards = m.Started.Format("2006-01-02T15:04:05.000Z07:00"), append([]int{}, owned[m.ID]...)
		out.Members = append(out.Members, one)
		keepOwn(figures, m.Figures.Of, one.Shards)
	}
}

// keepOwn puts figures of shards in their places, but not what a member still says of a shard that is gone.
func keepOwn(figures []*cluster.ShardFigures, of []cluster.ShardFigures, owned []int) {
	for i := range of {
		if slices.Contains(owned, of[i].Shard) {
			figures[of[i].Shard] = &of[i]
		}
	}
}

func memberOf(f cluster.Figures) api.ClusterMember {
	return api.ClusterMember{
		Starting: f.Starting, Devices: f.Devices, Readings: f.Readings, InFlightLimit: f.Limit,
		ClusterBacklog: api.ClusterBacklog{InFlight: f.InFlight, OldestUnstoredSeconds: f.Oldest},
	}
}

func stateOf(m *cluster.Seen) string {
	switch {
	case m.Dead:
		return "dead"
	case m.Draining:
		return "draining"
	case m.Drained:
		return "drained"
	}
	return "alive"
}

// alone is a member without others.
func (n *node) alone(figures []*cluster.ShardFigures) api.ClusterMember {
	f := n.figures()
	m := memberOf(f)
	m.Name, m.ID, m.Version, m.State, m.Self, m.Started = n.cfg.Name, n.cfg.Name, version, "alive", true, n.began.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	m.Shards = []int{}
	for shard := range n.cfg.Shards {
		m.Shards = append(m.Shards, shard)
	}
	keepOwn(figures, f.Of, m.Shards)
	return m
}

// clusterSize returns how many members are alive and how many shards none of them owns, as this one sees it.
func (n *node) clusterSize() (members, unowned int) {
	if n.cluster == nil {
		return 1, n.cfg.Shards - len(n.member.Held())
	}
	view := n.cluster.members.View()
	for _, m := range view.Members {
		if !m.Dead {
			members++
		}
	}
	for shard := range view.Leases {
		if id, _ := view.Owner(messages.Shard(shard)); id == "" {
			unowned++
		}
	}
	return members, unowned
}

// addLags says of each shard how many messages are not stored. A shard that nobody runs is known by its checkpoint.
func (n *node) addLags(ctx context.Context, of []api.ClusterShard, figures []*cluster.ShardFigures) {
	ctx, cancel := context.WithTimeout(ctx, backlogDeadline)
	defer cancel()
	ends, err := n.streams.Log().Ends(ctx)
	if err != nil {
		n.log.Warn("the status of the cluster has no lags", "error", err)
		return
	}
	for shard := range of {
		end := ends[messages.Shard(shard)]
		if f := figures[shard]; f != nil {
			of[shard].Lag = end - min(end, f.Stored)
			continue
		}
		lag, oldest, err := n.member.Backlog(ctx, messages.Shard(shard), end)
		if err != nil {
			n.log.Warn("the status of the cluster lacks what waits for a shard that does not run", "shard", shard, "error", err)
			return
		}
		of[shard].Lag, of[shard].OldestUnstoredSeconds = lag, ageOf(oldest)
	}
}
