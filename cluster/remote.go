package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/wellhead/wellhead/messages"
)

const (
	// remoteBatch and remoteBytes bound one message between members: proto.actor puts several envelopes into
	// one, and a message above the limit ends the connection with all that waits in it (measured).
	remoteBatch = 4
	remoteBytes = 64 << 20
	// AnswerBytes is the largest answer to another member.
	AnswerBytes = 15 << 20
	// askTimeout bounds one try to ask another member.
	askTimeout = 2 * time.Second
	// answersAtOnce bounds the questions of others that are being answered; those beyond are told to try again.
	answersAtOnce = 256

	answering = "questions"
)

// Errors that an answer from another member stands for.
var (
	ErrElsewhere  = errors.New("the shard is not here")
	ErrStarting   = errors.New("the shard is starting")
	ErrNotFound   = errors.New("not found")
	ErrInvalid    = errors.New("invalid")
	ErrUnanswered = errors.New("the member does not answer")
)

// Answerer answers questions of other members: with data, or one of the errors above.
type Answerer func(ctx context.Context, question []byte) ([]byte, error)

// Remote is the face that the members of a cluster show each other: proto.actor's remote, with a ping
// beside it on the same port. It carries questions, never what decides who writes.
type Remote struct {
	address string
	system  *actor.ActorSystem
	remote  *remote.Remote
	life    context.Context
	end     context.CancelFunc
	running chan struct{}
}

// Listen finds the port to be advertised: that of addr, or a free one when it is 0.
func Listen(addr, advertise string) (listen, advertised string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", "", fmt.Errorf("listen for other members: %w", err)
	}
	listen = l.Addr().String()
	if err := l.Close(); err != nil { // proto.actor listens itself
		return "", "", fmt.Errorf("listen for other members: %w", err)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", "", fmt.Errorf("listen for other members: %w", err)
	}
	if advertise == "" {
		advertise = host
	}
	return listen, net.JoinHostPort(advertise, port), nil
}

// StartRemote listens on listen and is reached by others at advertised. Only members of the cluster can
// connect, by its certificate.
func StartRemote(listen, advertised string, of *Identity, answer Answerer, log *slog.Logger) (r *Remote, err error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("listen for other members: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen for other members: %w", err)
	}
	secure, err := of.tls()
	if err != nil {
		return nil, err
	}
	r = &Remote{address: advertised, running: make(chan struct{}, answersAtOnce)}
	r.life, r.end = context.WithCancel(context.Background())
	quiet := slog.New(levelHandler{log.With("part", "remote").Handler()})
	r.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }),
		actor.WithDeadLetterRequestLogging(false),
	)
	size := []grpc.CallOption{grpc.MaxCallRecvMsgSize(remoteBytes), grpc.MaxCallSendMsgSize(remoteBytes)}
	config := remote.Configure(host, port,
		remote.WithAdvertisedHost(advertised),
		remote.WithEndpointWriterBatchSize(remoteBatch),
		remote.WithServerOptions(
			grpc.MaxRecvMsgSize(remoteBytes), grpc.MaxSendMsgSize(remoteBytes),
			grpc.UnknownServiceHandler(pong),
			grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
				return nil, status.Error(codes.Unimplemented, "no such call") // proto.actor's panic
			}),
			grpc.Creds(credentials.NewTLS(secure)),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		),
		remote.WithCallOptions(size...),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(credentials.NewTLS(secure)), grpc.WithDefaultCallOptions(size...),
			// a member that stands still must not hold a connection for ever
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: silentFor}),
		),
	)
	config.MaxRetryCount = 1 // each holds the messages to that member back for 2 s
	r.remote = remote.NewRemote(r.system, config)
	defer func() {
		if p := recover(); p != nil { // it panics when it cannot listen
			r, err = nil, fmt.Errorf("listen for other members on %s: %v", listen, p)
		}
	}()
	r.remote.Start()
	props := actor.PropsFromFunc(func(ctx actor.Context) { r.receive(ctx, answer) })
	if _, err := r.system.Root.SpawnNamed(props, answering); err != nil {
		return nil, fmt.Errorf("answer other members: %w", err)
	}
	return r, nil
}

// Codes of an answer's first byte.
const (
	codeGood byte = iota
	codeElsewhere
	codeStarting
	codeNotFound
	codeInvalid
	codeOther
)

var codeErrors = map[byte]error{
	codeElsewhere: ErrElsewhere, codeStarting: ErrStarting, codeNotFound: ErrNotFound, codeInvalid: ErrInvalid,
}

// receive takes a question and has it answered beside.
func (r *Remote) receive(ctx actor.Context, answer Answerer) {
	q, ok := ctx.Message().(*wrapperspb.BytesValue)
	sender := ctx.Sender()
	if !ok || sender == nil {
		return
	}
	respond := func(code byte, data []byte) {
		r.system.Root.Send(sender, wrapperspb.Bytes(append([]byte{code}, data...)))
	}
	select {
	case r.running <- struct{}{}:
	default:
		respond(codeStarting, []byte("this member answers too many questions"))
		return
	}
	go func() {
		defer func() { <-r.running }()
		ctx, cancel := context.WithTimeout(r.life, askTimeout)
		defer cancel()
		data, err := answer(ctx, q.GetValue())
		if err == nil && len(data) > AnswerBytes {
			err = fmt.Errorf("%w: the answer is larger than %d bytes: ask for less", ErrInvalid, AnswerBytes)
		}
		if err != nil {
			respond(codeOf(err), []byte(err.Error()))
			return
		}
		respond(codeGood, data)
	}()
}

func codeOf(err error) byte {
	for code, known := range codeErrors {
		if errors.Is(err, known) {
			return code
		}
	}
	return codeOther
}

// Ask asks the member at an address. ErrUnanswered when no answer came in time.
func (r *Remote) Ask(ctx context.Context, address string, question []byte) ([]byte, error) {
	timeout := askTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if timeout <= 0 {
		return nil, context.DeadlineExceeded
	}
	future := r.system.Root.RequestFuture(actor.NewPID(address, answering), wrapperspb.Bytes(question), timeout)
	got, err := future.Result()
	if err != nil {
		return nil, fmt.Errorf("%w: ask %s: %v", ErrUnanswered, address, err)
	}
	answer, ok := got.(*wrapperspb.BytesValue)
	if !ok || len(answer.GetValue()) == 0 {
		return nil, fmt.Errorf("%w: ask %s: it answered with %T", ErrUnanswered, address, got)
	}
	code, data := answer.GetValue()[0], answer.GetValue()[1:]
	if code == codeGood {
		return data, nil
	}
	if known := codeErrors[code]; known != nil {
		return nil, fmt.Errorf("%w: %s says: %s", known, address, data)
	}
	return nil, fmt.Errorf("%s says: %s", address, data)
}

// Close ends it. Questions under way end without an answer.
func (r *Remote) Close() {
	r.end()
	r.remote.Shutdown(false)
	r.system.Shutdown()
}

// Peers asks the owners of shards, by the view.
type Peers struct {
	Remote *Remote
	View   func() *View
	Self   func() (id, address string)
}

// Ask asks a shard's owner. ErrElsewhere when it has none that is alive, or this member is said to be it.
func (p *Peers) Ask(ctx context.Context, shard messages.Shard, question []byte) ([]byte, error) {
	id, address := p.View().Owner(shard)
	if self, _ := p.Self(); id == "" || id == self {
		return nil, ErrElsewhere
	}
	return p.Remote.Ask(ctx, address, question)
}

// levelHandler shows of proto.actor's log only what is worse than an error: that a member cannot be
// reached is told by the membership, once.
type levelHandler struct{ slog.Handler }

func (h levelHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level > slog.LevelError
}

func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs)}
}

func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name)}
}
