package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// maxFollowed is how many devices one listener may name.
const maxFollowed = 200

type liveInput struct {
	Site   string   `query:"site" doc:"Only events of this site. Left out: of all sites."`
	Device []string `query:"device" doc:"Only events of these devices of the site, separated by commas, at most 200."`
}

// addLive registers the live events.
func (s *server) addLive() {
	huma.Register(s.api, huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: base + "/live", Summary: "Live events as server-sent events", Tags: []string{"live"},
		Description: "Each event has the kind as its name (reading, online, offline) and JSON as data: site, device, and for `reading` the readings " +
			"of one pull, newest last. An event `lost` says how many events this listener missed because it reads too slowly. Something is sent " +
			"at least every 15 s. Shard, epoch, sequence and index tell a repeat.",
		Responses: map[string]*huma.Response{"200": {
			Description: "A stream that ends when either side closes it.",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, func(_ context.Context, in *liveInput) (*huma.StreamResponse, error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		if s.listeners.Add(1) > int64(s.Limits.Listeners) {
			s.listeners.Add(-1)
			return nil, later(http.StatusTooManyRequests, "Too many listeners. Close some of the pages that are open, or raise limits.listeners.")
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer s.listeners.Add(-1)
			r, w := humago.Unwrap(hc)
			s.listen(w, r, in)
		}}, nil
	})
}

func (in *liveInput) check() error {
	if in.Site != "" {
		if err := checkSite(in.Site); err != nil {
			return err
		}
	}
	if len(in.Device) > 0 && in.Site == "" {
		return badRequest("device is given without site: a device is named by both.")
	}
	if len(in.Device) > maxFollowed {
		return badRequest("%d devices: name at most %d, or leave device out and get the whole site.", len(in.Device), maxFollowed)
	}
	for _, d := range in.Device {
		if err := checkDevice(d); err != nil {
			return err
		}
	}
	return nil
}

// listen hands on events until the client goes away.
func (s *server) listen(w http.ResponseWriter, r *http.Request, in *liveInput) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's would end the connection
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")

	q := &outbox{limit: s.Limits.LiveBuffer, more: make(chan struct{}, 1)}
	follow := make(map[string]bool, len(in.Device))
	device := ""
	for _, d := range in.Device {
		follow[d] = true
	}
	if len(in.Device) == 1 {
		device = in.Device[0]
	}
	var done sync.WaitGroup
	done.Go(func() {
		err := s.Live.Events(ctx, in.Site, device, func(subject string, data []byte, lost int) {
			of, kind := eventOf(subject)
			if len(follow) > 0 && !follow[of] {
				data = nil
			}
			q.add(kind, data, lost)
		})
		cancel(fmt.Errorf("the live events ended: %w", errors.Join(err)))
	})
	defer done.Wait()
	defer cancel(nil)
	if err := send(w, control, []byte("retry: 2000\n\n")); err != nil {
		return
	}
	beat := time.NewTicker(s.Limits.Heartbeat)
	defer beat.Stop()
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			if r.Context().Err() == nil {
				s.log.Warn("live events ended", "site", in.Site, "error", context.Cause(ctx))
			}
			return
		case <-s.Closing:
			return
		case <-beat.C:
			buf = append(buf[:0], ": still here\n\n"...)
		case <-q.more:
			var lost int
			buf, lost = q.take(buf[:0])
			if lost > 0 && s.EventsLost != nil {
				s.EventsLost(lost)
			}
		}
		if err := send(w, control, buf); err != nil {
			return
		}
	}
}

func send(w http.ResponseWriter, control *http.ResponseController, b []byte) error {
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has deadlines
	if _, err := w.Write(b); err != nil {
		return err
	}
	return control.Flush()
}

// eventOf takes events.{site}.{device}.{kind} apart.
func eventOf(subject string) (device, kind string) {
	rest, kind := cutLast(subject)
	_, device = cutLast(rest)
	return device, kind
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// outbox is what one listener has not read yet: whole events, ready to be written.
type outbox struct {
	limit int           // bytes
	more  chan struct{} // holds one when there is something to take

	mu     sync.Mutex
	events [][]byte
	bytes  int
	lost   int
}

// add appends an event (none when data is nil), and drops the oldest ones that do not fit.
func (q *outbox) add(kind string, data []byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += lost
	if data != nil {
		e := make([]byte, 0, len(kind)+len(data)+24)
		e = append(append(e, "event: "...), kind...)
		for line := range bytes.Lines(data) {
			e = append(append(e, "\ndata: "...), bytes.TrimRight(line, "\r\n")...)
		}
		e = append(e, "\n\n"...)
		q.events = append(q.events, e)
		q.bytes += len(e)
	}
	drop := 0
	for q.bytes > q.limit && drop < len(q.events) {
		q.bytes -= len(q.events[drop])
		drop++
	}
	q.events = q.events[drop:]
	q.lost += drop
	if len(q.events) == 0 && q.lost == 0 {
		return
	}
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take appends everything that waits, what was lost first, and empties the outbox.
func (q *outbox) take(b []byte) (_ []byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost > 0 {
		b = fmt.Appendf(b, "event: lost\ndata: {\"lost\":%d}\n\n", q.lost)
	}
	for _, e := range q.events {
		b = append(b, e...)
	}
	lost = q.lost
	clear(q.events)
	q.events, q.bytes, q.lost = q.events[:0], 0, 0
	return b, lost
}
