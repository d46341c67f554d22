package stream

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// TestLimits sets limits on one member: another hears of them, and one that starts later knows them.
func TestLimits(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	configured := messages.Limits{InFlight: 256 << 20, SiteUnstored: 64 << 20}
	one, other := NewLimits(configured, s.Registry(), quietLogger(t)), NewLimits(configured, s.Registry(), quietLogger(t))
	if err := one.Load(shortly(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		other.Follow(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	told := make(chan messages.Limits, 16)
	other.OnChange(func(l messages.Limits) { told <- l })
	if diff := cmp.Diff(configured, <-told); diff != "" {
		t.Error("before anything was set", diff)
	}

	want := messages.Limits{SiteUnstored: 2 << 20, Sites: map[string]int64{"a": 1 << 20}}
	if err := one.Set(shortly(t), want, 0); err != nil {
		t.Fatal(err)
	}
	merged := want.Over(configured)
	if diff := cmp.Diff(merged, <-told); diff != "" {
		t.Error("on the other member", diff)
	}
	if got := []int64{one.Unstored("a"), one.Unstored("b"), one.InForce().InFlight}; !cmp.Equal(got, []int64{1 << 20, 2 << 20, 256 << 20}) {
		t.Errorf("in force: got %v", got)
	}
	if err := other.Set(shortly(t), messages.Limits{}, 0); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("set over a revision that is not there: got %v, want conflict", err)
	}
	if err := one.Set(shortly(t), messages.Limits{InFlight: 1}, 1); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("one byte in flight: got %v, want invalid", err)
	}
	later := NewLimits(configured, s.Registry(), quietLogger(t))
	if err := later.Load(shortly(t)); err != nil {
		t.Fatal(err)
	}
	own, _, revision := later.Get()
	if diff := cmp.Diff(want, own); diff != "" || revision == 0 {
		t.Errorf("after a start: revision %d, %s", revision, diff)
	}
}
