package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetIsShared has one site take what it gets: half of all is left to another, which takes its part at once.
func TestBudgetIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		var busy []*holding
		for {
			h := b.hold("busy")
			if !h.take(10) {
				break
			}
			busy = append(busy, h)
		}
		if len(busy) != 5 {
			t.Errorf("one site got %d tenths, want 5", len(busy))
		}
		quiet := b.hold("quiet")
		if !quiet.take(30) || !quiet.take(20) {
			t.Error("another site's first request does not get what is free")
		}
		if b.hold("quiet").take(1) {
			t.Error("there is nothing left, and it was taken")
		}

		waiting := b.hold("busy")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := waiting.wait(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no room: got %v, want the deadline", err)
		}
		got := make(chan error, 1)
		go func() { got <- waiting.wait(t.Context(), 10) }()
		synctest.Wait()
		quiet.end()
		busy[0].end()
		if err := <-got; err != nil {
			t.Errorf("there is room: %v", err)
		}
		quiet.end() // gives nothing back twice
		waiting.end()
		for _, h := range busy {
			h.end()
		}
		if b.free != 100 || len(b.sites) != 0 {
			t.Errorf("%d of 100 are free at the end, %d sites hold some", b.free, len(b.sites))
		}
	})
}
