package stream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestCrowd has a plain client publish without acknowledgements as fast as it can: it is cut, and kept away;
// another client, and one that waits for acknowledgements, are not.
func TestCrowd(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	connect := func(name string, options ...nats.Option) *nats.Conn {
		t.Helper()
		nc, err := nats.Connect(server.ClientURL(), append(options, nats.Name(name), nats.MaxReconnects(0))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	quiet := connect("quiet")
	raw := connect("raw")
	deadline := time.Now().Add(20 * time.Second)
	for payload := []byte(`{"values":[1]}`); !raw.IsClosed(); {
		if time.Now().After(deadline) {
			t.Fatal("the flood was not cut within 20 s")
		}
		_ = raw.Publish("readings.a.dev", payload) // fails once it is cut
	}
	if _, err := nats.Connect(server.ClientURL(), nats.Name("raw")); err == nil {
		t.Error("who was cut is let in again at once")
	}
	if quiet.IsClosed() {
		t.Error("another client was cut too")
	}
	if got := s.Counters().FlowCut.Load(); got != 1 {
		t.Errorf("%d connections were cut, want 1", got)
	}
}

// TestBars doubles the time for which somebody is kept away, and forgets it after a while.
func TestBars(t *testing.T) {
	var b bars
	now := time.Now()
	for _, want := range []time.Duration{barredAtLeast, 2 * barredAtLeast, 4 * barredAtLeast} {
		if got := b.bar("a", now).Sub(now); got != want {
			t.Errorf("barred for %v, want %v", got, want)
		}
		if !b.has("a", now.Add(want-1)) || b.has("a", now.Add(want)) || b.has("b", now) {
			t.Error("the wrong one is kept away, or for too long")
		}
		now = now.Add(want)
	}
	now = now.Add(2 * barredAtMost)
	if got := b.bar("a", now).Sub(now); got != barredAtLeast {
		t.Errorf("long after: barred for %v, want %v", got, barredAtLeast)
	}
}
