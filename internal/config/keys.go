package config

import (
	"fmt"
	"strings"
	"time"
)

// Key is one setting.
type Key struct {
	Name    string
	Default string // as it would be written
	Unit    string // empty = none
	Zero    string // what 0 or empty means; empty = it is not allowed, or nothing special
	Hit     string // what happens when the limit is hit; empty = it is no limit
	Doc     string
	Fixed   bool // chosen when the cluster's data is created, then it stays

	kind string // what is expected: see the makers below
	set  func(*Config, string) error
}

// Env is the key's variable of the environment.
func (k *Key) Env() string {
	return "WELLHEAD_" + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(k.Name))
}

// Keys is every setting, in the order of the documentation.
var Keys = []Key{
	{
		Name: "name", Zero: "the machine's host name", Doc: "Name of this member, in leases and logs.",
		kind: "text", set: text(func(c *Config) *string { return &c.Name }),
	},
	{
		Name: "data", Default: "./data", Doc: "Folder for everything that is kept on this machine.",
		kind: "text", set: required(text(func(c *Config) *string { return &c.Data })),
	},
	{
		Name: "http", Default: "127.0.0.1:8080", Zero: "off", Doc: "Address of the HTTP API and the page. Port 0 picks a free one and prints it.",
		kind: "address", set: address(func(c *Config) *string { return &c.HTTP }),
	},
	{
		Name: "http-hosts", Zero: "any", Doc: "Names that a request's Host header may have, besides IP addresses and localhost.",
		kind: "list", set: list(func(c *Config) *[]string { return &c.HTTPHosts }),
	},
	{
		Name: "nats", Default: "127.0.0.1:4222", Zero: "off", Doc: "Address of the embedded NATS server.",
		kind: "address", set: address(func(c *Config) *string { return &c.NATS }),
	},
	{
		Name: "mqtt", Default: "127.0.0.1:1883", Zero: "off", Doc: "Address of the embedded server's MQTT listener.",
		kind: "address", set: address(func(c *Config) *string { return &c.MQTT }),
	},
	{
		Name: "nats-ws", Zero: "off", Doc: "Address of the embedded server's WebSocket listener.",
		kind: "address", set: address(func(c *Config) *string { return &c.WebSocket }),
	},
	{
		Name: "credentials", Default: "false", Doc: "Sites must show the credential that `wellhead site add` makes. Without it nats, mqtt and nats-ws listen on loopback only.",
		kind: "yes or no", set: truth(func(c *Config) *bool { return &c.Credentials }),
	},
	{
		Name: "http-anonymous", Default: "false", Doc: "Let http listen on other addresses than loopback though it asks nobody who he is: only behind a proxy that does.",
		kind: "yes or no", set: truth(func(c *Config) *bool { return &c.HTTPAnonymous }),
	},
	{
		Name: "debug-pprof", Zero: "off", Doc: "Address, loopback only, where profiles of the program are served (net/http/pprof).",
		kind: "address", set: address(func(c *Config) *string { return &c.Profiles }),
	},
	{
		Name: "cluster", Zero: "one member", Doc: "Address where this member meets the others, host:port. It needs an outside stream, archive and snapshot store, which all members share. Port 0 picks a free one.",
		kind: "address", set: address(func(c *Config) *string { return &c.Cluster }),
	},
	{
		Name: "cluster.secret", Zero: "who has the members' NATS credential can join", Doc: "What every member of the cluster must know, at least 16 characters, the same for all; the first member makes the cluster with it. A join token has it. Better in the environment than in the file.", Fixed: true,
		kind: "text", set: text(func(c *Config) *string { return &c.Secret }),
	},
	{
		Name: "join", Zero: "the one that this member has joined with before, if any", Doc: "Join token, of `wellhead cluster token`: it has all settings that the members share. Settings given here go before it. Better in the environment than on the command line.",
		kind: "text", set: text(func(*Config) *string { return new(string) }),
	},
	{
		Name: "advertise", Zero: "the address of cluster", Doc: "Host name under which the other members reach this one.",
		kind: "text", set: text(func(c *Config) *string { return &c.Advertise }),
	},

	{
		Name: "stream", Default: "embedded", Doc: "embedded, or the URLs of an outside NATS server with JetStream (nats://host:port), separated by commas.",
		kind: "text", set: streamServer,
	},
	{
		Name: "stream.sync", Default: "1s", Doc: "How often the embedded server syncs its files; always = before each acknowledgement (40 times slower). Power loss may take what was acknowledged after the last sync and is not stored yet.",
		kind: "duration", set: streamSync,
	},
	{
		Name: "stream.max-bytes", Default: "0", Unit: "bytes", Zero: "40 % of the free disk by the number of shards, at least 16 MiB", Hit: "publishers are refused until something is stored",
		Doc: "Size of each shard's stream.", kind: "size", set: size(func(c *Config) *int64 { return &c.Stream.MaxBytes }),
	},
	{
		Name: "stream.replicas", Default: "1", Doc: "Copies of each stream: 1, 3 or 5. More than 1 needs as many NATS servers.",
		kind: "number", set: count(func(c *Config) *int { return &c.Stream.Replicas }, 1, 5),
	},
	{Name: "stream.user", Doc: "User at an outside server.", kind: "text", set: text(func(c *Config) *string { return &c.Stream.User })},
	{
		Name: "stream.password", Doc: "Password at an outside server. Better in the environment than in the file.",
		kind: "text", set: text(func(c *Config) *string { return &c.Stream.Password }),
	},
	{
		Name: "stream.creds", Doc: "File with NATS credentials for an outside server.",
		kind: "text", set: text(func(c *Config) *string { return &c.Stream.Creds }),
	},
	{
		Name: "stream.tls.ca", Zero: "what the system trusts", Doc: "PEM file with the authority that signed an outside server's certificate.",
		kind: "text", set: text(func(c *Config) *string { return &c.Stream.CA }),
	},
	{
		Name: "stream.tls.cert", Zero: "none is shown", Doc: "PEM file with the certificate that an outside server is shown; goes with stream.tls.key.",
		kind: "text", set: text(func(c *Config) *string { return &c.Stream.Cert }),
	},
	{
		Name: "stream.tls.key", Doc: "PEM file with the key of stream.tls.cert.",
		kind: "text", set: text(func(c *Config) *string { return &c.Stream.Key }),
	},
	{
		Name: "archive", Default: "pebble", Doc: "Where readings are stored: pebble (in data) or cassandra (also ScyllaDB).", Fixed: true,
		kind: "choice", set: choice(func(c *Config) *string { return &c.Archive }, "pebble", "cassandra"),
	},
	{
		Name: "layout", Default: "rows", Doc: "How Cassandra stores readings: rows, one each; chunks, many of one device compressed together (docs/chunks.md). Pebble always has chunks.", Fixed: true,
		kind: "choice", set: choice(func(c *Config) *string { return &c.Layout }, "rows", "chunks"),
	},
	{
		Name: "snapshots", Default: "pebble", Doc: "Where snapshots are kept: pebble (in data) or redis.",
		kind: "choice", set: choice(func(c *Config) *string { return &c.Snapshots }, "pebble", "redis"),
	},
	{
		Name: "shards", Default: "64", Doc: "Number of shards.", Fixed: true,
		kind: "number", set: count(func(c *Config) *int { return &c.Shards }, 1, 4096),
	},
	{
		Name: "events", Default: "asked", Doc: "When devices publish reading events: asked (while somebody listens), all, none.",
		kind: "choice", set: choice(func(c *Config) *string { return &c.Events }, "asked", "all", "none"),
	},

	{
		Name: "rejects.max-bytes", Default: "0", Unit: "bytes", Zero: "2 % of the free disk when the data is created, 16 MiB to 1 GiB; then as it is", Hit: "the oldest go, and are counted in wellhead_rejects_lost_total",
		Doc: "Size of the stream of rejects; at least 4MiB. It holds a million rejects at most.", kind: "size", set: sizeOr0(func(c *Config) *int64 { return &c.Rejects.MaxBytes }, 4<<20),
	},
	{
		Name: "rejects.max-age", Default: "30d", Zero: "no limit", Hit: "the reject goes, and is counted in wellhead_rejects_lost_total",
		Doc: "How long rejects are kept.", kind: "duration", set: durationOr0(func(c *Config) *dur { return &c.Rejects.MaxAge }, minute),
	},

	{
		Name: "retention", Zero: "for ever", Hit: "the reading is gone; one that is older on arrival is refused",
		Doc:  "Retention classes: how long readings are kept from their event time on, by class: `{default: 0, raw: 90d}`, or default=0,raw=90d; at least 2h. Sites and devices name theirs in their settings; `default` is for those that name none.",
		kind: "durations", set: durations(func(c *Config) *map[string]dur { return &c.Retention }),
	},
	{
		Name: "rollup-retention", Zero: "for ever", Hit: "the rollup is gone",
		Doc:  "The same for rollups, by the same classes. A class that is not named here keeps them for ever.",
		kind: "durations", set: durations(func(c *Config) *map[string]dur { return &c.RollupRetention }),
	},

	{
		Name: "limits.in-flight", Default: "256MiB", Unit: "bytes", Hit: "nothing more is pulled until something is stored; the streams fill, then publishers are told",
		Doc: "What was pulled and is not yet stored, of all shards together, counted as it lies in memory: up to ten times what it was as a message. Changed while running with `wellhead limits set`.", kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Limits.InFlight }, 128<<20),
	},
	{
		Name: "limits.site-unstored", Default: "64MiB", Unit: "bytes", Hit: "who sends for the site waits, or is refused, as he chose; NATS and MQTT connections that do not keep to it are cut",
		Doc: "What a site has sent and is not yet stored. Changed while running with `wellhead limits set`, as limits.in-flight.", kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Limits.Unstored }, 1<<20),
	},
	{
		Name: "limits.body", Default: "16MiB", Unit: "bytes", Hit: "413", Doc: "One HTTP request's body, unpacked; line protocol is taken in parts and has no such limit.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Limits.Body }, 1),
	},
	{
		Name: "limits.bodies", Default: "128MiB", Unit: "bytes", Hit: "a request waits, or gets 429 with Retry-After, as it asks for", Doc: "All HTTP request bodies being worked on together; a site takes half of what is there at most, while it has several.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Limits.Bodies }, 1),
	},
	{
		Name: "limits.disk-free", Default: "5", Unit: "percent of the disk", Hit: "all publishers are refused (HTTP 507) until 1 % more is free, and /readyz says so",
		Doc: "Free space on the disk of data, below which the embedded stream takes nothing more.", kind: "number", set: count(func(c *Config) *int { return &c.Limits.DiskFree }, 1, 90),
	},
	{
		Name: "limits.disk-reserve", Default: "2", Unit: "percent of the disk", Hit: "what is acknowledged stays in the stream until 1 % more is free, and /readyz says so",
		Doc: "Free space on the disk of data, below which the embedded archive and snapshots write nothing.", kind: "number", set: count(func(c *Config) *int { return &c.Limits.DiskReserve }, 1, 89),
	},
	{
		Name: "limits.live-buffer", Default: "1MiB", Unit: "bytes", Hit: "the oldest events are dropped, and the listener is told how many",
		Doc: "What one listener of live events may be behind.", kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Limits.LiveBuffer }, 1),
	},
	{
		Name: "limits.listeners", Default: "256", Hit: "429", Doc: "Connections with live events.",
		kind: "number", set: count(func(c *Config) *int { return &c.Limits.Listeners }, 1, 100_000),
	},
	{
		Name: "limits.exports", Default: "2", Hit: "429; wellhead export tries again for half a minute", Doc: "Exports under way at once. Each holds at most about 8 MiB, and 24 bytes for each device of the site.",
		kind: "number", set: count(func(c *Config) *int { return &c.Limits.Exports }, 1, 1000),
	},
	{
		Name: "limits.export", Default: "1d", Hit: "it is broken off", Doc: "How long one export may take.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Limits.Export }, 1),
	},
	{
		Name: "limits.query", Default: "10s", Hit: "504", Doc: "How long a question may take.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Limits.Query }, 1),
	},
	{
		Name: "limits.ingest", Default: "30s", Hit: "429 when there was no room until then; 504 when it is not known what was taken: send again in both cases", Doc: "How long an HTTP request waits for room and for the stream's acknowledgement.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Limits.Ingest }, 1),
	},
	{
		Name: "limits.stored", Default: "60s", Hit: "504: the readings may still be stored later", Doc: "How long an HTTP request with wait=stored waits.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Limits.Stored }, 1),
	},
	{
		Name: "limits.max-future", Default: "10m", Zero: "no limit", Hit: "the reading is refused", Doc: "How far an event time may be ahead of the arrival time.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Limits.MaxFuture }),
	},
	{
		Name: "limits.max-age", Default: "0", Zero: "no limit", Hit: "the reading is refused", Doc: "How far an event time may be behind the arrival time.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Limits.MaxAge }),
	},

	{
		Name: "window.count", Default: "60", Unit: "readings", Hit: "the oldest leave the window; the archive keeps them", Doc: "Readings that a device holds in memory. Sites and devices may set their own.",
		kind: "number", set: count(func(c *Config) *int { return &c.Window.Count }, 1, 100_000),
	},
	{
		Name: "window.age", Default: "0", Zero: "no limit", Hit: "the oldest leave the window", Doc: "Age in the window, counted from the device's newest event time.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Window.Age }),
	},
	{
		Name: "window.expected-interval", Default: "0", Zero: "unknown", Doc: "Time between two readings of a device. From 30s on there are no minute rollups.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Window.ExpectedInterval }),
	},
	{
		Name: "window.offline-after", Default: "0", Zero: "three expected intervals, or 3m when that is unknown", Doc: "Silence after which a device is offline.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Window.OfflineAfter }),
	},

	{
		Name: "work.flush-age", Default: "0", Zero: "1s, and 5s with Cassandra and layout chunks", Doc: "Longest time that a row waits for company before it goes to the archive.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Work.FlushAge }),
	},
	{
		Name: "work.flush-idle", Default: "1500ms", Doc: "Time without new rows of a shard after which those that wait go to the archive.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.FlushIdle }, 1),
	},
	{
		Name: "work.flush-bytes", Default: "256KiB", Unit: "bytes", Doc: "Size that makes a flush due.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Work.FlushBytes }, 1),
	},
	{
		Name: "work.flush-parallel", Default: "4", Hit: "further flushes wait", Doc: "Flushes of one shard under way at once.",
		kind: "number", set: count(func(c *Config) *int { return &c.Work.FlushParallel }, 1, 1024),
	},
	{
		Name: "work.snapshot-within", Default: "60s", Doc: "Time within which every changed device gets a snapshot, when devices send often; at most three and a half times as long.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.SnapshotWithin }, 1),
	},
	{
		Name: "work.checkpoint-every", Default: "1s", Doc: "Least time between two checkpoints of a shard; a fifth of it when all is stored.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.CheckpointEvery }, 1),
	},
	{
		Name: "work.passivate-after", Default: "15m", Zero: "never", Doc: "Idle time after which an offline device leaves memory.",
		kind: "duration", set: duration(func(c *Config) *dur { return &c.Work.PassivateAfter }),
	},
	{
		Name: "work.retire-after", Default: "10m", Doc: "Silence after which the account of a producer's run moves to the archive, when the producer has begun another run.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.RetireAfter }, time.Millisecond),
	},
	{
		Name: "work.retire-idle", Default: "24h", Doc: "The same for any run. Runs are looked at when one begins.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.RetireIdle }, time.Millisecond),
	},
	{
		Name: "work.purge-bytes", Default: "8MiB", Unit: "bytes", Doc: "What must have gathered for a purge of the stream.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Work.PurgeBytes }, 1),
	},
	{
		Name: "work.purge-every", Default: "10s", Doc: "Time after which a purge is due whatever has gathered.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Work.PurgeEvery }, 1),
	},

	{
		Name: "cassandra.hosts", Doc: "Hosts, or host:port, of some of the servers; the others are found.",
		kind: "list", set: list(func(c *Config) *[]string { return &c.Cassandra.Hosts }),
	},
	{
		Name: "cassandra.keyspace", Default: "wellhead", Doc: "Keyspace; made when it is missing.", Fixed: true,
		kind: "text", set: required(text(func(c *Config) *string { return &c.Cassandra.Keyspace })),
	},
	{
		Name: "cassandra.replication", Zero: "one copy in each data center", Doc: "Copies by data center, used when the keyspace is made: `{dc1: 3}`, or dc1=3,dc2=3.",
		kind: "numbers", set: numbers(func(c *Config) *map[string]int { return &c.Cassandra.Replication }),
	},
	{
		Name: "cassandra.consistency", Default: "LOCAL_QUORUM", Doc: "Consistency of reads and writes: what counts as stored.",
		kind: "choice", set: choice(func(c *Config) *string { return &c.Cassandra.Consistency }, "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL", "LOCAL_ONE", "ONE", "TWO", "THREE"),
	},
	{
		Name: "cassandra.data-center", Zero: "all; refused when several have copies", Doc: "Data center whose servers are asked, and no others.",
		kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.DataCenter }),
	},
	{
		Name: "cassandra.groups", Default: "1", Doc: "Groups of a shard: devices of one group share a partition.", Fixed: true,
		kind: "number", set: count(func(c *Config) *int { return &c.Cassandra.Groups }, 1, 1024),
	},
	{
		Name: "cassandra.bucket", Default: "1h", Doc: "Time slice of a partition; with groups, keep partitions at about 10 MB.", Fixed: true,
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Cassandra.Bucket }, minute),
	},
	{
		Name: "cassandra.retention", Default: "0", Zero: "for ever", Hit: "the reading is gone; one that is older on arrival is refused", Doc: "How long readings are kept, from their event time on.",
		kind: "duration", set: durationOr0(func(c *Config) *dur { return &c.Cassandra.Retention }, shortestKept),
	},
	{
		Name: "cassandra.rollup-retention", Default: "0", Zero: "as cassandra.retention", Doc: "How long rollups are kept.",
		kind: "duration", set: durationOr0(func(c *Config) *dur { return &c.Cassandra.RollupRetention }, shortestKept),
	},
	{Name: "cassandra.username", Doc: "User name.", kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.Username })},
	{Name: "cassandra.password", Doc: "Password. Better in the environment than in the file.", kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.Password })},
	{Name: "cassandra.tls", Default: "false", Doc: "Connect with TLS; the server's certificate must name the host.", kind: "yes or no", set: truth(func(c *Config) *bool { return &c.Cassandra.TLS.On })},
	{Name: "cassandra.tls.ca", Zero: "what the system trusts", Doc: "PEM file with the authority that signed Cassandra's certificates.", kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.TLS.CA })},
	{Name: "cassandra.tls.cert", Zero: "none is shown", Doc: "PEM file with the certificate that Cassandra is shown; goes with cassandra.tls.key.", kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.TLS.Cert })},
	{Name: "cassandra.tls.key", Doc: "PEM file with the key of cassandra.tls.cert.", kind: "text", set: text(func(c *Config) *string { return &c.Cassandra.TLS.Key })},
	{
		Name: "cassandra.timeout", Default: "10s", Hit: "the write is tried again", Doc: "Time for one request.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Cassandra.Timeout }, 1),
	},
	{
		Name: "cassandra.in-flight", Default: "64", Hit: "further ones wait", Doc: "Write requests under way at once.",
		kind: "number", set: count(func(c *Config) *int { return &c.Cassandra.InFlight }, 1, 4096),
	},
	{
		Name: "cassandra.open-chunks", Default: "64MiB", Unit: "bytes", Hit: "some devices' next readings begin another chunk: more bytes on disk", Doc: "Memory for chunks that may still grow (layout chunks); a device takes 0.3 to 4 KiB.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Cassandra.OpenChunks }, 1),
	},

	{
		Name: "redis.addresses", Doc: "host:port of the Redis server; of some servers of a Redis cluster; or, with redis.master, of the sentinels.",
		kind: "list", set: list(func(c *Config) *[]string { return &c.Redis.Addresses }),
	},
	{Name: "redis.prefix", Default: "wellhead", Doc: "What every key begins with.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.Prefix })},
	{Name: "redis.username", Doc: "User name.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.Username })},
	{Name: "redis.password", Doc: "Password. Better in the environment than in the file.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.Password })},
	{Name: "redis.database", Default: "0", Doc: "Number of the database; a cluster has only 0.", kind: "number", set: count(func(c *Config) *int { return &c.Redis.Database }, 0, 1<<20)},
	{Name: "redis.cluster", Default: "false", Doc: "redis.addresses are of a Redis cluster. Several addresses without redis.master always are.", kind: "yes or no", set: truth(func(c *Config) *bool { return &c.Redis.Cluster })},
	{Name: "redis.master", Zero: "no sentinels", Doc: "Name of the master that the sentinels at redis.addresses watch.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.Master })},
	{Name: "redis.sentinel-username", Doc: "User name at the sentinels.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.SentinelUsername })},
	{Name: "redis.sentinel-password", Doc: "Password at the sentinels. Better in the environment than in the file.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.SentinelPassword })},
	{Name: "redis.tls", Default: "false", Doc: "Connect with TLS, also to sentinels; the server's certificate must name the host.", kind: "yes or no", set: truth(func(c *Config) *bool { return &c.Redis.TLS.On })},
	{Name: "redis.tls.ca", Zero: "what the system trusts", Doc: "PEM file with the authority that signed Redis' certificates.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.TLS.CA })},
	{Name: "redis.tls.cert", Zero: "none is shown", Doc: "PEM file with the certificate that Redis is shown; goes with redis.tls.key.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.TLS.Cert })},
	{Name: "redis.tls.key", Doc: "PEM file with the key of redis.tls.cert.", kind: "text", set: text(func(c *Config) *string { return &c.Redis.TLS.Key })},

	{
		Name: "pebble.cache", Default: "64MiB", Unit: "bytes", Hit: "the least used blocks go", Doc: "Cache of the embedded archive.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Pebble.Cache }, 1),
	},
	{
		Name: "pebble.memtable", Default: "64MiB", Unit: "bytes", Hit: "with four of them full, writes wait",
		Doc:  "What the embedded archive keeps in memory before it makes a table of it; of snapshots a quarter is kept. Less takes less memory and writes more to disk.",
		kind: "size", set: sizeFrom(func(c *Config) *int64 { return &c.Pebble.Memtable }, 1<<20),
	},
	{
		Name: "pebble.sync-max", Default: "50ms", Doc: "Longest time that a commit waits for others to be synced with.",
		kind: "duration", set: durationFrom(func(c *Config) *dur { return &c.Pebble.SyncMax }, 1),
	},

	{Name: "log.format", Default: "text", Doc: "text or json.", kind: "choice", set: choice(func(c *Config) *string { return &c.Log.Format }, "text", "json")},
	{Name: "log.level", Default: "info", Doc: "debug, info, warn or error.", kind: "choice", set: choice(func(c *Config) *string { return &c.Log.Level }, "debug", "info", "warn", "error")},
}

// keyOf returns the key of that name, nil when there is none.
func keyOf(name string) *Key {
	for i := range Keys {
		if Keys[i].Name == name {
			return &Keys[i]
		}
	}
	return nil
}

// Markdown renders the table for the documentation.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | unit | what | 0 or empty | when it is hit |\n|---|---|---|---|---|---|\n")
	for i := range Keys {
		k := &Keys[i]
		doc := k.Doc
		if k.Fixed {
			doc += " Fixed once the cluster's data exists."
		}
		unit := k.Unit
		if unit == "" && k.kind == "duration" {
			unit = "duration: 500ms, 10s, 15m, 1h, 30d"
		}
		def := ""
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Name, def, unit, doc, k.Zero, k.Hit)
	}
	return b.String()
}
