package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/internal/recording"
	"github.com/wellhead/wellhead/messages"
)

// recordingFlags say how recorded files are read: replay and verify replay have them in common.
type recordingFlags struct {
	site           string
	timeColumn     string
	timeFormat     string
	separator      string
	omitted        []string
	zone           string
	deviceFromName string
	deviceColumn   string
	noteColumn     string
	channels       []string
	skipColumns    []string
	badRows        string
	shiftTo        string
	speed          string
}

func (f *recordingFlags) addTo(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.site, "site", "demo", "site of the devices")
	flags.StringVar(&f.timeColumn, "time-column", "", "`COLUMN` of the event time: a name of the header line, or #1 (needed)")
	flags.StringVar(&f.timeFormat, "time-format", "", "rfc3339, unix, unix_ms or a strftime `FORMAT` (default: 2006-01-02 15:04[:05[.999999]][zone])")
	flags.StringVar(&f.separator, "separator", ",", "between fields; \\t is a tab")
	flags.StringSliceVar(&f.omitted, "omitted", nil, "`WORDS` that stand for no value, as NULL,-9999; the empty field always does")
	flags.StringVar(&f.zone, "zone", "UTC", "time zone of times without one, as Europe/Berlin")
	flags.StringVar(&f.deviceFromName, "device-from-name", "", "`PATTERN` whose first group in the file's name is the device")
	flags.StringVar(&f.deviceColumn, "device-column", "", "`COLUMN` that names the device")
	flags.StringVar(&f.noteColumn, "note-column", "", "`COLUMN` that holds notes")
	flags.StringSliceVar(&f.channels, "channels", nil, "`COLUMNS` that are channels, in this order (default: all others)")
	flags.StringSliceVar(&f.skipColumns, "skip-columns", nil, "`COLUMNS` that are no channels")
	flags.StringVar(&f.badRows, "bad-rows", "stop", "what a row that cannot be read does: stop ends the command, skip counts and reports it and goes on")
	flags.StringVar(&f.shiftTo, "shift-to", "", "move all event times so that the oldest is at `TIME`; now: so that the newest is now, or with --speed 1x the oldest")
	flags.StringVar(&f.speed, "speed", "max", "max, or a factor of the recorded speed such as 60x or 1x")
}

// options puts the flags together, without the shift.
func (f *recordingFlags) options() (recording.Options, error) {
	o := recording.Options{
		TimeColumn: f.timeColumn, TimeFormat: f.timeFormat, Omitted: f.omitted, DeviceColumn: f.deviceColumn,
		NoteColumn: f.noteColumn, Channels: f.channels, SkipColumns: f.skipColumns, SkipBad: f.badRows == "skip",
	}
	if f.badRows != "stop" && f.badRows != "skip" {
		return o, fmt.Errorf("--bad-rows %q is neither stop nor skip", f.badRows)
	}
	if err := messages.CheckName("site", f.site); err != nil {
		return o, fmt.Errorf("--site: %w", err)
	}
	if f.timeColumn == "" {
		return o, errors.New("--time-column is needed: a name of the header line, or #1")
	}
	if (f.deviceFromName == "") == (f.deviceColumn == "") {
		return o, errors.New("one of --device-from-name and --device-column is needed")
	}
	separator := f.separator
	if separator == `\t` {
		separator = "\t"
	}
	r, size := utf8.DecodeRuneInString(separator)
	if size == 0 || size != len(separator) || r == utf8.RuneError {
		return o, fmt.Errorf("--separator %q is not one character", f.separator)
	}
	o.Separator = r
	var err error
	if o.Zone, err = time.LoadLocation(f.zone); err != nil {
		return o, fmt.Errorf("--zone: %w", err)
	}
	if f.deviceFromName != "" {
		if o.DeviceFromName, err = regexp.Compile(f.deviceFromName); err != nil {
			return o, fmt.Errorf("--device-from-name: %w", err)
		}
	}
	return o, nil
}

// open opens the files, shifted as asked. It reads them once before, if they must be shifted. at is the
// event time of the oldest row after the shift, empty without one.
func (f *recordingFlags) open(files []string, speed float64, now time.Time) (sources []*recording.Source, at string, err error) {
	o, err := f.options()
	if err != nil {
		return nil, "", err
	}
	if f.shiftTo == "" {
		sources, err = recording.Open(files, o)
		return sources, "", err
	}
	if sources, err = recording.Open(files, o); err != nil {
		return nil, "", err
	}
	oldest, newest, ok, err := recording.Span(sources)
	if err != nil || !ok {
		return sources, "", err
	}
	var target int64
	if f.shiftTo == "now" {
		// what is due at the end of the replay must not lie ahead of that moment
		ahead := newest - oldest
		if speed > 0 {
			ahead -= int64(float64(ahead) / speed)
		}
		target = now.UnixMilli() - max(0, ahead)
	} else if target, err = messages.ParseTime(f.shiftTo); err != nil {
		return nil, "", fmt.Errorf("--shift-to: %w", err)
	}
	o.Shift = target - oldest
	sources, err = recording.Open(files, o)
	return sources, time.UnixMilli(target).UTC().Format("2006-01-02T15:04:05.000Z"), err
}

// verifyCommand is the command that checks what was sent.
func (f *recordingFlags) verifyCommand(server, shiftedTo string, files []string) string {
	args := []string{"wellhead", "verify", "replay", "--server", server, "--site", f.site, "--time-column", f.timeColumn}
	for _, a := range []struct{ name, value, usual string }{
		{"--time-format", f.timeFormat, ""},
		{"--separator", f.separator, ","},
		{"--zone", f.zone, "UTC"},
		{"--device-from-name", f.deviceFromName, ""},
		{"--device-column", f.deviceColumn, ""},
		{"--note-column", f.noteColumn, ""},
		{"--shift-to", shiftedTo, ""},
		{"--bad-rows", f.badRows, "stop"},
	} {
		if a.value != a.usual {
			args = append(args, a.name, a.value)
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"--omitted", f.omitted}, {"--channels", f.channels}, {"--skip-columns", f.skipColumns}} {
		for _, v := range list.values {
			args = append(args, list.name, v)
		}
	}
	return commandLine(append(append(args, "--"), files...))
}

// replayed is what replay reports.
type replayed struct {
	sending
	readFiles
}

// readFiles is what replay and verify replay report of the files they have read.
type readFiles struct {
	Files   int   `json:"files"`
	Rows    int64 `json:"rows"`
	Omitted int64 `json:"omitted"` // values
	Bad     int64 `json:"bad"`     // rows that could not be read and were skipped
	// BadRows are the first of these, each with file and line.
	BadRows []string `json:"badRows"`
	Notices []string `json:"notices"`
}

func newReadFiles(s recording.Stats) readFiles {
	return readFiles{
		Files: s.Files, Rows: s.Rows, Omitted: s.Omitted, Bad: s.Bad.Count,
		BadRows: append([]string{}, s.Bad.First...), Notices: append([]string{}, s.Notices.First...),
	}
}

// String says it in words.
func (r *readFiles) String() string {
	return fmt.Sprintf("read %s rows of %d files, %s omitted values, %s bad rows", grouped(r.Rows), r.Files, grouped(r.Omitted), grouped(r.Bad))
}

// tellOdd says on standard error what was odd in files, so that nobody overlooks what is not in the stream.
func tellOdd(w io.Writer, s recording.Stats) {
	tellRemarks(w, s.Notices)
	if s.Bad.Count > 0 {
		fmt.Fprintf(w, "SKIPPED %s rows that cannot be read; they were not sent:\n", grouped(s.Bad.Count))
		tellRemarks(w, s.Bad)
	}
}

func tellRemarks(w io.Writer, r recording.Remarks) {
	for _, remark := range r.First {
		fmt.Fprintln(w, remark)
	}
	if more := r.Count - int64(len(r.First)); more > 0 {
		fmt.Fprintf(w, "… and %s more\n", grouped(more))
	}
}

// openAtOnce is how many devices' files are open at once where order between devices does not matter.
const openAtOnce = 256

func newReplayCommand() *cobra.Command {
	var flags recordingFlags
	var send sendFlags
	c := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Publish recorded readings from CSV files",
		Long: `Publishes the rows of CSV files (plain or gzip) as readings, each acknowledged by the stream.

Devices are played side by side by event time; files of one device one after the other, in the order
given. The command that this one prints at the end checks that every row is stored.`,
		Example: `  wellhead replay --time-column timestamp --skip-columns class --device-from-name '(WELL-\d+)' wells/*.csv.gz`,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(c *cobra.Command, files []string) error { return runReplay(c, &flags, &send, files) },
	}
	flags.addTo(c)
	send.addTo(c, true)
	return c
}

func runReplay(c *cobra.Command, flags *recordingFlags, send *sendFlags, files []string) error {
	ctx := c.Context()
	p, err := pace.ParseSpeed(flags.speed)
	if err != nil {
		return wrongUse(fmt.Errorf("--speed: %w", err))
	}
	if send.batch < 1 || send.batch > messages.MaxReadings {
		return wrongUse(fmt.Errorf("--batch %d is not from 1 to %d", send.batch, messages.MaxReadings))
	}
	sources, at, err := flags.open(files, p.Speed(), time.Now())
	if err != nil {
		return wrongUse(err)
	}
	most := 0
	if p.Speed() == 0 {
		most = openAtOnce
	}
	merged, err := recording.Merge(sources, most)
	if err != nil {
		return wrongUse(err)
	}
	defer merged.Close()
	s, err := send.dial(ctx, "replay", flags.site)
	if err != nil {
		return err
	}
	defer s.close()
	out := replayed{sending: sending{Site: flags.site, Verify: flags.verifyCommand(httpOf(send.server, s.http), at, files)}}
	shown := newProgress(c.ErrOrStderr(), "sent", 0)
	begun := time.Now()
	devices := 0
	err = recording.Play(ctx, merged, recording.PlayOptions{
		Site: flags.site, Shards: s.shards, Batch: send.batch, Pace: p, Progress: shown.add, Devices: &devices,
	}, s)
	if err == nil {
		err = s.finish(ctx, begun, &out.sending)
	}
	shown.end()
	stats := merged.Stats()
	out.Devices, out.readFiles = devices, newReadFiles(stats)
	tellOdd(c.ErrOrStderr(), stats)
	if err != nil || !send.asJSON {
		if err == nil {
			fmt.Fprintln(c.OutOrStdout(), &out.readFiles)
		}
		return report(c, false, &out.sending, s, readable(err))
	}
	return writeJSON(c.OutOrStdout(), out)
}

// readable marks errors in files as wrong use: nothing is wrong with the server.
func readable(err error) error {
	var file *fs.PathError
	if errors.Is(err, recording.ErrRow) || errors.As(err, &file) {
		return wrongUse(err)
	}
	return err
}
