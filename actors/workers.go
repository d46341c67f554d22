package actors

import (
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// workers is the dispatcher of shards: goroutines that stay, for those that have work next. proto.actor's own starts a
// goroutine for each message that finds its actor idle, whose stack then grows, copy by copy, to what the message
// needs: a seventh of what a question to a device cost.
type workers struct {
	idle    atomic.Int32
	waiting chan func() // to one that is idle
	done    <-chan struct{}
}

// mostIdle is how many goroutines stay when there is nothing to do. More work than that has one for each.
const mostIdle = 256

// throughput is how many messages of an actor are handled before another goroutine gets its turn; proto.actor's default.
const throughput = 300

var _ actor.Dispatcher = (*workers)(nil)

// newWorkers returns workers that do not stay beyond done.
func newWorkers(done <-chan struct{}) *workers {
	return &workers{waiting: make(chan func()), done: done}
}

// Schedule implements actor.Dispatcher: it has a goroutine do it, and does not wait. Any goroutine may call it.
func (w *workers) Schedule(do func()) {
	select {
	case w.waiting <- do:
	default:
		go w.work(do)
	}
}

// Throughput implements actor.Dispatcher.
func (w *workers) Throughput() int { return throughput }

func (w *workers) work(do func()) {
	for {
		do()
		if w.idle.Add(1) > mostIdle {
			w.idle.Add(-1)
			return
		}
		select {
		case do = <-w.waiting:
			w.idle.Add(-1)
		case <-w.done:
			return
		}
	}
}
