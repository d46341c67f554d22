package api

import (
	"context"
	"sync"
)

// budget is bytes that the requests of all sites share. While a site's other requests hold some, a further one
// gets no more than leaves as much free as the site then holds: so one site alone takes half of it, and
// another always finds room. All methods may be called by many goroutines at once.
type budget struct {
	total int64

	mu    sync.Mutex
	free  int64
	sites map[string]int64 // what the requests of a site hold
	room  chan struct{}    // closed when some is given back; nil = nobody waits
}

func newBudget(bytes int64) *budget {
	return &budget{total: bytes, free: bytes, sites: make(map[string]int64)}
}

// holding is what one request, or a part of it, holds of a budget. It is used by one goroutine at a time.
type holding struct {
	of    *budget
	site  string
	bytes int64
}

// hold returns a holding with nothing in it; end gives back what was taken.
func (b *budget) hold(site string) *holding { return &holding{of: b, site: site} }

// take takes n bytes more if they are to be had now.
func (h *holding) take(n int64) bool {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.takeLocked(n)
}

func (h *holding) takeLocked(n int64) bool {
	b := h.of
	all := b.sites[h.site]
	if n > b.free || all > h.bytes && all+n > b.free-n {
		return false
	}
	b.free -= n
	b.sites[h.site] = all + n
	h.bytes += n
	return true
}

// wait takes n bytes as soon as they are to be had, or returns why ctx has ended.
func (h *holding) wait(ctx context.Context, n int64) error {
	for {
		h.of.mu.Lock()
		if h.takeLocked(n) {
			h.of.mu.Unlock()
			return nil
		}
		if h.of.room == nil {
			h.of.room = make(chan struct{})
		}
		room := h.of.room
		h.of.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end gives everything back. It may be called more than once.
func (h *holding) end() {
	b := h.of
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += h.bytes
	if b.sites[h.site] -= h.bytes; b.sites[h.site] == 0 {
		delete(b.sites, h.site)
	}
	h.bytes = 0
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}
