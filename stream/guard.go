package stream

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/wellhead/wellhead/messages"
)

const (
	// guardEvery is how often streams and disk are looked at.
	guardEvery = time.Second
	// mqttFull is the share of a stream's max bytes from which MQTT clients are closed, in percent: an
	// MQTT PUBACK is given even when the stream refuses (measured), so nothing may be refused to them.
	mqttFull, mqttRoom = 80, 75
	// restartEvery is the least time between two restarts of JetStream after failed writes.
	restartEvery = 10 * time.Second
	// diskMargin is how much more than Options.DiskFree must be free before publishers are let in
	// again, in percent.
	diskMargin = 1
)

// guard watches the embedded server's streams and disk. For an outside server it does nothing: its
// operator watches them.
type guard struct {
	streams *Streams
	server  *Server
	cancel  context.CancelFunc
	ended   sync.WaitGroup

	raw       rawFlow
	squeezed  bool // publishers are refused because of the disk
	restarted time.Time
}

func startGuard(s *Streams) *guard {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guard{streams: s, server: s.options.Server, cancel: cancel}
	if g.server == nil {
		return g
	}
	watch := &crowd{streams: s, server: g.server.nats}
	g.ended.Go(func() { each(ctx, crowdEvery, watch.look) })
	g.ended.Go(func() { each(ctx, guardEvery, func(now time.Time) { g.look(ctx, now) }) })
	return g
}

// each looks again and again until ctx ends.
func each(ctx context.Context, every time.Duration, look func(now time.Time)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			look(now)
		}
	}
}

func (g *guard) close() {
	g.cancel()
	g.ended.Wait()
}

// look is one round.
func (g *guard) look(ctx context.Context, now time.Time) {
	free, total, err := g.streams.options.FreeSpace()
	if err != nil {
		g.streams.logger.Warn("free disk space not known", "error", err)
	} else {
		g.lookAtDisk(ctx, free, total)
	}
	if g.server.options.MQTT != "" {
		g.lookAtStreams()
	}
	g.lookAtFlow(now)
}

// lookAtStreams closes MQTT clients while any shard's stream is nearly full.
func (g *guard) lookAtStreams() {
	auth := g.server.auth
	limit := uint64(mqttFull)
	if auth.noMQTT.Load() {
		limit = mqttRoom
	}
	full := g.server.fullest(g.streams.options.Shards) >= limit
	if full != auth.noMQTT.Swap(full) {
		g.streams.logger.Warn("mqtt clients", "refused", full, "reason", "a shard's stream is nearly full")
	}
	if full {
		n := g.server.kick(func(_, kind string) bool { return kind == "mqtt" })
		g.streams.counters.MQTTClosed.Add(uint64(n))
	}
}

// fullest returns how full the fullest shard's stream is, in percent.
func (s *Server) fullest(shards int) uint64 {
	info, err := s.nats.Jsz(&server.JSzOptions{Account: s.nats.GlobalAccount().GetName(), Streams: true, Config: true})
	if err != nil {
		return 0
	}
	most := uint64(0)
	for _, account := range info.AccountDetails {
		for _, d := range account.Streams {
			if d.Config == nil || d.Config.MaxBytes <= 0 || d.Config.Metadata[metaMaxBytes] == "" {
				continue
			}
			most = max(most, d.State.Bytes*100/uint64(d.Config.MaxBytes))
		}
	}
	return most
}

// lookAtDisk refuses publishers when the disk is nearly full, before JetStream would shut itself down,
// and brings it back when it has.
//
// Publishers are refused by setting each shard stream's max bytes to what it holds: the streams answer
// as any full stream does, what is purged makes room for as much again, and everything else
// (checkpoints, leases) is still written. The size it had stays in the stream's metadata, so that it
// comes back after a restart too.
func (g *guard) lookAtDisk(ctx context.Context, free, total uint64) {
	logger := g.streams.logger
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	limit := uint64(g.streams.options.DiskFree)
	low, room := free*100 < total*limit, free*100 >= total*(limit+diskMargin)
	before := g.streams.Disk()
	g.streams.disk.Store(&Disk{
		Free: free, Total: total, Refusing: low || before.Refusing && !room,
		Off: g.server.log.broken.Load() || !g.server.nats.JetStreamEnabled(),
	})
	if room && g.server.log.broken.Load() && time.Since(g.restarted) > restartEvery {
		g.restarted = time.Now()
		logger.Error("a stream could not be written and takes nothing more: jetstream is started again", "free_bytes", free)
		if err := g.server.nats.ShutdownJetStream(); err != nil {
			logger.Error("jetstream not shut down", "error", err)
			return
		}
		g.server.log.broken.Store(false)
	}
	if room && !g.server.nats.JetStreamEnabled() {
		config := g.server.config
		config.StoreDir = g.server.options.DataDir
		if err := g.server.nats.EnableJetStream(&config); err != nil {
			logger.Error("jetstream not started again", "error", err)
			return
		}
		g.streams.counters.JetStreamBack.Add(1)
		logger.Warn("jetstream started again", "free_bytes", free)
		g.streams.main.poke()
		for _, l := range g.streams.feeds { // their consumers are gone
			l.poke()
		}
	}
	switch {
	case low && !g.squeezed:
		logger.Error("disk nearly full: publishers are refused", "free_bytes", free, "total_bytes", total)
		if err := g.eachShard(ctx, g.streams.squeeze); err != nil {
			logger.Error("publishers not refused", "error", err)
			return
		}
		g.squeezed = true
		g.streams.counters.DiskRefusals.Add(1)
	case room && g.squeezed:
		if err := g.eachShard(ctx, g.streams.release); err != nil {
			logger.Error("publishers still refused", "error", err)
			return
		}
		g.squeezed = false
		logger.Warn("disk has room: publishers are let in again", "free_bytes", free)
	}
}

// eachShard calls fn with the configuration of each shard's stream.
func (g *guard) eachShard(ctx context.Context, fn func(context.Context, jetstream.StreamConfig) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(createAtOnce)
	for n := range g.streams.options.Shards {
		group.Go(func() error {
			stream, err := g.streams.js.Stream(ctx, messages.StreamName(messages.Shard(n)))
			if err != nil {
				return fmt.Errorf("stream of shard %d: %w", n, err)
			}
			info := stream.CachedInfo()
			config := info.Config
			config.MaxBytes = max(int64(info.State.Bytes), 1)
			return fn(ctx, config)
		})
	}
	return group.Wait()
}

// squeeze sets a stream's max bytes to what it holds (the caller has put that into config).
func (s *Streams) squeeze(ctx context.Context, config jetstream.StreamConfig) error {
	if _, err := s.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("squeeze stream %s: %w", config.Name, err)
	}
	return nil
}

// release gives a stream back the size it was created with.
func (s *Streams) release(ctx context.Context, config jetstream.StreamConfig) error {
	size, err := strconv.ParseInt(config.Metadata[metaMaxBytes], 10, 64)
	if err != nil {
		return fmt.Errorf("stream %s: its metadata does not tell its size: %w", config.Name, err)
	}
	config.MaxBytes = size
	config.Metadata = maps.Clone(config.Metadata)
	if _, err := s.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("release stream %s: %w", config.Name, err)
	}
	return nil
}

// squeezed tells whether a stream has less than the size it was created with.
func squeezed(config jetstream.StreamConfig) bool {
	size, err := strconv.ParseInt(config.Metadata[metaMaxBytes], 10, 64)
	return err == nil && config.MaxBytes < size
}

// freeSpace asks the system for free and total bytes of the disk that holds dir.
func freeSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}
