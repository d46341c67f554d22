package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// TTL is how long a member's key lives after it was renewed: longer than the store's longest election.
	TTL = 15 * time.Second
	// renewEvery is how often it is renewed, and the stores are read.
	renewEvery = time.Second
	// courtesy is how long before its key's end a member that could not renew it stops pulling and writing.
	courtesy = 3 * time.Second
	// pokesTogether is how long a change waits for others before the stores are read.
	pokesTogether = 20 * time.Millisecond
	// storeDeadline bounds one use of the stores.
	storeDeadline = 3 * time.Second
	// probeEvery is how often each other member is probed, silentFor how long it may be silent.
	probeEvery = 400 * time.Millisecond
	silentFor  = 2 * time.Second
	// late is how late a timer may be before this process counts as having stood still.
	late = 200 * time.Millisecond
	// staleFor is how long a silent member must not have renewed its key either: one that renews it is
	// alive, and has only no time to answer, or no way to here.
	staleFor = 3 * time.Second
	// refusals is how many refusals in a row stand for silence: nothing listens there.
	refusals = 2

	// Protocol is raised when members of different versions cannot share shards.
	Protocol = 1
)

// ErrRefused means that this member cannot join the cluster as it is configured.
var ErrRefused = errors.New("this member cannot join the cluster")

// ErrNobodyListens is what Options.Probe returns when the address refuses: there is no process.
var ErrNobodyListens = errors.New("nobody listens there")

// Options of a membership.
type Options struct {
	Name    string
	Address string // where the others reach this member
	Version string
	Shards  int
	Members Store // of this package's keys
	Leases  Store
	// Probe returns nil when a member of that cluster answers at that address: Pinger.Ping, but in tests.
	Probe func(ctx context.Context, address string, of *Identity) error
	// Figures are this member's, for operators; must not wait for long. May be nil.
	Figures func() Figures
	// Cluster is the id of the cluster that this member belongs to, "" = whichever it finds.
	Cluster string
	// Secret is what members of the cluster know, "" = nothing. The cluster is made with the first member's.
	Secret string
	Clock  Clock // nil = SystemClock
	Logger *slog.Logger
}

// Membership keeps this member's key, probes the others, and reads the view. All methods may be called by
// many goroutines.
type Membership struct {
	o       Options
	log     *slog.Logger
	clock   Clock
	cluster Identity
	view    atomic.Pointer[View]
	poke    chan struct{}

	mu       sync.Mutex
	self     Record
	revision uint64
	renewed  time.Time // when the renewal that last went well was sent
	probes   map[string]*probe
	followed time.Time // when the last view came
}

// probe is what is known of another member's answers.
type probe struct {
	address string
	heard   time.Time // of it, or since it is probed
	refused int       // in a row
	silent  bool      // as of the last answer that came, or did not

	revision uint64    // of its key
	renewed  time.Time // when that was seen to have changed
	stale    bool      // its key was not renewed for staleFor, by views that were read in time
	end      context.CancelFunc
}

// Find finds the cluster, or makes it. ErrRefused when this member does not belong. Join makes this
// member's key; from then on the others probe it.
func Find(ctx context.Context, o Options) (*Membership, error) {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	m := &Membership{o: o, log: o.Logger, clock: o.Clock, poke: make(chan struct{}, 1), probes: map[string]*probe{}}
	if err := m.findCluster(ctx); err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	m.view.Store(&View{Leases: make([]Owned, o.Shards)})
	return m, nil
}

// Join makes this member's key. ErrRefused when another one has its name.
func (m *Membership) Join(ctx context.Context) error {
	if err := m.replaceEarlierLife(ctx); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := m.enter(ctx); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if _, err := m.read(ctx); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	return nil
}

// findCluster reads the cluster's identity, or makes it.
func (m *Membership) findCluster(ctx context.Context) error {
	for range 2 {
		entries, err := m.o.Members.All(ctx)
		if err != nil {
			return fmt.Errorf("read the members: %w", err)
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == clusterKey })
		if i >= 0 {
			if err := json.Unmarshal(entries[i].Value, &m.cluster); err != nil {
				return fmt.Errorf("read the cluster's identity: %w", err)
			}
			if err := m.belongs(); err != nil {
				return err
			}
			return m.cluster.open(m.o.Secret)
		}
		if m.o.Cluster != "" {
			return fmt.Errorf("%w: it belongs to cluster %s, and none was made at this NATS server: stream names another one, or it has lost its data", ErrRefused, m.o.Cluster)
		}
		identity, err := newIdentity(m.o.Shards, m.o.Secret)
		if err != nil {
			return err
		}
		made, err := json.Marshal(identity)
		if err != nil {
			return err
		}
		if _, err := m.o.Members.Save(ctx, clusterKey, made, 0, 0); err != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("make the cluster: %w", err)
		}
	}
	return errors.New("the cluster's identity was made, and cannot be read")
}

// belongs tells whether this member may join what it found.
func (m *Membership) belongs() error {
	c := &m.cluster
	switch {
	case m.o.Cluster != "" && m.o.Cluster != c.ID:
		return fmt.Errorf("%w: it belongs to cluster %s, and this is cluster %s: give it another data folder, or the NATS server of its own cluster", ErrRefused, m.o.Cluster, c.ID)
	case c.Shards != m.o.Shards:
		return fmt.Errorf("%w: the cluster has %d shards and this member is configured for %d: set shards: %d", ErrRefused, c.Shards, m.o.Shards, c.Shards)
	case c.Protocol != Protocol:
		return fmt.Errorf("%w: its members speak protocol %d and this version speaks %d: use a version that speaks %d", ErrRefused, c.Protocol, Protocol, c.Protocol)
	}
	return nil
}

// replaceEarlierLife removes the key that an earlier process of this name has left. One that still answers
// at another address is no earlier life.
func (m *Membership) replaceEarlierLife(ctx context.Context) error {
	entries, err := m.o.Members.All(ctx)
	if err != nil {
		return fmt.Errorf("read the members: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	for _, other := range decodeView(m.clock.Now(), 0, entries, nil).Members {
		if other.Name != m.o.Name {
			continue
		}
		if other.Address != m.o.Address && m.o.Probe(ctx, other.Address, &m.cluster) == nil {
			return fmt.Errorf("%w: a member of the name %q answers at %s: give each a name of its own with --name", ErrRefused, m.o.Name, other.Address)
		}
		if err := m.o.Members.Delete(ctx, memberPrefix+other.ID, other.Revision); err != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("remove the key of an earlier life: %w", err)
		}
	}
	return nil
}

// enter makes a key under a new id.
func (m *Membership) enter(ctx context.Context) error {
	r := Record{
		ID: m.o.Name + "-" + strings.ToLower(rand.Text()[:8]), Name: m.o.Name, Address: m.o.Address,
		Version: m.o.Version, Protocol: Protocol, Started: m.clock.Now().UTC().Truncate(time.Millisecond),
	}
	m.mu.Lock()
	r.Draining = m.self.Draining
	m.mu.Unlock()
	sent := m.clock.Now()
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	revision, err := m.o.Members.Save(ctx, memberPrefix+r.ID, data, 0, TTL)
	if err != nil {
		return fmt.Errorf("make this member's key: %w", err)
	}
	m.mu.Lock()
	m.self, m.revision, m.renewed = r, revision, sent
	m.mu.Unlock()
	m.log.Info("joined the cluster", "cluster", m.cluster.ID, "member", r.ID, "address", r.Address)
	return nil
}

// Cluster returns the cluster's identity.
func (m *Membership) Cluster() *Identity { return &m.cluster }

// Self returns this member's id, new after each join, and its address.
func (m *Membership) Self() (id, address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self.ID, m.self.Address
}

// May tells whether this member's key surely lives still, by its own clock: a courtesy to the others.
func (m *Membership) May() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock.Now().Before(m.renewed.Add(TTL - courtesy))
}

// View returns what was read last.
func (m *Membership) View() *View { return m.view.Load() }

// Poke has the stores read soon.
func (m *Membership) Poke() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Drain tells the others that this member is about to end, so that none of its shards comes back.
func (m *Membership) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.self.Draining = true
	m.mu.Unlock()
	return m.renew(ctx)
}

// Leave removes this member's key. Run must have returned.
func (m *Membership) Leave(ctx context.Context) error {
	m.mu.Lock()
	id, revision := m.self.ID, m.revision
	m.mu.Unlock()
	if err := m.o.Members.Delete(ctx, memberPrefix+id, revision); err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// changed has the stores read, unless all that is new are a member's figures.
func (m *Membership) changed(e Entry) {
	if kind, id := splitKey(e.Key); kind == memberPrefix && e.Value != nil {
		var r Record
		before := m.View().Member(id)
		if before != nil && json.Unmarshal(e.Value, &r) == nil && r.Draining == before.Draining && slices.Equal(r.Suspects, before.Suspects) {
			return
		}
	}
	m.Poke()
}

// Run keeps the key and reads the stores until ctx ends. seen is called, from this goroutine, with each
// view; lost when this member's key was gone and it has joined anew: what it had is not its own any more.
func (m *Membership) Run(ctx context.Context, seen func(*View), lost func()) {
	var work sync.WaitGroup
	defer work.Wait()
	for _, store := range []Store{m.o.Members, m.o.Leases} {
		work.Go(func() { store.Watch(ctx, m.changed) })
	}
	seen(m.View())
	last := m.clock.Now()
	timer := m.clock.After(renewEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.poke:
			select { // several changes come together
			case <-ctx.Done():
			case <-m.clock.After(pokesTogether):
			}
		case <-timer:
		}
		if m.clock.Now().Sub(last) >= renewEvery || m.suspicionsChanged() {
			last = m.clock.Now()
			m.keep(ctx, lost)
		}
		if view, err := m.read(ctx); err == nil {
			m.follow(ctx, &work, view)
			seen(view)
		} else if ctx.Err() == nil {
			m.log.Warn("cannot read the members and leases, trying again", "error", err)
		}
		timer = m.clock.After(max(0, renewEvery-m.clock.Now().Sub(last)))
	}
}

// keep renews the key, or joins anew when it is gone.
func (m *Membership) keep(ctx context.Context, lost func()) {
	err := m.renew(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
	case !errors.Is(err, ErrConflict):
		m.log.Warn("cannot renew this member's key, trying again", "error", err)
	default:
		id, _ := m.Self()
		m.log.Error("this member's key is gone: it was away for too long; it joins anew", "member", id)
		lost()
		if err := m.enter(ctx); err != nil {
			m.log.Warn("cannot join anew, trying again", "error", err)
		}
	}
}

// renew saves the key once more.
func (m *Membership) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	var figures Figures
	if m.o.Figures != nil {
		figures = m.o.Figures()
	}
	now := m.clock.Now()
	suspects := m.suspects()
	m.mu.Lock()
	m.self.Suspects, m.self.Figures = suspects, figures
	r, revision := m.self, m.revision
	m.mu.Unlock()
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	renewed, err := m.o.Members.Save(ctx, memberPrefix+r.ID, data, revision, TTL)
	if errors.Is(err, ErrConflict) { // perhaps an answer was lost
		entries, readErr := m.o.Members.All(ctx)
		if readErr != nil {
			return readErr
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == memberPrefix+r.ID })
		if i < 0 {
			return err
		}
		renewed, err = m.o.Members.Save(ctx, memberPrefix+r.ID, data, entries[i].Revision, TTL)
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.self.ID == r.ID {
		m.revision, m.renewed = renewed, now
	}
	return nil
}

// read makes a new view.
func (m *Membership) read(ctx context.Context) (*View, error) {
	ctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	members, err := m.o.Members.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	leases, err := m.o.Leases.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	view := decodeView(m.clock.Now(), m.o.Shards, members, leases)
	m.view.Store(view)
	return view, nil
}
