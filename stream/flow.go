package stream

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/wellhead/wellhead/messages"
)

const (
	// connectionsPage is how many connections are looked at in one go.
	connectionsPage = 4096
	// flowFull is how full a stream must be, in percent, before connections are cut for what their site has
	// unstored: with room in the streams a slow archive is no reason to lose what devices send.
	flowFull = 50
	// ownClients is what the names of Wellhead's own connections begin with: they keep the window by themselves.
	ownClients = "wellhead "
)

// Flow tells the guard of the embedded server what bounds connections that publish by themselves.
type Flow struct {
	// Limit is how many bytes of a site may be unstored; 0 = no limit.
	Limit func(site string) int64
	// Oldest is the age of the oldest message that is not stored, 0 = there is none.
	Oldest func() time.Duration
}

// WatchFlow has connections cut that send for a site more than may be unstored, while a stream is half full or more.
// Raw NATS and MQTT publishers
// keep no window, so they are measured: what came over a site's connections since the oldest message that is
// not stored came is at most what of it is not stored. An outside server's connections are not looked at.
func (s *Streams) WatchFlow(f Flow) { s.flow.Store(&f) }

// Granted is how many bytes a publisher that asks may have unstored of a site: the connections that show the
// site's credential share its limit.
func (s *Streams) Granted(site string, limit int64) int64 {
	if s.options.Server == nil {
		return limit
	}
	if connected := s.options.Server.connected.Load(); connected != nil {
		limit /= int64(max(1, (*connected)[site]))
	}
	return max(limit, messages.MinUnstored)
}

// rawFlow is what came over the connections of each site, looked at again and again. Without credentials it is
// not known whose a connection is, and each stands for itself.
type rawFlow struct {
	connections map[uint64]int64 // bytes that came in all, by connection
	sites       map[string]*siteFlow
}

// siteFlow is what came over a site's connections lately.
type siteFlow struct {
	user  string
	ids   []uint64 // its connections, as of the last look
	came  []came   // oldest first
	bytes int64    // of all of these
	cut   bool     // may not connect again yet
}

type came struct {
	at    time.Time
	bytes int64
}

// lookAtFlow measures, and cuts the connections of sites above their limit. A site that shows a credential may
// connect again when half of the limit is free.
func (g *guard) lookAtFlow(now time.Time) {
	flow := g.streams.flow.Load()
	if flow == nil {
		return
	}
	list, ok := g.server.connections()
	if !ok {
		return
	}
	oldest := max(flow.Oldest(), guardEvery)
	g.raw.measure(list, now, now.Add(-oldest-guardEvery/2))
	barred, above, connected := map[string]bool{}, map[string]*siteFlow{}, map[string]int{}
	full := sync.OnceValue(func() bool { return g.server.fullest(g.streams.options.Shards) >= flowFull })
	for key, f := range g.raw.sites {
		connected[f.user] += len(f.ids)
		limit := flow.Limit(f.user)
		if limit <= 0 {
			continue
		}
		if f.cut = f.bytes > limit && full() || f.cut && f.bytes > limit/2; f.cut {
			barred[f.user] = true
			above[key] = f
		}
	}
	delete(barred, anonymousUser)
	delete(connected, anonymousUser)
	g.server.connected.Store(&connected)
	g.server.auth.barred.Store(&barred) // before a connection is cut, which comes back at once
	for key, f := range above {
		n := 0
		for _, id := range f.ids {
			if g.server.nats.DisconnectClientByID(id) == nil {
				n++
			}
		}
		if n > 0 {
			g.streams.counters.FlowCut.Add(uint64(n))
			g.streams.logger.Warn("connections cut: too much of the site is not stored yet", "site", key, "connections", n, "bytes", f.bytes, "limit", flow.Limit(f.user), "oldest", oldest)
		}
	}
}

// measure takes in a look at the connections; what came before since counts no more.
func (r *rawFlow) measure(list []*server.ConnInfo, now, since time.Time) {
	if r.sites == nil {
		r.sites = map[string]*siteFlow{}
	}
	for _, f := range r.sites {
		f.ids = f.ids[:0]
	}
	seen := make(map[uint64]int64, len(list))
	for _, c := range list {
		if c.AuthorizedUser == memberUser || strings.HasPrefix(c.Name, ownClients) {
			continue
		}
		key := connectionKey(c.AuthorizedUser, c.IP, c.Name)
		f := r.sites[key]
		if f == nil {
			f = &siteFlow{user: c.AuthorizedUser}
			r.sites[key] = f
		}
		f.ids = append(f.ids, c.Cid)
		seen[c.Cid] = c.InBytes
		if n := c.InBytes - r.connections[c.Cid]; n > 0 {
			f.came = append(f.came, came{now, n})
			f.bytes += n
		}
	}
	r.connections = seen
	for key, f := range r.sites {
		for len(f.came) > 0 && f.came[0].at.Before(since) {
			f.bytes -= f.came[0].bytes
			f.came = f.came[1:]
		}
		if len(f.came) == 0 && len(f.ids) == 0 && !f.cut {
			delete(r.sites, key)
		}
	}
}

// connections lists all connections of the server's clients.
func (s *Server) connections() ([]*server.ConnInfo, bool) {
	var all []*server.ConnInfo
	for offset := 0; ; offset += connectionsPage {
		list, err := s.nats.Connz(&server.ConnzOptions{Username: true, Sort: server.ByCid, Offset: offset, Limit: connectionsPage})
		if err != nil {
			return nil, false
		}
		all = append(all, list.Conns...)
		if len(list.Conns) < connectionsPage {
			return all, true
		}
	}
}
