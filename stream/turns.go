package stream

import (
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// siteMessages is how many messages of one site an Ingest has under way at once: what another site
	// publishes waits behind no more of them. The stream takes them in about a millisecond.
	siteMessages = 32
	// siteWaiting is how many requests of one site may be under way or wait.
	siteWaiting = 64
)

// turns share the way to the stream among sites, so that one that sends without end delays only
// itself. All methods may be called by many goroutines at once.
type turns struct {
	mu    sync.Mutex
	sites map[string]*siteTurns
}

// siteTurns is what one site has under way, in the order of its messages.
type siteTurns struct {
	*semaphore.Weighted
	users int // requests
}

// enter says that a request of a site is there, until leave. ErrOverloaded when there are too many.
func (t *turns) enter(site string) (*siteTurns, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sites[site]
	if s == nil {
		if t.sites == nil {
			t.sites = make(map[string]*siteTurns)
		}
		s = &siteTurns{Weighted: semaphore.NewWeighted(siteMessages)}
		t.sites[site] = s
	}
	if s.users >= siteWaiting {
		return nil, ErrOverloaded
	}
	s.users++
	return s, nil
}

func (t *turns) leave(site string, s *siteTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(t.sites, site)
	}
}
