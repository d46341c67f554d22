package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
)

// Headers of a reject.
const (
	headerReason   = "Wellhead-Reason"
	headerOrigin   = "Wellhead-Origin"   // subject it was published to, mapped
	headerSite     = "Wellhead-Site"     // may be missing
	headerDevice   = "Wellhead-Device"   // may be missing
	headerShard    = "Wellhead-Shard"    // number
	headerSequence = "Wellhead-Sequence" // stream sequence
	headerIndex    = "Wellhead-Index"    // reading in the message, -1 = all of it
	headerArrival  = "Wellhead-Arrival"  // Unix ms
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

// Reject keeps these in rejects; nil only when all are acknowledged there. A repeat with the same
// shard, sequence and index is kept once: its subject exists already.
func (o *Outside) Reject(ctx context.Context, rejects []messages.Reject) error {
	results := make(chan error, len(rejects))
	sent := 0
	var first error
	for i := range rejects {
		m := rejectMessage(&rejects[i])
		m.done = func(err error) { results <- err }
		if err := o.streams.rejects.send(ctx, m); err != nil {
			first = fmt.Errorf("keep a reject: %w", err)
			break
		}
		sent++
	}
	for range sent {
		select {
		case err := <-results:
			if err != nil && !errors.Is(err, errWrongSequence) && first == nil {
				first = fmt.Errorf("keep a reject: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("keep a reject: %w", ctx.Err())
		}
	}
	return first
}

// rejectMessage encodes a reject.
func rejectMessage(r *messages.Reject) outgoing {
	id := fmt.Sprintf("%d-%d-%d", r.Shard, r.Sequence, r.Index)
	site := r.Device.Site
	if messages.CheckName("site", site) != nil {
		site = "_"
	}
	h := nats.Header{
		jetstream.MsgIDHeader:               {id},
		jetstream.ExpectedLastSubjSeqHeader: {"0"},
		headerReason:                        {headerText(r.Reason)},
		headerOrigin:                        {headerText(r.Subject)},
		headerShard:                         {strconv.Itoa(int(r.Shard))},
		headerSequence:                      {strconv.FormatUint(r.Sequence, 10)},
		headerIndex:                         {strconv.Itoa(r.Index)},
		headerArrival:                       {strconv.FormatInt(r.Arrival, 10)},
	}
	if r.Device.Site != "" {
		h[headerSite] = []string{headerText(r.Device.Site)}
	}
	if r.Device.Device != "" {
		h[headerDevice] = []string{headerText(r.Device.Device)}
	}
	if r.Type != "" {
		h[contentType] = []string{headerText(r.Type)}
	}
	return outgoing{
		subject: fmt.Sprintf("rejects.%s.%d.%d.%d", site, r.Shard, r.Sequence, r.Index),
		header:  h,
		data:    r.Data,
	}
}

// headerText makes any text fit into one header line: what does not is encoded. At most 1 KiB.
func headerText(s string) string {
	if len(s) > 1024 {
		s = s[:1024]
	}
	if strings.ContainsAny(s, "\r\n") || strings.TrimSpace(s) != s || strings.HasPrefix(s, "base64:") {
		return "base64:" + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return s
}

// headerValue is the inverse of headerText.
func headerValue(s string) string {
	if encoded, ok := strings.CutPrefix(s, "base64:"); ok {
		if b, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return string(b)
		}
	}
	return s
}

// Event publishes without acknowledgement.
func (o *Outside) Event(subject string, data []byte) {
	// Fails only while the connection is down: an event is for those who listen now.
	_ = o.streams.main.nc.Publish(subject, data)
}

// Announce publishes to the EVENTS stream too; nil when it is acknowledged there. A repeat with the
// same id within 10 minutes is kept once.
func (o *Outside) Announce(ctx context.Context, subject, id string, data []byte) error {
	result := make(chan error, 1)
	err := o.streams.rejects.send(ctx, outgoing{
		subject: subject,
		header:  nats.Header{jetstream.MsgIDHeader: {id}},
		data:    data,
		done:    func(err error) { result <- err },
	})
	if err == nil {
		select {
		case err = <-result:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", subject, err)
	}
	return nil
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
