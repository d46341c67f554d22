// Package pace holds publishers back: to the speed at which readings were, or would have been, made, or
// to so many readings a second. It never sleeps away a debt: after a stall it catches up.
package pace

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Pace says when to send. It is used by one goroutine. The zero Pace never waits.
type Pace struct {
	speed   float64 // event time over time; 0 = not by event time
	rate    float64 // readings a second; 0 = not by count
	started bool
	start   time.Time
	first   int64 // event time at start, ms
	sent    float64
}

// ParseRate reads real, max, or a number of readings a second such as 5000/s.
func ParseRate(s string) (*Pace, error) {
	switch s {
	case "max":
		return &Pace{}, nil
	case "real":
		return &Pace{speed: 1}, nil
	}
	number, ok := strings.CutSuffix(s, "/s")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n > 0) || math.IsInf(n, 0) {
		return nil, fmt.Errorf("rate %q is none of real, max, or readings a second such as 5000/s", s)
	}
	return &Pace{rate: n}, nil
}

// ParseSpeed reads max, or a factor of the recorded speed such as 1x or 60x.
func ParseSpeed(s string) (*Pace, error) {
	if s == "max" {
		return &Pace{}, nil
	}
	number, ok := strings.CutSuffix(s, "x")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n > 0) || math.IsInf(n, 0) {
		return nil, fmt.Errorf("speed %q is neither max nor a factor such as 1x or 60x", s)
	}
	return &Pace{speed: n}, nil
}

// Speed is how many seconds of event time pass in a second; 0 = as fast as possible, or by count.
func (p *Pace) Speed() float64 { return p.speed }

// StartAt makes an event time due at a moment, for paces that go by event time. Without it what is sent
// first is due at once.
func (p *Pace) StartAt(first int64, moment time.Time) {
	p.first, p.start, p.started = first, moment, true
}

// Left returns how long to wait before readings with that event time (ms) are sent; zero or less: now.
func (p *Pace) Left(due int64, now time.Time) time.Duration {
	if p.speed == 0 && p.rate == 0 {
		return 0
	}
	if !p.started {
		p.StartAt(due, now)
	}
	since := float64(now.Sub(p.start))
	if p.rate > 0 {
		return time.Duration(p.sent/p.rate*float64(time.Second) - since)
	}
	return time.Duration(float64(due-p.first)*float64(time.Millisecond)/p.speed - since)
}

// Sent counts readings that were sent, for paces that go by count.
func (p *Pace) Sent(readings int) { p.sent += float64(readings) }

// Wait waits until readings with that event time are due.
func (p *Pace) Wait(ctx context.Context, due int64) error {
	left := p.Left(due, time.Now())
	// timers are not finer than that, and the debt is kept
	if left < time.Millisecond {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
