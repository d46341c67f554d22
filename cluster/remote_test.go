package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

func startRemote(t *testing.T, of *Identity, answer Answerer) *Remote {
	t.Helper()
	if raceDetector {
		t.Skip("proto.actor sets gRPC's global logger at each start, beside what runs already; a process of ours has one start, before all else")
	}
	listen, advertised, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := StartRemote(listen, advertised, of, answer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func identity(t *testing.T) *Identity {
	t.Helper()
	of, err := newIdentity(8, "")
	if err != nil {
		t.Fatal(err)
	}
	return &of
}

func nobody(context.Context, []byte) ([]byte, error) { return nil, ErrElsewhere }

func TestRemoteAsks(t *testing.T) {
	of := identity(t)
	var failure error
	other := startRemote(t, of, func(_ context.Context, q []byte) ([]byte, error) {
		return bytes.Repeat(q, 3_000_000), failure
	})
	mine := startRemote(t, of, nobody)
	for range 20 { // each a message of 9 MB, some in one batch
		got, err := mine.Ask(t.Context(), other.address, []byte("abc"))
		if err != nil || len(got) != 9_000_000 {
			t.Fatalf("got %d bytes and %v, want 9 000 000", len(got), err)
		}
	}
	if _, err := mine.Ask(t.Context(), other.address, []byte("abcdef")); !errors.Is(err, ErrInvalid) {
		t.Errorf("an answer that is too large: got %v, want %v", err, ErrInvalid)
	}
	for _, failure = range []error{ErrElsewhere, ErrStarting, ErrNotFound, ErrInvalid} {
		if _, err := mine.Ask(t.Context(), other.address, nil); !errors.Is(err, failure) {
			t.Errorf("got %v, want %v", err, failure)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := mine.Ask(ctx, "127.0.0.1:1", nil); !errors.Is(err, ErrUnanswered) {
		t.Errorf("asking nobody: got %v, want %v", err, ErrUnanswered)
	}
}

func TestPing(t *testing.T) {
	of := identity(t)
	other := startRemote(t, of, nobody)
	var p Pinger
	defer p.Keep(nil)
	if err := p.Ping(t.Context(), other.address, of); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := p.Ping(t.Context(), "127.0.0.1:1", of); !errors.Is(err, ErrNobodyListens) {
		t.Errorf("ping where nobody listens: got %v, want %v", err, ErrNobodyListens)
	}
	p.Keep(nil)
	if err := p.Ping(t.Context(), other.address, identity(t)); err == nil || errors.Is(err, ErrNobodyListens) {
		t.Errorf("a member of another cluster: got %v, want a refusal", err)
	}
}

// TestStrangersAreRefused: who is no member of the cluster gets no answer.
func TestStrangersAreRefused(t *testing.T) {
	asked := make(chan struct{}, 1)
	other := startRemote(t, identity(t), func(context.Context, []byte) ([]byte, error) {
		asked <- struct{}{}
		return []byte("secret"), nil
	})
	stranger := startRemote(t, identity(t), nobody)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got, err := stranger.Ask(ctx, other.address, nil); err == nil {
		t.Errorf("a stranger got %q", got)
	}
	if len(asked) > 0 {
		t.Error("a stranger's question was answered")
	}
}
