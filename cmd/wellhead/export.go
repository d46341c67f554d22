package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/export"
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// exportFlags say what is exported and where to.
type exportFlags struct {
	server   string
	site     string
	devices  []string
	from, to string
	format   string
	rollups  string
	channels int
	out      string
	asJSON   bool
}

func newExportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use:   "export",
		Short: "Write a site's readings or rollups into a CSV, NDJSON or Parquet file",
		Long: `Writes all readings that are stored of a site, or of some of its devices, into one file: device by
device, each in order of event time. The columns are site, device, time, c0, c1, …, note, sequence and
quality. The file appears under its name only when all of it is written: exit code 0. Exit code 3: the
server could not be reached, or broke off.`,
		Example: "  wellhead export --site demo --device pump-1 --from 2026-01-02T00:00:00Z --out pump-1.csv\n" +
			"  wellhead export --site demo --out demo.parquet\n" +
			"  wellhead export --site demo --rollups 1h --format ndjson --out -",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runExport(c, &f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	flags.StringVar(&f.site, "site", "", "site of the devices")
	flags.StringSliceVar(&f.devices, "device", nil, "only this `DEVICE`; again, or separated by commas, for more, at most 200 (default all of the site)")
	flags.StringVar(&f.from, "from", "", "event `TIME` of the first reading, RFC 3339 or Unix ms")
	flags.StringVar(&f.to, "to", "", "event `TIME` of the last reading, included")
	flags.StringVar(&f.format, "format", "", "csv, ndjson or parquet (default by the file's extension)")
	flags.StringVar(&f.rollups, "rollups", "", "minutes (1m), hours (1h) or days (1d) instead of readings")
	flags.IntVar(&f.channels, "channels", 0, "columns for values (default as many as the widest reading has, which is looked for first and takes time)")
	flags.StringVar(&f.out, "out", "", "`FILE` to write, - for standard output; one that is there is replaced")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON document on standard output at the end")
	return c
}

// options checks the flags.
func (f *exportFlags) options() (o export.Options, err error) {
	if f.site == "" || f.out == "" {
		return o, errors.New("--site and --out are needed")
	}
	if err := messages.CheckName("site", f.site); err != nil {
		return o, fmt.Errorf("--site: %w", err)
	}
	for _, d := range f.devices {
		if err := messages.CheckName("device", d); err != nil {
			return o, fmt.Errorf("--device: %w", err)
		}
	}
	var times [2]int64
	for i, flag := range []struct{ name, value string }{{"from", f.from}, {"to", f.to}} {
		if flag.value == "" {
			continue
		}
		if times[i], err = messages.ParseTime(flag.value); err != nil {
			return o, fmt.Errorf("--%s: %w", flag.name, err)
		}
	}
	if f.from != "" && f.to != "" && times[0] > times[1] {
		return o, fmt.Errorf("--from %s is later than --to %s", f.from, f.to)
	}
	if f.rollups != "" {
		if _, err := messages.ParseStep(f.rollups); err != nil {
			return o, fmt.Errorf("--rollups: %w", err)
		}
	}
	if f.channels < 0 || f.channels > messages.MaxChannels {
		return o, fmt.Errorf("--channels: %d is not from 0 to %d", f.channels, messages.MaxChannels)
	}
	format := export.Format(f.format)
	switch {
	case f.format == "" && f.out == "-":
		return o, errors.New("--out - has no extension that says the format: add --format csv, ndjson or parquet")
	case f.format == "":
		if format, err = export.FormatOf(f.out); err != nil {
			return o, fmt.Errorf("--out: %w (--format)", err)
		}
	case format != export.CSV && format != export.NDJSON && format != export.Parquet:
		return o, fmt.Errorf("--format: %q is none of csv, ndjson and parquet", f.format)
	}
	if f.out == "-" && f.asJSON {
		return o, errors.New("--out - and --json both want standard output: give the export a file")
	}
	return export.Options{
		Site: f.site, Devices: f.devices, From: f.from, To: f.to, Step: f.rollups, Channels: f.channels, Format: format,
	}, nil
}

func runExport(c *cobra.Command, f *exportFlags) error {
	o, err := f.options()
	if err != nil {
		return wrongUse(err)
	}
	if o.Client, err = verify.NewClient(f.server); err != nil {
		return wrongUse(fmt.Errorf("--server: %w", err))
	}
	defer o.Client.Close()
	if err := o.Client.Reach(c.Context()); err != nil {
		return err
	}
	shown := newProgress(c.ErrOrStderr(), "exported", 0)
	o.Progress = shown.set
	report, err := f.write(c.Context(), c.OutOrStdout(), o)
	shown.end()
	var noPlace *fs.PathError
	switch {
	case c.Context().Err() != nil:
		return errors.New("interrupted: nothing was left behind")
	case errors.Is(err, os.ErrNotExist) && errors.As(err, &noPlace):
		return wrongUse(err)
	case err != nil:
		return err
	case f.asJSON:
		return writeJSON(c.OutOrStdout(), report)
	}
	rows, what := report.Readings, "readings"
	if o.Step != "" {
		rows, what = report.Rollups, "rollups"
	}
	fmt.Fprintf(c.ErrOrStderr(), "exported %s %s of %s devices, %s bytes in %.1f s (%s/s)\n", grouped(rows), what,
		grouped(int64(report.Devices)), grouped(report.Bytes), report.Seconds, grouped(int64(report.Rate)))
	return nil
}

func (f *exportFlags) write(ctx context.Context, stdout io.Writer, o export.Options) (export.Report, error) {
	if f.out == "-" {
		return export.To(ctx, stdout, o)
	}
	return export.ToFile(ctx, f.out, o)
}
