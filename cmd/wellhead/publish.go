package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// sendFlags are those of commands that publish.
type sendFlags struct {
	server   string
	creds    string
	tls      stream.TLS
	batch    int
	shards   int
	deadline time.Duration
	stored   bool
	single   bool
	asJSON   bool
}

// addTo adds the flags; verify takes them too, unseen, because people repeat a whole command line.
func (f *sendFlags) addTo(c *cobra.Command, sends bool) {
	flags := c.Flags()
	if sends {
		flags.StringVar(&f.server, "server", "nats://127.0.0.1:4222", "where the stream is: nats://host:port, tls://host:port or ws://host:port, several separated by commas")
		flags.BoolVar(&f.asJSON, "json", false, "print one JSON document on standard output at the end")
	}
	flags.StringVar(&f.creds, "creds", "", "credential file of the site, as `FILE` from wellhead site add")
	flags.StringVar(&f.tls.CA, "tls-ca", "", "PEM file with the authority of the server's certificate (default what the system trusts)")
	flags.StringVar(&f.tls.Cert, "tls-cert", "", "PEM file with the certificate to show; goes with --tls-key")
	flags.StringVar(&f.tls.Key, "tls-key", "", "PEM file with the key of --tls-cert")
	flags.IntVar(&f.batch, "batch", 100, "readings in one message")
	flags.IntVar(&f.shards, "shards", 0, "number of shards; 0 = ask the server")
	flags.DurationVar(&f.deadline, "deadline", 10*time.Minute, "how long to keep trying while the server acknowledges nothing")
	flags.BoolVar(&f.stored, "stored", false, "wait until everything is in the archive, not only acknowledged")
	flags.BoolVar(&f.single, "single", false, "send each reading in a message of its own")
	if !sends {
		hide(c, "creds", "tls-ca", "tls-cert", "tls-key", "batch", "shards", "deadline", "stored", "single")
	}
}

// hide keeps flags out of the help.
func hide(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.Flags().MarkHidden(name); err != nil {
			panic(err) // a flag of that name was just added
		}
	}
}

// sender publishes and counts. Each call ends when nothing was acknowledged for the deadline.
type sender struct {
	client       *stream.Client
	publisher    *stream.Publisher
	shards       int
	http         string // where a member listens for HTTP, as it says; empty = not known
	flags        *sendFlags
	sent         int64
	acknowledged int64
	payload      []byte
}

// errSilent ends a call that waited for the server longer than the deadline.
var errSilent = errors.New("the server acknowledges nothing")

// dial connects and finds out how many shards there are. The caller closes the sender.
func (f *sendFlags) dial(ctx context.Context, producer, site string) (*sender, error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	begun, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := stream.Dial(begun, stream.DialOptions{URL: f.server, CredsFile: f.creds, Site: site, TLS: f.tls, Name: "wellhead " + producer, Logger: logger})
	var noFile *fs.PathError
	if errors.As(err, &noFile) || errors.Is(err, messages.ErrInvalid) {
		return nil, wrongUse(err)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	s := &sender{client: client, flags: f}
	layout, err := askLayout(begun, client, f.shards > 0)
	if err != nil {
		client.Close()
		return nil, unreachable(err)
	}
	s.shards, s.http = cmp.Or(f.shards, layout.Shards), layout.HTTP
	if s.publisher, err = client.NewPublisher(stream.PublisherOptions{Producer: producer}); err != nil {
		client.Close()
		return nil, unreachable(err)
	}
	return s, nil
}

// askLayout asks until a member answers, because it may be starting; once, if an answer is not needed.
func askLayout(ctx context.Context, client *stream.Client, needless bool) (stream.Layout, error) {
	if needless {
		shortly, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		layout, _ := client.Layout(shortly)
		return layout, nil
	}
	for {
		layout, err := client.Layout(ctx)
		if err == nil || !errors.Is(err, stream.ErrNoAnswer) {
			return layout, err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return layout, err
		}
	}
}

func (s *sender) close() {
	s.publisher.Close()
	s.client.Close()
}

func (s *sender) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.flags.deadline, errSilent)
}

// outcome turns an error of a bounded call into what it means.
func (s *sender) outcome(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return unreachable(fmt.Errorf("%w for %v", errSilent, s.flags.deadline))
	}
	return err
}

// Publish implements simulate.Publisher and recording.Publisher.
func (s *sender) Publish(ctx context.Context, site string, shard messages.Shard, blocks []messages.Block) error {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	if s.flags.single {
		return s.outcome(ctx, s.publishSingles(ctx, site, blocks))
	}
	if err := s.publisher.Publish(ctx, site, shard, blocks); err != nil {
		return s.outcome(ctx, err)
	}
	for i := range blocks {
		s.sent += int64(len(blocks[i].Readings))
	}
	return nil
}

func (s *sender) publishSingles(ctx context.Context, site string, blocks []messages.Block) error {
	for i := range blocks {
		id := messages.DeviceID{Site: site, Device: blocks[i].Device}
		for k := range blocks[i].Readings {
			one := messages.Batch{Blocks: []messages.Block{{Device: id.Device, Readings: blocks[i].Readings[k : k+1]}}}
			s.payload = messages.AppendBatch(s.payload[:0], &one)
			if err := s.publisher.PublishReading(ctx, id, s.payload); err != nil {
				return err
			}
			s.sent++
		}
	}
	return nil
}

// Flush implements simulate.Publisher and recording.Publisher.
func (s *sender) Flush(ctx context.Context) error {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	if err := s.publisher.Flush(ctx); err != nil {
		return s.outcome(ctx, err)
	}
	s.acknowledged = s.sent
	return nil
}

// waitStored waits until the archive has everything.
func (s *sender) waitStored(ctx context.Context) error {
	ctx, cancel := s.patient(ctx)
	defer cancel()
	return s.outcome(ctx, s.publisher.WaitStored(ctx))
}

// sending is what a command that publishes reports.
type sending struct {
	Site         string  `json:"site"`
	Devices      int     `json:"devices"`
	Sent         int64   `json:"sent"`         // readings, those sent again included
	Acknowledged int64   `json:"acknowledged"` // of these, surely in the stream
	Seconds      float64 `json:"seconds"`      // first publish to last acknowledgement
	Rate         float64 `json:"readingsPerSecond"`
	Stored       bool    `json:"stored"` // waited until all was in the archive
	// first publish to last stored; 0 = not waited for
	StoredSeconds float64 `json:"storedSeconds,omitempty"`
	StoredRate    float64 `json:"storedReadingsPerSecond,omitempty"`
	Verify        string  `json:"verify"` // the command that checks it
}

// finish waits, if asked to, until all is stored, and fills in the figures.
func (s *sender) finish(ctx context.Context, begun time.Time, out *sending) error {
	out.Sent, out.Acknowledged = s.sent, s.acknowledged
	out.Seconds = time.Since(begun).Seconds()
	out.Rate = float64(out.Acknowledged) / out.Seconds
	if !s.flags.stored {
		return nil
	}
	if err := s.waitStored(ctx); err != nil {
		return err
	}
	out.Stored = true
	out.StoredSeconds = time.Since(begun).Seconds()
	out.StoredRate = float64(out.Sent) / out.StoredSeconds
	return nil
}

// say tells people what was sent.
func (out *sending) say() string {
	text := fmt.Sprintf("sent %s readings of %s devices of site %s, all acknowledged, in %.1f s: %s readings/s\n",
		grouped(out.Sent), grouped(int64(out.Devices)), out.Site, out.Seconds, grouped(int64(out.Rate)))
	if out.Stored {
		text += fmt.Sprintf("all stored after %.1f s: %s readings/s\n", out.StoredSeconds, grouped(int64(out.StoredRate)))
	}
	return text + "check it with:\n  " + out.Verify + "\n"
}

// httpOf is where to check what was sent to a stream server: where a member says that it listens, seen
// from here. Without its word it is a guess: the stream server's host, the default port.
func httpOf(natsURL, told string) string {
	host := natsURL
	if _, rest, ok := strings.Cut(host, "://"); ok {
		host = rest
	}
	host, _, _ = strings.Cut(host, ",")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		host = host[:colon]
	}
	address, port, err := net.SplitHostPort(told)
	switch ip := net.ParseIP(address); {
	case err != nil:
		return "http://" + host + ":8080"
	case ip == nil || ip.IsUnspecified():
		return "http://" + host + ":" + port
	}
	return "http://" + told
}

// commandLine writes arguments so that a shell reads them back as they are.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`&|;<>()*?[]#~!{}") {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func float(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
