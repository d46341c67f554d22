package stream

import (
	"crypto/subtle"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// authenticator decides for the embedded server who may connect, and what for.
type authenticator struct {
	server      *Server
	credentials *Credentials // nil = everybody may do everything
	noMQTT      atomic.Bool  // a stream is nearly full: MQTT clients must keep what they have
	// barred are the sites that have too much that is not stored yet
	barred atomic.Pointer[map[string]bool]
	bars   bars
}

// Check is called by the server for each connection: NATS, WebSocket and MQTT alike.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == memberUser {
		if subtle.ConstantTimeCompare([]byte(o.Password), []byte(a.server.secret)) != 1 {
			return false
		}
		c.RegisterUser(&server.User{Username: memberUser})
		return true
	}
	if c.Kind() != server.CLIENT {
		return false // no leaf nodes
	}
	mqtt := speaksMQTT(c)
	if a.noMQTT.Load() && mqtt {
		return false
	}
	now := time.Now()
	if (a.credentials == nil || a.credentials.Open()) && a.bars.hasFrom(c.RemoteAddress(), o.Name, now) {
		return false
	}
	if a.credentials == nil {
		c.RegisterUser(&server.User{Username: anonymousUser})
		return true
	}
	if a.credentials.Open() {
		if !isLoopback(c.RemoteAddress()) {
			return false
		}
		c.RegisterUser(&server.User{Username: anonymousUser})
		return true
	}
	if barred := a.barred.Load(); barred != nil && (*barred)[o.Username] || a.bars.has(o.Username, now) {
		return false
	}
	if !a.credentials.Check(o.Username, o.Password) {
		return false
	}
	c.RegisterUser(&server.User{Username: o.Username, Permissions: sitePermissions(o.Username, mqtt)})
	return true
}

// speaksMQTT tells whether a connection came in by a listener for MQTT, over WebSocket too. What a client
// says of itself is no proof: only the server's own name for the connection is, 127.0.0.1:5000 - mid:7.
func speaksMQTT(c server.ClientAuthentication) bool {
	named, ok := c.(fmt.Stringer)
	if !ok {
		return false
	}
	_, kind, _ := strings.Cut(named.String(), " - ")
	return strings.HasPrefix(kind, "mid:") || strings.HasPrefix(kind, "mid_ws:")
}

// SiteInbox is the prefix of the inboxes in which a site's credential gets its answers. Each site has its
// own, so that none hears what others are told.
func SiteInbox(site string) string { return "_INBOX_" + site }

// sitePermissions are what a site's credential may do. They are checked on the mapped subject
// (measured), so readings.SITE.> is shard.*.SITE.* here. Commands have five tokens and are refused. What
// the MQTT layer subscribes to in a client's name has no site in it, so only MQTT clients may.
func sitePermissions(site string, mqtt bool) *server.Permissions {
	p := &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"shard.*." + site, "shard.*." + site + ".*",
			"query.*." + site, "query.*." + site + ".*",
			"query.shards",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			// MQTT takes events/SITE/# for both
			"events." + site, "events." + site + ".>", "stored." + site + ".>",
			SiteInbox(site) + ".>",
		}},
	}
	if mqtt {
		p.Subscribe.Allow = append(p.Subscribe.Allow, "$MQTT.sub.>", "$MQTT.deliver.pubrel.>")
	}
	return p
}

func isLoopback(address net.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case nil:
		return false
	default:
		return a.Network() == "pipe" // in this process
	}
}

// kick closes the connections for which match is true, and tells how many. Members' are never closed.
func (s *Server) kick(match func(user, kind string) bool) int {
	var ids []uint64
	list, _ := s.connections() // fails only while the server ends
	for _, c := range list {
		if c.AuthorizedUser != memberUser && match(c.AuthorizedUser, c.Type) {
			ids = append(ids, c.Cid)
		}
	}
	kicked := 0
	for _, id := range ids {
		// fails only when it has gone by itself
		if s.nats.DisconnectClientByID(id) == nil {
			kicked++
		}
	}
	return kicked
}
