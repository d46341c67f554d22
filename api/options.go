package api

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/wellhead/wellhead/persistence"
)

// Options are the parts that the HTTP face stands on. Fleet, Ingest, Live and Health must be set.
type Options struct {
	Fleet  Fleet
	Ingest Ingest
	Live   Live
	Health Health

	// Registry keeps which field of line protocol is which channel; nil = fields are called c0 to c63 only.
	Registry persistence.Registry
	// Rejects answers below rejects; nil = 404.
	Rejects Rejects
	// Operator answers below limits; nil = 404.
	Operator OperatorLimits
	// Totals answers GET totals; nil = 404.
	Totals func(context.Context) (Totals, error)
	// Cluster answers GET cluster; nil = 404.
	Cluster func(context.Context) (Cluster, error)
	// Operations answers GET operations; nil = an empty list.
	Operations func() []Operation
	// Metrics answers GET /metrics; nil = 404.
	Metrics http.Handler
	// Page holds index.html and what it needs; nil = no page.
	Page fs.FS
	// Logger, nil = slog.Default().
	Logger *slog.Logger
	// Observe is told of every finished request: its route (the pattern, never a path), status and duration. May be nil.
	Observe func(route string, status int, d time.Duration)
	// EventsLost is told how many events a listener missed. May be nil.
	EventsLost func(n int)
	// Hosts are the names a request's Host header may have, besides IP addresses and localhost. It
	// keeps a page of a stranger from reaching a loopback listener under a name of his own (DNS
	// rebinding). Empty = any name.
	Hosts []string

	// Closing, when it is closed, ends the live events, so that a graceful stop need not wait for them. May be nil.
	Closing <-chan struct{}

	Limits  Limits
	Version string
}

// Limits bound what one request, and all requests together, may hold. Zero = the default.
type Limits struct {
	// Body is the largest request body, unpacked; bytes, default 16 MiB. Above: 413. Line protocol is
	// taken in parts and has no such limit.
	Body int64
	// Bodies is what all request bodies being worked on may hold together; bytes, default 128 MiB. Above: 429.
	Bodies int64
	// Readings is the most readings of one answer; default and most 10 000. Above: 400.
	Readings int
	// LiveBuffer is what one listener of live events may be behind; bytes, default 1 MiB. Above: the
	// oldest events are dropped and the listener is told how many.
	LiveBuffer int
	// Listeners is the most connections with live events; default 256. Above: 429.
	Listeners int
	// Exports is the most exports under way; default 2. Each holds at most about 8 MiB, and 24 bytes for each
	// device of the site. Above: 429.
	Exports int
	// Export is how long one export may take; default 24 h. Above: it is broken off.
	Export time.Duration
	// Heartbeat is how often a listener hears something; default 15 s.
	Heartbeat time.Duration
	// Query is how long a question may take; default 10 s. Above: 504.
	Query time.Duration
	// Ingest is how long readings wait for the stream's acknowledgement; default 30 s. Above: 504, and
	// the sender must send again: it is not known what was taken.
	Ingest time.Duration
	// Stored is how long wait=stored waits; default 60 s. Above: 504; the readings may still be stored later.
	Stored time.Duration
	// MaxFuture and MaxAge refuse, already here and with a reason, readings whose event time is further
	// ahead of, or behind, this machine's clock. The device decides again by the arrival time; what it
	// refuses nobody tells the sender, so they should be its limits. 0 = no limit.
	MaxFuture, MaxAge time.Duration
	// CertainAge is the age below which no device refuses a reading for its age. Between it and MaxAge the
	// device's retention class decides, which is not known here: such a reading is taken, and with wait=stored
	// it is not said to be stored, for it may be in rejects. 0 = all up to MaxAge are certain.
	CertainAge time.Duration
}

// Largest page of readings, and the default.
const (
	maxReadings     = 10_000
	defaultReadings = 1000
)

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	or := func(p *int64, d int64) {
		if *p == 0 {
			*p = d
		}
	}
	wait := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	or(&l.Body, 16<<20)
	or(&l.Bodies, 128<<20)
	if l.Readings <= 0 || l.Readings > maxReadings {
		l.Readings = maxReadings
	}
	if l.LiveBuffer == 0 {
		l.LiveBuffer = 1 << 20
	}
	if l.Listeners == 0 {
		l.Listeners = 256
	}
	if l.Exports == 0 {
		l.Exports = 2
	}
	wait(&l.Export, 24*time.Hour)
	wait(&l.Heartbeat, 15*time.Second)
	wait(&l.Query, 10*time.Second)
	wait(&l.Ingest, 30*time.Second)
	wait(&l.Stored, 60*time.Second)
	return l
}

// Totals are the counters of the page's header.
type Totals struct {
	Sites   int `json:"sites"`
	Devices int `json:"devices" doc:"Devices that ever sent."`
	Online  int `json:"online" doc:"Devices heard of lately."`
	// OldestUnstoredSeconds is 0 when all that came is stored.
	OldestUnstoredSeconds float64 `json:"oldestUnstoredSeconds" doc:"Age of the oldest reading that came in and is not stored yet, by its arrival. Above 10: the archive is slow or away."`
	Readings              uint64  `json:"readings" doc:"Readings that the fleet has ever received. Ask twice for a rate."`
}

// Operation says how one operation of a store went since the member started.
type Operation struct {
	Store     string  `json:"store" example:"archive"`
	Operation string  `json:"operation" example:"append"`
	Count     uint64  `json:"count"`
	Errors    uint64  `json:"errors"`
	P50       float64 `json:"p50" doc:"Median, seconds, estimated from the histogram."`
	P99       float64 `json:"p99" doc:"99th percentile, seconds, estimated from the histogram."`
	Max       float64 `json:"max" doc:"Longest, seconds."`
}

// NewServer returns a server for h with time limits on everything but the answer's body, whose
// handlers set their own.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// hostAllowed tells whether a request may carry this Host header.
func (o *Options) hostAllowed(hostport string) bool {
	if len(o.Hosts) == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if host == "localhost" || net.ParseIP(trimBrackets(host)) != nil {
		return true
	}
	for _, h := range o.Hosts {
		if h == host {
			return true
		}
	}
	return false
}

func trimBrackets(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
