// Package config reads a member's configuration: a YAML file, then the environment, then flags; the
// later wins. Every key stands in one table (Keys) with its default, unit, what zero means and what
// happens when a limit is hit; the documentation is made of that table (Markdown).
//
// In the file a key may be written nested or with dots (`limits: {body: 1MiB}` or `limits.body: 1MiB`).
// In the environment it is WELLHEAD_ and the key in capitals, dots and dashes as underscores.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Config is everything that can be configured, typed. See Keys for what each means.
type Config struct {
	Name string
	Data string

	HTTP, NATS, MQTT, WebSocket string // addresses to listen on; empty = off
	HTTPHosts                   []string
	Profiles                    string // address of net/http/pprof, loopback only; empty = off
	HTTPAnonymous               bool   // HTTP may be reached from outside though it knows no rights yet
	Credentials                 bool   // sites must show credentials, so NATS and MQTT may listen on other addresses than loopback
	Cluster, Advertise          string
	Secret                      string // what members of the cluster must know; empty = nothing
	Joins                       *Join  // what the join token says; nil = there is none

	Stream    Stream
	Archive   string // "pebble" or "cassandra"
	Layout    string // "rows" or "chunks"
	Snapshots string // "pebble" or "redis"
	Shards    int
	Events    string // "asked", "all" or "none"

	Rejects Rejects

	// Retention and RollupRetention are how long readings and rollups are kept, by retention class; 0 = for ever.
	Retention, RollupRetention map[string]time.Duration

	Limits    Limits
	Window    Window
	Work      Work
	Cassandra Cassandra
	Redis     Redis
	Pebble    Pebble
	Log       Log

	// Unknown are variables of the environment that begin like ours and are none of ours, to be warned
	// of. They are no errors: a container platform sets such ones for a service of our name.
	Unknown []string
	// File is where the configuration came from; empty = no file.
	File string

	given map[string]string // what was not left at its default, as it was written
}

// Stream says where the stream is and how it is kept.
type Stream struct {
	Server    string        // "embedded" or URLs of an outside server, separated by commas
	Sync      time.Duration // of the embedded server's files; 0 = always, before each acknowledgement
	MaxBytes  int64         // of each shard's stream
	Replicas  int
	User      string
	Password  string
	Creds     string // file
	CA        string // file; empty = what the system trusts
	Cert, Key string // files; empty = no client certificate
}

// Rejects bounds what is kept in rejects.
type Rejects struct {
	MaxBytes int64
	MaxAge   time.Duration
}

// Limits bound what may wait or come in.
type Limits struct {
	InFlight    int64
	Unstored    int64 // of a site
	Body        int64
	Bodies      int64
	LiveBuffer  int64
	DiskFree    int
	DiskReserve int
	Listeners   int
	Exports     int
	Export      time.Duration
	Query       time.Duration
	Ingest      time.Duration
	Stored      time.Duration
	MaxFuture   time.Duration
	MaxAge      time.Duration
}

// Window holds the fleet's defaults of what sites and devices may set for themselves.
type Window struct {
	Count            int
	Age              time.Duration
	ExpectedInterval time.Duration
	OfflineAfter     time.Duration
}

// Work says how the shards pace themselves.
type Work struct {
	FlushAge        time.Duration
	FlushIdle       time.Duration
	FlushBytes      int64
	FlushParallel   int
	SnapshotWithin  time.Duration
	CheckpointEvery time.Duration
	PassivateAfter  time.Duration
	RetireAfter     time.Duration
	RetireIdle      time.Duration
	PurgeBytes      int64
	PurgeEvery      time.Duration
}

// Cassandra says where the archive is when it is Cassandra or ScyllaDB.
type Cassandra struct {
	Hosts              []string
	Keyspace           string
	Replication        map[string]int // copies by data center
	Consistency        string
	DataCenter         string
	Groups             int
	Bucket             time.Duration
	Retention          time.Duration
	RollupRetention    time.Duration
	Username, Password string
	TLS                TLS
	Timeout            time.Duration
	InFlight           int
	OpenChunks         int64
}

// Redis says where the snapshots are when they are in Redis.
type Redis struct {
	Addresses          []string
	Prefix             string
	Username, Password string
	Database           int
	Cluster            bool   // a Redis cluster, also with one address
	Master             string // name of the master that the sentinels at Addresses watch
	SentinelUsername   string
	SentinelPassword   string
	TLS                TLS
}

// TLS says how a store is reached with TLS: PEM files, empty = what the system trusts, and no certificate.
type TLS struct {
	On            bool
	CA, Cert, Key string
}

// Pebble bounds the embedded databases.
type Pebble struct {
	Cache    int64 // bytes
	Memtable int64 // bytes; of the archive, the snapshots' is a quarter of it
	SyncMax  time.Duration
}

// Log says how the log looks.
type Log struct {
	Format, Level string
}

// Problem is one mistake in a configuration, with where it stands. Line is 0 when it is in no file.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Default returns the configuration of a member that was told nothing.
func Default() *Config {
	c, problems := build(nil)
	if len(problems) > 0 {
		panic(fmt.Sprintf("config: the defaults are wrong: %v", problems))
	}
	return c
}

// Load reads the file (empty = none), the environment (as os.Environ gives it) and the flags (key
// without dashes in front, only those that were given). The error holds every Problem.
func Load(file string, env []string, flags map[string]string) (*Config, error) {
	layers, problems := []layer(nil), []Problem(nil)
	if file != "" {
		l, p := readFile(file)
		layers, problems = append(layers, l), append(problems, p...)
	}
	fromEnv, unknown := readEnv(env)
	fromFlags := layer{}
	for k, v := range flags {
		if keyOf(k) == nil {
			problems = append(problems, Problem{Key: "--" + k, Message: "there is no such setting" + didYouMean(k)})
			continue
		}
		fromFlags[k] = value{text: v, from: Problem{Key: "--" + k}}
	}
	layers = append(layers, fromEnv, fromFlags)
	join, fromJoin, wrong := joinLayer(layers)
	if wrong != nil {
		problems = append(problems, *wrong)
	}
	c, p := build(append([]layer{fromJoin}, layers...))
	if problems = append(problems, p...); len(problems) > 0 {
		return nil, joined(problems)
	}
	c.Unknown, c.File, c.Joins = unknown, file, join
	return c, nil
}

// Check reads one file and returns all that is wrong with it, in the order of its lines; the other
// keys are taken at their defaults.
func Check(file string) []Problem {
	l, problems := readFile(file)
	_, p := build([]layer{l})
	problems = append(problems, p...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return problems
}

func joined(problems []Problem) error {
	errs := make([]error, len(problems))
	for i := range problems {
		errs[i] = problems[i]
	}
	return errors.Join(errs...)
}

// value is a setting as it was written, with where it stands.
type value struct {
	text string
	from Problem // without a message
}

// layer is what one source says, by key.
type layer map[string]value

// build puts the layers over the defaults, the last on top, and types the result.
func build(layers []layer) (*Config, []Problem) {
	var problems []Problem
	c := &Config{given: map[string]string{}}
	// The keys hold dots (stream and stream.sync), so they must not be taken apart: no delimiter.
	k := koanf.New("\x00")
	from := make(map[string]Problem)
	for _, l := range layers {
		texts := make(map[string]any, len(l))
		for key, v := range l {
			texts[key], from[key] = v.text, v.from
		}
		if err := k.Load(confmap.Provider(texts, "\x00"), nil); err != nil {
			problems = append(problems, Problem{Message: err.Error()})
		}
	}
	for i := range Keys {
		key := &Keys[i]
		text, where := key.Default, Problem{Key: key.Name}
		if k.Exists(key.Name) {
			text, where = k.String(key.Name), from[key.Name]
			c.given[key.Name] = text
		}
		if err := key.set(c, text); err != nil {
			where.Message = err.Error()
			problems = append(problems, where)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	setFlushAge(c)
	for _, p := range c.contradictions() {
		if where, ok := from[p.Key]; ok {
			where.Message = p.Message
			p = where
		}
		problems = append(problems, p)
	}
	return c, problems
}

// setFlushAge chooses how long rows wait for company when nobody said it. With layout chunks company is
// what makes a write cheap: a row of Cassandra costs the same with one reading and with fifty.
func setFlushAge(c *Config) {
	switch {
	case c.Work.FlushAge > 0:
	case c.Archive == "cassandra" && c.Layout == "chunks":
		c.Work.FlushAge = 5 * time.Second
	default:
		c.Work.FlushAge = time.Second
	}
}

// contradictions finds settings that are good alone and not together.
func (c *Config) contradictions() []Problem {
	var out []Problem
	say := func(bad bool, key, message string) {
		if bad {
			out = append(out, Problem{Key: key, Message: message})
		}
	}
	say(c.Archive == "cassandra" && len(c.Cassandra.Hosts) == 0, "cassandra.hosts", "archive is cassandra, so name at least one host")
	say(c.Snapshots == "redis" && len(c.Redis.Addresses) == 0, "redis.addresses", "snapshots is redis, so name its address")
	say(c.Stream.Creds != "" && c.Stream.User != "", "stream.creds", "stream.user is given too; use one of them")
	say((c.Stream.Cert == "") != (c.Stream.Key == ""), "stream.tls.cert", "give stream.tls.cert and stream.tls.key together")
	for _, store := range []struct {
		name string
		tls  TLS
	}{{"cassandra", c.Cassandra.TLS}, {"redis", c.Redis.TLS}} {
		t := store.tls
		say((t.Cert == "") != (t.Key == ""), store.name+".tls.cert", fmt.Sprintf("give %s.tls.cert and %s.tls.key together", store.name, store.name))
		say(!t.On && t.CA+t.Cert+t.Key != "", store.name+".tls", fmt.Sprintf("files for TLS are given, and it is off: set %s.tls: true", store.name))
	}
	say(c.Redis.Master != "" && c.Redis.Cluster, "redis.cluster", "redis.master is given too: sentinels watch single servers, a cluster does without them; use one of them")
	say(c.Redis.Master == "" && c.Redis.SentinelUsername+c.Redis.SentinelPassword != "", "redis.sentinel-password", "it is for sentinels: name the master that they watch with redis.master")
	say((c.Redis.Cluster || c.Redis.Master == "" && len(c.Redis.Addresses) > 1) && c.Redis.Database != 0, "redis.database", "a Redis cluster has only database 0")
	say(c.Limits.Body > c.Limits.Bodies, "limits.body", "one body may be larger than limits.bodies, which all share; raise that one")
	say(c.Secret != "" && len(c.Secret) < 16, "cluster.secret", "it could be guessed: at least 16 characters")
	say(c.Advertise != "" && c.Cluster == "" && c.given["join"] == "", "advertise", "it says where other members reach this one, which cluster has it listen for; set that too")
	if c.Cluster != "" {
		var set []string
		for _, part := range []struct {
			alone    bool
			set, too string
		}{
			{c.Stream.Server == "embedded", "stream: nats://host:port", ""},
			{c.Archive != "cassandra", "archive: cassandra", "cassandra.hosts"},
			{c.Snapshots != "redis", "snapshots: redis", "redis.addresses"},
		} {
			if part.alone {
				set = append(set, strings.TrimSuffix(part.set+" and "+part.too, " and "))
			}
		}
		say(len(set) > 0, "cluster", "the members of a cluster share their stream, archive and snapshots, and what is embedded only this one can reach: set "+strings.Join(set, ", "))
		host, _, _ := net.SplitHostPort(c.Cluster)
		ip := net.ParseIP(host)
		say(c.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()), "cluster", "it listens everywhere, so say with advertise under which host name the other members reach this one")
	}
	out = append(out, c.exposed()...)
	return out
}

// readEnv picks our variables. Those of tests are not ours.
func readEnv(env []string) (l layer, unknown []string) {
	names := make(map[string]string, len(Keys))
	for i := range Keys {
		names[Keys[i].Env()] = Keys[i].Name
	}
	l = layer{}
	for _, pair := range env {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "WELLHEAD_") || strings.HasPrefix(name, "WELLHEAD_TEST_") {
			continue
		}
		if key, ok := names[name]; ok {
			l[key] = value{text: text, from: Problem{Key: name}}
		} else if name != "WELLHEAD_CONFIG" { // names the file: the caller's business
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return l, unknown
}

// readFile reads a YAML file into a layer.
func readFile(file string) (layer, []Problem) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, []Problem{{File: file, Message: "cannot be read: " + cause(err)}}
	}
	return parse(file, text)
}

func cause(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// Names returns every key, sorted.
func Names() []string {
	names := make(map[string]bool, len(Keys))
	for i := range Keys {
		names[Keys[i].Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
