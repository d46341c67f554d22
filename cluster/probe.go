package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// follow probes the members of the view and no others.
func (m *Membership) follow(ctx context.Context, work *sync.WaitGroup, view *View) {
	self, _ := m.Identity()
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
	last := m.clock.Now()
	for life.Err() == nil {
		ctx, cancel := context.WithTimeout(life, silentFor/2)
		err := m.o.Probe(ctx, p.address, &m.cluster)
		cancel()
		if life.Err() != nil {
			return
		}
		now := m.clock.Now()
		m.mu.Lock()
		before := p.silent(last)
		switch {
		case err == nil:
			p.heard, p.refused = now, 0
		case now.Sub(last) > silentFor: // it was this process that stood still
			p.heard, p.refused = now, 0
		case errors.Is(err, ErrNobodyListens):
			p.refused++
		default:
			p.refused = 0
		}
		changed := before != p.silent(now)
		m.mu.Unlock()
		last = now
		if changed {
			m.Poke()
		}
		select {
		case <-life.Done():
		case <-m.clock.After(probeEvery):
		}
	}
}

// silent tells whether the member gives no sign of life. The membership's lock is held.
func (p *probe) silent(now time.Time) bool {
	return p.refused >= refusals || now.Sub(p.heard) > silentFor
}

// suspects returns the ids of silent members, sorted.
func (m *Membership) suspects(now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, p := range m.probes {
		if p.silent(now) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// suspicionsChanged tells whether the others do not know yet whom this member suspects.
func (m *Membership) suspicionsChanged() bool {
	now := m.suspects(m.clock.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.Equal(now, m.self.Suspects)
}
