package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// What can be asked: query.{what}.{site}.{device}, unless the comment says otherwise.
const (
	QueryLatest  = "latest"
	QueryState   = "state"
	QueryWindow  = "window"  // request: {"from":…,"to":…,"limit":…}, may be empty
	QueryRollups = "rollups" // request: {"step":"1h","from":…,"to":…,"limit":…,"cursor":…}, may be empty
	QueryDevices = "devices" // query.devices.{site}
	QueryStored  = "stored"  // query.stored.{site}.{producer}: the list of Stored of all shards; request: {"run":"…"}, may be empty
	QueryLimits  = "limits"  // query.limits.{site}: {"unstored":67108864}, bytes that the site may have sent and not yet stored
	QueryShards  = "shards"  // query.shards: Layout
)

const (
	// queriesAtOnce bounds the questions that are being answered, queriesWaiting those that wait; what
	// is beyond is told to try again.
	queriesAtOnce  = 64
	queriesWaiting = 1024
	// queryTimeout bounds one answer.
	queryTimeout = 10 * time.Second
)

// Handler answers questions. It may be called by many goroutines at once.
type Handler interface {
	// Answer returns the answer as JSON. what is one of the Query constants; id holds what the subject
	// names, the producer's name as Device for QueryStored. An error that is persistence.ErrNotFound
	// or messages.ErrInvalid is told as such (404, 400), ErrOverloaded as 503, any other as 500.
	Answer(ctx context.Context, what string, id messages.DeviceID, request []byte) ([]byte, error)
}

// QueryError is an error that a member answered with.
type QueryError struct {
	Code int // 400 invalid, 404 not found, 503 try again later, 500 anything else
	Text string
}

func (e *QueryError) Error() string { return fmt.Sprintf("%s (%d)", e.Text, e.Code) }

// Is makes errors.Is work with the errors that the codes stand for.
func (e *QueryError) Is(target error) bool {
	switch e.Code {
	case 400:
		return target == messages.ErrInvalid
	case 404:
		return target == persistence.ErrNotFound
	case 503:
		return target == ErrOverloaded
	}
	return false
}

// queryError reads an answer's error, nil when it is none.
func queryError(m *nats.Msg) error {
	text := m.Header.Get(micro.ErrorHeader)
	code, err := strconv.Atoi(m.Header.Get(micro.ErrorCodeHeader))
	if told := text != "" || err == nil; !told {
		return nil
	}
	return &QueryError{Code: code, Text: text}
}

func querySubject(what string, id messages.DeviceID) string {
	subject := "query." + what
	if id.Site != "" {
		subject += "." + id.Site
	}
	if id.Device != "" {
		subject += "." + id.Device
	}
	return subject
}

// queries is the service that answers.
type queries struct {
	nc      *nats.Conn
	handler Handler
	logger  *slog.Logger
	ctx     context.Context

	mu      sync.Mutex
	stopped bool          // nothing is taken any more
	waiting chan question // closed then
}

// question is one that waits for its answer.
type question struct {
	what string
	micro.Request
	until time.Time // when it is too late
}

// ServeQueries answers questions as a NATS micro service until ctx ends, and returns when no answer is
// being worked on any more. name tells the member.
func (s *Streams) ServeQueries(ctx context.Context, name string, handler Handler) error {
	q := &queries{nc: s.main.nc, handler: handler, logger: s.logger, ctx: ctx, waiting: make(chan question, queriesWaiting)}
	service, err := micro.AddService(s.main.nc, micro.Config{
		Name: "wellhead", Version: "1.0.0", Description: "asks devices and shards",
		Metadata: map[string]string{"member": name},
	})
	if err != nil {
		return fmt.Errorf("serve queries: %w", err)
	}
	endpoints := map[string]string{
		QueryLatest: ".*.*", QueryState: ".*.*", QueryWindow: ".*.*", QueryRollups: ".*.*", QueryDevices: ".*", QueryStored: ".*.*", QueryShards: "", QueryLimits: ".*",
	}
	for what, names := range endpoints {
		err := service.AddEndpoint(what, micro.HandlerFunc(func(r micro.Request) { q.take(what, r) }),
			micro.WithEndpointSubject("query."+what+names))
		if err != nil {
			return errors.Join(fmt.Errorf("serve queries: %s: %w", what, err), service.Stop())
		}
	}
	var ended sync.WaitGroup
	for range queriesAtOnce { // and not one goroutine for each: its stack would grow anew each time
		ended.Go(q.work)
	}
	<-ctx.Done()
	err = service.Stop()
	q.mu.Lock()
	q.stopped = true
	close(q.waiting)
	q.mu.Unlock()
	ended.Wait()
	if err == nil {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
		defer cancel()
		err = s.main.nc.FlushWithContext(bounded) // the server knows that we are gone
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("stop serving queries: %w", err)
	}
	return nil
}

// take puts one question into the queue, or refuses it. It does not wait: one goroutine brings all questions of
// a kind.
func (q *queries) take(what string, r micro.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.stopped {
		select {
		case q.waiting <- question{what, r, time.Now().Add(queryTimeout)}:
			return
		default:
		}
	}
	q.refuse(r, ErrOverloaded)
}

// work answers questions until there are no more to come.
func (q *queries) work() {
	for asked := range q.waiting {
		ctx, cancel := context.WithDeadline(q.ctx, asked.until)
		if ctx.Err() == nil {
			q.answer(ctx, asked.what, asked.Request)
		} else {
			q.refuse(asked.Request, ErrOverloaded)
		}
		cancel()
	}
}

func (q *queries) answer(ctx context.Context, what string, r micro.Request) {
	tokens := strings.Split(r.Subject(), ".")
	var id messages.DeviceID
	if len(tokens) > 2 {
		id.Site = tokens[2]
	}
	if len(tokens) > 3 {
		id.Device = tokens[3]
	}
	data, err := q.handler.Answer(ctx, what, id, r.Data())
	if err != nil {
		q.refuse(r, err)
		return
	}
	err = q.reply(r, &nats.Msg{Data: data})
	if errors.Is(err, nats.ErrMaxPayload) {
		q.refuse(r, fmt.Errorf("%w: the answer has %d bytes, more than a message may have: ask for fewer with limit", messages.ErrInvalid, len(data)))
		return
	}
	if err != nil {
		q.logger.Warn("query not answered", "subject", r.Subject(), "error", err)
	}
}

// refuse answers with an error.
func (q *queries) refuse(r micro.Request, err error) {
	code := 500
	switch {
	case errors.Is(err, messages.ErrInvalid):
		code = 400
	case errors.Is(err, persistence.ErrNotFound):
		code = 404
	case errors.Is(err, ErrOverloaded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = 503
	}
	said := nats.Header{micro.ErrorHeader: {err.Error()}, micro.ErrorCodeHeader: {strconv.Itoa(code)}}
	if err := q.reply(r, &nats.Msg{Header: said}); err != nil {
		q.logger.Warn("query not answered", "subject", r.Subject(), "error", err)
	}
}

// reply sends an answer. The request's own Respond and Error are only for the goroutine that brought it: the service
// reads what they leave there as soon as its handler returns.
func (q *queries) reply(r micro.Request, answer *nats.Msg) error {
	answer.Subject = r.Reply()
	return q.nc.PublishMsg(answer)
}
