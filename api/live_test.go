package api_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
)

// listen opens live events and returns what reads one block after another.
func (f *face) listen(t *testing.T, query string) (next func() string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", f.server.URL+"/api/v1/live"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	next = func() string {
		t.Helper()
		var block []string
		for lines.Scan() {
			if lines.Text() == "" {
				return strings.Join(block, "\n")
			}
			block = append(block, lines.Text())
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
	if got := next(); got != "retry: 2000" {
		t.Fatalf("got %q", got)
	}
	return next, func() { cancel(); _ = resp.Body.Close() }
}

// until polls with a deadline.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLiveEvents(t *testing.T) {
	var missed atomic.Int64
	f := start(t, func(o *api.Options) { o.EventsLost = func(n int) { missed.Add(int64(n)) } })
	all, stopAll := f.listen(t, "")
	defer stopAll()
	two, stopTwo := f.listen(t, "?site=demo&device=a,c")
	defer stopTwo()
	until(t, "listeners are there", func() bool { return f.Listeners() == 2 })
	for _, device := range []string{"a", "b", "c"} {
		f.fill(t, device, 2)
	}
	event := func(device string, sequence int) string {
		return fmt.Sprintf(`event: reading`+"\n"+`data: {"device":%q,"readings":[{"time":"1970-01-01T00:00:00.000Z","values":[0,-0],"note":"","sequence":%d},{"time":"1970-01-01T00:00:01.000Z","values":[1,-1],"note":"","sequence":%d}],"site":"demo"}`, device, sequence, sequence)
	}
	for i, device := range []string{"a", "b", "c"} {
		if got, want := all(), event(device, i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for i, device := range []string{"a", "c"} {
		if got, want := two(), event(device, 2*i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f.Lose(7)
	if got, want := two(), "event: lost\ndata: {\"lost\":7}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	until(t, "both losses are counted", func() bool { return missed.Load() == 14 })
	stopAll()
	stopTwo()
	until(t, "listeners are gone", func() bool { return f.Listeners() == 0 })
}

func TestLiveRefuses(t *testing.T) {
	f := start(t, func(o *api.Options) { o.Limits.Listeners = 1 })
	for _, query := range []string{"?site=a.b", "?device=a", "?site=a&device=b!", "?site=a&device=" + strings.Repeat("a,", 200) + "a", "?x=1"} {
		f.do(t, "GET", "/api/v1/live"+query, "").problem(t, 400)
	}
	_, stop := f.listen(t, "")
	f.do(t, "GET", "/api/v1/live", "").problem(t, 429)
	stop()
	until(t, "there is room again", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", f.server.URL+"/api/v1/live", nil)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == 200
	})
}

func TestLiveBeatsAndCloses(t *testing.T) {
	closing := make(chan struct{})
	f := start(t, func(o *api.Options) { o.Limits.Heartbeat, o.Closing = time.Millisecond, closing })
	next, stop := f.listen(t, "?site=demo")
	defer stop()
	if got := next(); got != ": still here" {
		t.Errorf("got %q", got)
	}
	close(closing)
	until(t, "the listener is gone", func() bool { return f.Listeners() == 0 })
}

func TestLiveOutlivesTheReadTimeout(t *testing.T) {
	f := apitest.New()
	log := slog.New(slog.DiscardHandler)
	server := api.NewServer(api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: log, Limits: api.Limits{Heartbeat: 20 * time.Millisecond}}), log)
	server.ReadTimeout = 100 * time.Millisecond
	addr := serve(t, server)
	begin := time.Now()
	next, stop := (&face{Fleet: f, server: addr}).listen(t, "")
	defer stop()
	for time.Since(begin) < 400*time.Millisecond {
		next()
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := apitest.New()
	server := api.NewServer(api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: slog.New(slog.DiscardHandler)}), slog.New(slog.DiscardHandler))
	addr := serve(t, server)
	_, stop := (&face{Fleet: f, server: addr}).listen(t, "")
	stop()
	addr.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
