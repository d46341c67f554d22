package pebble

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/semaphore"
)

// committer is the one goroutine that writes to a database. It applies what is queued and syncs the
// log once for all of it. There is one for two reasons: a sync costs the same for one batch and for a
// hundred; and pebble, when the disk refuses a write, panics with its locks held, which would leave
// every later writer waiting for ever. Here only this goroutine meets that, and all others get an error.
type committer struct {
	db       *pebble.DB
	maxDelay time.Duration
	queue    chan *commit
	bytes    *semaphore.Weighted // of the batches in the queue
	limit    int64
	done     chan struct{}
	failed   atomic.Pointer[error]

	commits, syncs, syncTime atomic.Int64
}

// commit is one batch on its way.
type commit struct {
	batch   *pebble.Batch
	size    int64
	sync    bool
	applied func(error) // called once when the batch is visible, or with why it never will be; may be nil
	result  chan error  // buffered, gets one
}

// overhead is what a commit counts in the queue on top of its bytes.
const overhead = 4 << 10

func newCommitter(db *pebble.DB, limit int64, maxDelay time.Duration) *committer {
	limit = max(limit, overhead)
	c := &committer{
		db: db, maxDelay: maxDelay, limit: limit, bytes: semaphore.NewWeighted(limit),
		queue: make(chan *commit, limit/overhead), // the bytes run out first
		done:  make(chan struct{}),
	}
	go c.run()
	return c
}

// failure is the error that ended all writing, nil while the store is healthy.
func (c *committer) failure() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// do commits the batch, which is no longer the caller's, and waits for it: until it is synced when
// sync is set, else until it is visible. An error of the context
// leaves the outcome unknown. applied is called in any case, perhaps after do has returned.
func (c *committer) do(ctx context.Context, batch *pebble.Batch, sync bool, applied func(error)) error {
	one := &commit{batch: batch, size: min(c.limit, int64(batch.Len())+overhead), sync: sync, applied: applied, result: make(chan error, 1)}
	if err := c.bytes.Acquire(ctx, one.size); err != nil {
		one.finish(err)
		return err
	}
	c.queue <- one // has room for as many as the bytes allow
	select {
	case err := <-one.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits until all is committed. Nothing may be queued afterwards.
func (c *committer) close() {
	close(c.queue)
	<-c.done
}

func (c *committer) run() {
	defer close(c.done)
	var group []*commit // applied, waiting for a sync
	var pause time.Duration
	var lastSync time.Time
	for one := range c.queue {
		c.apply(one, &group)
		var timer <-chan time.Time
		if wait := pause - time.Since(lastSync); wait > 0 {
			timer = time.After(wait)
		}
		c.gather(timer, &group)
		if len(group) == 0 {
			continue
		}
		start := time.Now()
		err := c.guard(func() error { return c.db.LogData(nil, pebble.Sync) })
		lastSync = time.Now()
		pause = min(lastSync.Sub(start), c.maxDelay)
		c.syncs.Add(1)
		c.syncTime.Add(int64(lastSync.Sub(start)))
		for _, synced := range group {
			c.finish(synced, err)
		}
		group = group[:0]
	}
}

// gather applies what else is queued, until the timer fires or, without one, until the queue is empty.
func (c *committer) gather(timer <-chan time.Time, group *[]*commit) {
	for {
		if timer != nil {
			select {
			case one, open := <-c.queue:
				if !open {
					return
				}
				c.apply(one, group)
			case <-timer:
				timer = nil
			}
			continue
		}
		select {
		case one, open := <-c.queue:
			if !open {
				return
			}
			c.apply(one, group)
		default:
			return
		}
	}
}

// apply makes one batch visible. What wants no sync, or has failed, is answered at once.
func (c *committer) apply(one *commit, group *[]*commit) {
	err := c.guard(func() error { return c.db.Apply(one.batch, pebble.NoSync) })
	c.commits.Add(1)
	if one.applied != nil {
		one.applied(err)
		one.applied = nil
	}
	if err != nil || !one.sync {
		c.finish(one, err)
		return
	}
	*group = append(*group, one)
}

// guard runs fn unless an earlier one has failed, with its panics as errors. Any error is final: pebble
// cannot tell how much of the log is good after one.
func (c *committer) guard(fn func() error) (err error) {
	if err := c.failure(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			err = fmt.Errorf("the store has stopped writing, free the disk or repair it and start again: %w", err)
			c.failed.Store(&err)
		}
	}()
	return fn()
}

func (c *committer) finish(one *commit, err error) {
	c.bytes.Release(one.size)
	one.finish(err)
}

func (one *commit) finish(err error) {
	if one.applied != nil {
		one.applied(err)
	}
	if err == nil { // a batch that failed may still be in pebble's hands
		err = one.batch.Close()
	}
	one.result <- err
}

// lock is a read-write lock that heeds a context, and that whoever holds it may hand on to another
// goroutine: here the committer gives it back.
type lock struct{ *semaphore.Weighted }

const alone = 1 << 40

func newLocks(n int) []lock {
	locks := make([]lock, n)
	for i := range locks {
		locks[i] = lock{semaphore.NewWeighted(alone)}
	}
	return locks
}
