package actors

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// TestCreditCharge charges a shard more than there is: the others keep what each owns, and nobody gets more
// until it came back.
func TestCreditCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewCredit(2*MinPull+8*MinPull, 2)
		acquire := func(shard int) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return k.Acquire(ctx, messages.Shard(shard), MinPull, nil)
		}
		if err := acquire(0); err != nil {
			t.Fatal(err)
		}
		k.Charge(0, 9*MinPull)
		if got := k.InFlight(); got != 10*MinPull {
			t.Errorf("%d bytes are in flight, want %d", got, 10*MinPull)
		}
		if err := acquire(1); err != nil {
			t.Errorf("another shard's own: %v", err)
		}
		for shard := range 2 {
			if err := acquire(shard); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("shard %d: got %v, want the deadline", shard, err)
			}
		}
		k.Release(0, 8*MinPull)
		if err := acquire(1); err != nil {
			t.Errorf("after it came back: %v", err)
		}
	})
}

// TestCreditLimitChanges narrows and widens the limit while somebody waits.
func TestCreditLimitChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewCredit(MinPull, 1)
		if err := k.Acquire(t.Context(), 0, MinPull, nil); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() { got <- k.Acquire(t.Context(), 0, MinPull, nil) }()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("more than the limit was given out")
		default:
		}
		k.SetLimit(5 * MinPull)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		k.SetLimit(MinPull)
		k.Release(0, MinPull)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := k.Acquire(ctx, 0, MinPull, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("above the narrower limit: got %v, want the deadline", err)
		}
	})
}

// TestCreditOfWaitingPulls has what a pull only waits with not count as in flight.
func TestCreditOfWaitingPulls(t *testing.T) {
	k := NewCredit(2*MinPull, 1)
	if err := k.Acquire(t.Context(), 0, MinPull, nil); err != nil {
		t.Fatal(err)
	}
	k.pulling(MinPull)
	if got := k.InFlight(); got != 0 {
		t.Errorf("%d bytes are in flight while a pull waits, want 0", got)
	}
	k.pulling(-MinPull)
	k.Release(0, MinPull-100)
	if got := k.InFlight(); got != 100 {
		t.Errorf("%d bytes are in flight, want 100", got)
	}
}
