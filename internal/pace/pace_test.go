package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "fast", "5", "0/s", "-1/s", "NaN/s", "inf/s"} {
		if _, err := ParseRate(bad); err == nil {
			t.Errorf("rate %q: got no error", bad)
		}
	}
	for _, bad := range []string{"", "real", "60", "0x", "x"} {
		if _, err := ParseSpeed(bad); err == nil {
			t.Errorf("speed %q: got no error", bad)
		}
	}
}

func parse(t *testing.T, fn func(string) (*Pace, error), s string) *Pace {
	t.Helper()
	p, err := fn(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		name string
		pace *Pace
		want time.Duration
	}{
		{"max", parse(t, ParseRate, "max"), 0},
		{"real", parse(t, ParseRate, "real"), 99 * time.Second},
		{"60x", parse(t, ParseSpeed, "60x"), 1650 * time.Millisecond},
		{"5 a second", parse(t, ParseRate, "5/s"), 198 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				for i := range int64(100) {
					if err := c.pace.Wait(t.Context(), 1_000_000+i*1000); err != nil {
						t.Fatal(err)
					}
					c.pace.Sent(10)
				}
				if got := time.Since(begun); (got - c.want).Abs() > 2*time.Millisecond {
					t.Errorf("100 seconds of 10 readings took %v, want %v", got, c.want)
				}
			})
		})
	}
}

// TestCatchesUp makes sure that after a stall the average is kept.
func TestCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := parse(t, ParseRate, "real")
		begun := time.Now()
		for i := range int64(20) {
			if err := p.Wait(t.Context(), i*1000); err != nil {
				t.Fatal(err)
			}
			if i == 3 {
				time.Sleep(10 * time.Second) // the stall
			}
		}
		if got := time.Since(begun); got != 19*time.Second {
			t.Errorf("got %v, want 19s", got)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := parse(t, ParseRate, "real")
		p.StartAt(0, time.Now())
		if err := p.Wait(ctx, 5000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that time is up", err)
		}
	})
}
