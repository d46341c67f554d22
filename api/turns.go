package api

import (
	"cmp"
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// othersWithin is how long a site counts as present after its last request.
	othersWithin = time.Second
	// longestPause bounds what a site waits after one request.
	longestPause = 100 * time.Millisecond
)

// turns share the decoding of requests among sites: of each site at most half of the processors decode
// at once (at least one), and while other sites are there too each pauses after a request for as long as
// it took. So one that sends without end takes a quarter of the machine for it, and others find a free
// processor in time; alone it takes half.
type turns struct {
	slots int // of each site; 0 = half of the processors, at least one

	mu    sync.Mutex
	sites map[string]*siteTurns
	// the two sites that came last, the newest first
	newest, other presence
}

type presence struct {
	site string
	at   time.Time
}

type siteTurns struct {
	turn  chan struct{}
	users int // requests that have their turn, wait for it, or pause
}

// take waits for a turn of the site, until the returned function is called or ctx ends.
func (t *turns) take(ctx context.Context, site string) (release func(), err error) {
	s := t.enter(site, time.Now())
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		t.leave(site, s)
		return nil, ctx.Err()
	}
	began := time.Now()
	return func() {
		end := func() {
			<-s.turn
			t.leave(site, s)
		}
		now := time.Now()
		if !t.others(site, now) {
			end()
			return
		}
		time.AfterFunc(min(now.Sub(began), longestPause), end)
	}, nil
}

func (t *turns) enter(site string, now time.Time) *siteTurns {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newest.site != site {
		t.other = t.newest
	}
	t.newest = presence{site, now}
	s := t.sites[site]
	if s == nil {
		if t.sites == nil {
			t.sites = make(map[string]*siteTurns)
		}
		s = &siteTurns{turn: make(chan struct{}, cmp.Or(t.slots, max(1, runtime.GOMAXPROCS(0)/2)))}
		t.sites[site] = s
	}
	s.users++
	return s
}

func (t *turns) leave(site string, s *siteTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(t.sites, site)
	}
}

// others tells whether another site has sent lately.
func (t *turns) others(site string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.newest
	if one.site == site {
		one = t.other
	}
	return one.site != "" && now.Sub(one.at) < othersWithin
}
