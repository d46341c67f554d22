package actors

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// withCore runs do with a shard's core, in the shard's goroutine, and waits until it called done. When it
// returns an error do may still be running.
func (m *Member) withCore(ctx context.Context, shard messages.Shard, do func(c *core, done func(error))) error {
	var pid *actor.PID
	var ended <-chan struct{}
	m.mu.Lock()
	h := m.shards[shard]
	if h != nil {
		pid, ended = h.pid, h.ended
	}
	m.mu.Unlock()
	switch {
	case h == nil && m.options.Shared != nil:
		return ErrNotOwner
	case pid == nil:
		return ErrStarting
	}
	answer := make(chan error, 1)
	m.system.Root.Send(pid, ask2{
		with:   func(c *core) { do(c, func(err error) { answer <- err }) },
		refuse: func(err error) { answer <- err },
	})
	select {
	case err := <-answer:
		return err
	case <-ended:
		return ErrNotOwner
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ask has read look at a device, inside its actor; read must be quick and keep nothing of it.
// persistence.ErrNotFound when no such device has sent, ErrStarting while its shard starts, ErrNotOwner when
// its shard is another member's: it asks no other member.
func (m *Member) Ask(ctx context.Context, id messages.DeviceID, read func(*Device)) error {
	return m.withCore(ctx, messages.ShardOf(id, m.cfg.Shards), func(c *core, done func(error)) {
		c.ask(id, &ask{read: read, answer: done})
	})
}

// State returns what a device says of itself, or, when it cannot be asked in time, what the archive knows.
func (m *Member) State(ctx context.Context, id messages.DeviceID) (messages.State, error) {
	q := question{Kind: askState, Shard: messages.ShardOf(id, m.cfg.Shards), Device: id}
	s, err := routed(ctx, m, q, m.state)
	if m.mayBePartial(err) {
		return m.partialState(ctx, &q, err)
	}
	return s, err
}

func (m *Member) state(ctx context.Context, q *question) (messages.State, error) {
	id := q.Device
	var s messages.State
	if err := m.Ask(ctx, id, func(d *Device) { s = d.State() }); err != nil {
		return messages.State{}, err // the device may still be writing to s
	}
	s.Shard = q.Shard
	return s, nil
}

// Newest returns a device's newest reading, or, when the device cannot be asked in time, the archive's.
func (m *Member) Newest(ctx context.Context, id messages.DeviceID) (messages.Newest, error) {
	q := question{Kind: askNewest, Shard: messages.ShardOf(id, m.cfg.Shards), Device: id}
	n, err := routed(ctx, m, q, m.newest)
	if m.mayBePartial(err) {
		s, err := m.partialState(ctx, &q, err)
		return messages.Newest{Status: s.Status, HasReading: s.HasReading, Reading: s.Latest, Partial: s.Partial}, err
	}
	return n, err
}

func (m *Member) newest(ctx context.Context, q *question) (messages.Newest, error) {
	var n messages.Newest
	if err := m.Ask(ctx, q.Device, func(d *Device) { d.ReadNewest(&n) }); err != nil {
		return messages.Newest{}, err // the device may still be writing to n
	}
	return n, nil
}

// Window returns a device's readings between two event times, both included; from > to: newest first.
// With ErrPartial they are those of the archive, because the device could not be asked in time.
func (m *Member) Window(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	q := question{Kind: askWindow, Shard: messages.ShardOf(id, m.cfg.Shards), Device: id, From: from, To: to, Limit: limit}
	samples, err := routed(ctx, m, q, m.window)
	if m.mayBePartial(err) {
		return m.partialWindow(ctx, &q, err)
	}
	return samples, err
}

func (m *Member) window(ctx context.Context, q *question) ([]messages.Sample, error) {
	var out []messages.Sample
	if err := m.Ask(ctx, q.Device, func(d *Device) { out = d.Window(q.From, q.To, q.Limit) }); err != nil {
		return nil, err
	}
	return out, nil
}

// Devices lists a site's devices after a name, sorted by name: at most limit, and whether there are more.
func (m *Member) Devices(ctx context.Context, site, after, contains string, status messages.Status, limit int) ([]messages.DeviceRow, bool, error) {
	q := question{Kind: askDevices, Device: messages.DeviceID{Site: site}, After: after, Contains: contains, Status: status, Limit: limit + 1}
	parts, err := gathered(ctx, m, q, m.devices)
	if err != nil {
		return nil, false, err
	}
	all := slices.Concat(parts...)
	slices.SortFunc(all, func(a, b messages.DeviceRow) int { return cmp.Compare(a.Device.Device, b.Device.Device) })
	more := len(all) > limit
	return all[:min(len(all), limit)], more, nil
}

func (m *Member) devices(ctx context.Context, q *question) (rows []messages.DeviceRow, err error) {
	return ofCore(ctx, m, q.Shard, func(c *core) []messages.DeviceRow {
		return c.list(q.Device.Site, q.After, q.Contains, q.Status, q.Limit)
	})
}

// Widths names all devices of a site, sorted, with how many values the newest readings of each have. It
// wakes no device, and needs 24 bytes for each: the names are the shards' own.
func (m *Member) Widths(ctx context.Context, site string) ([]messages.DeviceWidth, error) {
	parts, err := gathered(ctx, m, question{Kind: askWidths, Device: messages.DeviceID{Site: site}}, m.widths)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(parts...)
	slices.SortFunc(all, func(a, b messages.DeviceWidth) int { return cmp.Compare(a.Device, b.Device) })
	return all, nil
}

func (m *Member) widths(ctx context.Context, q *question) ([]messages.DeviceWidth, error) {
	return ofCore(ctx, m, q.Shard, func(c *core) []messages.DeviceWidth { return c.widths(q.Device.Site) })
}

// Sites returns the sites that devices have sent for, sorted.
func (m *Member) Sites(ctx context.Context) ([]string, error) {
	parts, err := gathered(ctx, m, question{Kind: askSites}, m.sites)
	if err != nil {
		return nil, err
	}
	out := slices.Concat(parts...)
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (m *Member) sites(ctx context.Context, q *question) ([]string, error) {
	return ofCore(ctx, m, q.Shard, func(c *core) []string {
		var names []string
		for name, s := range c.sites {
			if s.populated() {
				names = append(names, name)
			}
		}
		return names
	})
}

// SiteSettings returns a site's settings as all shards hold them: those of the lowest shard, and
// whether the others have the same. A site that nothing was set for goes by the fleet's.
func (m *Member) SiteSettings(ctx context.Context, site string) (messages.SiteSettings, error) {
	parts, err := gathered(ctx, m, question{Kind: askSettings, Device: messages.DeviceID{Site: site}}, m.siteSettings)
	if err != nil {
		return messages.SiteSettings{}, err
	}
	out := parts[0]
	for _, s := range parts {
		if !s.Own.Equal(out.Own) {
			out.Everywhere = false
		}
	}
	return out, nil
}

func (m *Member) siteSettings(ctx context.Context, q *question) (messages.SiteSettings, error) {
	return ofCore(ctx, m, q.Shard, func(c *core) messages.SiteSettings {
		s := messages.SiteSettings{Merged: m.cfg.Fleet, Everywhere: true}
		if known := c.sites[q.Device.Site]; known != nil {
			s.Own, s.Merged = known.own, *known.merged
		}
		return s
	})
}

// ofCore asks one shard of this member.
func ofCore[A any](ctx context.Context, m *Member, shard messages.Shard, ask func(*core) A) (A, error) {
	var out, none A
	err := m.withCore(ctx, shard, func(c *core, done func(error)) {
		out = ask(c)
		done(nil)
	})
	if err != nil {
		return none, err // ask may still be running
	}
	return out, nil
}

// Readings scans the archive; it asks no actor, but has the device's owner repair damage that it meets.
func (m *Member) Readings(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	var out []messages.Sample
	err := m.parts.Archive.Scan(ctx, messages.ShardOf(id, m.cfg.Shards), id, persistence.Range{From: from, To: to, Limit: limit}, func(r *persistence.Row) bool {
		out = append(out, messages.Sample{
			Reading:  messages.Reading{Time: r.Time, Values: slices.Clone(r.Values), Quality: slices.Clone(r.Quality), Note: r.Note},
			Sequence: r.Sequence,
		})
		return true
	})
	return out, m.met(ctx, id, 0, from, to, err)
}

// Scan calls fn for each of a device's readings in the archive, in order of event time (from > to: newest
// first), until fn returns false. The reading's slices are valid only during the call. It asks no actor.
func (m *Member) Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error {
	var s messages.Sample
	err := m.parts.Archive.Scan(ctx, messages.ShardOf(id, m.cfg.Shards), id, persistence.Range{From: from, To: to}, func(r *persistence.Row) bool {
		s.Time, s.Values, s.Quality, s.Note, s.Sequence = r.Time, r.Values, r.Quality, r.Note, r.Sequence
		return fn(&s)
	})
	return m.met(ctx, id, 0, from, to, err)
}

// ShardStatus is what an operator sees of one shard.
type ShardStatus struct {
	Shard messages.Shard
	Ready bool
	Late  bool // it did not answer in time: Stats are what it said last
	Stats Stats
	Plan  Plan
}

// Known tells whether Stats are its figures, of now or before.
func (s *ShardStatus) Known() bool { return s.Ready || s.Late }

// Status returns the figures of this member's shards. A shard that does not answer in time is not ready; counters
// do not go back for that.
func (m *Member) Status(ctx context.Context) []ShardStatus {
	out := make([]ShardStatus, 0, m.cfg.Shards)
	for n := range m.cfg.Shards {
		m.mu.Lock()
		h := m.shards[n]
		status := ShardStatus{Shard: messages.Shard(n)}
		if h != nil {
			status.Plan = h.plan
		}
		m.mu.Unlock()
		if h == nil && m.options.Shared != nil {
			continue // another member's
		}
		out = append(out, status)
	}
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() { m.look(ctx, &out[i]) })
	}
	all.Wait()
	return out
}

// look asks a shard for its figures.
func (m *Member) look(ctx context.Context, s *ShardStatus) {
	m.mu.Lock()
	h, ended := m.shards[s.Shard], 0
	if h != nil {
		ended = h.cores
	}
	m.mu.Unlock()
	stats, err := m.stats(ctx, &question{Shard: s.Shard})
	s.Ready, s.Stats = err == nil, stats
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case h == nil || h.cores != ended: // what was said is in Past
	case err == nil:
		h.said = &stats
	case h.said != nil:
		s.Late, s.Stats = true, *h.said
	}
}

// Past returns the counters of cores that have ended, of shards that went and of such that started again.
func (m *Member) Past() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.past
}

func (m *Member) coreEnded(shard messages.Shard, s Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.past.addCounters(s)
	if h := m.shards[shard]; h != nil {
		h.said, h.cores = nil, h.cores+1
	}
}

func (m *Member) stats(ctx context.Context, q *question) (Stats, error) {
	return ofCore(ctx, m, q.Shard, func(c *core) Stats { return c.statistics() })
}

// FleetStats returns the figures of all shards, whoever owns them.
func (m *Member) FleetStats(ctx context.Context) ([]Stats, error) {
	return gathered(ctx, m, question{Kind: askStats}, m.stats)
}

// InFlight returns the bytes that are pulled and not yet stored.
func (m *Member) InFlight() int { return m.credit.InFlight() }

// SetInFlight changes the limit of the bytes that are pulled and not yet stored; 0 = DefaultInFlight.
func (m *Member) SetInFlight(limit int64) { m.credit.SetLimit(int(limit)) }

// Beginning and End are the ends of all event times, for open ranges.
const (
	Beginning = int64(math.MinInt64 + 1)
	End       = int64(math.MaxInt64)
)
