package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/stream"
)

// demoSite is the site of the demo's simulated devices.
const demoSite = "demo"

// newDemoCommand makes `wellhead demo`.
func newDemoCommand() *cobra.Command {
	devices := 1000
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a member with a simulated fleet, and show what happens",
		Long: "Run a member with 1 000 simulated devices of site `demo`, open to this machine without credentials.\n" +
			"An address in use is replaced by the next free one. Ctrl-C ends it; the data stays in --data.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			flags := given(c.Flags())
			delete(flags, "devices")
			cfg, err := config.Load("", os.Environ(), flags)
			if err != nil {
				return wrongUse(err)
			}
			if devices < 1 {
				return wrongUse(errors.New("--devices must be at least 1"))
			}
			return demo(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), cfg, devices)
		},
	}
	serveFlags(c.Flags())
	c.Flags().IntVar(&devices, "devices", devices, "simulated devices, each with 4 channels and a reading a second")
	return c
}

func demo(ctx context.Context, out, errs io.Writer, cfg *config.Config, devices int) error {
	log, err := telemetry.NewLogger(errs, cfg.Log.Format, "warn")
	if err != nil {
		return wrongUse(err)
	}
	for _, address := range []*string{&cfg.HTTP, &cfg.NATS, &cfg.MQTT} {
		*address = freeAddress(*address)
	}
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return explain(err)
	}
	defer n.close()
	printAddresses(out, n)
	fmt.Fprintf(out, "\nopen %s in a browser; Ctrl-C ends\n\n", n.pageURL())
	client, err := n.streams.Client("demo")
	if err != nil {
		return err
	}
	defer client.Close()
	publisher, err := client.NewPublisher(stream.PublisherOptions{Producer: "demo"})
	if err != nil {
		return err
	}
	defer publisher.Close()
	done := make(chan error, 1)
	go func() { done <- playFleet(ctx, publisher, cfg.Shards, devices) }()
	n.showCounters(ctx, errs)
	if err := <-done; err != nil && ctx.Err() == nil {
		return fmt.Errorf("the simulated fleet: %w", err)
	}
	return nil
}

// demoReadings is how many readings each device of the demo sends: three years, one a second.
const demoReadings = 100_000_000

// playFleet publishes the demo's fleet until ctx ends.
func playFleet(ctx context.Context, p *stream.Publisher, shards, devices int) error {
	fleet, err := simulate.New(simulate.Options{
		Site: demoSite, Devices: devices, Interval: time.Second, Channels: 4, Seed: 1,
		Start: time.Now().Truncate(time.Second), Readings: demoReadings, Batch: 100,
		OutOfOrder: 0.01, Duplicates: 0.01, Omitted: 0.05,
	})
	if err != nil {
		return err
	}
	speed, err := pace.ParseRate("real")
	if err != nil {
		return err
	}
	return fleet.Publish(ctx, shards, speed, p, func(int) {})
}

// freeAddress returns the address, or the next one whose port is free. Port 0 and off stay.
func freeAddress(address string) string {
	host, text, err := net.SplitHostPort(address)
	port, perr := strconv.Atoi(text)
	if err != nil || perr != nil || port == 0 {
		return address
	}
	for next := port; next < port+100 && next < 65536; next++ {
		candidate := net.JoinHostPort(host, strconv.Itoa(next))
		l, err := net.Listen("tcp", candidate)
		if err == nil {
			_ = l.Close()
			return candidate
		}
	}
	return address
}

// showCounters shows a line of counters until ctx ends: on a terminal one that changes, elsewhere one
// every ten seconds.
func (n *node) showCounters(ctx context.Context, w io.Writer) {
	every, end := 10*time.Second, "\n"
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			every, end = time.Second, "\r"
		}
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before uint64 // 0 = not known yet
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(w)
			return
		case <-ticker.C:
		}
		asking, cancel := context.WithTimeout(ctx, figuresDeadline)
		t, err := n.totals(asking)
		cancel()
		if err != nil {
			continue
		}
		if before == 0 {
			before = t.Readings
		}
		rate := float64(t.Readings-min(before, t.Readings)) / every.Seconds()
		before = t.Readings
		fmt.Fprintf(w, "%d devices, %d online, %d readings, %.0f readings/s, %d KiB not yet stored   %s",
			t.Devices, t.Online, t.Readings, rate, n.unstored()>>10, end)
	}
}
