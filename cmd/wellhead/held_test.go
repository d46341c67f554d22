package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Variables of the environment of a held member.
const (
	heldRate = "HELD_READINGS_PER_SECOND"
	heldFor  = "HELD_FOR" // a duration from the first reading on; the archive is stopped from half of it to seven tenths
)

// serveHeld is `wellhead serve` with an archive that is held: the member of TestOverload.
func serveHeld() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runHeld(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runHeld(ctx context.Context, out io.Writer) error {
	rate, err := strconv.Atoi(os.Getenv(heldRate))
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(os.Getenv(heldFor))
	if err != nil {
		return err
	}
	c := newServeCommand()
	if err := c.ParseFlags(os.Args[1:]); err != nil {
		return err
	}
	cfg, err := config.Load("", os.Environ(), given(c.Flags()))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := openNodeOn(ctx, cfg, log, wiring{archive: func(a persistence.Archive) persistence.Archive {
		return &heldArchive{Archive: a, rate: rate, length: length}
	}})
	if err != nil {
		return err
	}
	go telemetry.TuneGarbage(ctx) // as serve does
	printAddresses(out, n)
	<-ctx.Done()
	n.close()
	return nil
}

// heldArchive takes rate readings a second for length, and nothing from half of that time to seven tenths.
type heldArchive struct {
	persistence.Archive
	rate   int
	length time.Duration

	mu    sync.Mutex
	begun time.Time // first readings; zero before
	next  time.Time // when the next readings may come
}

var errHeld = errors.New("the archive is stopped")

// stopped tells whether the archive is, and whether it is not held any more.
func (h *heldArchive) stopped() (stopped, over bool) {
	if h.begun.IsZero() {
		return false, false
	}
	at := time.Since(h.begun)
	return at > h.length/2 && at < h.length*7/10, at >= h.length
}

// turn takes the next place of n readings and says when it is.
func (h *heldArchive) turn(n int) (time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stopped, over := h.stopped()
	if stopped {
		return time.Time{}, errHeld
	}
	now := time.Now()
	if n == 0 || over {
		return now, nil
	}
	if h.begun.IsZero() {
		h.begun = now
	}
	if h.next.Before(now) {
		h.next = now
	}
	if h.next.After(now.Add(20 * time.Second)) {
		return time.Time{}, errHeld // it could not be done in the time that is given
	}
	h.next = h.next.Add(time.Duration(n) * time.Second / time.Duration(h.rate))
	return h.next, nil
}

// heldAtOnce is about how many readings of an Append wait for their turn together.
const heldAtOnce = 500

// Append takes its devices part by part, as a slow store does: when the time is up some are stored.
func (h *heldArchive) Append(ctx context.Context, b *persistence.Batch) error {
	var failed error
	for from := 0; from < len(b.Devices); {
		to, n := from, 0
		for to < len(b.Devices) && n < heldAtOnce {
			n += len(b.Devices[to].Rows)
			to++
		}
		part := persistence.Batch{Shard: b.Shard, Devices: b.Devices[from:to]}
		if err := h.wait(ctx, n); err == nil {
			failed = errors.Join(failed, h.Archive.Append(ctx, &part))
		} else {
			failed = err
			for i := range part.Devices {
				part.Devices[i].Err = err
			}
		}
		from = to
	}
	return failed
}

// wait waits for the turn of n readings.
func (h *heldArchive) wait(ctx context.Context, n int) error {
	at, err := h.turn(n)
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(at)):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *heldArchive) Scan(ctx context.Context, shard messages.Shard, id messages.DeviceID, r persistence.Range, fn func(*persistence.Row) bool) error {
	if _, err := h.turn(0); err != nil {
		return err
	}
	return h.Archive.Scan(ctx, shard, id, r, fn)
}

func (h *heldArchive) Ping(ctx context.Context) error {
	if _, err := h.turn(0); err != nil {
		return err
	}
	return h.Archive.Ping(ctx)
}
