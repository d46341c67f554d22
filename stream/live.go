package stream

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/messages"
)

const (
	// liveCount and liveBytes bound what waits for one listener; beyond it the oldest events are lost.
	liveCount = 4096
	liveBytes = 4 << 20
)

// Events calls fn, from one goroutine, for each event of the site (and device, if not empty) until ctx
// ends, and returns ctx.Err(). A listener that falls behind by more than 4096 events or 4 MiB loses the
// oldest and is told how many by lost. subject is events.{site}.{device}.{kind}.
func (c *Client) Events(ctx context.Context, site, device string, fn func(subject string, data []byte, lost int)) error {
	if err := messages.CheckName("site", site); err != nil {
		return err
	}
	subject := "events." + site + ".>"
	if device != "" {
		if err := messages.CheckName("device", device); err != nil {
			return err
		}
		subject = "events." + site + "." + device + ".*"
	}
	q := &eventQueue{wake: make(chan struct{}, 1)}
	sub, err := c.nc.Subscribe(subject, q.put)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", subject, err)
	}
	// fails only when the connection is closed already
	defer func() { _ = sub.Unsubscribe() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.wake:
		}
		for ctx.Err() == nil {
			m, lost := q.take()
			if m == nil {
				break
			}
			fn(m.Subject, m.Data, lost)
		}
	}
}

// eventQueue holds the events that a listener has not taken yet.
type eventQueue struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []*nats.Msg // the first head are taken
	head  int
	bytes int
	lost  int
}

func (q *eventQueue) put(m *nats.Msg) {
	q.mu.Lock()
	q.queue = append(q.queue, m)
	q.bytes += len(m.Data)
	for len(q.queue)-q.head > liveCount || q.bytes > liveBytes && len(q.queue)-q.head > 1 {
		q.drop()
		q.lost++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drop removes the oldest. q.mu is held.
func (q *eventQueue) drop() {
	q.bytes -= len(q.queue[q.head].Data)
	q.queue[q.head] = nil
	q.head++
	if q.head >= liveCount || q.head == len(q.queue) {
		q.queue = append(q.queue[:0], q.queue[q.head:]...)
		q.head = 0
	}
}

// take returns the oldest event, and how many were lost before it; nil when there is none.
func (q *eventQueue) take() (*nats.Msg, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.queue) {
		return nil, 0
	}
	m, lost := q.queue[q.head], q.lost
	q.lost = 0
	q.drop()
	return m, lost
}
