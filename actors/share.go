package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// ErrNotOwner means that a shard is another member's.
var ErrNotOwner = errors.New("another member owns the shard")

// Shared connects a member with the others that own shards too. All fields must be set, and none of the
// functions may wait.
type Shared struct {
	// Identity is what this member's claims carry.
	Identity func() (id, address string)
	// May tells whether this member may pull and write now. It is a courtesy: that an owner from before can
	// do no harm is proven at the stores.
	May func() bool
	// Peers answers for the shards of other members.
	Peers Peers
	// HandedOver is told how long a shard's devices stood still while it was handed over to this member: from
	// when the owner before stopped pulling, until they have taken in here what they had taken in there.
	HandedOver func(pause time.Duration)
	// Changed is told that a shard's actor has ended.
	Changed func()
}

// Peers asks the owners of shards.
type Peers interface {
	// Ask sends a question to the shard's owner and returns its answer; ErrNotOwner when nobody, or this
	// member, is known to be the owner, or when it says so; ErrStarting and persistence.ErrNotFound as the
	// owner says. Any other error: it is not known whether the owner got it.
	Ask(ctx context.Context, shard messages.Shard, question []byte) ([]byte, error)
}

// mayEvery is how often a member that may not work looks whether it may.
const mayEvery = 50 * time.Millisecond

// permitted waits until this member may pull and write; it tells whether life goes on.
func (m *Member) permitted(life context.Context) bool {
	if m.options.Shared == nil {
		return life.Err() == nil
	}
	for life.Err() == nil && !m.options.Shared.May() {
		select {
		case <-life.Done():
		case <-time.After(mayEvery):
		}
	}
	return life.Err() == nil
}

// Take starts a shard: its actor claims the lease at that revision (0 = there is none), or over an earlier
// claim of this member. When somebody else was faster it ends by itself, and Held does not name it any more.
func (m *Member) Take(shard messages.Shard, revision uint64) error {
	m.mu.Lock()
	h := m.shards[shard]
	m.takes++
	name := fmt.Sprintf("shard-%d.%d", shard, m.takes)
	m.mu.Unlock()
	if h != nil {
		return nil
	}
	return m.spawn(shard, &shardHandle{ended: make(chan struct{}), seen: revision}, name)
}

// Held returns the shards that this member has, those that it is taking or handing over included, each with
// the revision of its claim; 0 = it has not claimed it yet.
func (m *Member) Held() map[messages.Shard]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[messages.Shard]uint64{}
	for n, h := range m.shards {
		if h != nil {
			out[messages.Shard(n)] = h.claimed
		}
	}
	return out
}

const (
	// prepareWithin bounds how long a shard works on while what it has is stored and snapshotted, so that little
	// is left to do while its devices stand still. Longer helps no shard that is behind the archive.
	prepareWithin = 2 * time.Second
	prepareEvery  = 20 * time.Millisecond
	// drainWithin bounds how long the devices of a shard that has kept up stand still for what is left. One that has not
	// kept up is not waited for: its next owner replays what is not stored, which takes less than the archive does.
	drainWithin = 500 * time.Millisecond
)

// HandOver gives a shard away, so that its devices stand still for as short as can be: what it has is stored
// and snapshotted while it works on; then no more pulling, and what is left is stored, snapshotted and checkpointed, unless
// that takes long; then its actor ends and the lease is released. What was not done the next owner replays, and what is
// still on its way to the stores then does no harm, as after a crash. It waits for all of that.
func (m *Member) HandOver(ctx context.Context, shard messages.Shard) error {
	h, instance := m.leave(shard)
	if h == nil {
		return nil
	}
	within := time.Duration(0)
	if instance != nil && m.prepare(ctx, instance, h.ended) {
		within = drainWithin
	}
	return m.giveAway(ctx, shard, h, instance, within)
}

// giveAway ends a shard's actor, after it was emptied within a time, and releases the lease.
func (m *Member) giveAway(ctx context.Context, shard messages.Shard, h *shardHandle, instance *shardActor, within time.Duration) error {
	left := lease{Paused: m.now()}
	if instance != nil {
		instance.draining.Store(true)
		drain, cancel := context.WithTimeout(ctx, within)
		drained := m.drain(drain, instance, h.ended)
		cancel()
		if !drained {
			left.Applied = m.appliedBy(ctx, instance, h.ended)
			m.log.Debug("a shard is handed over with readings that are not stored; its next owner replays them", "shard", int(shard))
		}
	}
	if err := m.endShard(shard, h); err != nil {
		return err
	}
	m.mu.Lock()
	claimed := h.claimed
	m.mu.Unlock()
	if claimed == 0 {
		return nil
	}
	return m.release(shard, claimed, left)
}

// appliedBy asks a shard up to which logical sequence its devices have taken in readings; 0 = it does not say.
func (m *Member) appliedBy(ctx context.Context, s *shardActor, ended <-chan struct{}) uint64 {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	applied := make(chan uint64, 1)
	m.system.Root.Send(s.self, ask2{with: func(c *core) { applied <- c.applied }, refuse: func(error) { applied <- 0 }})
	select {
	case n := <-applied:
		return n
	case <-ended:
	case <-ctx.Done():
	}
	return 0
}

// prepare has a shard store and snapshot what it has up to now, and waits for that; it tells whether it got there.
func (m *Member) prepare(ctx context.Context, s *shardActor, ended <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	return m.press(ctx, s, ended, prepareEvery, func(c *core) bool {
		if c.leaving == 0 {
			c.leaving = c.applied
		}
		c.hurry(m.now())
		return c.lost != nil || c.saved.Snapshotted >= c.leaving
	})
}

// Drop ends a shard's actor at once: it is another member's. It waits until it has ended.
func (m *Member) Drop(shard messages.Shard) error {
	h, _ := m.leave(shard)
	if h == nil {
		return nil
	}
	return m.endShard(shard, h)
}

// leave marks a shard as leaving; nil when this member does not have it.
func (m *Member) leave(shard messages.Shard) (*shardHandle, *shardActor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.shards[shard]
	if h == nil {
		return nil, nil
	}
	h.leaving = true
	return h, h.current
}

// endDeadline bounds how long a shard's actor may take to end.
const endDeadline = 10 * time.Second

func (m *Member) endShard(shard messages.Shard, h *shardHandle) error {
	m.mu.Lock()
	pid := h.pid
	m.mu.Unlock()
	if pid != nil {
		m.system.Root.Stop(pid)
	}
	select {
	case <-h.ended:
		return nil
	case <-time.After(endDeadline):
		return fmt.Errorf("shard %d did not end within %v", shard, endDeadline)
	}
}

// release frees a lease that is still ours.
func (m *Member) release(shard messages.Shard, claimed uint64, left lease) error {
	data, err := json.Marshal(left)
	if err != nil {
		return fmt.Errorf("encode the lease: %w", err)
	}
	// Not bound to who waits for the handing over: the shard would have an owner that does nothing.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err = m.parts.Leases.Save(ctx, shardKey(shard), data, claimed)
	if err != nil && !errors.Is(err, persistence.ErrConflict) {
		return fmt.Errorf("release the lease of shard %d: %w", shard, err)
	}
	return nil
}

// handOverAll gives all shards away, to whoever starts next: nobody waits for them, so all is stored and
// snapshotted as far as ctx allows.
func (m *Member) handOverAll(ctx context.Context) {
	var wait sync.WaitGroup
	for shard := range m.Held() {
		h, instance := m.leave(shard)
		if h == nil {
			continue
		}
		wait.Go(func() {
			if err := m.giveAway(ctx, shard, h, instance, time.Hour); err != nil {
				m.log.Warn("a shard was not handed over cleanly", "shard", int(shard), "error", err)
			}
		})
	}
	wait.Wait()
}

// claimShared writes the lease over what Take was told of, or over an earlier claim of this member.
func (m *Member) claimShared(ctx context.Context, shard messages.Shard) (uint64, error) {
	m.mu.Lock()
	h := m.shards[shard]
	m.mu.Unlock()
	if h == nil {
		return 0, fmt.Errorf("claim shard %d: %w", shard, ErrNotOwner)
	}
	id, address := m.options.Shared.Identity()
	var there lease
	data, revision, err := m.parts.Leases.Load(ctx, shardKey(shard))
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case err != nil:
		return 0, fmt.Errorf("read the lease: %w", err)
	default:
		if err := json.Unmarshal(data, &there); err != nil {
			return 0, fmt.Errorf("read the lease: %w", err)
		}
	}
	m.mu.Lock()
	ours := revision == h.seen || there.Member == id
	leaving := h.leaving
	m.mu.Unlock()
	if !ours || leaving {
		return 0, fmt.Errorf("claim shard %d, which %q has: %w", shard, there.Member, ErrNotOwner)
	}
	if data, err = json.Marshal(lease{Member: id, Address: address}); err != nil {
		return 0, fmt.Errorf("encode the lease: %w", err)
	}
	claim, err := m.parts.Leases.Save(ctx, shardKey(shard), data, revision)
	if err != nil {
		return 0, fmt.Errorf("claim the lease: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h.claimed = claim
	if there.Paused > 0 && revision == h.seen {
		h.paused, h.resumed = time.UnixMilli(there.Paused), there.Applied
	}
	return claim, nil
}
