package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// ackWait is how long an acknowledgement may take before the message is sent again.
	ackWait = 5 * time.Second
	// resendAtLeast and resendAtMost bound the wait before a message that was not taken is sent again.
	resendAtLeast = 50 * time.Millisecond
	resendAtMost  = time.Second
	// lookEvery is how often the outbox looks for what must be sent again.
	lookEvery = 25 * time.Millisecond
)

// errWrongSequence means that the stream refused a message because its subject has one already.
var errWrongSequence = errors.New("the subject has another last sequence")

// outboxOptions bound an outbox. When a bound is reached, send waits.
type outboxOptions struct {
	maxCount int            // messages not acknowledged
	maxBytes int64          // their bytes
	resent   *atomic.Uint64 // counts what is sent again; may be nil
}

// outgoing is one message on its way to a stream.
type outgoing struct {
	subject string
	header  nats.Header // nil = none
	data    []byte      // not changed until done is called
	refuse  bool        // give up when the stream certainly does not take it now
	// done is called once, from the outbox's goroutine, and must not block: nil = the stream has it;
	// ErrOverloaded = it certainly has not (only with refuse); ErrClosed = unknown.
	done func(error)
}

// outbox publishes to streams with a bounded window of messages that are not acknowledged, all
// acknowledged to one inbox. What gets no acknowledgement, or is not taken, is sent again until it is:
// a message may arrive twice and out of order.
type outbox struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	prefix  string // of the inbox, with the dot
	options outboxOptions

	mu     sync.Mutex
	slots  []slot
	free   []int
	bytes  int64
	room   chan struct{} // closed when room is made; nil = nobody waits
	failed error         // not nil: every send fails with it
	wake   chan struct{}
	quit   chan struct{}
	ended  sync.WaitGroup
}

// slot is one message that is not acknowledged.
type slot struct {
	outgoing
	used       bool
	generation uint32 // tells a late acknowledgement of the slot's last message
	due        time.Time
	attempts   int
	doubt      bool // an attempt may have arrived without an acknowledgement
}

func newOutbox(nc *nats.Conn, o outboxOptions) (*outbox, error) {
	b := &outbox{
		nc: nc, prefix: nc.NewInbox() + ".", options: o,
		slots: make([]slot, o.maxCount), wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	for i := o.maxCount - 1; i >= 0; i-- {
		b.free = append(b.free, i)
	}
	var err error
	if b.sub, err = nc.Subscribe(b.prefix+"*", b.acknowledged); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	// an acknowledgement is small: they must never be what is dropped
	if err := b.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	b.ended.Add(1)
	go b.resend()
	return b, nil
}

// send waits for room and publishes. It returns an error, without calling done, when ctx ends before
// there is room, or after close.
func (b *outbox) send(ctx context.Context, m outgoing) error {
	size := int64(len(m.data))
	b.mu.Lock()
	for b.failed == nil && (len(b.free) == 0 || b.bytes > 0 && b.bytes+size > b.options.maxBytes) {
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.mu.Lock()
	}
	if b.failed != nil {
		err := b.failed
		b.mu.Unlock()
		return err
	}
	i := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	if len(b.free) == len(b.slots)-1 {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	s := &b.slots[i]
	s.outgoing, s.used, s.attempts, s.doubt = m, true, 1, false
	s.due = time.Now().Add(ackWait)
	b.bytes += size
	reply := b.reply(i, s.generation)
	b.mu.Unlock()
	b.publish(i, reply, m)
	return nil
}

// deliver sends one message and waits until the stream has it. When ctx ends the outcome is unknown.
func (b *outbox) deliver(ctx context.Context, m outgoing) error {
	return b.deliverAll(ctx, []outgoing{m})[0]
}

// deliverAll sends messages together, waits until the stream has them, and returns one error for each. Nothing is sent
// once ctx has ended; when it ends afterwards the outcome of those that have no answer is unknown. It sets done of each.
func (b *outbox) deliverAll(ctx context.Context, list []outgoing) []error {
	errs, results := make([]error, len(list)), make([]chan error, len(list))
	for i := range list {
		if errs[i] = ctx.Err(); errs[i] != nil {
			continue
		}
		result := make(chan error, 1)
		list[i].done = func(err error) { result <- err }
		if errs[i] = b.send(ctx, list[i]); errs[i] == nil {
			results[i] = result
		}
	}
	for i, result := range results {
		if result == nil {
			continue
		}
		select {
		case errs[i] = <-result:
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	return errs
}

// reply is the subject that a slot's acknowledgement comes to.
func (b *outbox) reply(i int, generation uint32) string {
	buf := make([]byte, 0, 64)
	buf = append(buf, b.prefix...)
	buf = strconv.AppendUint(buf, uint64(generation), 36)
	buf = append(buf, '-')
	return string(strconv.AppendInt(buf, int64(i), 36))
}

// slotOf reads a reply subject.
func (b *outbox) slotOf(subject string) (i int, generation uint32, ok bool) {
	g, s, found := bytes.Cut([]byte(subject[len(b.prefix):]), []byte{'-'})
	if !found {
		return 0, 0, false
	}
	generation64, err := strconv.ParseUint(string(g), 36, 32)
	if err != nil {
		return 0, 0, false
	}
	i64, err := strconv.ParseInt(string(s), 36, 32)
	if err != nil || i64 < 0 || int(i64) >= len(b.slots) {
		return 0, 0, false
	}
	return int(i64), uint32(generation64), true
}

// publish hands the message to the connection. When that fails it is sent again soon.
func (b *outbox) publish(i int, reply string, m outgoing) {
	var err error
	if m.header == nil {
		err = b.nc.PublishRequest(m.subject, reply, m.data)
	} else {
		err = b.nc.PublishMsg(&nats.Msg{Subject: m.subject, Reply: reply, Header: m.header, Data: m.data})
	}
	if err == nil {
		return
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		b.fail(ErrClosed)
		return
	}
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrHeadersNotSupported) {
		b.settle(i, reply, fmt.Errorf("publish %s: %w", m.subject, err))
		return
	}
	b.again(i, reply, false)
}

// acknowledged takes an answer of the stream.
func (b *outbox) acknowledged(m *nats.Msg) {
	if len(m.Data) > 0 && !bytes.Contains(m.Data, []byte(`"error"`)) {
		b.settle(-1, m.Subject, nil)
		return
	}
	verdict, err := judge(m)
	if verdict == notTaken {
		b.again(-1, m.Subject, true)
		return
	}
	b.settle(-1, m.Subject, err)
}

// verdict is what an answer means.
type verdict int

const (
	refused  verdict = iota // it will never be taken
	notTaken                // it is certainly not taken now
)

// judge reads an answer that is not a plain acknowledgement.
func judge(m *nats.Msg) (verdict, error) {
	if m.Header.Get("Status") == "503" {
		return notTaken, nil // no stream answers: not there, or JetStream is off
	}
	var answer struct {
		Error *struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Error == nil {
		return refused, fmt.Errorf("answer of the stream cannot be read: %q", m.Data)
	}
	switch e := answer.Error; e.ErrCode {
	case 10071, 10164: // wrong last sequence
		return refused, errWrongSequence
	case 10054: // message too large
		return refused, fmt.Errorf("the stream refuses the message: %s", e.Description)
	case 10077, // store failed: maximum bytes or messages reached
		10002, 10023, 10028, 10047, 10122, // resources
		10008, 10009, 10039, 10074, 10076, 10167: // not available now
		return notTaken, nil
	default:
		if e.Code == 503 {
			return notTaken, nil
		}
		return refused, fmt.Errorf("the stream refuses the message: %s (%d)", e.Description, e.ErrCode)
	}
}

// settle ends a message's life in the outbox.
func (b *outbox) settle(i int, reply string, err error) {
	b.mu.Lock()
	s := b.find(&i, reply)
	if s == nil {
		b.mu.Unlock()
		return
	}
	done := b.release(i)
	b.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// find returns the slot that a reply subject means, nil when it has moved on. b.mu is held.
func (b *outbox) find(i *int, reply string) *slot {
	n, generation, ok := b.slotOf(reply)
	if !ok || !b.slots[n].used || b.slots[n].generation != generation {
		return nil
	}
	*i = n
	return &b.slots[n]
}

// release makes room. b.mu is held.
func (b *outbox) release(i int) func(error) {
	s := &b.slots[i]
	done := s.done
	b.bytes -= int64(len(s.data))
	s.outgoing, s.used = outgoing{}, false
	s.generation++
	b.free = append(b.free, i)
	b.makeRoom()
	return done
}

// makeRoom wakes those who wait, once an eighth of the window is free: waking them for every
// acknowledgement would cost a goroutine switch for each message. b.mu is held.
func (b *outbox) makeRoom() {
	if b.room == nil {
		return
	}
	empty := len(b.free) == len(b.slots)
	if empty || b.failed != nil || len(b.free) >= max(1, len(b.slots)/8) && b.bytes <= b.options.maxBytes/8*7 {
		close(b.room)
		b.room = nil
	}
}

// again arranges that a message is sent once more; certain: the stream has said that it has not taken it.
func (b *outbox) again(i int, reply string, certain bool) {
	b.mu.Lock()
	s := b.find(&i, reply)
	if s == nil {
		b.mu.Unlock()
		return
	}
	if certain && s.refuse && !s.doubt {
		done := b.release(i)
		b.mu.Unlock()
		if done != nil {
			done(ErrOverloaded)
		}
		return
	}
	s.due = time.Now().Add(min(resendAtLeast<<min(s.attempts-1, 10), resendAtMost))
	b.mu.Unlock()
}

// hurry makes everything due that waits for an acknowledgement: the connection was cut, so none comes.
func (b *outbox) hurry() {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.slots {
		b.slots[i].due = now
	}
}

// resend looks, while anything is under way, for what is due to be sent again.
func (b *outbox) resend() {
	defer b.ended.Done()
	ticker := time.NewTicker(lookEvery)
	ticker.Stop()
	running := false
	for {
		select {
		case <-b.quit:
			return
		case <-b.wake:
			if !running {
				ticker.Reset(lookEvery)
				running = true
			}
			continue
		case now := <-ticker.C:
			if b.resendDue(now) == 0 {
				ticker.Stop()
				running = false
			}
		}
	}
}

// resendDue sends again what is due and returns how many messages are under way.
func (b *outbox) resendDue(now time.Time) int {
	type due struct {
		slot  int
		reply string
		m     outgoing
	}
	var list []due
	b.mu.Lock()
	for i := range b.slots {
		s := &b.slots[i]
		if !s.used || now.Before(s.due) {
			continue
		}
		// With refuse a certain "not taken" has ended the message, so no answer came: it may have arrived.
		s.doubt = true
		s.attempts++
		s.due = now.Add(ackWait)
		list = append(list, due{i, b.reply(i, s.generation), s.outgoing})
	}
	n := len(b.slots) - len(b.free)
	b.mu.Unlock()
	if b.options.resent != nil {
		b.options.resent.Add(uint64(len(list)))
	}
	for _, d := range list {
		b.publish(d.slot, d.reply, d.m)
	}
	return n
}

// flush waits until nothing is under way.
func (b *outbox) flush(ctx context.Context) error {
	for {
		b.mu.Lock()
		if b.failed != nil || len(b.free) == len(b.slots) {
			err := b.failed
			b.mu.Unlock()
			return err
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail ends everything that is under way, and all that comes, with err.
func (b *outbox) fail(err error) {
	b.mu.Lock()
	if b.failed != nil {
		b.mu.Unlock()
		return
	}
	b.failed = err
	var waiting []func(error)
	for i := range b.slots {
		if b.slots[i].used {
			waiting = append(waiting, b.release(i))
		}
	}
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	b.mu.Unlock()
	for _, done := range waiting {
		if done != nil {
			done(err)
		}
	}
}

// close ends the outbox; what is under way ends with ErrClosed.
func (b *outbox) close() {
	b.fail(ErrClosed)
	select {
	case <-b.quit:
	default:
		close(b.quit)
	}
	b.ended.Wait()
	// fails only when the connection is closed already
	_ = b.sub.Unsubscribe()
}
