package actors

import (
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// turns is the mailbox of a device's actor. A message that finds the actor idle is handled in the turn of whoever sends
// it, which is its shard, without ever being queued; what comes while the actor has a turn or is suspended waits, system
// messages first. proto.actor's own mailbox puts every message into a queue and takes it out again: two allocations and
// six more cache lines for each reading of a large fleet (BenchmarkActors). All methods may be called by many
// goroutines; turns never overlap.
type turns struct {
	invoker   actor.MessageInvoker
	taken     atomic.Bool // a turn is going on
	suspended atomic.Bool // the device failed, and its supervisor has not decided yet
	waiting   atomic.Int32
	mu        sync.Mutex
	late      *late // guarded by mu; nil = nothing ever waited
}

// late is what waits for a turn.
type late struct{ system, user []any }

var _ actor.Mailbox = (*turns)(nil)

// RegisterHandlers implements actor.Mailbox. There is no dispatcher but the sender.
func (t *turns) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	t.invoker = invoker
}

// Start implements actor.Mailbox.
func (t *turns) Start() {}

// UserMessageCount implements actor.Mailbox.
func (t *turns) UserMessageCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late == nil {
		return 0
	}
	return len(t.late.user)
}

// PostUserMessage implements actor.Mailbox.
func (t *turns) PostUserMessage(message any) { t.post(message, false) }

// PostSystemMessage implements actor.Mailbox.
func (t *turns) PostSystemMessage(message any) { t.post(message, true) }

func (t *turns) post(message any, system bool) {
	ours := t.taken.CompareAndSwap(false, true)
	if ours && t.waiting.Load() == 0 && !t.suspended.Load() {
		t.handle(message, system)
	} else {
		t.wait(message, system)
	}
	// Whoever comes just before the turn is given back finds it taken: so it is looked again.
	for ours || t.ready() && t.taken.CompareAndSwap(false, true) {
		t.work()
		t.taken.Store(false)
		ours = false
	}
}

// wait keeps a message until there is a turn for it.
func (t *turns) wait(message any, system bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late == nil {
		t.late = &late{}
	}
	if system {
		t.late.system = append(t.late.system, message)
	} else {
		t.late.user = append(t.late.user, message)
	}
	t.waiting.Add(1)
}

// ready tells whether a message waits that may be handled.
func (t *turns) ready() bool {
	if t.waiting.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.late.system) > 0 || len(t.late.user) > 0 && !t.suspended.Load()
}

// work handles what waits. The caller has the turn.
func (t *turns) work() {
	for t.waiting.Load() > 0 {
		message, system := t.next()
		if message == nil {
			return
		}
		t.handle(message, system)
	}
}

// next takes the message that is to be handled next, nil when none may be.
func (t *turns) next() (message any, system bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := &t.late.system
	if len(*from) == 0 {
		if from = &t.late.user; len(*from) == 0 || t.suspended.Load() {
			return nil, false
		}
	}
	message = (*from)[0]
	(*from)[0] = nil
	if *from = (*from)[1:]; len(*from) == 0 {
		*from = nil
	}
	t.waiting.Add(-1)
	return message, from == &t.late.system
}

// handle has the actor do one message. A panic goes to its supervisor.
func (t *turns) handle(message any, system bool) {
	defer func() {
		if reason := recover(); reason != nil {
			t.invoker.EscalateFailure(reason, message)
		}
	}()
	if !system {
		t.invoker.InvokeUserMessage(message)
		return
	}
	switch message.(type) {
	case *actor.SuspendMailbox:
		t.suspended.Store(true)
	case *actor.ResumeMailbox:
		t.suspended.Store(false)
	default:
		t.invoker.InvokeSystemMessage(message)
	}
}
