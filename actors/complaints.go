package actors

import (
	"strings"
	"sync"
	"time"
)

// complainEvery is how often the log repeats that a store fails.
const complainEvery = 10 * time.Second

// complaints keeps the log from being flooded when a store is away: each of many shards notices it,
// with each thing it does. What is said once is only counted for a while.
type complaints struct {
	mu    sync.Mutex
	kinds map[string]*complaint
}

type complaint struct {
	at     time.Time // the first of those said last
	said   int       // since then
	unsaid int       // since one was said
}

// due tells whether to say a complaint now, and how many of its kind were left unsaid before it. Its
// kind is what stands before the first colon: what was being done.
func (c *complaints) due(text string, now time.Time) (unsaid int, say bool) {
	kind, _, _ := strings.Cut(text, ":")
	return c.most(1, kind, now)
}

// fewAtOnce is how many of one kind few lets through in complainEvery.
const fewAtOnce = 20

// few is due for complaints that differ: some of a kind are said before the others are only counted.
func (c *complaints) few(kind string, now time.Time) (unsaid int, say bool) {
	return c.most(fewAtOnce, kind, now)
}

// most lets so many of a kind through in complainEvery.
func (c *complaints) most(n int, kind string, now time.Time) (unsaid int, say bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.kinds[kind]
	if one == nil {
		if c.kinds == nil {
			c.kinds = make(map[string]*complaint)
		}
		one = &complaint{at: now}
		c.kinds[kind] = one
	}
	if now.Sub(one.at) >= complainEvery {
		one.at, one.said = now, 0
	}
	if one.said == n {
		one.unsaid++
		return 0, false
	}
	one.said++
	unsaid, one.unsaid = one.unsaid, 0
	return unsaid, true
}
