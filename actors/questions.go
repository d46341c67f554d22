package actors

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// withCore runs do with a shard's core, in the shard's goroutine, and waits until it called done.
func (m *Member) withCore(ctx context.Context, shard messages.Shard, do func(c *core, done func(error))) error {
	var pid *actor.PID
	m.mu.Lock()
	if h := m.shards[shard]; h != nil {
		pid = h.pid
	}
	m.mu.Unlock()
	if pid == nil {
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
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ask has read look at a device, inside its actor; read must be quick and keep nothing of it.
// persistence.ErrNotFound when no such device has sent, ErrStarting while its shard starts.
func (m *Member) Ask(ctx context.Context, id messages.DeviceID, read func(*Device)) error {
	return m.withCore(ctx, messages.ShardOf(id, m.cfg.Shards), func(c *core, done func(error)) {
		c.ask(id, &ask{read: read, answer: done})
	})
}

// State returns what a device says of itself.
func (m *Member) State(ctx context.Context, id messages.DeviceID) (messages.State, error) {
	var s messages.State
	if err := m.Ask(ctx, id, func(d *Device) { s = d.State() }); err != nil {
		return messages.State{}, err // the device may still be writing to s
	}
	s.Shard = messages.ShardOf(id, m.cfg.Shards)
	return s, nil
}

// Window returns a device's readings between two event times, both included; from > to: newest first.
func (m *Member) Window(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	var out []messages.Sample
	if err := m.Ask(ctx, id, func(d *Device) { out = d.Window(from, to, limit) }); err != nil {
		return nil, err
	}
	return out, nil
}

// Devices lists a site's devices after a name, sorted by name: at most limit, and whether there are more.
func (m *Member) Devices(ctx context.Context, site, after, contains string, status messages.Status, limit int) ([]messages.DeviceRow, bool, error) {
	var all []messages.DeviceRow
	for n := range m.cfg.Shards {
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			all = append(all, c.list(site, after, contains, status, limit+1)...)
			done(nil)
		})
		if err != nil {
			return nil, false, err
		}
	}
	slices.SortFunc(all, func(a, b messages.DeviceRow) int { return cmp.Compare(a.Device.Device, b.Device.Device) })
	more := len(all) > limit
	return all[:min(len(all), limit)], more, nil
}

// Widths names all devices of a site, sorted, with how many values the newest readings of each have. It
// wakes no device, and needs 24 bytes for each: the names are the shards' own.
func (m *Member) Widths(ctx context.Context, site string) ([]messages.DeviceWidth, error) {
	var all []messages.DeviceWidth
	for n := range m.cfg.Shards {
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			all = append(all, c.widths(site)...)
			done(nil)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b messages.DeviceWidth) int { return cmp.Compare(a.Device, b.Device) })
	return all, nil
}

// Sites returns the sites that devices of this member have sent for, sorted.
func (m *Member) Sites(ctx context.Context) ([]string, error) {
	names := map[string]bool{}
	for n := range m.cfg.Shards {
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			for name, s := range c.sites {
				if s.populated() {
					names[name] = true
				}
			}
			done(nil)
		})
		if err != nil {
			return nil, err
		}
	}
	out := make([]string, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// SiteSettings returns a site's settings as all shards hold them: those of the lowest shard, and
// whether the others have the same. A site that nothing was set for goes by the fleet's.
func (m *Member) SiteSettings(ctx context.Context, site string) (messages.SiteSettings, error) {
	var out messages.SiteSettings
	for n := range m.cfg.Shards {
		s := messages.SiteSettings{Merged: m.cfg.Fleet, Everywhere: true}
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			if known := c.sites[site]; known != nil {
				s.Own, s.Merged = known.own, *known.merged
			}
			done(nil)
		})
		if err != nil {
			return messages.SiteSettings{}, err
		}
		if n == 0 {
			out = s
		} else if !s.Own.Equal(out.Own) {
			out.Everywhere = false
		}
	}
	return out, nil
}

// Readings scans the archive; it asks no actor.
func (m *Member) Readings(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	var out []messages.Sample
	err := m.parts.Archive.Scan(ctx, messages.ShardOf(id, m.cfg.Shards), id, persistence.Range{From: from, To: to, Limit: limit}, func(r *persistence.Row) bool {
		out = append(out, messages.Sample{
			Reading:  messages.Reading{Time: r.Time, Values: slices.Clone(r.Values), Quality: slices.Clone(r.Quality), Note: r.Note},
			Sequence: r.Sequence,
		})
		return true
	})
	return out, err
}

// Scan calls fn for each of a device's readings in the archive, in order of event time (from > to: newest
// first), until fn returns false. The reading's slices are valid only during the call. It asks no actor.
func (m *Member) Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error {
	var s messages.Sample
	return m.parts.Archive.Scan(ctx, messages.ShardOf(id, m.cfg.Shards), id, persistence.Range{From: from, To: to}, func(r *persistence.Row) bool {
		s.Time, s.Values, s.Quality, s.Note, s.Sequence = r.Time, r.Values, r.Quality, r.Note, r.Sequence
		return fn(&s)
	})
}

// ShardStatus is what an operator sees of one shard.
type ShardStatus struct {
	Shard messages.Shard
	Ready bool
	Stats Stats
	Plan  Plan
}

// Status returns all shards' figures. A shard that does not answer in time is not ready.
func (m *Member) Status(ctx context.Context) []ShardStatus {
	out := make([]ShardStatus, m.cfg.Shards)
	for n := range out {
		out[n].Shard = messages.Shard(n)
		var s Stats
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			s = c.statistics()
			done(nil)
		})
		if err == nil {
			out[n].Ready, out[n].Stats = true, s
		}
		m.mu.Lock()
		if h := m.shards[n]; h != nil {
			out[n].Plan = h.plan
		}
		m.mu.Unlock()
	}
	return out
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
