package stream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/wellhead/wellhead/cluster"
)

// TestKeysEnd: a key lives as long as it is renewed, and no longer; who renews it too late is told.
func TestKeysEnd(t *testing.T) {
	streams := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	keys, err := streams.Keys(BucketMembers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan cluster.Entry, 16)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		keys.Watch(ctx, func(e cluster.Entry) { changes <- e })
	}()
	defer func() { cancel(); <-watched }()
	const ttl = 2 * time.Second
	revision, err := keys.Save(ctx, "member.a", []byte("one"), 0, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Save(ctx, "member.a", nil, 0, ttl); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("a second one of that name: got %v, want %v", err, cluster.ErrConflict)
	}
	if _, err := keys.Save(ctx, "drain.a", []byte("yes"), 0, 0); err != nil {
		t.Error(err)
	}
	there := func() string {
		entries, err := keys.All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Key == "member.a" {
				return string(e.Value)
			}
		}
		return ""
	}
	for begin := time.Now(); time.Since(begin) < 2*ttl; {
		if revision, err = keys.Save(ctx, "member.a", []byte("two"), revision, ttl); err != nil {
			t.Fatalf("renew after %v: %v", time.Since(begin), err)
		}
		<-time.After(ttl / 8)
	}
	if got := there(); got != "two" {
		t.Errorf("after twice its time, renewed: got %q, want two", got)
	}
	eventually(t, "the key that is not renewed ends", func() bool { return there() == "" })
	if _, err := keys.Save(ctx, "member.a", []byte("late"), revision, ttl); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("a renewal that comes too late: got %v, want %v", err, cluster.ErrConflict)
	}
	eventually(t, "the watch tells that it ended", func() bool {
		select {
		case e := <-changes:
			return e.Key == "member.a" && e.Value == nil
		default:
			return false
		}
	})
	if entries, err := keys.All(ctx); err != nil || len(entries) != 1 || entries[0].Key != "drain.a" {
		t.Errorf("got %v, %v; want drain.a alone", entries, err)
	}
}
