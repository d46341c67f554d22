package main

import (
	"context"
	"errors"
	"time"

	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/persistence/cassandra"
)

const (
	// serversEvery is how often the archive's servers are asked how they are.
	serversEvery = 15 * time.Second
	// serversDeadline is how long one may take to answer.
	serversDeadline = 5 * time.Second
)

// watchServers asks the servers of a Cassandra archive how they are, for /metrics, until the node closes.
func (n *node) watchServers(archive *cassandra.Archive) {
	told := n.metrics.Servers()
	wrong := map[string]string{}
	tick := time.NewTicker(serversEvery)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(n.ctx, serversDeadline)
		health := archive.Health(ctx)
		cancel()
		if n.ctx.Err() != nil {
			return
		}
		servers := make([]telemetry.Server, len(health))
		for i := range health {
			servers[i] = serverFigures(&health[i])
			n.sayOnce(wrong, &health[i])
		}
		told(servers)
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// sayOnce logs that a server answers differently than before; wrong is what was said of each.
func (n *node) sayOnce(wrong map[string]string, h *cassandra.ServerHealth) {
	switch before := wrong[h.Server]; {
	case h.Err == nil && before != "":
		delete(wrong, h.Server)
		n.log.Info("the archive's server answers again", "server", h.Server)
	case h.Err != nil && before == "":
		wrong[h.Server] = h.Err.Error()
		if errors.Is(h.Err, cassandra.ErrNoViews) {
			n.log.Info("the archive's server has no virtual tables: /metrics does not tell how it is", "server", h.Server)
			return
		}
		n.log.Warn("a server of the archive does not tell how it is", "server", h.Server, "error", h.Err)
	}
}

func serverFigures(h *cassandra.ServerHealth) telemetry.Server {
	s := telemetry.Server{
		Server: h.Server, Up: h.Err == nil || errors.Is(h.Err, cassandra.ErrNoViews), Known: h.Err == nil,
		Clients: h.Clients, HintFiles: h.HintFiles, Compacting: h.Compacting, CompactionBytes: h.CompactionBytes,
	}
	for _, p := range h.Pools {
		s.Pools = append(s.Pools, telemetry.Pool(p))
	}
	for _, t := range h.Tables {
		s.Tables = append(s.Tables, telemetry.Table(t))
	}
	return s
}
