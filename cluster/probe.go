package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// follow probes the members of the view and no others.
func (m *Membership) follow(ctx context.Context, work *sync.WaitGroup, view *View) {
	self, _ := m.Self()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.probes {
		if seen := view.Member(id); seen == nil || id == self {
			p.end()
			delete(m.probes, id)
		}
	}
	for _, other := range view.Members {
		if other.ID == self || m.probes[other.ID] != nil {
			continue
		}
		p := &probe{address: other.Address, heard: m.clock.Now()}
		var life context.Context
		life, p.end = context.WithCancel(ctx)
		m.probes[other.ID] = p
		work.Go(func() { m.probeOne(life, p) })
	}
}

// probeOne asks one member for a sign of life, again and again.
func (m *Membership) probeOne(life context.Context, p *probe) {
	waited := m.clock.Now()
	for life.Err() == nil {
		begin := m.clock.Now()
		ctx, cancel := context.WithTimeout(life, silentFor)
		err := m.o.Probe(ctx, p.address, &m.cluster)
		cancel()
		if life.Err() != nil {
			return
		}
		now := m.clock.Now()
		// A process that stood still itself, or gets no processor, finds its own timers late: it has not listened.
		deaf := begin.Sub(waited) > probeEvery+late || now.Sub(begin) > silentFor+late
		m.mu.Lock()
		before := p.silent
		switch {
		case err == nil || deaf:
			p.heard, p.refused = now, 0
		case errors.Is(err, ErrNobodyListens):
			p.refused++
		default:
			p.refused = 0
		}
		p.silent = p.refused >= refusals || now.Sub(p.heard) >= silentFor
		changed := before != p.silent
		m.mu.Unlock()
		if changed {
			m.Poke()
		}
		waited = now
		select {
		case <-life.Done():
		case <-m.clock.After(probeEvery):
		}
	}
}

// suspects returns the ids of silent members, sorted.
func (m *Membership) suspects() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, p := range m.probes {
		if p.silent {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// suspicionsChanged tells whether the others do not know yet whom this member suspects.
func (m *Membership) suspicionsChanged() bool {
	now := m.suspects()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.Equal(now, m.self.Suspects)
}
