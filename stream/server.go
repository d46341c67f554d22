package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/messages"
)

// memberUser is the user name of the members' own connections. It is no valid site name.
const memberUser = "@member"

// anonymousUser is that of everybody else when nobody has a credential; no site's user is asked for then.
const anonymousUser = "anonymous"

// maxHeader is the room for headers beside a largest payload.
const maxHeader = 64 << 10

// What may wait for one stream; messages and bytes.
const (
	streamBufferedMsgs  = 16 << 10
	streamBufferedBytes = 4 << 20
)

// startTimeout bounds how long the server may take to accept connections. Recovering streams counts in.
const startTimeout = 2 * time.Minute

// ServerOptions say how the embedded server runs.
type ServerOptions struct {
	// DataDir is the folder that JetStream keeps its files in; it is made when missing.
	DataDir string
	// Client, WebSocket and MQTT are the addresses to listen on, host:port. Port 0 picks a free one,
	// an empty address means off. A member's own connections need none of them.
	Client, WebSocket, MQTT string
	// Shards is the number of shards that the subject mapping spreads devices over; 0 = 64.
	Shards int
	// SyncInterval is how often the streams' files are synced; 0 = 1 s. Power loss may take what came after the last.
	SyncInterval time.Duration
	// SyncAlways syncs before each acknowledgement (measured: 40 times slower).
	SyncAlways bool
	// Name is the server's name; empty = "wellhead".
	Name string
	// Credentials decides who may connect; nil = everybody may do everything.
	Credentials *Credentials
	// Logger gets the server's warnings and errors; nil = slog.Default().
	Logger *slog.Logger
}

// Server is a NATS server with JetStream inside this process.
type Server struct {
	nats    *server.Server
	options ServerOptions
	config  server.JetStreamConfig
	secret  string
	auth    *authenticator
	logger  *slog.Logger
	log     *serverLog
	stop    sync.Once

	connected atomic.Pointer[map[string]int] // connections by site, as of a moment ago
}

// StartServer starts the embedded server and waits until it accepts connections.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if o.DataDir == "" {
		return nil, errors.New("start stream server: no data folder given")
	}
	if o.Shards == 0 {
		o.Shards = 64
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Second
	}
	if o.Name == "" {
		o.Name = "wellhead"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("start stream server: %w", err)
	}
	s := &Server{options: o, secret: rand.Text(), logger: o.Logger}
	so, err := s.natsOptions()
	if err != nil {
		return nil, fmt.Errorf("start stream server: %w", err)
	}
	if s.nats, err = server.NewServer(so); err != nil {
		return nil, fmt.Errorf("start stream server: %w", err)
	}
	log := &serverLog{logger: o.Logger, fatal: make(chan string, 1)}
	s.log = log
	s.nats.SetLoggerV2(log, false, false, false)
	for _, m := range messages.Mappings(o.Shards) {
		if err := s.nats.GlobalAccount().AddMapping(m.From, m.To); err != nil {
			return nil, fmt.Errorf("start stream server: map %s to %s: %w", m.From, m.To, err)
		}
	}
	s.nats.Start()
	if err := s.awaitReady(ctx, log); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start stream server: %w", err)
	}
	if c := s.nats.JetStreamConfig(); c != nil {
		s.config = *c
	}
	if o.Credentials != nil {
		o.Credentials.attach(s)
	}
	return s, nil
}

// natsOptions translates the options.
func (s *Server) natsOptions() (*server.Options, error) {
	o := s.options
	so := &server.Options{
		ServerName: o.Name,
		JetStream:  true,
		StoreDir:   o.DataDir,
		// No limits of JetStream's own: Open sizes the streams by the free disk, and a limit computed
		// from the free disk of today could be below what was reserved yesterday.
		JetStreamMaxStore:      math.MaxInt64 / 4,
		JetStreamMaxMemory:     1 << 30,
		SyncInterval:           o.SyncInterval,
		SyncAlways:             o.SyncAlways,
		MaxPayload:             messages.MaxMessage + maxHeader,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		AuthTimeout:            10,
		// The cache holds 1024 subjects, a fleet has millions: what it spares when it hits is little beside what filling it
		// and making room in it costs (a quarter of the CPU of a reading that is a message by itself, measured).
		NoSublistCache: true,
		// What is published faster than a stream takes it waits here; beyond it publishers are told, and
		// who asks for no acknowledgement loses it. The server's own bounds would allow gigabytes.
		StreamMaxBufferedMsgs: streamBufferedMsgs,
		StreamMaxBufferedSize: streamBufferedBytes,
		// nobody waits on a slow reader for longer
		WriteDeadline: 10 * time.Second,
	}
	s.auth = &authenticator{server: s, credentials: o.Credentials}
	so.CustomClientAuthentication = s.auth
	var err error
	if o.Client == "" {
		so.DontListen = true
	} else if so.Host, so.Port, err = splitListen(o.Client); err != nil {
		return nil, err
	}
	if o.WebSocket != "" {
		so.Websocket.NoTLS = true
		if so.Websocket.Host, so.Websocket.Port, err = splitListen(o.WebSocket); err != nil {
			return nil, err
		}
	}
	if o.MQTT != "" {
		if so.MQTT.Host, so.MQTT.Port, err = splitListen(o.MQTT); err != nil {
			return nil, err
		}
	}
	return so, nil
}

// splitListen takes host:port apart; port 0 becomes the server's own word for a free port.
func splitListen(address string) (string, int, error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.Atoi(p)
	if err != nil || port < 0 || port > math.MaxUint16 {
		return "", 0, fmt.Errorf("address %q: the port must be a number from 0 to 65535", address)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// CheckLoopback refuses a listen address that other machines could reach. Without credentials the
// stream is open to whoever can connect, so `serve` asks this for each address.
func CheckLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("address %q can be reached by other machines, and no credentials are configured: "+
		"listen on 127.0.0.1, or first run 'wellhead site add NAME'", address)
}

// awaitReady waits until all listeners accept connections, in short steps to see an end of ctx.
func (s *Server) awaitReady(ctx context.Context, log *serverLog) error {
	deadline := time.Now().Add(startTimeout)
	for {
		ready := s.nats.ReadyForConnections(100 * time.Millisecond)
		select {
		case text := <-log.fatal:
			return errors.New(text)
		default:
		}
		switch {
		case ready:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("not ready after %v", startTimeout)
		}
	}
}

// ClientURL is where NATS clients connect, nats://host:port; empty when there is no listener.
func (s *Server) ClientURL() string {
	if s.options.Client == "" {
		return ""
	}
	return s.nats.ClientURL()
}

// WebSocketURL is where browsers connect, ws://host:port; empty when there is no listener.
func (s *Server) WebSocketURL() string {
	if s.options.WebSocket == "" {
		return ""
	}
	return s.nats.WebsocketURL()
}

// MQTTAddress is host:port of the MQTT listener; empty when there is none.
func (s *Server) MQTTAddress() string {
	if s.options.MQTT == "" {
		return ""
	}
	v, err := s.nats.Varz(nil)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(v.MQTT.Host, strconv.Itoa(v.MQTT.Port))
}

// Connect opens a connection with all rights. It goes over loopback when there is a client listener,
// which costs 10-25 % less processor time a message than a pipe inside the process (measured with 64
// shards): a pipe hands over each write to a waiting reader, loopback gathers them.
func (s *Server) Connect(options ...nats.Option) (*nats.Conn, error) {
	// the secret is this server's only: never go to another
	own := []nats.Option{nats.UserInfo(memberUser, s.secret), nats.IgnoreDiscoveredServers()}
	url := s.loopbackURL()
	if url == "" {
		own = append(own, nats.InProcessServer(s.nats))
	}
	nc, err := nats.Connect(url, append(own, options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded stream server: %w", err)
	}
	return nc, nil
}

// loopbackURL is how this process reaches the client listener; empty when there is none.
func (s *Server) loopbackURL() string {
	address, ok := s.nats.Addr().(*net.TCPAddr)
	if s.options.Client == "" || !ok {
		return ""
	}
	ip := address.IP
	if ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
	}
	return "nats://" + net.JoinHostPort(ip.String(), strconv.Itoa(address.Port))
}

// Shutdown stops the server and waits until its files are closed. It may be called more than once.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		if s.options.Credentials != nil {
			s.options.Credentials.detach(s)
		}
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	})
}

// serverLog hands the server's warnings and errors to slog, and keeps the first fatal one.
type serverLog struct {
	logger *slog.Logger
	fatal  chan string

	// broken is set when a write of a stream has failed. The stream then takes nothing more, for ever, even
	// when there is room again (nats-server 2.15.2), and only this text tells it.
	broken atomic.Bool
	// When a failed store, and a connection that was not let in, was said last; Unix seconds.
	stores, strangers atomic.Int64
}

// saidEvery is how often the log says, in seconds, that a stream does not store or a connection is not let in:
// the server does for each message and each try.
const saidEvery = 10

// seldom is true once in saidEvery.
func seldom(last *atomic.Int64) bool {
	now, before := time.Now().Unix(), last.Load()
	return now-before >= saidEvery && last.CompareAndSwap(before, now)
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("stream server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Warn("stream server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(text, "ritical write error") {
		l.broken.Store(true)
	}
	if strings.Contains(text, "failed to store a msg") && !seldom(&l.stores) {
		return
	}
	if strings.Contains(text, "authentication error") && !seldom(&l.strangers) {
		return
	}
	l.logger.Error("stream server", "text", text)
}

// Fatalf must not end the process: StartServer returns the text as its error.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.logger.Error("stream server", "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
