package stream

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// siteMessages is how many messages of one site an Ingest has under way at once: what another site
	// publishes waits behind no more of them. Two requests of a thousand readings fill it.
	siteMessages = 128
	// siteWaiting is how many requests of one site may wait for their turn.
	siteWaiting = 64
)

// turns share the way to the stream among sites, so that one that sends without end delays only
// itself. All methods may be called by many goroutines at once.
type turns struct {
	mu    sync.Mutex
	sites map[string]*siteTurns
}

// siteTurns is what one site has under way, in the order of its requests.
type siteTurns struct {
	room  *semaphore.Weighted
	users int // requests that have their turn or wait for it
}

// take waits for a turn with so many messages, until the returned function is called. ErrOverloaded
// when too many requests of the site wait already.
func (t *turns) take(ctx context.Context, site string, count int) (release func(), err error) {
	t.mu.Lock()
	s := t.sites[site]
	if s == nil {
		if t.sites == nil {
			t.sites = make(map[string]*siteTurns)
		}
		s = &siteTurns{room: semaphore.NewWeighted(siteMessages)}
		t.sites[site] = s
	}
	if s.users >= siteWaiting {
		t.mu.Unlock()
		return nil, ErrOverloaded
	}
	s.users++
	t.mu.Unlock()

	n := int64(min(count, siteMessages))
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(t.sites, site)
		}
	}
	if err := s.room.Acquire(ctx, n); err != nil {
		leave()
		return nil, err
	}
	return func() {
		s.room.Release(n)
		leave()
	}, nil
}
