package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// follow probes the members of the view and no others, and sees who renews its key.
func (m *Membership) follow(ctx context.Context, work *sync.WaitGroup, view *View) {
	self, _ := m.Self()
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	blind := now.Sub(m.followed) > 2*renewEvery // this process has not looked
	m.followed = now
	for id, p := range m.probes {
		if seen := view.Member(id); seen == nil || id == self {
			p.end()
			delete(m.probes, id)
		}
	}
	for _, other := range view.Members {
		if p := m.probes[other.ID]; p != nil {
			if blind || p.revision != other.Revision {
				p.revision, p.renewed = other.Revision, now
			}
			p.stale = now.Sub(p.renewed) >= staleFor
			continue
		}
		if other.ID == self {
			continue
		}
		p := &probe{address: other.Address, heard: now, revision: other.Revision, renewed: now}
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
		before := p.silent || p.refused >= refusals
		switch {
		case err == nil || deaf:
			p.heard, p.refused = now, 0
		case errors.Is(err, ErrNobodyListens):
			p.refused++
		default:
			p.refused = 0
		}
		p.silent = now.Sub(p.heard) >= silentFor
		changed := before != (p.silent || p.refused >= refusals)
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

// suspects returns, sorted, the ids of members where nobody listens, or that neither answer nor renew their keys.
func (m *Membership) suspects() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, p := range m.probes {
		if p.refused >= refusals || p.silent && p.stale {
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
