package stream

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// siteMessages is how many messages of one site an Ingest has under way at once, and siteMessagesBeside how
	// many while other sites publish too: each wakes a dozen goroutines on its way through the stream to its
	// device, and what another site publishes waits for a processor behind them (measured: of 32 messages,
	// 20 ms at the median on two cores).
	siteMessages       = 32
	siteMessagesBeside = 4
	// othersWithin is how long a site counts as publishing after its last request.
	othersWithin = time.Second
	// siteRequests is how many requests of one site may have messages under way, or wait for their turns.
	siteRequests = 64
)

// turns share the way to the stream among sites, so that one that sends without end delays only
// itself. All methods may be called by many goroutines at once.
type turns struct {
	mu    sync.Mutex
	sites map[string]*siteTurns
	// the two sites that came last, the newest first
	newest, other presence
}

// presence is when a site came.
type presence struct {
	site string
	at   time.Time
}

// siteTurns is what one site has under way, in the order of its messages.
type siteTurns struct {
	*semaphore.Weighted
	requests *semaphore.Weighted
	users    int // requests, also those that wait to enter
}

// enter waits until a request of a site may begin; it ends with leave. refuse: ErrOverloaded instead of waiting.
func (t *turns) enter(ctx context.Context, site string, refuse bool) (*siteTurns, error) {
	s := t.of(site)
	if s.requests.TryAcquire(1) {
		return s, nil
	}
	err := ErrOverloaded
	if !refuse {
		err = s.requests.Acquire(ctx, 1)
	}
	if err != nil {
		t.forget(site, s)
		return nil, err
	}
	return s, nil
}

// of returns a site's turns, for a further request.
func (t *turns) of(site string) *siteTurns {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newest.site != site {
		t.other = t.newest
	}
	t.newest = presence{site, time.Now()}
	s := t.sites[site]
	if s == nil {
		if t.sites == nil {
			t.sites = make(map[string]*siteTurns)
		}
		s = &siteTurns{Weighted: semaphore.NewWeighted(siteMessages), requests: semaphore.NewWeighted(siteRequests)}
		t.sites[site] = s
	}
	s.users++
	return s
}

// leave ends a request.
func (t *turns) leave(site string, s *siteTurns) {
	s.requests.Release(1)
	t.forget(site, s)
}

func (t *turns) forget(site string, s *siteTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(t.sites, site)
	}
}

// weight is what a message of the site takes of its turns now.
func (t *turns) weight(site string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.newest
	if one.site == site {
		one = t.other
	}
	if one.site != "" && time.Since(one.at) < othersWithin {
		return siteMessages / siteMessagesBeside
	}
	return 1
}
