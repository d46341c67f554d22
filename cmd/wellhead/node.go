package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/cassandra"
	"github.com/wellhead/wellhead/persistence/pebble"
	"github.com/wellhead/wellhead/persistence/redis"
	"github.com/wellhead/wellhead/stream"
	"github.com/wellhead/wellhead/web"
)

// node is a member put together from its parts.
type node struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics *telemetry.Metrics
	began   time.Time

	server    *stream.Server // nil with an outside one
	streams   *stream.Streams
	archive   persistence.Archive
	wiring    wiring
	snapshots persistence.Snapshots
	member    *actors.Member
	cluster   *meeting       // nil when this is the only member
	client    *stream.Client // of the HTTP face
	publisher *stream.Publisher
	limits    *stream.Limits
	http      *http.Server
	listener  net.Listener

	ctx      context.Context // ends when the node closes
	end      context.CancelFunc
	serving  sync.WaitGroup
	draining chan struct{}
	closers  []func() // in reverse order of opening
}

// openNode starts all parts. On an error what was started is closed.
func openNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (*node, error) {
	return openNodeOn(ctx, cfg, log, wiring{})
}

// openNodeOn is openNode with what a test makes of its parts.
func openNodeOn(ctx context.Context, cfg *config.Config, log *slog.Logger, w wiring) (_ *node, err error) {
	n := &node{cfg: cfg, log: log, wiring: w, metrics: telemetry.New(), began: time.Now(), draining: make(chan struct{})}
	n.ctx, n.end = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			n.closeParts()
		}
	}()
	if cfg.Name == "" {
		if cfg.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find out the machine's host name (or set name): %w", err)
		}
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	if err := cfg.KeepFiles(); err != nil {
		return nil, err
	}
	if err := n.openProfiles(); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{n.openStream, n.openArchive, n.openSnapshots, n.openMember, n.openHTTP} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *node) closing(do func()) { n.closers = append(n.closers, do) }

func (n *node) openStream(ctx context.Context) error {
	cfg := n.cfg
	credentials := stream.NewCredentials(n.log)
	if cfg.Credentials {
		credentials.Require()
	}
	if cfg.Stream.Server == "embedded" {
		server, err := stream.StartServer(ctx, stream.ServerOptions{
			DataDir: filepath.Join(cfg.Data, "stream"), Client: cfg.NATS, MQTT: cfg.MQTT, WebSocket: cfg.WebSocket,
			Shards: cfg.Shards, SyncInterval: cfg.Stream.Sync, SyncAlways: cfg.Stream.Sync == 0,
			Name: serverName(cfg.Name), Credentials: credentials, Logger: n.log,
		})
		if err != nil {
			return fmt.Errorf("start the embedded NATS server: %w", err)
		}
		n.server = server
		n.closing(server.Shutdown)
	}
	options := stream.Options{
		Server: n.server, Name: cfg.Name, Shards: cfg.Shards, Replicas: cfg.Stream.Replicas,
		MaxBytes: cfg.Stream.MaxBytes, RejectsBytes: cfg.Rejects.MaxBytes, RejectsAge: cmp.Or(cfg.Rejects.MaxAge, -1), DiskFree: cfg.Limits.DiskFree, Logger: n.log,
	}
	if n.server == nil {
		options.URL, options.User, options.Password, options.CredsFile = cfg.Stream.Server, cfg.Stream.User, cfg.Stream.Password, cfg.Stream.Creds
		options.TLS = stream.TLS{CA: cfg.Stream.CA, Cert: cfg.Stream.Cert, Key: cfg.Stream.Key}
	}
	streams, err := stream.Open(ctx, options)
	if err != nil {
		return fmt.Errorf("open the streams: %w", err)
	}
	n.streams = streams
	n.closing(streams.Close)
	registry := streams.Registry()
	if err := credentials.Load(ctx, registry); err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	n.serving.Go(func() { credentials.Follow(n.ctx, registry) })
	n.limits = stream.NewLimits(messages.Limits{InFlight: cfg.Limits.InFlight, SiteUnstored: cfg.Limits.Unstored}, registry, n.log)
	if err := n.limits.Load(ctx); err != nil {
		return err
	}
	n.serving.Go(func() { n.limits.Follow(n.ctx) })
	return nil
}

// serverName is a name that NATS takes: without spaces and dots.
func serverName(name string) string {
	name = strings.Map(func(r rune) rune {
		if messages.CheckName("server", string(r)) != nil {
			return '-'
		}
		return r
	}, name)
	return name[:min(len(name), messages.MaxName)]
}

func (n *node) openArchive(ctx context.Context) error {
	cfg := n.cfg
	var archive persistence.Archive
	var local *pebble.Archive
	var remote *cassandra.Archive
	var err error
	if cfg.Archive == "cassandra" {
		var o cassandra.Options
		if o, err = cassandraOptions(cfg, n.log); err == nil {
			remote, err = cassandra.Open(ctx, o)
			archive = remote
		}
	} else {
		local, err = pebble.OpenArchive(filepath.Join(cfg.Data, "archive"), pebble.Options{
			Shards: cfg.Shards, CacheBytes: cfg.Pebble.Cache, MemtableBytes: int(cfg.Pebble.Memtable), MaxSyncDelay: cfg.Pebble.SyncMax,
			ReservePercent: cfg.Limits.DiskReserve, Classes: classes(cfg), Log: n.log,
		})
		archive = local
	}
	if err != nil {
		return fmt.Errorf("open the archive: %w", err)
	}
	n.expireWith(local)
	n.archive = persistence.ObservedArchive(through(n.wiring.archive, archive), n.metrics.Store("archive"))
	n.closing(func() { n.closed("archive", archive.Close()) })
	if remote != nil {
		n.serving.Go(func() { n.watchServers(remote) })
	}
	return nil
}

func cassandraOptions(cfg *config.Config, log *slog.Logger) (cassandra.Options, error) {
	secure, err := tlsOf("cassandra", cfg.Cassandra.TLS)
	return cassandra.Options{
		Hosts: cfg.Cassandra.Hosts, Keyspace: cfg.Cassandra.Keyspace, Replication: cfg.Cassandra.Replication,
		Consistency: cfg.Cassandra.Consistency, DataCenter: cfg.Cassandra.DataCenter,
		Shards: cfg.Shards, Groups: cfg.Cassandra.Groups, Bucket: cfg.Cassandra.Bucket,
		Classes:  classes(cfg),
		Username: cfg.Cassandra.Username, Password: cfg.Cassandra.Password,
		Timeout: cfg.Cassandra.Timeout, MaxInFlight: cfg.Cassandra.InFlight, Logger: log,
		Layout: cfg.Layout, OpenChunks: int(cfg.Cassandra.OpenChunks), TLS: secure,
	}, err
}

func (n *node) openSnapshots(context.Context) error {
	cfg := n.cfg
	var snapshots persistence.Snapshots
	var err error
	if cfg.Snapshots == "redis" {
		r := &cfg.Redis
		o := redis.Options{
			Addrs: r.Addresses, Cluster: r.Cluster, Master: r.Master, DB: r.Database, Prefix: r.Prefix,
			Username: r.Username, Password: r.Password, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword, Logger: n.log,
		}
		if o.TLS, err = tlsOf("redis", r.TLS); err == nil {
			snapshots, err = redis.Open(o)
		}
	} else {
		snapshots, err = pebble.OpenSnapshots(filepath.Join(cfg.Data, "snapshots"), pebble.Options{
			MemtableBytes: int(cfg.Pebble.Memtable / 4), ReservePercent: cfg.Limits.DiskReserve, Log: n.log,
		})
	}
	if err != nil {
		return fmt.Errorf("open the snapshot store: %w", err)
	}
	n.snapshots = persistence.ObservedSnapshots(through(n.wiring.snapshots, snapshots), n.metrics.Store("snapshots"))
	n.closing(func() { n.closed("snapshot store", snapshots.Close()) })
	return nil
}

func (n *node) closed(what string, err error) {
	if err != nil {
		n.log.Warn("closing failed", "what", what, "error", err)
	}
}

func (n *node) openMember(ctx context.Context) error {
	cfg := n.cfg
	checkpoints, err := n.streams.Cells(stream.BucketCheckpoints)
	if err != nil {
		return err
	}
	leases, err := n.streams.Cells(stream.BucketLeases)
	if err != nil {
		return err
	}
	starts, err := n.streams.Cells(stream.BucketStarts)
	if err != nil {
		return err
	}
	outside := n.streams.Outside(stream.Events(cfg.Events))
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	if err := n.openCluster(ctx); err != nil {
		return err
	}
	n.member = actors.NewMember(actors.Options{
		Shared: n.shared(),
		Name:   cfg.Name, InFlight: int(n.inFlightLimit()), Logger: n.log, Now: n.wiring.now(),
		Config: actors.Config{
			Shards: cfg.Shards,
			Limits: actors.Limits{MaxFuture: ms(cfg.Limits.MaxFuture), MaxAge: ms(cfg.Limits.MaxAge), Classes: classes(cfg)},
			Fleet: messages.Settings{
				WindowCount: cfg.Window.Count, WindowAge: ms(cfg.Window.Age),
				ExpectedInterval: ms(cfg.Window.ExpectedInterval), OfflineAfter: ms(cfg.Window.OfflineAfter),
			},
			FlushAge: ms(cfg.Work.FlushAge), FlushIdle: ms(cfg.Work.FlushIdle), FlushBytes: int(cfg.Work.FlushBytes), FlushParallel: cfg.Work.FlushParallel,
			CheckpointEvery: ms(cfg.Work.CheckpointEvery), SnapshotWithin: ms(cfg.Work.SnapshotWithin),
			Retire:         actors.Retirement{Followed: ms(cfg.Work.RetireAfter), Idle: ms(cfg.Work.RetireIdle)},
			PassivateAfter: ms(cfg.Work.PassivateAfter), PurgeBytes: int(cfg.Work.PurgeBytes), PurgeEvery: ms(cfg.Work.PurgeEvery),
		},
		Parts: actors.Parts{
			Archive: n.archive, Snapshots: n.snapshots, Log: feedLog{n.streams.Log()},
			Checkpoints: through[actors.Cells](n.wiring.checkpoints, checkpoints), Leases: leases, Starts: starts, Outside: outside,
			Stored: func(site, producer string, s actors.StoredNews) {
				outside.Stored(site, producer, stream.Stored(s))
			},
			Notice:  func(notice actors.Notice) { n.metrics.WentBack(string(notice.Kind)) },
			Corrupt: n.metrics.Corrupt,
		},
	})
	if err := n.member.Start(); err != nil {
		return err
	}
	n.closing(n.stopMember)
	n.limits.OnChange(func(l messages.Limits) {
		pulled := l.Pulled(serverName(n.cfg.Name))
		n.log.Info("limits", "in_flight", pulled, "site_unstored", l.SiteUnstored, "sites", len(l.Sites))
		n.member.SetInFlight(pulled)
	})
	n.streams.WatchFlow(stream.Flow{Limit: n.limits.Unstored, Oldest: n.oldestUnstored})
	if err := n.joinCluster(ctx); err != nil {
		return err
	}
	n.metrics.Watch(n.shardFigures, n.memberFigures)
	counters := n.streams.Counters()
	n.metrics.Count(
		telemetry.Counter{Name: "feed_gaps_total", Help: "Consumer sequences that were missing in a feed.", Read: counters.FeedGaps.Load},
		telemetry.Counter{Name: "feeds_reopened_total", Help: "Feeds that were opened again after a loss.", Read: counters.FeedsReopened.Load},
		telemetry.Counter{Name: "messages_resent_total", Help: "Messages published again for want of an acknowledgement in time.", Read: counters.Resent.Load},
		telemetry.Counter{Name: "mqtt_closed_total", Help: "MQTT clients closed because a stream was nearly full.", Read: counters.MQTTClosed.Load},
		telemetry.Counter{Name: "flow_cut_total", Help: "Connections cut because they sent more than a site may have unstored.", Read: counters.FlowCut.Load},
		telemetry.Counter{Name: "disk_refusals_total", Help: "Times that publishers were refused because the disk was nearly full.", Read: counters.DiskRefusals.Load},
	)
	return nil
}

// handOver bounds how long a member that ends takes to have everything stored and snapshotted.
const handOver = 20 * time.Second

func (n *node) stopMember() {
	ctx, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	n.drainCluster(ctx)
	if err := n.member.Stop(ctx); err != nil {
		n.log.Warn("not everything was handed over; the next start replays it", "error", err)
	}
	n.leaveCluster(ctx)
}

func (n *node) openHTTP(ctx context.Context) error {
	client, err := n.streams.Client("http")
	if err != nil {
		return fmt.Errorf("connect the HTTP face: %w", err)
	}
	n.client = client
	n.closing(client.Close)
	n.publisher, err = client.NewPublisher(stream.PublisherOptions{Producer: serverName("http-" + n.cfg.Name), OnFull: stream.Refuse, Window: n.limits.Unstored})
	if err != nil {
		return fmt.Errorf("make the HTTP face's publisher: %w", err)
	}
	n.closing(n.publisher.Close)
	oldest, certain := agesTaken(n.cfg)
	devices := &fleet{member: n.member, streams: n.streams, registry: n.streams.Registry(), classes: classes(n.cfg)}
	handler := api.New(api.Options{
		Fleet:  devices,
		Ingest: ingest{stream.NewIngest(n.publisher, n.cfg.Shards), n.streams}, Live: n.client, Health: n,
		Rejects:  rejects{n.streams},
		Operator: operator{n.limits, n.member, n.publisher, serverName(n.cfg.Name)},
		Registry: n.streams.Registry(), Totals: n.totals, Cluster: n.clusterStatus, Operations: n.operations, Metrics: n.metrics.Handler(), Page: web.Files(),
		Logger: n.log, Observe: n.metrics.Request, Hosts: n.cfg.HTTPHosts, Version: version, Closing: n.ctx.Done(),
		EventsLost: n.metrics.EventsLost,
		Limits: api.Limits{
			Body: n.cfg.Limits.Body, Bodies: n.cfg.Limits.Bodies, LiveBuffer: int(n.cfg.Limits.LiveBuffer),
			Listeners: n.cfg.Limits.Listeners, Exports: n.cfg.Limits.Exports, Export: n.cfg.Limits.Export,
			Query: n.cfg.Limits.Query, Ingest: n.cfg.Limits.Ingest, Stored: n.cfg.Limits.Stored,
			MaxFuture: n.cfg.Limits.MaxFuture, MaxAge: oldest, CertainAge: certain,
		},
	})
	answers := &queries{handler: handler, fleet: devices, layout: stream.Layout{Shards: n.cfg.Shards}, stored: n.member.Stored, granted: n.granted}
	if n.cfg.HTTP != "" {
		if n.listener, err = net.Listen("tcp", n.cfg.HTTP); err != nil {
			return fmt.Errorf("listen for HTTP: %w", err)
		}
		n.closing(func() { _ = n.listener.Close() }) // it may be closed already
		answers.layout.HTTP = n.listener.Addr().String()
	}
	n.serving.Go(func() {
		if err := n.streams.ServeQueries(n.ctx, "wellhead", answers); err != nil && n.ctx.Err() == nil {
			n.log.Error("queries by NATS are not answered any more", "error", err)
		}
	})
	if n.listener == nil {
		return nil
	}
	token, err := adminToken(n.cfg.Data)
	if err != nil {
		return fmt.Errorf("make the administrator's token: %w", err)
	}
	n.http = api.NewServer(&admin{token: token, closed: n.cfg.Credentials, outside: n.server == nil, cluster: n.cluster, joinToken: n.token, registry: n.streams.Registry(), next: handler}, n.log)
	n.http.BaseContext = func(net.Listener) context.Context { return n.ctx }
	n.serving.Go(func() {
		if err := n.http.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("HTTP ended", "error", err)
		}
	})
	n.closing(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if n.http.Shutdown(ctx) != nil {
			_ = n.http.Close()
		}
	})
	return nil
}

// agesTaken returns the age from which on every device refuses a reading, and the one below which none does for
// its age: between the two it is the device's retention class that decides. 0 = there is no such age.
func agesTaken(cfg *config.Config) (oldest, certain time.Duration) {
	all := classes(cfg)
	least := func(age time.Duration) time.Duration {
		if m := cfg.Limits.MaxAge; age == 0 || m != 0 && m < age {
			return m
		}
		return age
	}
	return least(all.Longest().Readings), least(all.Shortest().Readings)
}

// Ready implements api.Health.
func (n *node) Ready(ctx context.Context) []string {
	var not []string
	select {
	case <-n.draining:
		not = append(not, "the member is handing over its shards")
	default:
	}
	if n.cluster != nil {
		not = append(not, n.cluster.ready(n.member)...)
	} else if starting := n.member.Starting(); len(starting) > 0 {
		not = append(not, fmt.Sprintf("%d of %d shards are starting", len(starting), n.cfg.Shards))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := n.archive.Ping(ctx); err != nil {
		not = append(not, "the archive takes nothing now: "+err.Error())
	} else if slices.Contains(n.metrics.Failing("archive"), "append") {
		not = append(not, "the archive can be reached, but takes no readings now; the log says why")
	}
	if disk := n.streams.Disk(); disk.Refusing {
		not = append(not, fmt.Sprintf("the disk is nearly full: %d of %d MiB are free, and below %d %% publishers are refused; make room, nothing else is to be done",
			disk.Free>>20, disk.Total>>20, n.cfg.Limits.DiskFree))
	}
	if n.streams.Disk().Off {
		not = append(not, "the stream could not be written and takes nothing now: it is started again when the disk has room")
	}
	if err := n.streams.Ping(ctx); err != nil {
		not = append(not, "the stream cannot be reached: "+err.Error())
	}
	return not
}

// close hands over and ends all parts, the last opened first.
func (n *node) close() {
	close(n.draining)
	n.closeParts()
}

func (n *node) closeParts() {
	n.end()
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.serving.Wait()
}
