package redis

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Options says where the snapshots are.
type Options struct {
	Addrs   []string // host:port; several: a Redis cluster, or with Master the sentinels. Default: 127.0.0.1:6379
	Cluster bool     // Addrs are of a Redis cluster, however many
	Master  string   // name of the master that sentinels watch; "" = no sentinels
	DB      int      // not in a Redis cluster

	Username, Password string
	// SentinelUsername and SentinelPassword are for the sentinels themselves.
	SentinelUsername, SentinelPassword string
	TLS                                *tls.Config // nil = no TLS

	// Prefix begins every key, so that several Wellhead clusters can share a server: 1-64 characters of
	// [A-Za-z0-9_.:-]. Default: wellhead.
	Prefix      string
	Timeout     time.Duration // of one request. Default: 5 s
	Connections int           // most connections to a server; more calls wait for Timeout. Default: 10
	Logger      *slog.Logger  // default: slog.Default
}

const (
	// maxGet is the devices of one HMGET, scanCount the snapshots of one page.
	maxGet    = 1000
	scanCount = 250
	// sequenceBytes is how long the stream sequence before the data is.
	sequenceBytes = 8
)

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

// Snapshots keeps snapshots in Redis. It implements persistence.Snapshots.
type Snapshots struct {
	client redis.UniversalClient
	prefix string
	log    *slog.Logger
}

var _ persistence.Snapshots = (*Snapshots)(nil)

// Open checks the options. It does not connect (a shard can start without snapshots): see Ping.
func Open(o Options) (*Snapshots, error) {
	if o.Prefix == "" {
		o.Prefix = "wellhead"
	}
	if !validPrefix.MatchString(o.Prefix) {
		return nil, fmt.Errorf("redis snapshots: prefix %q: want 1-64 characters of A-Z, a-z, 0-9 and _.:-", o.Prefix)
	}
	if o.Timeout < 0 || o.Connections < 0 || o.DB < 0 {
		return nil, fmt.Errorf("redis snapshots: timeout %v, %d connections, db %d: want none below 0", o.Timeout, o.Connections, o.DB)
	}
	if o.Cluster && (o.Master != "" || o.DB != 0) {
		return nil, fmt.Errorf("redis snapshots: a cluster with master %q, db %d: it has neither sentinels nor databases", o.Master, o.DB)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Connections == 0 {
		o.Connections = 10
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	setLogger.Do(func() { redis.SetLogger(driverLog{o.Logger}) })
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: o.Addrs, MasterName: o.Master, DB: o.DB, IsClusterMode: o.Cluster,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLS,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		ContextTimeoutEnabled: true,
		DialerRetries:         1, // the caller tries again
		PoolSize:              o.Connections,
		// These are a hosted product's; other servers answer with an error.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return &Snapshots{client: client, prefix: o.Prefix, log: o.Logger}, nil
}

// setLogger: the driver has one logger for the whole process; the first store's is taken.
var setLogger sync.Once

// driverLog hands what the driver says to slog. It speaks of every failed dial; what matters of it
// comes back as errors.
type driverLog struct{ log *slog.Logger }

func (l driverLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis driver", "text", fmt.Sprintf(format, v...))
	}
}

// Ping asks the server.
func (s *Snapshots) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	return nil
}

// Close ends all connections. Calls under way fail.
func (s *Snapshots) Close() error { return s.client.Close() }

func (s *Snapshots) key(shard messages.Shard, name string) string {
	return s.prefix + ":{s" + strconv.Itoa(int(shard)) + "}:" + name
}

func (s *Snapshots) snapshotsKey(shard messages.Shard, generation uint64) string {
	return s.key(shard, "snapshots:"+strconv.FormatUint(generation, 10))
}

// number is a number as the scripts compare it.
func number[T ~uint64](n T) string { return fmt.Sprintf("%020d", uint64(n)) }

// Fence: see persistence.Snapshots.
func (s *Snapshots) Fence(ctx context.Context, shard messages.Shard) (messages.Epoch, error) {
	text, err := s.get(ctx, s.key(shard, "fence"))
	if err != nil || text == "" {
		return 0, err
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("fence of shard %d: %w", shard, err)
	}
	return messages.Epoch(epoch), nil
}

// RaiseFence: see persistence.Snapshots.
func (s *Snapshots) RaiseFence(ctx context.Context, shard messages.Shard, epoch messages.Epoch) error {
	return s.run(ctx, "raise the fence", shard, call{raiseScript, []string{s.key(shard, "fence")}, []any{number(epoch)}})
}

// Marker: see persistence.Snapshots.
func (s *Snapshots) Marker(ctx context.Context, shard messages.Shard) (persistence.Marker, error) {
	text, err := s.get(ctx, s.key(shard, "marker"))
	if err != nil || text == "" {
		return persistence.Marker{}, err
	}
	var m persistence.Marker
	if _, err := fmt.Sscanf(text, "%d:%d:%d", &m.Generation, &m.Snapshotted, &m.Puts); err != nil {
		return persistence.Marker{}, fmt.Errorf("marker of shard %d: %w", shard, err)
	}
	return m, nil
}

func markerText(m persistence.Marker) string {
	if m == (persistence.Marker{}) {
		return ""
	}
	return number(m.Generation) + ":" + number(m.Snapshotted) + ":" + number(m.Puts)
}

// PutMarker succeeds also when the stored marker is the new one already. See persistence.Snapshots.
func (s *Snapshots) PutMarker(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker persistence.Marker) error {
	return s.run(ctx, "put the marker", shard, call{
		markerScript,
		[]string{s.key(shard, "fence"), s.key(shard, "marker")},
		[]any{number(epoch), markerText(old), markerText(marker)},
	})
}

// Put stores the snapshots and moves the marker in one script. See persistence.Snapshots.
func (s *Snapshots) Put(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker persistence.Marker, snapshots []persistence.Snapshot) error {
	if len(snapshots) > persistence.MaxPut {
		return fmt.Errorf("put snapshots: %d at once, at most %d are allowed", len(snapshots), persistence.MaxPut)
	}
	keys := []string{s.key(shard, "fence"), s.key(shard, "marker"), s.key(shard, "generations"), s.snapshotsKey(shard, marker.Generation)}
	args := append(make([]any, 0, 4+2*len(snapshots)), number(epoch), markerText(old), markerText(marker), number(marker.Generation))
	for i := range snapshots {
		args = append(args, field(snapshots[i].Device), value(&snapshots[i]))
	}
	return s.run(ctx, "put snapshots", shard, call{putScript, keys, args})
}

func field(id messages.DeviceID) string { return id.Site + "/" + id.Device }

func value(one *persistence.Snapshot) []byte {
	b := make([]byte, 0, sequenceBytes+len(one.Data))
	b = binary.BigEndian.AppendUint64(b, one.Sequence)
	return append(b, one.Data...)
}

// Remove: see persistence.Snapshots.
func (s *Snapshots) Remove(ctx context.Context, shard messages.Shard, epoch messages.Epoch, generation uint64, ids []messages.DeviceID) error {
	keys := []string{s.key(shard, "fence"), s.snapshotsKey(shard, generation)}
	for len(ids) > 0 {
		n := min(len(ids), maxGet)
		args := []any{number(epoch)}
		for _, id := range ids[:n] {
			args = append(args, field(id))
		}
		if err := s.run(ctx, "remove snapshots", shard, call{removeScript, keys, args}); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return ctx.Err()
}

// Drop: see persistence.Snapshots.
func (s *Snapshots) Drop(ctx context.Context, shard messages.Shard, epoch messages.Epoch, below uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	generations, err := s.client.SMembers(ctx, s.key(shard, "generations")).Result()
	if err != nil {
		return fmt.Errorf("list the generations of shard %d: %w", shard, err)
	}
	keys := []string{s.key(shard, "fence"), s.key(shard, "generations")}
	args := []any{number(epoch)}
	for _, text := range generations {
		generation, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("generation of shard %d: %w", shard, err)
		}
		if generation < below {
			keys, args = append(keys, s.snapshotsKey(shard, generation)), append(args, text)
		}
	}
	return s.run(ctx, "drop snapshots", shard, call{dropScript, keys, args})
}

// Get takes one round trip for each 1000 devices. See persistence.Snapshots.
func (s *Snapshots) Get(ctx context.Context, shard messages.Shard, generation uint64, ids []messages.DeviceID) ([]persistence.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := make([]persistence.Snapshot, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), maxGet)
		fields := make([]string, n)
		for i, id := range ids[:n] {
			fields[i] = field(id)
		}
		values, err := s.client.HMGet(ctx, s.snapshotsKey(shard, generation), fields...).Result()
		if err != nil {
			return nil, fmt.Errorf("get %d snapshots of shard %d: %w", n, shard, err)
		}
		for i, v := range values {
			if text, ok := v.(string); ok {
				if one, ok := s.snapshot(ids[i], text); ok {
					found = append(found, one)
				}
			}
		}
		ids = ids[n:]
	}
	return found, nil
}

// snapshot takes a value apart. One that is too short is as good as none: the device is rebuilt.
func (s *Snapshots) snapshot(id messages.DeviceID, text string) (persistence.Snapshot, bool) {
	if len(text) < sequenceBytes {
		s.log.Warn("snapshot is broken and left out", "site", id.Site, "device", id.Device, "bytes", len(text))
		return persistence.Snapshot{}, false
	}
	data := []byte(text)
	return persistence.Snapshot{Device: id, Sequence: binary.BigEndian.Uint64(data), Data: data[sequenceBytes:]}, true
}

// Scan gives each device once; of one that is put meanwhile the old or the new snapshot. See persistence.Snapshots.
func (s *Snapshots) Scan(ctx context.Context, shard messages.Shard, generation uint64, fn func(persistence.Snapshot) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seen := make(map[string]struct{}) // the server gives some twice while its table grows
	for cursor := uint64(0); ; {
		page, next, err := s.client.HScan(ctx, s.snapshotsKey(shard, generation), cursor, "", scanCount).Result()
		if err != nil {
			return fmt.Errorf("scan snapshots of shard %d: %w", shard, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			name := page[i]
			if _, again := seen[name]; again {
				continue
			}
			seen[name] = struct{}{}
			site, device, _ := strings.Cut(name, "/")
			one, ok := s.snapshot(messages.DeviceID{Site: site, Device: device}, page[i+1])
			if ok && !fn(one) {
				return nil
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// get returns "" when there is no such key.
func (s *Snapshots) get(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	text, err := s.client.Get(ctx, key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("get %s: %w", key, err)
	}
	return text, nil
}

// call is one call of a script.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// run calls the scripts in one round trip. A server that was restarted has forgotten them: they are
// loaded and all is said again, which is the same.
func (s *Snapshots) run(ctx context.Context, what string, shard messages.Shard, calls ...call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	results, err := s.pipeline(ctx, calls)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		for _, script := range allScripts {
			if err := script.Load(ctx, s.client).Err(); err != nil {
				return fmt.Errorf("%s of shard %d: load a script: %w", what, shard, err)
			}
		}
		results, err = s.pipeline(ctx, calls)
	}
	if err != nil {
		return fmt.Errorf("%s of shard %d: %w", what, shard, err)
	}
	for _, r := range results {
		switch r {
		case done:
		case fenced:
			return fmt.Errorf("%s of shard %d: %w", what, shard, persistence.ErrFenced)
		case conflict:
			return fmt.Errorf("%s of shard %d: %w", what, shard, persistence.ErrConflict)
		default:
			return fmt.Errorf("%s of shard %d: strange answer %d", what, shard, r)
		}
	}
	return nil
}

// pipeline returns what each script answered, or the first error.
func (s *Snapshots) pipeline(ctx context.Context, calls []call) ([]int64, error) {
	commands := make([]*redis.Cmd, len(calls))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range calls {
			commands[i] = c.script.EvalSha(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	results := make([]int64, len(calls))
	for i, c := range commands {
		if results[i], err = c.Int64(); err != nil {
			return nil, err
		}
	}
	return results, nil
}
