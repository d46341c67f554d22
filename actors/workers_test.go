package actors

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestWorkersStay holds that work after work is one goroutine's, that much at once finds as many as it needs, and that
// none stays beyond the end: the bubble waits for all.
func TestWorkersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		w := newWorkers(done)
		var ran atomic.Int32
		for range 100 {
			w.Schedule(func() { ran.Add(1) })
			synctest.Wait()
		}
		if ran.Load() != 100 || w.idle.Load() != 1 {
			t.Errorf("%d of 100 were done, and %d goroutines stay; want 1", ran.Load(), w.idle.Load())
		}
		held := make(chan struct{})
		for range mostIdle + 10 {
			w.Schedule(func() {
				<-held
				ran.Add(1)
			})
		}
		synctest.Wait()
		close(held)
		synctest.Wait()
		if ran.Load() != 110+mostIdle || w.idle.Load() != mostIdle {
			t.Errorf("%d of %d were done, and %d goroutines stay; want %d", ran.Load(), 110+mostIdle, w.idle.Load(), mostIdle)
		}
		close(done)
		synctest.Wait()
		w.Schedule(func() { ran.Add(1) })
		if synctest.Wait(); ran.Load() != 111+mostIdle {
			t.Error("what came after the end was not done")
		}
	})
}
