package stream

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// crowdEvery is how often the queues before the streams are looked at.
	crowdEvery = 100 * time.Millisecond
	// crowded is how many messages wait before all streams together when somebody does not wait for
	// acknowledgements: two of our publishers have no more under way. Whatever is published then waits behind
	// them, a second at worst.
	crowded = 2 * defaultInFlight
	// barredAtLeast and barredAtMost bound how long who was cut for it may not connect; it doubles each time.
	barredAtLeast = 5 * time.Second
	barredAtMost  = 5 * time.Minute
)

// crowd finds who publishes faster than the streams take it, cuts the connection and keeps it away for a while.
type crowd struct {
	streams *Streams
	server  *server.Server
	before  map[uint64]int64 // messages of each connection at the last look, if the queues were long then; else nil
}

// waiting is how many messages wait before the shards' streams.
func (c *crowd) waiting() int {
	n := 0
	for name, q := range *c.server.Ipqueuesz(&server.IpqueueszOptions{Filter: "messages"}) {
		if strings.Contains(name, "'READINGS_") {
			n += q.Pending + q.InProgress
		}
	}
	return n
}

// look cuts the connection that has sent most between two looks that both found the queues long.
func (c *crowd) look(now time.Time) {
	waiting := c.waiting()
	if waiting < crowded {
		c.before = nil
		return
	}
	list, ok := c.streams.options.Server.connections()
	if !ok {
		return
	}
	before := c.before
	c.before = make(map[uint64]int64, len(list))
	var most *server.ConnInfo
	sent := int64(0)
	for _, one := range list {
		c.before[one.Cid] = one.InMsgs
		if n := one.InMsgs - before[one.Cid]; one.AuthorizedUser != memberUser && n > sent {
			most, sent = one, n
		}
	}
	if before == nil || most == nil || sent < crowded/16 {
		return
	}
	c.before = nil
	key := connectionKey(most.AuthorizedUser, most.IP, most.Name)
	until := c.streams.options.Server.auth.bars.bar(key, now)
	if c.server.DisconnectClientByID(most.Cid) == nil {
		c.streams.counters.FlowCut.Add(1)
		c.streams.logger.Warn("connection cut: it publishes without waiting for acknowledgements, faster than the streams take it",
			"connection", key, "messages", sent, "within", crowdEvery, "waiting", waiting, "barred", until.Sub(now))
	}
}

// connectionKey is what a connection's site is known by: its user, or where it comes from while nobody has one.
func connectionKey(user, ip, name string) string {
	if user == anonymousUser {
		return strings.TrimSpace("client " + name + " of " + ip)
	}
	return user
}

// bars are those who may not connect for a while.
type bars struct {
	mu  sync.Mutex
	all map[string]bar
}

type bar struct {
	until time.Time
	span  time.Duration
}

// bar keeps somebody away, twice as long as the last time unless that is long ago, and tells until when.
func (b *bars) bar(key string, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, old := range b.all {
		if now.Sub(old.until) > barredAtMost {
			delete(b.all, k)
		}
	}
	if b.all == nil {
		b.all = map[string]bar{}
	}
	span := max(barredAtLeast, min(2*b.all[key].span, barredAtMost))
	b.all[key] = bar{now.Add(span), span}
	return now.Add(span)
}

// has tells whether somebody is kept away now.
func (b *bars) has(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.all[key].until)
}

// hasFrom is has for a connection without a user.
func (b *bars) hasFrom(address net.Addr, name string, now time.Time) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && b.has(connectionKey(anonymousUser, tcp.IP.String(), name), now)
}
