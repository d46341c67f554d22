package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/messages"
)

// fleetFlags say which fleet is simulated: simulate and verify simulate have them in common.
type fleetFlags struct {
	site       string
	devices    int
	interval   time.Duration
	channels   int
	seed       uint64
	readings   int
	duration   time.Duration
	start      string
	rate       string
	outOfOrder float64
	duplicates float64
	omitted    float64
}

func (f *fleetFlags) addTo(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.site, "site", "demo", "site of the devices")
	flags.IntVar(&f.devices, "devices", 1000, "number of devices, dev-000001 and so on")
	flags.DurationVar(&f.interval, "interval", time.Second, "time between two readings of a device")
	flags.IntVar(&f.channels, "channels", 4, "values in a reading; the first is a sine")
	flags.Uint64Var(&f.seed, "seed", 1, "another seed makes other readings")
	flags.IntVar(&f.readings, "readings", 0, "readings of each device")
	flags.DurationVar(&f.duration, "duration", 0, "instead of --readings: event time from first to last reading (default 1m0s)")
	flags.StringVar(&f.start, "start", "", "event `TIME` of the first readings, RFC 3339 or Unix ms (default so that the last one is now, or with --rate real the first)")
	flags.StringVar(&f.rate, "rate", "real", "how fast: real, max, or readings a second such as 5000/s")
	flags.Float64Var(&f.outOfOrder, "out-of-order", 0.01, "share of readings sent 1-8 intervals late")
	flags.Float64Var(&f.duplicates, "duplicates", 0.01, "share of readings sent again, half of them corrected")
	flags.Float64Var(&f.omitted, "omitted", 0.05, "share of omitted values")
	c.MarkFlagsMutuallyExclusive("readings", "duration")
}

// options puts the flags together. now decides where a fleet without --start begins.
func (f *fleetFlags) options(batch int, now time.Time) (simulate.Options, error) {
	o := simulate.Options{
		Site: f.site, Devices: f.devices, Interval: f.interval, Channels: f.channels, Seed: f.seed,
		Readings: f.readings, OutOfOrder: f.outOfOrder, Duplicates: f.duplicates, Omitted: f.omitted,
		Batch: batch, Gather: f.rate != "real",
	}
	if f.interval < time.Millisecond {
		return o, fmt.Errorf("--interval %v is shorter than a millisecond", f.interval)
	}
	if f.readings == 0 {
		duration := f.duration
		if duration == 0 {
			duration = time.Minute
		}
		o.Readings = int((duration + f.interval - 1) / f.interval)
	}
	if f.start != "" {
		ms, err := messages.ParseTime(f.start)
		if err != nil {
			return o, fmt.Errorf("--start: %w", err)
		}
		o.Start = time.UnixMilli(ms).UTC()
		return o, nil
	}
	o.Start = now.UTC().Truncate(f.interval).Truncate(time.Millisecond)
	if f.rate != "real" {
		// nothing may lie in the future: the server refuses what is far ahead of its arrival
		o.Start = o.Start.Add(-time.Duration(o.Readings-1) * f.interval)
	}
	return o, nil
}

// verifyCommand is the command that checks what was sent.
func (f *fleetFlags) verifyCommand(server string, o *simulate.Options) string {
	return commandLine([]string{
		"wellhead", "verify", "simulate", "--server", server, "--site", o.Site, "--devices", strconv.Itoa(o.Devices),
		"--interval", o.Interval.String(), "--channels", strconv.Itoa(o.Channels), "--seed", strconv.FormatUint(o.Seed, 10),
		"--readings", strconv.Itoa(o.Readings), "--start", o.Start.Format(time.RFC3339Nano), "--out-of-order", float(o.OutOfOrder),
		"--duplicates", float(o.Duplicates), "--omitted", float(o.Omitted),
	})
}

func newSimulateCommand() *cobra.Command {
	var fleet fleetFlags
	var send sendFlags
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Publish the readings of a fleet that does not exist",
		Long: `Publishes the readings of simulated devices, each acknowledged by the stream.

Every reading can be computed from the flags alone: the command that this one prints at the end checks
that all of them are stored. A server that goes away is waited for, and what it has not acknowledged
is sent again.`,
		Example: "  wellhead simulate --devices 10000 --duration 1h --rate max",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runSimulate(c, &fleet, &send) },
	}
	fleet.addTo(c)
	send.addTo(c, true)
	return c
}

func runSimulate(c *cobra.Command, flags *fleetFlags, send *sendFlags) error {
	ctx := c.Context()
	p, err := pace.ParseRate(flags.rate)
	if err != nil {
		return wrongUse(fmt.Errorf("--rate: %w", err))
	}
	o, err := flags.options(send.batch, time.Now())
	if err != nil {
		return wrongUse(err)
	}
	fleet, err := simulate.New(o)
	if err != nil {
		return wrongUse(fmt.Errorf("--%w", err))
	}
	s, err := send.dial(ctx, "simulate", o.Site)
	if err != nil {
		return err
	}
	defer s.close()
	out := sending{Site: o.Site, Devices: o.Devices, Verify: flags.verifyCommand(httpOf(send.server, s.http), &o)}
	shown := newProgress(c.ErrOrStderr(), "sent", fleet.Distinct())
	begun := time.Now()
	err = fleet.Publish(ctx, s.shards, p, s, shown.add)
	if err == nil {
		err = s.finish(ctx, begun, &out)
	}
	shown.end()
	return report(c, send.asJSON, &out, s, err)
}

// report prints what was sent, or how far sending came.
func report(c *cobra.Command, asJSON bool, out *sending, s *sender, err error) error {
	if err != nil {
		what := "stopped"
		if ctx := c.Context(); ctx.Err() != nil {
			what, err = "interrupted", errors.New("not everything was sent")
		}
		return fmt.Errorf("%s after %s readings were sent and %s acknowledged: %w", what, grouped(s.sent), grouped(s.acknowledged), err)
	}
	if asJSON {
		return writeJSON(c.OutOrStdout(), out)
	}
	_, err = fmt.Fprint(c.OutOrStdout(), out.say())
	return err
}
