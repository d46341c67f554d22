package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
)

const (
	// handOverAtOnce is how many shards are handed over at the same time: the others work meanwhile.
	handOverAtOnce = 4
	// handOverDeadline bounds the handing over of one shard, which takes 3 s at most when nothing is wrong.
	handOverDeadline = 30 * time.Second
	// settleFor is how long no member must have joined before shards are taken or handed over: several
	// that start together share the shards at once, and none is moved twice.
	settleFor = time.Second
)

// Shards is what the keeper starts and stops. All methods may be called by many goroutines.
type Shards interface {
	// Take starts a shard, which claims its lease over what has that revision (0 = nothing is there).
	Take(shard messages.Shard, revision uint64) error
	// Held returns the shards that this member has, each with the revision of its claim, 0 = not yet.
	Held() map[messages.Shard]uint64
	// HandOver gives a shard away and releases its lease; it waits for that.
	HandOver(ctx context.Context, shard messages.Shard) error
	// Drop ends a shard at once; it waits for that.
	Drop(shard messages.Shard) error
}

// Keeper has this member hold the shards that are assigned to it, as views come.
type Keeper struct {
	shards Shards
	self   func() (id, address string)
	clock  Clock
	log    *slog.Logger
	life   context.Context
	work   sync.WaitGroup

	known   map[string]bool // members of the view before
	settled time.Time       // when the newest of them has been there for long enough

	mu     sync.Mutex
	moving map[messages.Shard]bool // being handed over or dropped
}

// NewKeeper makes a keeper for a membership; life ends what it does.
func NewKeeper(life context.Context, m *Membership, shards Shards) *Keeper {
	return &Keeper{
		shards: shards, self: m.Self, clock: m.clock, log: m.log, life: life,
		moving: map[messages.Shard]bool{},
	}
}

// Step is what a keeper does with one shard.
type Step int

// The steps.
const (
	Stay Step = iota
	Take
	HandOver
	Drop
)

// Decide says what the member self does with each shard by this view, given what it holds (the revision of
// each claim, 0 = not claimed yet). settled tells whether shards may change owners now. It is pure.
func Decide(v *View, self string, held map[messages.Shard]uint64, settled bool) []Step {
	steps := make([]Step, len(v.Leases))
	me := v.Member(self)
	alive := me != nil && !me.Dead
	var assigned []string
	if alive {
		assigned = v.Assignment()
	}
	for n := range steps {
		shard := messages.Shard(n)
		lease := v.Leases[n]
		claim, holds := held[shard]
		owner, _ := v.Owner(shard)
		switch {
		case holds && claim != 0 && lease.Revision > claim && lease.Member != self:
			steps[n] = Drop
		case !alive || !settled:
		case holds:
			if assigned[n] != self && assigned[n] != "" {
				steps[n] = HandOver
			}
		case lease.Member == self:
			steps[n] = Take // it ended here by itself
		case assigned[n] == self && owner == "":
			steps[n] = Take
		}
	}
	return steps
}

// See acts on a view. It does not wait, and is called by one goroutine.
func (k *Keeper) See(v *View) {
	self, _ := k.self()
	settled := k.settle(v)
	held := k.shards.Held()
	steps := Decide(v, self, held, settled)
	k.mu.Lock()
	defer k.mu.Unlock()
	atOnce := handOverAtOnce
	if me := v.Member(self); me != nil && me.Draining {
		atOnce = len(steps)
	}
	for n, step := range steps {
		shard := messages.Shard(n)
		if k.moving[shard] {
			continue
		}
		switch step {
		case Stay:
		case Take:
			if err := k.shards.Take(shard, v.Leases[n].Revision); err != nil {
				k.log.Error("cannot take a shard", "shard", n, "error", err)
			}
		case Drop:
			k.log.Warn("another member has claimed a shard", "shard", n, "owner", v.Leases[n].Member)
			k.move(shard, func() error { return k.shards.Drop(shard) })
		case HandOver:
			if len(k.moving) < atOnce {
				k.move(shard, func() error { return k.handOver(shard) })
			}
		}
	}
}

// settle tells whether the members have been the same, or fewer, for a while.
func (k *Keeper) settle(v *View) bool {
	now := k.clock.Now()
	known := map[string]bool{}
	for _, m := range v.Members {
		known[m.ID] = true
		if !k.known[m.ID] {
			k.settled = now.Add(settleFor)
		}
	}
	k.known = known
	return !now.Before(k.settled)
}

// move runs do beside; k.mu is held.
func (k *Keeper) move(shard messages.Shard, do func() error) {
	k.moving[shard] = true
	k.work.Go(func() {
		if err := do(); err != nil && k.life.Err() == nil {
			k.log.Warn("a shard did not go as it should", "shard", int(shard), "error", err)
		}
		k.mu.Lock()
		delete(k.moving, shard)
		k.mu.Unlock()
	})
}

func (k *Keeper) handOver(shard messages.Shard) error {
	ctx, cancel := context.WithTimeout(k.life, handOverDeadline)
	defer cancel()
	begin := k.clock.Now()
	err := k.shards.HandOver(ctx, shard)
	k.log.Info("handed a shard over", "shard", int(shard), "took", k.clock.Now().Sub(begin).Round(time.Millisecond))
	return err
}

// Lost drops all shards: this member was taken for dead. It waits until they have ended.
func (k *Keeper) Lost() {
	var drops sync.WaitGroup
	for shard := range k.shards.Held() {
		drops.Go(func() {
			if err := k.shards.Drop(shard); err != nil {
				k.log.Warn("a shard did not end", "shard", int(shard), "error", err)
			}
		})
	}
	drops.Wait()
}

// Wait returns when nothing is being handed over any more.
func (k *Keeper) Wait() { k.work.Wait() }

// Empty waits until this member has no shard, at most until ctx ends.
func (k *Keeper) Empty(ctx context.Context) bool {
	for len(k.shards.Held()) > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-k.clock.After(pokesTogether):
		}
	}
	return true
}
