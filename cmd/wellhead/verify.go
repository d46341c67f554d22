package main

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/internal/recording"
	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/internal/verify"
)

// checkFlags say where and how much is checked.
type checkFlags struct {
	server   string
	wait     time.Duration
	parallel int
	rollups  bool
	windows  bool
	window   int
	asJSON   bool
}

func (f *checkFlags) addTo(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	flags.DurationVar(&f.wait, "wait", time.Minute, "how long it may take until everything is stored; ends early when nothing changes any more")
	flags.IntVar(&f.parallel, "parallel", 4, "devices read at once")
	flags.BoolVar(&f.rollups, "rollups", false, "compare minutes and hours too; holds if nothing else was sent in the first and last of them")
	flags.BoolVar(&f.windows, "windows", false, "compare the devices' windows too; holds if nothing newer was sent")
	flags.IntVar(&f.window, "window-count", 60, "readings in a window")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON document on standard output")
}

func newVerifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read the archive back and compare it with what was sent",
		Long: `Reads the archive back over HTTP and compares every value, time and note with what simulate or replay
sent, given the same flags and files. Exit code 0: all is there; 1: something is missing, different or
unexpected; 3: the server could not be reached.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return wrongUse(errors.New("verify what? simulate or replay"))
		},
	}
	c.AddCommand(newVerifySimulateCommand(), newVerifyReplayCommand())
	return c
}

func newVerifySimulateCommand() *cobra.Command {
	var fleet fleetFlags
	var send sendFlags
	var check checkFlags
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Check what wellhead simulate has sent",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if fleet.start == "" {
				return wrongUse(errors.New("--start is needed: simulate prints the whole command to use"))
			}
			o, err := fleet.options(1, time.Time{})
			if err != nil {
				return wrongUse(err)
			}
			f, err := simulate.New(o)
			if err != nil {
				return wrongUse(fmt.Errorf("--%w", err))
			}
			return runVerify(c, &check, o.Site, f.Distinct(), fleetDevices(f), nil)
		},
	}
	fleet.addTo(c)
	send.addTo(c, false)
	hide(c, "rate")
	check.addTo(c)
	return c
}

// fleetDevices is what a simulated fleet has sent.
func fleetDevices(f *simulate.Fleet) iter.Seq2[verify.Device, error] {
	o := f.Options()
	return func(yield func(verify.Device, error) bool) {
		for i := range o.Devices {
			d := verify.Device{
				Name: f.Device(i), Sent: int64(o.Readings), Duplicate: f.Repeated(i), First: f.First(), Last: f.Last(),
				Readings: f.Expected(i),
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func newVerifyReplayCommand() *cobra.Command {
	var flags recordingFlags
	var send sendFlags
	var check checkFlags
	c := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Check what wellhead replay has sent",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if flags.shiftTo == "now" {
				return wrongUse(errors.New("--shift-to must be the time that replay printed, not now"))
			}
			if _, err := pace.ParseSpeed(flags.speed); err != nil {
				return wrongUse(fmt.Errorf("--speed: %w", err))
			}
			sources, _, err := flags.open(files, 0, time.Time{})
			if err != nil {
				return wrongUse(err)
			}
			shelf := recording.NewShelf(verifyMemory)
			err = runVerify(c, &check, flags.site, 0, recordedDevices(sources, shelf), sources)
			return errors.Join(err, shelf.Close())
		},
	}
	flags.addTo(c)
	send.addTo(c, false)
	hide(c, "speed")
	check.addTo(c)
	return c
}

// verifyMemory is what verify replay holds of the files in memory; what has no room goes to a temporary file.
const verifyMemory = 256 << 20

// recordedDevices is what recorded files say.
func recordedDevices(sources []*recording.Source, shelf *recording.Shelf) iter.Seq2[verify.Device, error] {
	return func(yield func(verify.Device, error) bool) {
		for _, s := range sources {
			devices, err := shelf.Load(s)
			if err != nil {
				yield(verify.Device{}, wrongUse(err))
				return
			}
			for _, d := range devices {
				first, last := d.Span()
				if !yield(verify.Device{
					Name: d.Name, Sent: int64(d.Len()), Duplicate: d.Repeated, First: first, Last: last, Readings: d.Readings(), Err: d.Err,
				}, nil) {
					return
				}
			}
		}
	}
}

// verified is what verify reports.
type verified struct {
	verify.Report
	*readFiles // of a recording
}

// runVerify compares the devices with what the server has. sources are what they are read from, if they
// were recorded.
func runVerify(c *cobra.Command, flags *checkFlags, site string, total int64, devices iter.Seq2[verify.Device, error], sources []*recording.Source) error {
	client, err := verify.NewClient(flags.server)
	if err != nil {
		return wrongUse(fmt.Errorf("--server: %w", err))
	}
	defer client.Close()
	window := 0
	if flags.windows {
		window = flags.window
	}
	shown := newProgress(c.ErrOrStderr(), "checked", total)
	report, err := verify.Run(c.Context(), devices, verify.Options{
		Client: client, Site: site, Parallel: flags.parallel, Wait: flags.wait, Rollups: flags.rollups, Window: window,
		Progress: shown.set,
	})
	shown.end()
	if err != nil {
		return err
	}
	out := verified{Report: report}
	if sources != nil {
		var stats recording.Stats
		for _, s := range sources {
			stats.Add(s.Stats)
		}
		tellOdd(c.ErrOrStderr(), stats)
		read := newReadFiles(stats)
		out.readFiles = &read
	}
	if flags.asJSON {
		err = writeJSON(c.OutOrStdout(), out)
	} else {
		if out.readFiles != nil {
			fmt.Fprintln(c.OutOrStdout(), out.readFiles)
		}
		err = report.Write(c.OutOrStdout())
	}
	if err == nil && !report.Clean() {
		return errNo
	}
	return err
}
