package cassandra

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/persistence"
)

// Options says where the archive is and how it is laid out. Shards, Groups, Bucket and Layout are fixed when
// the data is created; opening it with others is refused.
type Options struct {
	Hosts    []string // host or host:port of at least one server; the others are found. Port 9042 if none is named
	Keyspace string   // created if missing; 1-48 characters of [a-z0-9_], a letter first. Default: wellhead

	// Replication is the number of copies in each data center ({"dc1": 3}); used when the keyspace is
	// created, not afterwards. Default: one copy in each data center, which no server's loss survives.
	Replication map[string]int
	// Consistency of reads and writes, as Cassandra names it. Default: LOCAL_QUORUM.
	Consistency string
	// DataCenter whose servers are asked, and no others even when none of them answers. Default: all; refused where
	// several have copies and Consistency is a LOCAL_ one.
	DataCenter string

	Shards int           // number of shards of the cluster. Default: 64
	Groups int           // groups a shard, see Plan. Default: 1
	Bucket time.Duration // length of a bucket, whole seconds, see Plan. Default: an hour

	// Layout says how readings are stored: Rows, one row each, or Chunks, many readings of one device
	// compressed in one row. Default: Rows.
	Layout string
	// OpenChunks bounds, in bytes, the chunks that are remembered so that they can grow (layout Chunks).
	// Where there is no room a device's next readings begin another chunk. Default and meaning of 0: 64 MiB.
	OpenChunks int

	// Retention is how long a reading is kept from its event time on, at most 20 years less Bucket.
	// What is older on arrival is refused. Default and meaning of 0: for ever.
	Retention time.Duration
	// RollupRetention is the same for rollups, but they are never refused. Default and meaning of 0: as Retention.
	RollupRetention time.Duration
	// Classes are the retention classes that devices are in; the default one, where it is not named, is the
	// two above. Each age as those; the windows of compaction go by the default class.
	Classes persistence.Classes

	Username, Password string
	TLS                *tls.Config   // nil = no TLS
	Timeout            time.Duration // of one request. Default: 10 s
	// MaxInFlight bounds the write requests under way, of all calls together; more wait. Default: 64
	// (measured: as fast as 256, and 1024 is slower).
	MaxInFlight int
	Connections int // to each server. Default: 2
	// Logger gets warnings and what the driver says (level debug). Default: slog.Default.
	Logger *slog.Logger
}

// Layouts of readings.
const (
	Rows   = "rows"
	Chunks = "chunks"
)

const (
	// maxTTL is what Cassandra takes: 20 years, in seconds.
	maxTTL = 20 * 365 * 24 * 60 * 60
	// rowBytes is what a reading of 4 channels takes on disk (measured: 34 B compressed).
	rowBytes = 34
	// partitionBytes is what Plan aims at: far below the 100 MB that hurt, as devices come and go and
	// some send more channels than others.
	partitionBytes = 10 << 20
)

// Plan returns the groups a shard and the bucket length for an expected rate (readings/s of the whole
// fleet): an hour and as many groups as keep a partition at about 10 MB; for a slow fleet one group and
// up to a day.
func Plan(readingsPerSecond float64, shards int) (groups int, bucket time.Duration) {
	perShard := max(readingsPerSecond, 0) * rowBytes / float64(max(shards, 1)) // bytes a second
	const hour = 3600
	if need := math.Ceil(perShard * hour / partitionBytes); need > 1 {
		return int(min(need, math.MaxInt16)), time.Hour
	}
	for _, hours := range []int{24, 12, 6, 3, 2} {
		if perShard*hour*float64(hours) <= partitionBytes {
			return 1, time.Duration(hours) * time.Hour
		}
	}
	return 1, time.Hour
}

var (
	validKeyspace   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)
	validDataCenter = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

// complete returns o with its defaults, or says what is wrong with it.
func (o Options) complete() (Options, error) {
	setDefault(&o.Keyspace, "wellhead")
	setDefault(&o.Consistency, "LOCAL_QUORUM")
	setDefault(&o.Shards, 64)
	setDefault(&o.Groups, 1)
	setDefault(&o.Bucket, time.Hour)
	setDefault(&o.Layout, Rows)
	setDefault(&o.OpenChunks, 64<<20)
	setDefault(&o.RollupRetention, o.Retention)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.MaxInFlight, 64)
	setDefault(&o.Connections, 2)
	setDefault(&o.Logger, slog.Default())
	o.Classes = maps.Clone(o.Classes)
	if age, ok := o.Classes[persistence.DefaultClass]; ok {
		o.Retention, o.RollupRetention = age.Readings, age.Rollups
	} else {
		if o.Classes == nil {
			o.Classes = make(persistence.Classes, 1)
		}
		o.Classes[persistence.DefaultClass] = persistence.Age{Readings: o.Retention, Rollups: o.RollupRetention}
	}
	maxRetention := maxTTL*time.Second - o.Bucket
	for name, age := range o.Classes {
		if age.Readings < 0 || age.Readings > maxRetention || age.Rollups < 0 || age.Rollups > maxRetention {
			return o, fmt.Errorf("retention class %s: %v, rollups %v: want 0 (for ever) to %v", name, age.Readings, age.Rollups, maxRetention)
		}
	}
	switch {
	case len(o.Hosts) == 0:
		return o, errors.New("no hosts given: name at least one server")
	case !validKeyspace.MatchString(o.Keyspace):
		return o, fmt.Errorf("keyspace %q: want 1-48 characters of a-z, 0-9 and _, beginning with a letter", o.Keyspace)
	case o.Shards < 1 || o.Shards > math.MaxInt16 || o.Groups < 1 || o.Groups > math.MaxInt16:
		return o, fmt.Errorf("%d shards, %d groups: want 1-%d of each", o.Shards, o.Groups, math.MaxInt16)
	case o.Bucket < time.Second || o.Bucket%time.Second != 0 || o.Bucket > 365*24*time.Hour:
		return o, fmt.Errorf("bucket of %v: want whole seconds, at most a year", o.Bucket)
	case o.Layout != Rows && o.Layout != Chunks:
		return o, fmt.Errorf("layout %q: want %s or %s", o.Layout, Rows, Chunks)
	case o.Retention < 0 || o.Retention > maxRetention || o.RollupRetention < 0 || o.RollupRetention > maxRetention:
		return o, fmt.Errorf("retention of %v, of rollups %v: want 0 (for ever) to %v", o.Retention, o.RollupRetention, maxRetention)
	case o.Timeout < 0 || o.MaxInFlight < 1 || o.Connections < 1 || o.OpenChunks < 1:
		return o, fmt.Errorf("timeout %v, %d in flight, %d connections, %d bytes of open chunks: want more than 0", o.Timeout, o.MaxInFlight, o.Connections, o.OpenChunks)
	}
	for center, copies := range o.Replication {
		if !validDataCenter.MatchString(center) || copies < 1 {
			return o, fmt.Errorf("replication %q: %d: want the name of a data center and at least 1 copy", center, copies)
		}
	}
	return o, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// replication is the map in the keyspace's definition.
func (o Options) replication() string {
	if len(o.Replication) == 0 {
		return `{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}`
	}
	parts := []string{`'class': 'NetworkTopologyStrategy'`}
	for center, copies := range o.Replication {
		parts = append(parts, fmt.Sprintf("'%s': %d", center, copies))
	}
	slices.Sort(parts[1:])
	return "{" + strings.Join(parts, ", ") + "}"
}

// compactionWindow is in hours: about 30 windows in the retention, at least a bucket; 30 days without a retention.
func compactionWindow(retention, bucket time.Duration) int {
	if retention == 0 {
		return 30 * 24
	}
	return int(math.Ceil(max(retention/30, bucket).Hours()))
}

// cluster is the driver's configuration, without a keyspace.
func (o Options) cluster() (*gocql.ClusterConfig, error) {
	consistency, err := gocql.ParseConsistencyWrapper(o.Consistency)
	if err != nil {
		return nil, fmt.Errorf("consistency %q: %w", o.Consistency, err)
	}
	c := gocql.NewCluster(o.Hosts...)
	// Servers that are found by asking one are taken to listen on the same port.
	if _, port, err := net.SplitHostPort(o.Hosts[0]); err == nil {
		if c.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("host %q: port: %w", o.Hosts[0], err)
		}
	}
	c.ProtoVersion = 4
	c.Consistency = consistency
	c.SerialConsistency = gocql.LocalSerial
	c.Timeout, c.ConnectTimeout, c.WriteTimeout = o.Timeout, o.Timeout, o.Timeout
	c.NumConns = o.Connections
	c.DefaultTimestamp = false // every write says its own
	c.ReconnectInterval = time.Second
	c.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 3, Interval: time.Second}
	c.PageSize = pageSize
	c.MaxPreparedStmts = 1000
	c.Logger = driverLog{o.Logger}
	fallback := gocql.RoundRobinHostPolicy()
	if o.DataCenter != "" {
		fallback = gocql.DCAwareRoundRobinPolicy(o.DataCenter)
		// Without it the driver asks the others when none of these answers, whose LOCAL_QUORUM is another.
		c.HostFilter = gocql.DataCentreHostFilter(o.DataCenter)
	}
	c.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(fallback, gocql.ShuffleReplicas())
	if o.Username != "" {
		c.Authenticator = gocql.PasswordAuthenticator{Username: o.Username, Password: o.Password}
	}
	if o.TLS != nil {
		c.SslOpts = &gocql.SslOptions{Config: o.TLS, EnableHostVerification: !o.TLS.InsecureSkipVerify}
	}
	return c, nil
}

// driverLog hands what the driver says to slog. It says much about every lost connection; what matters
// of it comes back as errors.
type driverLog struct{ log *slog.Logger }

func (l driverLog) Print(v ...any) { l.say(func() string { return fmt.Sprint(v...) }) }

func (l driverLog) Printf(format string, v ...any) {
	l.say(func() string { return fmt.Sprintf(format, v...) })
}

func (l driverLog) Println(v ...any) { l.say(func() string { return fmt.Sprintln(v...) }) }

func (l driverLog) say(text func() string) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("cassandra driver", "text", strings.TrimSpace(text()))
	}
}
