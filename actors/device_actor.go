package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
)

// States of an op's handshake.
const (
	opHanded  = 0 // the actor has it
	opDone    = 1 // the actor is done with it
	opWaiting = 2 // the shard does not wait: the actor tells it when it is done
)

// install gives a device actor its device.
type install struct{ device *Device }

// deviceActor is the thin shell around a Device. Its mailbox (turns) has whoever sends
// to it run it, which is always its shard, so it must never block or wait.
type deviceActor struct {
	shard  *shardActor
	device *Device
}

// Receive implements actor.Actor.
func (a *deviceActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *op:
		a.do(m)
	case install:
		a.device = m.device
	}
}

// do runs an op. Usually the shard is still inside its Send and sees opDone when it returns. If not
// (the mailbox was suspended when the op came), the shard has marked it opWaiting, and is told.
func (a *deviceActor) do(o *op) {
	o.perform(a.device)
	if !o.state.CompareAndSwap(opHanded, opDone) {
		a.shard.tell(func(c *core) { c.ran(o) })
	}
}

// deviceStrategy supervises devices one for one: the actor that panicked is restarted, empty, at
// once, and its shard decides when it gets a restored device and tries again. Nobody else notices.
type deviceStrategy struct {
	member *Member
	shard  messages.Shard
}

// HandleFailure implements actor.SupervisorStrategy. It runs in the shard's goroutine.
func (s deviceStrategy) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	supervisor.RestartChildren(child)
	if o, ok := message.(*op); ok {
		s.member.tell(s.shard, func(c *core) { c.failed(o, fmt.Sprint(reason)) })
	}
}
