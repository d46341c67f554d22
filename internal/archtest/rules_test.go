package archtest

import "regexp"

const module = "github.com/wellhead/wellhead"

// folder says which of our folders the files of one folder (and those below it that have no entry of
// their own) may import. What is not in may is forbidden, for the reason in because, or for one of its
// own in forbidden. Tests inside a folder are free: they put real parts together.
type folder struct {
	path      string
	may       []string // folders; one with a trailing /... stands for all below it too
	because   string
	forbidden map[string]string
}

var folders = []folder{
	{
		path:    "messages",
		because: "every part agrees on it, so it depends on none; a client library can be made of it alone",
	},
	{
		path:    "persistence",
		may:     []string{"messages"},
		because: "the interfaces say what is asked of a store; they know neither who asks nor which store answers",
		forbidden: map[string]string{
			"persistence/cassandra": "an interface that imports its implementation cannot have a second one",
			"persistence/redis":     "an interface that imports its implementation cannot have a second one",
			"persistence/pebble":    "an interface that imports its implementation cannot have a second one",
		},
	},
	{
		path:    "persistence/chunk",
		may:     []string{"messages", "persistence"},
		because: "the codec knows rows and bytes; where they lie is the store's matter",
	},
	{
		path:    "persistence/contract",
		may:     []string{"messages", "persistence"},
		because: "one suite holds every implementation to the same; one that knows an implementation would bend to it",
	},
	{
		path:    "persistence/cassandra",
		may:     []string{"messages", "persistence", "persistence/chunk"},
		because: "a store keeps what it is given; deciding is the actors' business",
	},
	{
		path:    "persistence/redis",
		may:     []string{"messages", "persistence"},
		because: "a store keeps what it is given; deciding is the actors' business",
	},
	{
		path:    "persistence/pebble",
		may:     []string{"messages", "persistence", "persistence/chunk"},
		because: "a store keeps what it is given; deciding is the actors' business",
	},
	{
		path:    "actors",
		may:     []string{"messages", "persistence"},
		because: "the core runs in the simulation with a fake stream, fake stores and no clock; it sees the world through its own small interfaces",
		forbidden: map[string]string{
			"stream":                "actors see the stream as Log, Feed, Cells and Outside; with NATS behind them no seed could reproduce a failure",
			"cluster":               "a shard is told that it is owned and with which epoch; who should own is not its question",
			"api":                   "who asks a device is not the device's business: HTTP comes in through Fleet",
			"persistence/cassandra": "which archive there is, is decided in cmd; the laws hold for all of them",
			"persistence/redis":     "which snapshot store there is, is decided in cmd; the laws hold for all of them",
			"persistence/pebble":    "which archive there is, is decided in cmd; the laws hold for all of them",
			"internal/telemetry":    "actors hand out figures (Stats, Observe); what becomes of them is decided in cmd",
		},
	},
	{
		path:    "cluster",
		may:     []string{"messages"},
		because: "membership says who should own a shard; it must stay right whatever the shards do with it",
		forbidden: map[string]string{
			"actors": "ownership would wait for the work that it guards; actors are started and stopped through an interface",
			"stream": "leases are kept behind an interface that stream implements, so that elections can be simulated",
		},
	},
	{
		path:    "stream",
		may:     []string{"messages", "persistence", "cluster"},
		because: "all that knows NATS is here, and it knows nothing of readings, devices or HTTP",
		forbidden: map[string]string{
			"actors": "stream implements the actors' interfaces by shape; an import would let deciding code slip to the edge",
			"api":    "requests over NATS are answered by handlers that cmd hands in",
		},
	},
	{
		path:    "api",
		may:     []string{"messages", "persistence"},
		because: "HTTP speaks to the fleet through its own interfaces (Fleet, Ingest, Live, Health), tested without a member",
		forbidden: map[string]string{
			"actors": "the page and the actors change for different reasons; Fleet stands between them",
			"stream": "a reading that came by HTTP goes to the stream through Ingest, which cmd connects",
			"web":    "the page is handed in as a file system, so that a page under work can be served from disk",
		},
	},
	{
		path:    "agent",
		may:     []string{"messages"},
		because: "it runs at a site, far from the cluster, and shares with it nothing but the wire",
	},
	{
		path:    "web",
		because: "it holds the browser's files and hands them out",
	},
	{
		path:    "internal",
		may:     []string{"messages", "persistence", "internal/..."},
		because: "leaves: whoever needs them imports them, so they must not pull a part of the product in",
	},
	{
		path: "internal/testenv",
		because: "it starts foreign servers for the tests of every folder; if it knew one of ours, that folder's tests " +
			"could not use it",
	},
	{
		path:    "internal/testenv/cmd",
		may:     []string{"internal/testenv"},
		because: "it is a command line for testenv and nothing else",
	},
	{
		path:    "internal/archtest",
		because: "it reads the sources as text",
	},
	{
		path: "cmd",
		may: []string{
			"messages", "persistence/...", "actors", "cluster", "stream", "api", "agent", "web", "internal/...", "cmd/...",
		},
		because: "the binary connects the parts; only the tests of the whole are out of its reach",
	},
	{
		path:    "bench",
		may:     []string{"messages", "stream", "internal/..."},
		because: "it measures the built program from outside; of ours it uses only what any client may",
	},
	{
		path:    "tests",
		may:     []string{"messages", "internal/..."},
		because: "whole-system tests start the built program and speak only HTTP and NATS to it; a call into a part would test another program",
	},
	{
		path:    "deploy",
		may:     []string{"internal/testenv"},
		because: "what is shipped is checked as its users meet it: by the tools that read it and the built program",
	},
}

// modules are those of others that only some folders may import, outside of tests, and why.
var modules = []struct {
	path, why string
	in        []string
}{
	{
		"github.com/nats-io/nats.go",
		"one place knows how messages travel, how acknowledgements are counted and what is in flight",
		[]string{"stream", "agent", "tests"},
	},
	{
		"github.com/nats-io/nats-server",
		"one place embeds the server and knows its settings",
		[]string{"stream"},
	},
	{
		"github.com/gocql/gocql",
		"all CQL stands together in one folder, held to what ScyllaDB has too",
		[]string{"persistence/cassandra"},
	},
	{
		"github.com/scylladb/gocqlx",
		"all CQL stands together in one folder, held to what ScyllaDB has too",
		[]string{"persistence/cassandra"},
	},
	{
		"github.com/redis/go-redis",
		"Redis is one implementation of Snapshots and nothing else",
		[]string{"persistence/redis"},
	},
	{
		"github.com/cockroachdb/pebble",
		"Pebble is the embedded Archive and Snapshots and nothing else",
		[]string{"persistence/pebble"},
	},
	{
		"github.com/asynkron/protoactor-go",
		"actors are thin shells around plain types; what deciding code needs must not come from an actor library",
		[]string{"actors", "cluster", "cmd"},
	},
	{
		"google.golang.org/grpc",
		"members speak with each other in one place only, which knows what proto.actor's remote needs",
		[]string{"cluster"},
	},
	{
		"github.com/danielgtaylor/huma",
		"HTTP is api's",
		[]string{"api"},
	},
	{
		"github.com/parquet-go/parquet-go",
		"Parquet is one form of file that an export has; a member never writes it",
		[]string{"internal/export"},
	},
	{
		"github.com/spf13/cobra",
		"flags and exit codes are cmd's",
		[]string{"cmd"},
	},
	{
		"github.com/knadh/koanf",
		"files, environment and flags become one checked configuration in one place",
		[]string{"internal/config"},
	},
	{
		"github.com/prometheus",
		"parts hand out figures; one place names the metrics",
		[]string{"internal/telemetry"},
	},
}

// sleeps are the test files that may call time.Sleep, and why. Anywhere else a test that sleeps is slow
// when it is right and flaky when it is not: use testing/synctest, or a loop that polls until a deadline.
var sleeps = map[string]string{}

// strangers are what must not stand in a committed file: addresses and paths of the place where
// somebody happened to work.
var strangers = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"a work tree's path", regexp.MustCompile(`(^|[\s"'=:(])/work(space)?/`)},
	{"a home folder", regexp.MustCompile(`(^|[\s"'=:(])/(root|home/[a-z]\w*|Users/\w+)/`)},
	{"a package registry or mirror", regexp.MustCompile(`(?i)https?://[a-z0-9.-]*(proxy|registry|mirror|artifactory|nexus|pypi|files\.pythonhosted|repo1?\.maven)[a-z0-9.-]*`)},
	{"a registry setting", regexp.MustCompile(`(?i)(GOPROXY|index-url|npm_config_registry)\s*[=:]`)},
	{"an internal host", regexp.MustCompile(`(?i)\b[a-z0-9-]+\.(internal|corp|lan|intranet)\b(:\d+)?/`)},
}
