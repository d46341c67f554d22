package actors

import (
	"context"
	"sync"

	"github.com/wellhead/wellhead/messages"
)

// Credit is a member's right to bring in bytes: what is pulled and not yet stored stays within a
// limit. Each shard always owns enough for one largest message, so none can starve another; of the
// rest, which all share, one shard takes a quarter at most.
type Credit struct {
	own, shards int

	mu      sync.Mutex
	shared  int // by all; a shard takes a quarter at most
	used    map[messages.Shard]int
	lent    int // of shared
	asked   int // of used, by pulls that have brought nothing yet
	changed chan struct{}
}

// DefaultInFlight is the default limit of a member's bytes in flight.
const DefaultInFlight = 256 << 20

// NewCredit makes the credit of a member: limit in bytes (0 = DefaultInFlight; raised to what the
// shards own when it is less), for so many shards.
func NewCredit(limit, shards int) *Credit {
	k := &Credit{own: MinPull, shards: shards, used: map[messages.Shard]int{}, changed: make(chan struct{})}
	k.SetLimit(limit)
	return k
}

// SetLimit changes the limit, as in NewCredit. What was taken stays; when that is more than the new limit
// nothing is given out until enough came back.
func (k *Credit) SetLimit(limit int) {
	if limit == 0 {
		limit = DefaultInFlight
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shared = max(0, limit-k.shards*k.own)
	k.wake()
}

// wake has all who wait look again; k.mu is held.
func (k *Credit) wake() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// beyond is how much of the shared credit a shard uses that uses n in all.
func (k *Credit) beyond(n int) int { return max(0, n-k.own) }

// take takes n bytes if they are to be had now.
func (k *Credit) take(shard messages.Shard, n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	used := k.used[shard]
	before, after := k.beyond(used), k.beyond(used+n)
	if used > 0 && (after > k.shared/4 || k.lent-before+after > k.shared) {
		return false
	}
	k.used[shard] = used + n
	k.lent += after - before
	return true
}

// Acquire waits until the shard may bring in n bytes. short, if not nil, is called once when it has to wait.
func (k *Credit) Acquire(ctx context.Context, shard messages.Shard, n int, short func()) error {
	for {
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		if k.take(shard, n) {
			return nil
		}
		if short != nil {
			short()
			short = nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Charge takes n bytes more, whatever there is: they are in memory already. Until as much came back nobody else
// gets any of the shared credit.
func (k *Credit) Charge(shard messages.Shard, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	used := k.used[shard]
	k.lent += k.beyond(used+n) - k.beyond(used)
	k.used[shard] = used + n
}

// Release gives back n bytes.
func (k *Credit) Release(shard messages.Shard, n int) {
	if n <= 0 {
		return
	}
	k.mu.Lock()
	used := k.used[shard]
	left := max(0, used-n)
	k.lent += k.beyond(left) - k.beyond(used)
	k.used[shard] = left
	k.wake()
	k.mu.Unlock()
}

// Reset gives back all that a shard has: it starts anew.
func (k *Credit) Reset(shard messages.Shard) {
	k.mu.Lock()
	used := k.used[shard]
	k.mu.Unlock()
	k.Release(shard, used)
}

// pulling notes that n bytes more (less, if negative) are taken for a pull that has brought nothing yet.
func (k *Credit) pulling(n int) {
	k.mu.Lock()
	k.asked += n
	k.mu.Unlock()
}

// InFlight returns the bytes in flight: taken, but for those of pulls that still wait for a message.
func (k *Credit) InFlight() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := -k.asked
	for _, n := range k.used {
		sum += n
	}
	return max(0, sum)
}
