// Package verify reads a server's archive back over HTTP and compares it with what was sent: every
// reading of every device, value by value, by bits.
//
// What it guarantees: a clean report means that each (device, event time) that was sent is stored with
// exactly the values and note that were sent last, and that nothing else is stored between a device's
// first and last reading. It shares no state with the server and takes nothing on trust but HTTP.
// It holds one page of readings a device in memory; the expected readings come as a stream.
package verify

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// Device is what was sent of one device.
type Device struct {
	Name string
	// Sent is the number of distinct event times, from First to Last.
	Sent        int64
	First, Last int64
	Duplicate   int64 // readings sent again with an event time that was sent before
	// Readings yields them in order of event time, each with what was sent last. It is called again
	// when a device is looked at again. A reading is valid only until the next one.
	Readings iter.Seq[messages.Reading]
	// Err, asked after Readings, says why they ended early; nil = they never do.
	Err func() error
}

// Options say what is compared with what.
type Options struct {
	Client *Client
	Site   string
	// Parallel is how many devices are read at once; default 4.
	Parallel int
	// Wait is how long it may take until everything is there; 0 = it must be there now. Waiting ends
	// early when nothing has changed for Quiet.
	Wait time.Duration
	// Quiet is how long without any change ends the waiting; default 10 s.
	Quiet time.Duration
	// Rollups also compares minutes and hours. They hold only if nothing but what was sent is in the
	// first and the last minute and hour of each device.
	Rollups bool
	// Window also compares each device's window, which should hold its newest so many readings; 0 = not.
	Window int
	// Progress is called now and then with the number of readings looked at; nil = nobody wants to know.
	Progress func(checked int64)
}

// Run compares all devices. The report is complete unless an error is returned: ErrUnreachable when the
// server cannot be reached, or what reading the expected devices brought.
func Run(ctx context.Context, devices iter.Seq2[Device, error], o Options) (Report, error) {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Quiet <= 0 {
		o.Quiet = 10 * time.Second
	}
	begun := time.Now()
	if err := o.Client.Reach(ctx); err != nil {
		return Report{}, err
	}
	run := &run{options: o}
	total, wrong, err := run.round(ctx, devices)
	if err != nil {
		return total, err
	}
	run.options.Progress = nil // what is looked at again is no progress
	total, err = run.wait(ctx, total, wrong, begun.Add(o.Wait))
	if total.Differences == nil {
		total.Differences = []string{}
	}
	total.Seconds = time.Since(begun).Seconds()
	if total.Seconds > 0 {
		total.Rate = float64(total.Checked) / total.Seconds
	}
	return total, err
}

// shortestPause lies between two looks at what is not right yet.
const shortestPause = 100 * time.Millisecond

// run is one comparison.
type run struct {
	options Options
	// checked counts for Progress.
	mu      sync.Mutex
	checked int64
}

// outcome is one device with what was found.
type outcome struct {
	device Device
	report Report
}

// round looks at all devices once. It returns the sum of those that are right, and the others.
func (r *run) round(ctx context.Context, devices iter.Seq2[Device, error]) (right Report, wrong []outcome, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan Device)
	var workers sync.WaitGroup
	var mu sync.Mutex // guards right and wrong
	for range r.options.Parallel {
		workers.Go(func() {
			c := comparison{run: r}
			for d := range queue {
				report, err := c.device(ctx, d)
				if err != nil {
					cancel(fmt.Errorf("device %s: %w", d.Name, err))
					continue
				}
				mu.Lock()
				if report.Clean() {
					right.add(report)
				} else {
					wrong = append(wrong, outcome{d, report})
				}
				mu.Unlock()
			}
		})
	}
	for d, err := range devices {
		if err != nil {
			cancel(err)
		}
		select {
		case queue <- d:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		return right, wrong, context.Cause(ctx)
	}
	return right, wrong, nil
}

// wait looks again at what is not right until it is, time is up, or nothing changes any more.
func (r *run) wait(ctx context.Context, total Report, wrong []outcome, deadline time.Time) (Report, error) {
	pause := shortestPause
	changed := time.Now()
	for len(wrong) > 0 && time.Now().Before(deadline) && time.Since(changed) < r.options.Quiet {
		select {
		case <-time.After(min(pause, time.Until(deadline))):
		case <-ctx.Done():
			return total, ctx.Err()
		}
		before, looked := sum(wrong), time.Now()
		right, still, err := r.round(ctx, func(yield func(Device, error) bool) {
			for _, w := range wrong {
				if !yield(w.device, nil) {
					return
				}
			}
		})
		if err != nil {
			return total, err
		}
		total.add(right)
		// at most half of the time is spent looking, and small sets are not kept waiting
		pause = min(max(time.Since(looked), shortestPause), 2*time.Second)
		if after := sum(still); len(still) != len(wrong) || after.counts() != before.counts() {
			changed = time.Now()
		}
		wrong = still
	}
	total.add(sum(wrong))
	return total, nil
}

func sum(list []outcome) Report {
	var total Report
	for _, o := range list {
		total.add(o.report)
	}
	return total
}

// progress adds to what Progress is told.
func (r *run) progress(n int64) {
	if r.options.Progress == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked += n
	r.options.Progress(r.checked)
}
