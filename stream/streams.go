package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
)

// MinPull is the smallest pull of a feed: a largest message with its subject and headers.
const MinPull = messages.MaxMessage + 64<<10

const (
	// shardsPerConnection and inFlight bound what is on its way to one connection: the server cuts it above 64 MB.
	shardsPerConnection = 16
	inFlight            = 24 << 20
	// minStreamBytes is the least that a shard's stream may hold.
	minStreamBytes = 16 << 20
	memberInbox    = "_MEMBER"
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
)

var (
	// ErrGap means that a feed lost its place: open a new one after the last good message.
	ErrGap = errors.New("gap in the feed")
	// ErrOverloaded means that a shard's stream is full: try again later.
	ErrOverloaded = errors.New("the stream is full, try again later")
	// ErrClosed means that the publisher or the connection was closed by its owner.
	ErrClosed = errors.New("closed")
)

// Options say which server to use and how large its streams may be.
type Options struct {
	// Server is the embedded server; nil: an outside one at URL.
	Server *Server
	// URL of an outside server, nats://host:port, several separated by commas. Not used with Server.
	URL string
	// User and Password, or CredsFile, prove who connects to an outside server. Empty = none.
	User, Password, CredsFile string
	// TLS names the files of a connection with TLS to an outside server.
	TLS TLS
	// Name of the connections, seen in the server's lists; empty = "wellhead".
	Name string
	// Shards is the number of shards, fixed when the cluster's data is created; 0 = 64.
	Shards int
	// Replicas of each stream and bucket; 0 = 1.
	Replicas int
	// MaxBytes of each shard's stream when it is created; 0 = 40 % of the free disk / Shards, at least
	// 16 MiB. When a stream is full its publishers are refused.
	MaxBytes int64
	// RejectsBytes is how much rejects may take; above it the oldest go. 0 = when they are created 2 % of the
	// free disk, 16 MiB to 1 GiB, and then as it is.
	RejectsBytes int64
	// RejectsAge is how long rejects are kept; 0 = 30 days, negative = without a limit.
	RejectsAge time.Duration
	// DiskFree is the free share of the embedded server's disk, in percent, below which all publishers are
	// refused; they are let in again when 1 percent more is free. 0 = 5.
	DiskFree int
	// FreeSpace tells free and total bytes of the streams' disk; nil = asked from the system for the
	// embedded server, unknown for an outside one.
	FreeSpace func() (free, total uint64, err error)
	// Logger; nil = slog.Default().
	Logger *slog.Logger
}

// Streams is a member's access to the cluster's streams and buckets. All methods may be called by
// many goroutines at once.
type Streams struct {
	options Options
	logger  *slog.Logger
	main    *link
	feeds   []*link // shard n is read through feeds[n/shardsPerConnection]
	js      jetstream.JetStream
	buckets map[string]jetstream.KeyValue
	guard   *guard

	listening listening
	out       *outbox // rejects, announcements, commands
	counters  Counters
	disk      atomic.Pointer[Disk]
	flow      atomic.Pointer[Flow]

	closing sync.Once
}

// link is one connection and those who want to know when it was cut and came back.
type link struct {
	nc *nats.Conn
	js jetstream.JetStream

	mu    sync.Mutex
	pokes map[chan struct{}]struct{}
	call  func() // may be nil
}

// Open connects, and creates what is missing: the stream of each shard, rejects, events, the buckets.
func Open(ctx context.Context, o Options) (*Streams, error) {
	if o.Shards == 0 {
		o.Shards = 64
	}
	if o.Shards < 1 || o.Shards > maxShards {
		return nil, fmt.Errorf("open streams: %d shards: must be 1 to %d", o.Shards, maxShards)
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.RejectsAge == 0 {
		o.RejectsAge = keepAside
	}
	if o.Name == "" {
		o.Name = "wellhead"
	}
	if o.DiskFree == 0 {
		o.DiskFree = 5
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FreeSpace == nil && o.Server != nil {
		dir := o.Server.options.DataDir
		o.FreeSpace = func() (uint64, uint64, error) { return freeSpace(dir) }
	}
	s := &Streams{options: o, logger: o.Logger, buckets: map[string]jetstream.KeyValue{}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open streams: %w", err)
	}
	return s, nil
}

func (s *Streams) open(ctx context.Context) error {
	var err error
	if s.main, err = s.connect("main"); err != nil {
		return err
	}
	s.js = s.main.js
	if s.options.Server == nil {
		if err := s.checkOutside(ctx); err != nil {
			return fmt.Errorf("check %s: %w", BareURLs(s.options.URL), err)
		}
	}
	for n := 0; n < s.options.Shards; n += shardsPerConnection {
		l, err := s.connect("feeds " + strconv.Itoa(n/shardsPerConnection))
		if err != nil {
			return err
		}
		s.feeds = append(s.feeds, l)
	}
	if err := s.createAll(ctx); err != nil {
		return err
	}
	if s.out, err = newOutbox(s.main.nc, outboxOptions{maxCount: 1024, maxBytes: 8 << 20, resent: &s.counters.Resent}); err != nil {
		return err
	}
	s.main.onPoke(s.out.hurry)
	s.guard = startGuard(s)
	return nil
}

// connect opens one connection.
func (s *Streams) connect(name string) (*link, error) {
	l := &link{pokes: map[chan struct{}]struct{}{}}
	options := []nats.Option{
		nats.Name(s.options.Name + " " + name),
		nats.ReconnectHandler(func(*nats.Conn) { l.poke() }),
	}
	nc, err := s.Connect(options...)
	if err != nil {
		return nil, err
	}
	l.nc = nc
	if l.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("use jetstream: %w", err)
	}
	return l, nil
}

// Connect opens a further connection to the same server with the same rights. The caller closes it.
func (s *Streams) Connect(options ...nats.Option) (*nats.Conn, error) {
	all := append(connectionOptions(s.logger), options...)
	if s.options.Server != nil {
		return s.options.Server.Connect(all...)
	}
	_, proof, err := proofOptions(s.options.User, s.options.Password, s.options.CredsFile)
	if err != nil {
		return nil, err
	}
	secure, err := s.options.TLS.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(s.options.URL, slices.Concat(all, proof, secure)...)
	if err != nil {
		return nil, explainConnect(s.options.URL, keyNames, err)
	}
	return nc, nil
}

// connectionOptions are what all our connections share: they come back for ever, and they do not
// gather what is published meanwhile, because whoever publishes here keeps it until it is acknowledged.
func connectionOptions(logger *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Timeout(connectTimeout),
		// a site's credential may listen to inboxes of its own only
		nats.CustomInboxPrefix(memberInbox),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if err != nil {
				logger.Warn("stream connection cut", "connection", nc.Opts.Name, "error", err)
			}
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			logger.Warn("stream connection error", "connection", nc.Opts.Name, "subject", subject, "error", err)
		}),
	}
}

// poke wakes all who wait on this connection, after it was cut and came back.
func (l *link) poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.call != nil {
		l.call()
	}
	for c := range l.pokes {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// onPoke sets what poke calls; it must not wait.
func (l *link) onPoke(call func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call = call
}

// listen returns a channel that poke sends to, and how to let go of it.
func (l *link) listen() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	l.pokes[c] = struct{}{}
	l.mu.Unlock()
	return c, func() {
		l.mu.Lock()
		delete(l.pokes, c)
		l.mu.Unlock()
	}
}

// Close ends all connections. Feeds and publishers that are still open end with an error.
func (s *Streams) Close() {
	s.closing.Do(func() {
		if s.guard != nil {
			s.guard.close()
		}
		if s.out != nil {
			s.out.close()
		}
		for _, l := range s.feeds {
			l.nc.Close()
		}
		if s.main != nil {
			s.main.nc.Close()
		}
	})
}

// Shards is the number of shards.
func (s *Streams) Shards() int { return s.options.Shards }

// Ping asks the stream server for a sign of life.
func (s *Streams) Ping(ctx context.Context) error {
	if err := s.main.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("ping the stream server: %w", err)
	}
	return nil
}
