package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// memory is a bucket that all members of a test share.
type memory struct {
	mu       sync.Mutex
	entries  map[string]Entry
	ends     map[string]time.Time
	revision uint64
	watchers map[*func(Entry)]bool
}

func newMemory() *memory {
	return &memory{entries: map[string]Entry{}, ends: map[string]time.Time{}, watchers: map[*func(Entry)]bool{}}
}

func (m *memory) tell(e Entry) {
	for changed := range maps.Keys(m.watchers) {
		(*changed)(e)
	}
}

// expire removes what has ended. m.mu is held.
func (m *memory) expire() {
	for key, end := range m.ends {
		if !time.Now().Before(end) {
			delete(m.entries, key)
			delete(m.ends, key)
			m.tell(Entry{Key: key})
		}
	}
}

func (m *memory) save(key string, data []byte, revision uint64, ttl time.Duration) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if m.entries[key].Revision != revision {
		return 0, ErrConflict
	}
	m.revision++
	m.entries[key] = Entry{Key: key, Value: data, Revision: m.revision}
	delete(m.ends, key)
	if ttl > 0 {
		m.ends[key] = time.Now().Add(ttl)
	}
	m.tell(m.entries[key])
	return m.revision, nil
}

// handle is one member's access to a memory; it can be cut off.
type handle struct {
	*memory
	cut *atomic.Bool
}

var errCut = errors.New("cut off")

func (h handle) Save(_ context.Context, key string, data []byte, revision uint64, ttl time.Duration) (uint64, error) {
	if h.cut.Load() {
		return 0, errCut
	}
	return h.save(key, data, revision, ttl)
}

func (h handle) Delete(_ context.Context, key string, revision uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.cut.Load():
		return errCut
	case h.entries[key].Revision != revision:
		return ErrConflict
	}
	delete(h.entries, key)
	delete(h.ends, key)
	h.tell(Entry{Key: key})
	return nil
}

func (h handle) All(context.Context) ([]Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut.Load() {
		return nil, errCut
	}
	h.expire()
	return slices.Collect(maps.Values(h.entries)), nil
}

func (h handle) Watch(ctx context.Context, changed func(Entry)) {
	h.mu.Lock()
	h.watchers[&changed] = true
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	delete(h.watchers, &changed)
	h.mu.Unlock()
}

// town is several members on one store, in a bubble whose time is not real.
type town struct {
	t        *testing.T
	members  *memory
	leases   *memory
	claims   atomic.Int64
	handOver time.Duration

	mu     sync.Mutex
	houses map[string]*house
	cut    map[[2]string]error // who cannot reach whom, and what it finds instead
}

// sever cuts these ways between members, one direction each; all others are whole.
func (w *town) sever(finds error, ways ...[2]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
	for _, way := range ways {
		w.cut[way] = finds
	}
}

// probe is what a member finds at an address.
func (w *town) probe(from, address string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch other := w.houses[address]; {
	case other == nil || other.down.Load():
		return ErrNobodyListens
	case other.silent.Load():
		return errCut
	}
	return w.cut[[2]string{from, address}]
}

// house is one member of a town. It is its Shards too.
type house struct {
	town    *town
	name    string
	member  *Membership
	keeper  *Keeper
	away    atomic.Bool // from the stores
	down    atomic.Bool // it answers nobody
	silent  atomic.Bool // it takes connections, and does not answer
	deaf    atomic.Bool // it gets no processor while it waits for an answer
	end     context.CancelFunc
	ended   chan struct{}
	mu      sync.Mutex
	held    map[messages.Shard]uint64
	skew    time.Duration
	rejoins atomic.Int64
}

const townShards = 12

func newTown(t *testing.T) *town {
	return &town{t: t, members: newMemory(), leases: newMemory(), houses: map[string]*house{}, cut: map[[2]string]error{}, handOver: 100 * time.Millisecond}
}

// Now and After make a house a clock that is off by skew.
func (h *house) Now() time.Time                         { return time.Now().Add(h.skew) }
func (h *house) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (w *town) enter(name string, skew time.Duration) *house {
	w.t.Helper()
	h := &house{town: w, name: name, held: map[messages.Shard]uint64{}, ended: make(chan struct{}), skew: skew}
	w.mu.Lock()
	w.houses[name] = h
	w.mu.Unlock()
	var err error
	h.member, err = Find(w.t.Context(), Options{
		Name: name, Address: name, Shards: townShards, Members: handle{w.members, &h.away}, Leases: handle{w.leases, &h.away},
		Clock: h, Logger: slog.New(slog.DiscardHandler),
		Probe: func(ctx context.Context, address string, _ *Identity) error {
			if h.deaf.Load() {
				<-time.After(3 * time.Second)
				return errCut
			}
			err := w.probe(name, address)
			if errors.Is(err, errCut) {
				<-ctx.Done()
			}
			return err
		},
	})
	if err == nil {
		err = h.member.Join(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	life, end := context.WithCancel(context.Background())
	h.end = end
	h.keeper = NewKeeper(life, h.member, h)
	go func() {
		defer close(h.ended)
		h.member.Run(life, h.keeper.See, func() {
			h.rejoins.Add(1)
			h.keeper.Lost()
		})
		h.keeper.Wait()
	}()
	return h
}

// die is kill -9.
func (h *house) die() {
	h.down.Store(true)
	h.end()
	<-h.ended
}

func (w *town) close() {
	for _, h := range w.houses {
		if !h.down.Load() {
			h.die()
		}
	}
}

// Take implements Shards.
func (h *house) Take(shard messages.Shard, revision uint64) error {
	id, address := h.member.Self()
	data, err := Lease{Member: id, Address: address}.Encode()
	if err != nil {
		return err
	}
	claim, err := handle{h.town.leases, &h.away}.Save(context.Background(), LeaseKey(shard), data, revision, 0)
	if err != nil {
		return nil // it ends by itself
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.town.claims.Add(1)
	h.held[shard] = claim
	return nil
}

// Held implements Shards.
func (h *house) Held() map[messages.Shard]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.held)
}

// HandOver implements Shards.
func (h *house) HandOver(_ context.Context, shard messages.Shard) error {
	<-time.After(h.town.handOver)
	h.mu.Lock()
	claim := h.held[shard]
	delete(h.held, shard)
	h.mu.Unlock()
	data, err := Lease{}.Encode()
	if err != nil {
		return err
	}
	_, err = handle{h.town.leases, &h.away}.Save(context.Background(), LeaseKey(shard), data, claim, 0)
	return err
}

// Drop implements Shards.
func (h *house) Drop(shard messages.Shard) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, shard)
	return nil
}

// shares says how many shards each member has; a shard that two have, or nobody, is a complaint.
func (w *town) shares() (map[string]int, error) {
	shares, owners := map[string]int{}, map[messages.Shard]string{}
	for name, h := range w.houses {
		if h.down.Load() {
			continue
		}
		for shard := range h.Held() {
			if other, taken := owners[shard]; taken {
				return nil, fmt.Errorf("%s and %s have shard %d", name, other, shard)
			}
			owners[shard] = name
			shares[name]++
		}
	}
	if len(owners) < townShards {
		return nil, fmt.Errorf("%d of %d shards have an owner: %v", len(owners), townShards, shares)
	}
	return shares, nil
}

// want waits until the shards are shared so, at most so long, and tells how long it took.
func (w *town) want(within time.Duration, want map[string]int) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for {
		shares, err := w.shares()
		if err == nil && !maps.Equal(shares, want) {
			err = fmt.Errorf("the shards are shared %v, want %v", shares, want)
		}
		switch {
		case err == nil:
			return time.Since(begin)
		case time.Since(begin) > within:
			w.t.Fatalf("not within %v: %v", within, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// still wants nobody to claim anything for a while.
func (w *town) still(d time.Duration) {
	w.t.Helper()
	before := w.claims.Load()
	<-time.After(d)
	if now := w.claims.Load(); now != before {
		w.t.Errorf("%d claims while nothing happened", now-before)
	}
}

func inTown(t *testing.T, live func(w *town)) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.close()
		live(w)
	})
}

func TestMembersComeAndGo(t *testing.T) {
	inTown(t, func(w *town) {
		w.enter("a", 0)
		w.want(3*time.Second, map[string]int{"a": 12})
		w.enter("b", 0)
		w.enter("c", time.Hour) // its clock is wrong
		w.want(5*time.Second, map[string]int{"a": 4, "b": 4, "c": 4})
		w.still(time.Minute)
		w.houses["b"].die()
		w.t.Logf("the shards of a dead member are taken after %v", w.want(3*time.Second, map[string]int{"a": 6, "c": 6}))
		w.still(time.Minute)
		w.enter("b", 0)
		w.want(5*time.Second, map[string]int{"a": 4, "b": 4, "c": 4})
		if err := w.houses["c"].member.Drain(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
	})
}

// TestMemberStandsStill: one that neither answers nor renews its key loses its shards; one that renews it keeps
// them. One that stood still itself does not think that the others did.
func TestMemberStandsStill(t *testing.T) {
	inTown(t, func(w *town) {
		a, b := w.enter("a", 0), w.enter("b", 0)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		b.silent.Store(true)
		w.still(time.Minute)
		b.away.Store(true)
		begin := time.Now()
		for len(a.Held()) < townShards {
			if <-time.After(10 * time.Millisecond); time.Since(begin) > 5*time.Second {
				w.t.Fatalf("5 s after b has stopped a has %d shards, want all", len(a.Held()))
			}
		}
		w.t.Logf("the shards of a member that stands still are taken after %v", time.Since(begin))
		b.silent.Store(false)
		b.away.Store(false)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		a.deaf.Store(true)
		w.still(time.Minute)
	})
}

// TestStoresAway: members that cannot reach the stores stop within the life of their keys, and go on, or join
// anew, when they can again.
func TestStoresAway(t *testing.T) {
	inTown(t, func(w *town) {
		a, b := w.enter("a", 0), w.enter("b", 0)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		b.away.Store(true)
		<-time.After(10 * time.Second)
		if !b.member.May() {
			w.t.Error("after 10 s a member may not work any more")
		}
		w.still(time.Second)
		b.away.Store(false)
		<-time.After(2 * time.Second)
		if w.still(10 * time.Second); b.rejoins.Load() != 0 {
			w.t.Error("a member that was away for 10 s has joined anew")
		}
		b.away.Store(true)
		<-time.After(TTL - courtesy + time.Second)
		if b.member.May() {
			w.t.Error("shortly before its key ends a member may still work")
		}
		<-time.After(courtesy)
		if got := len(a.Held()); got != townShards {
			w.t.Errorf("when b's key has ended a has %d shards, want all", got)
		}
		b.away.Store(false)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		if b.rejoins.Load() != 1 {
			w.t.Errorf("b has joined anew %d times, want once", b.rejoins.Load())
		}
		a.away.Store(true)
		b.away.Store(true)
		<-time.After(30 * time.Second)
		a.away.Store(false)
		b.away.Store(false)
		<-time.After(2 * time.Second) // both join anew
		w.want(10*time.Second, map[string]int{"a": 6, "b": 6})
		w.still(time.Minute)
	})
}

// TestMembersCutOff: members that cannot reach each other and still reach the stores keep their shards. Where
// the port refuses, of two the older one stays, and nothing goes to and fro; of three, one that only one other
// finds gone stays.
func TestMembersCutOff(t *testing.T) {
	inTown(t, func(w *town) {
		w.enter("a", 0)
		<-time.After(time.Second)
		w.enter("b", 0)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		w.sever(errCut, [2]string{"a", "b"}, [2]string{"b", "a"})
		w.still(time.Minute)
		w.sever(ErrNobodyListens, [2]string{"a", "b"}, [2]string{"b", "a"})
		w.want(5*time.Second, map[string]int{"a": 12})
		w.still(time.Minute)
		w.sever(nil)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		w.enter("c", 0)
		w.want(5*time.Second, map[string]int{"a": 4, "b": 4, "c": 4})
		w.sever(ErrNobodyListens, [2]string{"a", "b"})
		w.still(time.Minute)
		w.sever(ErrNobodyListens, [2]string{"a", "b"}, [2]string{"c", "b"})
		w.want(5*time.Second, map[string]int{"a": 6, "c": 6})
	})
}

func TestOrders(t *testing.T) {
	inTown(t, func(w *town) {
		a := w.enter("a", 0)
		b := w.enter("b", 0)
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		if err := a.member.SetDrained(w.t.Context(), "b", true); err != nil {
			w.t.Fatal(err)
		}
		w.want(5*time.Second, map[string]int{"a": 12})
		if err := a.member.Pin(w.t.Context(), 7, "b"); err != nil {
			w.t.Fatal(err)
		}
		w.still(10 * time.Second) // who is drained gets nothing
		if err := b.member.SetDrained(w.t.Context(), "b", false); err != nil {
			w.t.Fatal(err)
		}
		w.want(5*time.Second, map[string]int{"a": 6, "b": 6})
		if _, has := b.Held()[7]; !has {
			w.t.Error("b does not have the shard that was moved to it")
		}
		if err := a.member.SetDrained(w.t.Context(), "nobody", true); !errors.Is(err, ErrNoMember) {
			w.t.Errorf("draining nobody: got %v, want %v", err, ErrNoMember)
		}
		if err := a.member.Pin(w.t.Context(), townShards, "a"); !errors.Is(err, ErrInvalid) {
			w.t.Errorf("moving a shard that there is not: got %v, want %v", err, ErrInvalid)
		}
	})
}

func TestRefusals(t *testing.T) {
	inTown(t, func(w *town) {
		a := w.enter("a", 0)
		w.want(5*time.Second, map[string]int{"a": 12})
		id := a.member.Cluster().ID
		try := func(o Options) error {
			var never atomic.Bool
			o.Members, o.Leases, o.Logger = handle{w.members, &never}, handle{w.leases, &never}, slog.New(slog.DiscardHandler)
			o.Probe = func(context.Context, string, *Identity) error { return nil }
			m, err := Find(w.t.Context(), o)
			if err != nil {
				return err
			}
			return m.Join(w.t.Context())
		}
		for what, o := range map[string]Options{
			"another number of shards": {Name: "b", Shards: townShards + 1},
			"another cluster":          {Name: "b", Shards: townShards, Cluster: "other"},
			"the same name":            {Name: "a", Shards: townShards, Address: "elsewhere", Cluster: id},
		} {
			if err := try(o); !errors.Is(err, ErrRefused) {
				w.t.Errorf("%s: got %v, want %v", what, err, ErrRefused)
			}
		}
		if err := try(Options{Name: "a", Shards: townShards, Address: "a", Cluster: id}); err != nil {
			w.t.Errorf("a later life at the same address: %v", err)
		}
	})
}
