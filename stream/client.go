package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/messages"
)

// DialOptions say how a program that is no member reaches the stream server.
type DialOptions struct {
	// URL is nats://host:port or ws://host:port, several separated by commas.
	URL string
	// User (the site) and Password, or CredsFile, prove who connects. Empty = none. CredsFile is one of
	// `wellhead site add`, or a NATS .creds file.
	User, Password, CredsFile string
	// Site is whose inboxes are used where the proof does not name a site (SiteInbox). Empty = any's.
	Site string
	// TLS names the files of a connection with TLS.
	TLS TLS
	// Name of the connection, seen in the server's lists; empty = "wellhead".
	Name string
	// Logger; nil = slog.Default().
	Logger *slog.Logger
}

// Client is a connection that publishes readings, asks questions and listens. All methods may be
// called by many goroutines at once.
type Client struct {
	nc     *nats.Conn
	logger *slog.Logger

	mu    sync.Mutex
	boxes map[*outbox]struct{} // told when a publish is not permitted

	denied atomic.Bool // one of them has been: it says so, and that the server refused those behind it too is no news
}

// Dial connects from outside.
func Dial(ctx context.Context, o DialOptions) (*Client, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Name == "" {
		o.Name = "wellhead"
	}
	c := &Client{logger: o.Logger, boxes: map[*outbox]struct{}{}}
	user, proof, err := proofOptions(o.User, o.Password, o.CredsFile)
	if err != nil {
		return nil, err
	}
	inbox := "_INBOX"
	if site := cmp.Or(user, o.Site); site != "" {
		inbox = SiteInbox(site)
	}
	options := append(connectionOptions(o.Logger), nats.Name(o.Name), nats.CustomInboxPrefix(inbox),
		nats.ErrorHandler(c.failed), nats.ReconnectHandler(c.back))
	secure, err := o.TLS.options()
	if err != nil {
		return nil, err
	}
	if c.nc, err = dial(ctx, o.URL, slices.Concat(options, proof, secure)); err != nil {
		return nil, explainConnect(o.URL, flagNames, err)
	}
	return c, nil
}

// Client opens a further connection with a member's rights. The caller closes it.
func (s *Streams) Client(name string) (*Client, error) {
	c := &Client{logger: s.logger, boxes: map[*outbox]struct{}{}}
	var err error
	if c.nc, err = s.Connect(nats.Name(s.options.Name+" "+name), nats.ErrorHandler(c.failed), nats.ReconnectHandler(c.back)); err != nil {
		return nil, err
	}
	return c, nil
}

// back is told when the connection was cut and is there again.
func (c *Client) back(*nats.Conn) {
	for _, b := range c.outboxes() {
		b.hurry()
	}
}

func (c *Client) outboxes() []*outbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.boxes))
}

// failed is told what goes wrong on the connection beside any call. A publish that is not permitted
// gets no acknowledgement, ever: whoever waits for one is told.
func (c *Client) failed(nc *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), "publish") {
		for _, b := range c.outboxes() {
			c.denied.Store(true)
			b.fail(fmt.Errorf("the credential does not allow this: %w", err))
		}
		if c.denied.Load() {
			return
		}
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	c.logger.Warn("stream connection error", "connection", nc.Opts.Name, "subject", subject, "error", err)
}

// Close ends the connection. Publishers on it end with ErrClosed.
func (c *Client) Close() {
	for _, b := range c.outboxes() {
		b.close()
	}
	c.nc.Close()
}

// ErrNoAnswer means that no member answered.
var ErrNoAnswer = errors.New("no member answers")

// Ask sends a question, query.{what}.{site}.{device}, and returns the answer. An empty device or site
// is left out. Errors: *QueryError as the member gave it; ErrNoAnswer; ctx.Err().
func (c *Client) Ask(ctx context.Context, what string, id messages.DeviceID, request []byte) ([]byte, error) {
	subject := querySubject(what, id)
	answer, err := c.nc.RequestWithContext(ctx, subject, request)
	if errors.Is(err, nats.ErrNoResponders) {
		err = ErrNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	if e := queryError(answer); e != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, e)
	}
	return answer.Data, nil
}

// Layout is what QueryShards is answered with.
type Layout struct {
	Shards int    `json:"shards"`
	HTTP   string `json:"http,omitempty"` // host:port where the member that answers listens; empty = nowhere
}

// Layout asks a member for the number of shards, and for its HTTP address.
func (c *Client) Layout(ctx context.Context) (l Layout, err error) {
	data, err := c.Ask(ctx, QueryShards, messages.DeviceID{}, nil)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil || l.Shards < 1 {
		return l, fmt.Errorf("ask for the number of shards: answer %q cannot be read", data)
	}
	return l, nil
}
