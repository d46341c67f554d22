package stream

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
)

// listeningFor is how long an answer to Listening is kept.
const listeningFor = time.Second

// Events says when reading events are published.
type Events string

// The settings of Events. For an outside server EventsAsked counts as EventsAll: it does not tell who listens.
const (
	EventsAsked Events = "asked"
	EventsAll   Events = "all"
	EventsNone  Events = "none"
)

// Outside is where shards speak to.
type Outside struct {
	streams *Streams
	events  Events
}

// Outside returns where shards speak to; events "" = EventsAsked.
func (s *Streams) Outside(events Events) *Outside {
	if events == "" {
		events = EventsAsked
	}
	return &Outside{streams: s, events: events}
}

// Event publishes without acknowledgement.
func (o *Outside) Event(subject string, data []byte) {
	// Fails only while the connection is down: an event is for those who listen now.
	_ = o.streams.main.nc.Publish(subject, data)
}

// Announce publishes to the EVENTS stream too, and returns one error for each: nil when it is acknowledged there. When ctx
// ends before the answer, what became of it is not known. A repeat with the same id within 10 minutes is kept once.
func (o *Outside) Announce(ctx context.Context, a []messages.Announcement) []error {
	list := make([]outgoing, len(a))
	for i, e := range a {
		list[i] = outgoing{subject: e.Subject, header: nats.Header{jetstream.MsgIDHeader: {e.ID}}, data: e.Data}
	}
	errs := o.streams.out.deliverAll(ctx, list)
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("announce %s: %w", a[i].Subject, err)
		}
	}
	return errs
}

// Control puts an encoded command into the device's shard's order; nil when the stream has acknowledged it.
func (s *Streams) Control(ctx context.Context, id messages.DeviceID, data []byte) error {
	if err := s.out.deliver(ctx, outgoing{subject: messages.ControlSubject(id), data: data}); err != nil {
		return fmt.Errorf("command to %v: %w", id, err)
	}
	return nil
}

// SiteControl puts an encoded command for a whole site into every shard's order; nil when all streams
// have acknowledged it.
func (s *Streams) SiteControl(ctx context.Context, site string, data []byte) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range s.options.Shards {
		shard := messages.Shard(n)
		group.Go(func() error {
			if err := s.out.deliver(ctx, outgoing{subject: messages.SiteControlSubject(shard, site), data: data}); err != nil {
				return fmt.Errorf("command to site %s, shard %d: %w", site, shard, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// Listening tells whether anybody wants reading events of this site now. It looks at the embedded
// server's subscriptions at most once a second.
func (o *Outside) Listening(site string) bool {
	switch {
	case o.events == EventsNone:
		return false
	case o.events == EventsAll, o.streams.options.Server == nil:
		return true
	}
	return o.streams.listening.to(o.streams.options.Server, site, time.Now())
}

// listening remembers which sites' reading events somebody subscribes to.
type listening struct {
	current atomic.Pointer[listeners]
	looking sync.Mutex
}

// listeners is what was seen at one moment.
type listeners struct {
	seen  time.Time
	all   bool
	sites map[string]bool
}

// to answers for one site, after looking again when the last look is too old. One caller looks, the
// others meanwhile get the answer from before.
func (l *listening) to(s *Server, site string, now time.Time) bool {
	seen := l.current.Load()
	if seen == nil || now.Sub(seen.seen) > listeningFor {
		if seen == nil {
			l.looking.Lock()
			seen = l.look(s, now)
			l.looking.Unlock()
		} else if l.looking.TryLock() {
			seen = l.look(s, now)
			l.looking.Unlock()
		}
	}
	return seen.all || seen.sites[site]
}

// look reads the subscriptions. l.looking is held.
func (l *listening) look(s *Server, now time.Time) *listeners {
	if seen := l.current.Load(); seen != nil && now.Sub(seen.seen) <= listeningFor {
		return seen
	}
	out := &listeners{seen: now, sites: map[string]bool{}}
	subs, err := s.nats.Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1 << 20, Account: s.nats.GlobalAccount().GetName()})
	if err != nil {
		out.all = true // rather too much than nothing
		l.current.Store(out)
		return out
	}
	for _, sub := range subs.Subs {
		switch site, ok := wantsReadings(sub.Subject); {
		case !ok:
		case site == "*":
			out.all = true
		default:
			out.sites[site] = true
		}
	}
	l.current.Store(out)
	return out
}

// wantsReadings tells whether a subscription matches events.{site}.{device}.reading for any device,
// and of which site ("*" = all).
func wantsReadings(subject string) (site string, ok bool) {
	tokens := strings.Split(subject, ".")
	pattern := [4]string{"events", "*", "*", "reading"}
	site = "*"
	for i, want := range pattern {
		if i >= len(tokens) {
			return "", false
		}
		got := tokens[i]
		if got == ">" {
			return site, true
		}
		if want != "*" && got != "*" && got != want {
			return "", false
		}
		if i == 1 {
			site = got
		}
	}
	return site, len(tokens) == len(pattern)
}
