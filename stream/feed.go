package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/wellhead/wellhead/messages"
)

const (
	contentType = "Content-Type"

	// pullBatch is the most messages that one request asks for.
	pullBatch = 4096
	// usualPull is the most bytes that a request asks for, but for one that is to bring a larger message. What one
	// request brings is taken in at once: a MiB is 60 000 small readings, a slow archive's half minute.
	usualPull = 128 << 10
	// pullExpires is how long a request stays with the server, pullHeartbeat how often it gives a sign
	// of life meanwhile. Without one for two of them the consumer is taken for gone.
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// inactive is when the server drops a consumer that nobody asks any more.
	inactive = 5 * time.Minute
	// quiet is how long ago the last pull must have ended for the first message to be handed on at once;
	// otherwise the feed waits up to linger for the rest of the burst.
	quiet  = 10 * time.Millisecond
	linger = 3 * time.Millisecond
	// When the last pull brought flood bytes or more, both are these: each device then gets more readings at a
	// time, and a reading costs up to a fifth less (2.05 to 2.4 instead of 2.4 to 2.55 µs CPU, measured with 30 and
	// 100 ms; 10 000 devices, batches of 100).
	flood       = 8 << 10
	floodQuiet  = 100 * time.Millisecond
	floodLinger = 40 * time.Millisecond
	// retryAtLeast and retryAtMost bound the wait between attempts to get a lost consumer back.
	retryAtLeast = 20 * time.Millisecond
	retryAtMost  = 2 * time.Second
	// attempt bounds one attempt.
	attempt = 5 * time.Second
)

// Feed hands on a shard's messages in order, contiguous except for what was purged. It is used by one
// goroutine.
//
// It is an ephemeral pull consumer without acknowledgements. One request is outstanding; what it still
// may bring when Pull returns stays in the client, at most one request's bytes. When the connection was
// cut, the consumer is gone, or a consumer sequence is missing, the feed makes a new consumer that
// starts after the last message it handed on.
type Feed struct {
	streams *Streams
	link    *link
	stream  string
	logger  *slog.Logger

	next     uint64 // stream sequence that the next message must at least have
	handed   bool   // anything handed on yet
	consumer string // "" = there is none
	sequence uint64 // consumer sequence of the newest message
	created  time.Time

	sub     *nats.Subscription
	inbox   string
	ch      chan *nats.Msg
	request string // subject of requests
	pending int    // messages that the outstanding request may still bring, 0 = none outstanding
	brought int    // messages it has brought
	asked   int    // its bytes
	left    int    // of those, as the server counts them
	large   bool   // the next message is larger than usualPull
	held    *messages.Message

	poked   <-chan struct{}
	unpoke  func()
	timer   *time.Timer
	ended   time.Time // when the last pull ended
	flooded bool      // it brought flood bytes or more
	size    int       // bytes that the pull under way has brought
	retries int
	broken  error // why the consumer cannot be used any more; kept while what came before is handed on
}

func newFeed(s *Streams, l *link, stream string, from uint64) *Feed {
	f := &Feed{streams: s, link: l, stream: stream, logger: s.logger, next: from}
	f.poked, f.unpoke = l.listen()
	f.timer = time.NewTimer(time.Hour)
	f.timer.Stop()
	return f
}

// open makes the consumer, after dropping the one before.
func (f *Feed) open(ctx context.Context) error {
	f.drop()
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	select {
	case <-f.poked: // what was before does not matter any more
	default:
	}
	if err := f.checkStream(ctx); err != nil {
		return err
	}
	name := "feed-" + nuid.Next()
	_, err := f.link.js.CreateConsumer(ctx, f.stream, jetstream.ConsumerConfig{
		Name:              name,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       f.next,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: inactive,
		MemoryStorage:     true,
		Replicas:          1,
		MaxWaiting:        16,
	})
	if err != nil {
		return fmt.Errorf("create consumer: %w", err)
	}
	f.consumer, f.sequence = name, 0
	f.request = "$JS.API.CONSUMER.MSG.NEXT." + f.stream + "." + name
	f.inbox = f.link.nc.NewInbox()
	f.ch = make(chan *nats.Msg, pullBatch+64)
	if f.sub, err = f.link.nc.ChanSubscribe(f.inbox, f.ch); err != nil {
		f.drop()
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// checkStream finds out whether the stream is still the one that this feed has read from.
func (f *Feed) checkStream(ctx context.Context) error {
	stream, err := f.link.js.Stream(ctx, f.stream)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if f.created.IsZero() {
		f.created = info.Created
	}
	if !f.created.Equal(info.Created) || f.handed && info.State.LastSeq+1 < f.next {
		return fmt.Errorf("stream %s was created %v and ends at %d, but it was read up to %d: %w",
			f.stream, info.Created, info.State.LastSeq, f.next-1, ErrGap)
	}
	return nil
}

// drop lets go of the consumer.
func (f *Feed) drop() {
	if f.sub != nil {
		// fails only when the connection is closed, and then it is gone anyway
		_ = f.sub.Unsubscribe()
		f.sub = nil
	}
	if f.consumer != "" {
		// nobody waits for the answer; if it is lost the server drops the consumer after a while
		_ = f.link.nc.PublishRequest("$JS.API.CONSUMER.DELETE."+f.stream+"."+f.consumer, f.inbox, nil)
		f.consumer = ""
	}
	f.pending, f.ch, f.held, f.broken = 0, nil, nil, nil
}

// Close ends the feed.
func (f *Feed) Close() {
	f.drop()
	f.unpoke()
	f.timer.Stop()
}

// Pull waits until there is at least one message, and returns some whose sizes together are at most
// maxBytes, which must be at least MinPull. Errors: ctx.Err(); ErrGap; anything else: try again.
func (f *Feed) Pull(ctx context.Context, maxBytes int) ([]messages.Message, error) {
	if maxBytes < MinPull {
		return nil, fmt.Errorf("pull from %s: %d bytes are less than one message may have (%d): %w", f.stream, maxBytes, MinPull, messages.ErrInvalid)
	}
	for {
		got, err := f.gather(ctx, maxBytes)
		if len(got) > 0 {
			f.next = got[len(got)-1].Sequence + 1
			f.handed, f.retries = true, 0
			f.ended, f.flooded = time.Now(), f.size >= flood
			f.broken = err
			return got, nil
		}
		if err == nil {
			continue // the request ended without a message: ask again
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, errLost) {
			return nil, fmt.Errorf("pull from %s: %w", f.stream, err)
		}
		f.streams.counters.FeedsReopened.Add(1)
		f.logger.Info("feed reopened", "stream", f.stream, "after", f.next-1, "reason", err)
		if err := f.reopen(ctx); err != nil {
			return nil, fmt.Errorf("pull from %s: %w", f.stream, err)
		}
	}
}

// errLost means that the consumer, or something it has sent, is gone.
var errLost = errors.New("consumer lost")

// reopen makes a new consumer after the last message handed on, with growing pauses between attempts.
func (f *Feed) reopen(ctx context.Context) error {
	for {
		if f.retries > 0 {
			f.timer.Reset(min(retryAtLeast<<min(f.retries-1, 10), retryAtMost))
			select {
			case <-f.timer.C:
			case <-ctx.Done():
				f.timer.Stop()
				return ctx.Err()
			}
		}
		f.retries++
		err := f.open(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrGap) || f.link.nc.IsClosed() {
			return err
		}
		f.logger.Warn("feed not reopened yet", "stream", f.stream, "after", f.next-1, "error", err)
	}
}

// gather collects the messages of one pull. It returns none and no error when the request has ended,
// and what it has when an error comes after that.
func (f *Feed) gather(ctx context.Context, maxBytes int) ([]messages.Message, error) {
	if f.broken != nil && ctx.Err() == nil {
		return nil, f.broken
	}
	if f.consumer == "" {
		return nil, errLost
	}
	var got []messages.Message
	f.size = 0
	if f.held != nil {
		got, f.size = append(got, *f.held), messageSize(f.held)
		f.held = nil
	} else if f.pending == 0 && len(f.ch) == 0 {
		if err := f.ask(maxBytes); err != nil {
			return nil, err
		}
	}
	waiting := false // the timer runs for the rest of a burst
	defer f.timer.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-f.ch:
		default:
			if len(got) > 0 {
				if f.pending == 0 || !waiting && !f.busy() {
					return got, nil
				}
				if !waiting {
					f.timer.Reset(f.linger())
					waiting = true
				}
			} else if f.pending == 0 {
				return nil, nil
			} else {
				f.timer.Reset(2*pullHeartbeat + time.Second)
			}
			var err error
			if m, err = f.wait(ctx, waiting); m == nil {
				return got, err
			}
		}
		if m.Reply == "" {
			ended, err := f.status(m)
			if err != nil || ended {
				return got, err
			}
			continue
		}
		message, err := f.accept(m)
		if err != nil {
			return got, err
		}
		if message.Sequence == 0 {
			continue
		}
		n := messageSize(&message)
		if f.size+n > maxBytes {
			f.held = &message
			return got, nil
		}
		if got == nil {
			got = make([]messages.Message, 0, len(f.ch)+1)
		}
		got, f.size = append(got, message), f.size+n
	}
}

// wait blocks for the next message. It returns nil when a burst has paused (no error), or with the reason.
func (f *Feed) wait(ctx context.Context, burst bool) (*nats.Msg, error) {
	select {
	case m := <-f.ch:
		return m, nil
	case <-f.timer.C:
		if burst {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: no sign of life", errLost)
	case <-f.poked:
		return nil, fmt.Errorf("%w: the connection was cut", errLost)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// busy tells whether the pull before ended just now: then more is likely to come.
func (f *Feed) busy() bool {
	if f.flooded {
		return time.Since(f.ended) < floodQuiet
	}
	return time.Since(f.ended) < quiet
}

// linger is how long the rest of a burst is waited for.
func (f *Feed) linger() time.Duration {
	if f.flooded {
		return floodLinger
	}
	return linger
}

// ask sends a request for messages.
func (f *Feed) ask(maxBytes int) error {
	f.asked = usualPull
	if f.large {
		f.asked = max(min(maxBytes, inFlight/shardsPerConnection), MinPull)
	}
	f.large = false
	f.pending, f.brought, f.left = pullBatch, 0, f.asked
	body := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`,
		pullBatch, f.asked, pullExpires.Nanoseconds(), pullHeartbeat.Nanoseconds())
	if err := f.link.nc.PublishRequest(f.request, f.inbox, body); err != nil {
		f.pending = 0
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// status handles what the server says about the request, and tells whether it has ended.
func (f *Feed) status(m *nats.Msg) (ended bool, err error) {
	code, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch {
	case code == "100":
		return false, nil // a sign of life
	case code == "408", code == "404":
		f.pending = 0
		return true, nil
	case code == "409" && text == "Message Size Exceeds MaxBytes":
		if f.pending == pullBatch && f.brought == 0 {
			if f.asked < MinPull {
				f.large, f.pending = true, 0
				return true, nil
			}
			return true, fmt.Errorf("the message after %d has more than the %d bytes that one may have", f.next-1, f.asked)
		}
		f.pending = 0
		return true, nil
	case code == "409" && text == "Batch Completed":
		f.pending = 0
		return true, nil
	case code == "":
		return false, nil // the answer to a delete
	default:
		return true, fmt.Errorf("%w: %s %s", errLost, code, text)
	}
}

// accept checks a message's place. It returns the zero message for one that lies before the start.
func (f *Feed) accept(m *nats.Msg) (messages.Message, error) {
	p, err := parseReply(m.Reply)
	if err != nil {
		return messages.Message{}, err
	}
	if p.consumer != f.sequence+1 {
		f.streams.counters.FeedGaps.Add(1)
		return messages.Message{}, fmt.Errorf("%w: consumer sequence %d came after %d", errLost, p.consumer, f.sequence)
	}
	if p.stream < f.next && f.handed {
		return messages.Message{}, fmt.Errorf("stream %s brings %d again after %d: %w", f.stream, p.stream, f.next-1, ErrGap)
	}
	f.sequence = p.consumer
	f.pending--
	f.brought++
	if f.left -= m.Size(); f.left <= 0 {
		f.pending = 0 // the server does not say that a request has ended when a message was just what was left of it
	}
	if p.stream < f.next {
		return messages.Message{}, nil
	}
	out := messages.Message{Sequence: p.stream, Arrival: p.arrival, Subject: m.Subject, Data: m.Data}
	if m.Header != nil {
		out.Type = m.Header.Get(contentType)
	}
	return out, nil
}

// messageSize is what a message counts against a pull. It is never more than what the server counts.
func messageSize(m *messages.Message) int {
	size := len(m.Subject) + len(m.Data)
	if m.Type != "" {
		size += len(contentType) + len(m.Type) + 16
	}
	return size
}

// place is what a delivered message's reply subject says.
type place struct {
	stream, consumer uint64
	arrival          int64
}

// parseReply reads $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>,
// or the newer form with domain and account hash after ACK (and possibly a token at the end).
func parseReply(reply string) (place, error) {
	const v1, v2, v2more = 8, 10, 11 // dots
	dots := 0
	for i := range len(reply) {
		if reply[i] == '.' {
			dots++
		}
	}
	skip := 5
	switch dots {
	case v1:
	case v2, v2more:
		skip = 7
	default:
		return place{}, fmt.Errorf("reply subject %q is none of a stream's", reply)
	}
	i := 0
	for ; skip > 0; i++ {
		if reply[i] == '.' {
			skip--
		}
	}
	var numbers [3]uint64
	for n := range numbers {
		for ; i < len(reply) && reply[i] != '.'; i++ {
			d := reply[i] - '0'
			if d > 9 {
				return place{}, fmt.Errorf("reply subject %q is none of a stream's", reply)
			}
			numbers[n] = numbers[n]*10 + uint64(d)
		}
		i++
	}
	return place{stream: numbers[0], consumer: numbers[1], arrival: int64(numbers[2])}, nil
}
