package stream

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/messages"
)

// OnFull says what a publisher does when a shard's stream is full.
type OnFull int

// The two ways.
const (
	Wait   OnFull = iota // keep the message and try until it is taken
	Refuse               // return ErrOverloaded
)

const (
	defaultInFlight      = 4096
	defaultBytesInFlight = 8 << 20
	// askStored is how often a publisher that waits asks what is stored, beside listening.
	askStored = time.Second
	// keepBuffer is the largest buffer that is used again.
	keepBuffer = 64 << 10
)

// PublisherOptions say who publishes and how much may be under way.
type PublisherOptions struct {
	// Producer is the name that the batches are accounted under; empty: they are not accounted for.
	Producer string
	// Run tells this counter from all others of the producer; 0 = random. The counters begin at 1, so a
	// run that was used before would have its batches taken for repeats: give one only if it never was.
	Run uint64
	// MaxInFlight is the most messages without an acknowledgement; 0 = 4096. When it is reached Publish waits.
	MaxInFlight int
	// MaxBytesInFlight is the most bytes of them; 0 = 8 MiB. When it is reached Publish waits.
	MaxBytesInFlight int64
	// OnFull says what to do when a stream is full, or the site's window.
	OnFull OnFull
	// Window tells how many bytes of a site may be published and not yet stored; 0 = no limit, nil = the
	// members are asked. When it is reached Publish does as OnFull says. Without a Producer there is no
	// window: nobody tells then what is stored.
	Window func(site string) int64
}

// Publisher publishes batches with producer sequences, and single readings, each acknowledged by the
// shard's stream. All methods may be called by many goroutines at once.
//
// Batches that get no acknowledgement are sent again with the same sequence: the shard applies one
// sequence once. Sequences may arrive out of order. A sequence that a stream certainly has not taken
// is given to the next batch of that site and shard.
type Publisher struct {
	client  *Client
	options PublisherOptions
	out     *outbox
	buffers sync.Pool

	mu       sync.Mutex
	first    error // the first failure that no caller was told of
	counters map[counterKey]*counter
	heard    map[string]*nats.Subscription // stored messages, by site
	news     chan struct{}                 // closed when a stored message came
	sites    map[string]*unstored
	asked    map[string]time.Time // when it was last asked what of a site is stored
	granted  map[string]granted   // windows, by site
	closed   bool

	life   context.Context // ends with Close
	end    context.CancelFunc
	asking sync.WaitGroup
}

type counterKey struct {
	site  string
	shard messages.Shard
}

// counter gives out the producer sequences of one site and shard.
type counter struct {
	last   uint64   // highest given out
	free   []uint64 // given out, and certainly not in the stream
	sent   []sent   // not known to be stored
	stored Stored
}

// NewPublisher makes a publisher on this connection.
func (c *Client) NewPublisher(o PublisherOptions) (*Publisher, error) {
	if o.Producer != "" {
		if err := messages.CheckName("producer", o.Producer); err != nil {
			return nil, err
		}
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = defaultInFlight
	}
	if o.MaxBytesInFlight == 0 {
		o.MaxBytesInFlight = defaultBytesInFlight
	}
	for o.Run == 0 {
		o.Run = randomRun()
	}
	out, err := newOutbox(c.nc, outboxOptions{maxCount: o.MaxInFlight, maxBytes: o.MaxBytesInFlight})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.boxes[out] = struct{}{}
	c.mu.Unlock()
	life, end := context.WithCancel(context.Background())
	return &Publisher{
		life: life, end: end,
		client: c, options: o, out: out,
		counters: map[counterKey]*counter{}, heard: map[string]*nats.Subscription{}, news: make(chan struct{}),
		sites: map[string]*unstored{}, asked: map[string]time.Time{}, granted: map[string]granted{},
	}, nil
}

func randomRun() uint64 {
	var b [8]byte
	crand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

// Run is the run id of this publisher's sequences.
func (p *Publisher) Run() uint64 { return p.options.Run }

// Publish sends one batch of at most MaxReadings readings of a site and shard. With Wait it returns as
// soon as there is room in the window, and a failure is returned by a later Publish or by Flush; with
// Refuse it returns when the stream has acknowledged the batch, or ErrOverloaded. The blocks may be
// used again when it returns.
func (p *Publisher) Publish(ctx context.Context, site string, shard messages.Shard, blocks []messages.Block) error {
	if p.options.OnFull == Refuse {
		acked := make(chan error, 1)
		if err := p.publish(ctx, site, shard, blocks, true, func(_ uint64, err error) { acked <- err }); err != nil {
			return err
		}
		select {
		case err := <-acked:
			return err
		case <-ctx.Done():
			return fmt.Errorf("not acknowledged yet, and still being sent: %w", ctx.Err())
		}
	}
	if err := p.takeFirst(); err != nil {
		return err
	}
	return p.publish(ctx, site, shard, blocks, false, nil)
}

// publish sends one batch. refuse: ErrOverloaded instead of waiting for a full stream or window. done is called
// once with its producer sequence and what became of it; nil: a failure is kept for takeFirst. It is not called
// when publish returns an error.
func (p *Publisher) publish(ctx context.Context, site string, shard messages.Shard, blocks []messages.Block, refuse bool, done func(uint64, error)) error {
	if err := checkBatch(site, blocks); err != nil {
		return err
	}
	taken := guess(blocks)
	if err := p.admit(ctx, site, taken, refuse); err != nil {
		return fmt.Errorf("site %s has too much that is not stored yet: %w", site, err)
	}
	return p.publishAdmitted(ctx, counterKey{site, shard}, blocks, taken, refuse, done)
}

// publishAdmitted sends a batch for which so many bytes were taken of the site's window; the rest as in publish.
func (p *Publisher) publishAdmitted(ctx context.Context, key counterKey, blocks []messages.Block, taken int64, refuse bool, done func(uint64, error)) error {
	sequence := p.next(key)
	buffer := p.buffer()
	data := messages.AppendBatch((*buffer)[:0], &messages.Batch{
		Producer: p.options.Producer, Run: p.options.Run, Sequence: sequence, Blocks: blocks,
	})
	*buffer = data
	p.note(key, sequence, taken, int64(len(data)+unstoredCost))
	if len(data) > messages.MaxMessage {
		p.giveBack(key, sequence)
		return fmt.Errorf("batch of site %s: %d bytes are more than a message may have (%d): %w",
			key.site, len(data), messages.MaxMessage, messages.ErrInvalid)
	}
	err := p.out.send(ctx, outgoing{
		subject: messages.BatchSubject(key.site, key.shard),
		data:    data,
		refuse:  refuse,
		done: func(err error) {
			switch {
			case errors.Is(err, ErrOverloaded):
				p.giveBack(key, sequence)
			case err != nil:
				p.unnote(key, sequence)
			}
			if done != nil {
				p.finish(buffer, func(err error) { done(sequence, err) }, err)
			} else {
				p.finish(buffer, nil, err)
			}
		},
	})
	if err != nil {
		p.giveBack(key, sequence)
		return fmt.Errorf("publish batch of site %s, shard %d: %w", key.site, key.shard, err)
	}
	return nil
}

// checkBatch refuses what the shard would refuse whole.
func checkBatch(site string, blocks []messages.Block) error {
	if err := messages.CheckName("site", site); err != nil {
		return err
	}
	n := 0
	for _, b := range blocks {
		n += len(b.Readings)
		for i := range b.Readings {
			if b.Readings[i].Time == messages.NoTime {
				return fmt.Errorf("batch of site %s: a reading of device %s has no time: %w", site, b.Device, messages.ErrInvalid)
			}
		}
	}
	if n == 0 || n > messages.MaxReadings {
		return fmt.Errorf("batch of site %s: %d readings: must be 1 to %d: %w", site, n, messages.MaxReadings, messages.ErrInvalid)
	}
	return nil
}

// PublishReading sends one message of one device as it is, JSON or protobuf, at most MaxMessage bytes.
// It returns as soon as there is room in the window; a failure is returned by a later call or by Flush.
// The payload may be used again when it returns.
func (p *Publisher) PublishReading(ctx context.Context, id messages.DeviceID, payload []byte) error {
	if err := p.takeFirst(); err != nil {
		return err
	}
	return p.publishReading(ctx, id, payload, p.options.OnFull == Refuse, nil)
}

// publishReading sends one message of one device; refuse and done as in publish.
func (p *Publisher) publishReading(ctx context.Context, id messages.DeviceID, payload []byte, refuse bool, done func(error)) error {
	buffer := p.buffer()
	*buffer = append((*buffer)[:0], payload...)
	err := p.out.send(ctx, outgoing{
		subject: messages.ReadingsSubject(id),
		data:    *buffer,
		refuse:  refuse,
		done:    func(err error) { p.finish(buffer, done, err) },
	})
	if err != nil {
		return fmt.Errorf("publish reading of %v: %w", id, err)
	}
	return nil
}

// finish ends a message's life.
func (p *Publisher) finish(buffer *[]byte, done func(error), err error) {
	if cap(*buffer) <= keepBuffer {
		p.buffers.Put(buffer)
	}
	if done != nil {
		done(err)
		return
	}
	if err != nil {
		p.mu.Lock()
		if p.first == nil {
			p.first = err
		}
		p.mu.Unlock()
	}
}

func (p *Publisher) buffer() *[]byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

// takeFirst returns a failure that nobody was told of, once.
func (p *Publisher) takeFirst() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.first
	p.first = nil
	return err
}

// next gives out a producer sequence.
func (p *Publisher) next(key counterKey) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters[key]
	if c == nil {
		c = &counter{}
		p.counters[key] = c
	}
	if n := len(c.free); n > 0 {
		sequence := slices.Min(c.free)
		c.free = slices.DeleteFunc(c.free, func(s uint64) bool { return s == sequence })
		return sequence
	}
	c.last++
	return c.last
}

// giveBack takes a sequence back that no stream has.
func (p *Publisher) giveBack(key counterKey, sequence uint64) {
	p.unnote(key, sequence)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters[key]
	if sequence == c.last {
		c.last--
		return
	}
	c.free = append(c.free, sequence)
}

// Flush waits until everything published is acknowledged, and returns the first failure that no caller
// was told of.
func (p *Publisher) Flush(ctx context.Context) error {
	if err := p.out.flush(ctx); err != nil {
		return fmt.Errorf("wait for acknowledgements: %w", err)
	}
	return p.takeFirst()
}

// WaitStored waits until everything published under the producer's name is in the archive.
func (p *Publisher) WaitStored(ctx context.Context) error {
	if err := p.Flush(ctx); err != nil {
		return err
	}
	return p.awaitAll(ctx, func(counterKey) bool { return true })
}

// waitStoredOf waits until everything of a site that is acknowledged by now, and what else was published
// of it meanwhile and taken, is in the archive.
func (p *Publisher) waitStoredOf(ctx context.Context, site string) error {
	return p.awaitAll(ctx, func(key counterKey) bool { return key.site == site })
}

// awaitAll waits until all sequences given out for some sites and shards are stored, but those that no
// stream has.
func (p *Publisher) awaitAll(ctx context.Context, of func(counterKey) bool) error {
	p.mu.Lock()
	want := make(map[counterKey][]uint64, len(p.counters))
	for key, c := range p.counters {
		if of(key) {
			want[key] = []uint64{c.last}
		}
	}
	p.mu.Unlock()
	return p.await(ctx, want, func(c *counter, last uint64) bool {
		for s := c.stored.Through + 1; s <= min(last, c.last); s++ { // c.last: what was given back counts no more
			if !c.stored.Has(s) && !slices.Contains(c.free, s) {
				return false
			}
		}
		return true
	})
}

// await waits until is returns true for each of the sequences. p.mu is held when it is called.
func (p *Publisher) await(ctx context.Context, want map[counterKey][]uint64, is func(c *counter, sequence uint64) bool) error {
	if p.options.Producer == "" {
		return fmt.Errorf("wait until stored: the publisher has no producer name: %w", messages.ErrInvalid)
	}
	for key := range want {
		if err := p.hear(key.site); err != nil {
			return err
		}
	}
	for asked := false; ; {
		p.mu.Lock()
		news := p.newsOf(want)
		for key, sequences := range want {
			c := p.counters[key]
			sequences = slices.DeleteFunc(sequences, func(s uint64) bool { return is(c, s) })
			if want[key] = sequences; len(sequences) == 0 {
				delete(want, key)
			}
		}
		p.mu.Unlock()
		if len(want) == 0 {
			return nil
		}
		if !asked {
			p.askStored(ctx, want)
			asked = true
			continue
		}
		timer := time.NewTimer(askStored)
		select {
		case <-news:
		case <-timer.C:
			asked = false
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("not stored yet in %d shards: %w", len(want), err)
		}
	}
}

// hear listens to the stored messages of a site.
func (p *Publisher) hear(site string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.heard[site] != nil {
		return nil
	}
	sub, err := p.client.nc.Subscribe(messages.StoredSubject(site, p.options.Producer), func(m *nats.Msg) {
		var s Stored
		if json.Unmarshal(m.Data, &s) == nil { // what cannot be read is asked for again
			p.learn(site, []Stored{s})
		}
	})
	if err != nil {
		return fmt.Errorf("listen to what is stored of site %s: %w", site, err)
	}
	p.heard[site] = sub
	return nil
}

// learn takes what the shards say is stored.
func (p *Publisher) learn(site string, list []Stored) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range list {
		key := counterKey{site, s.Shard}
		c := p.counters[key]
		if s.Run != p.options.Run || c == nil || s.Through < c.stored.Through {
			continue
		}
		c.stored = s
		p.settle(key, func(m sent) bool { return s.Has(m.sequence) })
	}
	close(p.news)
	p.news = make(chan struct{})
	if u := p.sites[site]; u != nil && u.news != nil {
		close(u.news)
		u.news = nil
	}
}

// newsOf is closed when there is news of the sites; p.mu is held. Who waits for one site is not woken by the
// stored messages of others: a site that floods has hundreds a second.
func (p *Publisher) newsOf(want map[counterKey][]uint64) <-chan struct{} {
	site, sites := "", 0
	for key := range want {
		if sites == 0 || key.site != site {
			site = key.site
			sites++
		}
	}
	if sites != 1 {
		return p.news
	}
	u := p.unstoredOf(site)
	if u.news == nil {
		u.news = make(chan struct{})
	}
	return u.news
}

// askStored asks the members: stored messages may be lost.
func (p *Publisher) askStored(ctx context.Context, want map[counterKey][]uint64) {
	request := fmt.Appendf(nil, `{"run":"%016x"}`, p.options.Run)
	sites := map[string]bool{}
	for key := range want {
		sites[key.site] = true
	}
	for site := range sites {
		bounded, cancel := context.WithTimeout(ctx, attempt)
		data, err := p.client.Ask(bounded, QueryStored, messages.DeviceID{Site: site, Device: p.options.Producer}, request)
		cancel()
		var list []Stored
		if err == nil {
			err = json.Unmarshal(data, &list)
		}
		if err != nil {
			p.client.logger.Debug("what is stored is not known", "site", site, "error", err)
			continue
		}
		p.learn(site, list)
	}
}

// Close waits for nothing: what is under way may or may not be in the stream. Call Flush first.
func (p *Publisher) Close() {
	p.client.mu.Lock()
	delete(p.client.boxes, p.out)
	p.client.mu.Unlock()
	p.out.close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.asking.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sub := range p.heard {
		// fails only when the connection is closed already
		_ = sub.Unsubscribe()
	}
	p.heard = nil
}
