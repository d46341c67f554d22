// Package export brings readings or rollups of a site out of a member into a file: CSV, NDJSON or Parquet.
//
// It reads the member's compact form (messages.ExportFrames) as it comes and never holds more than one
// frame of it and one row group of Parquet. An export that is not whole leaves no file under the final
// name. It does not follow what is stored after a device was read.
package export

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// Format is a form of file.
type Format string

// The forms of files.
const (
	CSV     Format = "csv"
	NDJSON  Format = "ndjson"
	Parquet Format = "parquet"
)

// FormatOf returns the form that a file's name asks for by its extension.
func FormatOf(name string) (Format, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".csv":
		return CSV, nil
	case ".ndjson", ".jsonl":
		return NDJSON, nil
	case ".parquet":
		return Parquet, nil
	}
	return "", fmt.Errorf("%s ends in none of .csv, .ndjson, .jsonl and .parquet: say which format it shall have", name)
}

// Options say what is exported and where to.
type Options struct {
	Client   *verify.Client
	Site     string
	Devices  []string // empty = all of the site
	From, To string   // RFC 3339 or Unix milliseconds, both included; empty = no limit
	Step     string   // rollups of 1m, 1h or 1d; empty = readings
	Channels int      // columns for values, at least as the newest readings have; 0 = as the widest row has
	Format   Format
	Progress func(rows int64) // told now and then; may be nil
}

// Report says what was exported.
type Report struct {
	Site     string  `json:"site"`
	Format   Format  `json:"format"`
	File     string  `json:"file,omitempty"`
	Devices  int     `json:"devices"`
	Readings int64   `json:"readings"`
	Rollups  int64   `json:"rollups,omitempty"`
	Bytes    int64   `json:"bytes"` // written
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"readingsPerSecond"` // readings or rollups in a second
}

// ErrFile marks errors of the file that is written.
var ErrFile = errors.New("cannot write")

// sink takes the rows of an export in one form.
type sink interface {
	head(h messages.ExportHead) error
	readings(device string, rows []messages.Sample) error
	rollups(device string, rows []messages.Rollup) error
	close(e messages.ExportEnd) error
}

// ToFile exports into a file of that name, which is replaced if it is there, and only when all has been written.
func ToFile(ctx context.Context, name string, o Options) (_ Report, err error) {
	file, err := os.OpenFile(name+".part-"+rand.Text()[:8], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return Report{}, fmt.Errorf("%w %s: %w", ErrFile, name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	report, err := To(ctx, file, o)
	if err == nil {
		err = fileError(name, file.Sync())
	}
	if closed := file.Close(); err == nil {
		err = fileError(name, closed)
	}
	if err == nil {
		err = fileError(name, os.Rename(file.Name(), name))
	}
	report.File = name
	return report, err
}

func fileError(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w %s: %w", ErrFile, name, err)
}

// To exports into w. On an error what was written is not whole.
func To(ctx context.Context, w io.Writer, o Options) (Report, error) {
	begun := time.Now()
	report := Report{Site: o.Site, Format: o.Format}
	body, err := o.Client.Stream(ctx, "/sites/"+url.PathEscape(o.Site)+"/export", o.query(), messages.TypeExport)
	if err != nil {
		return report, err
	}
	defer body.Close()
	counted := &counter{w: w}
	out, err := newSink(counted, o)
	if err != nil {
		return report, err
	}
	end, err := copyParts(messages.NewExportReader(body), out, o.Progress)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return report, ctx.Err()
		case counted.err == nil && errors.Is(err, messages.ErrBrokenOff):
			return report, fmt.Errorf("%w: %w", verify.ErrUnreachable, err)
		}
		return report, err
	}
	report.Devices, report.Bytes, report.Seconds = end.Devices, counted.bytes, time.Since(begun).Seconds()
	if report.Readings = end.Rows; o.Step != "" {
		report.Readings, report.Rollups = 0, end.Rows
	}
	report.Rate = float64(end.Rows) / max(report.Seconds, 1e-3)
	return report, nil
}

func (o *Options) query() url.Values {
	q := url.Values{"format": {"frames"}}
	for name, value := range map[string]string{"from": o.From, "to": o.To, "step": o.Step, "device": strings.Join(o.Devices, ",")} {
		if value != "" {
			q.Set(name, value)
		}
	}
	channels := o.Channels
	if o.Format == NDJSON {
		channels = messages.MaxChannels // it has no columns: nothing need be looked for
	}
	if channels > 0 {
		q.Set("channels", strconv.Itoa(channels))
	}
	return q
}

// copyParts hands all parts on and checks that there are as many rows as the end says.
func copyParts(r *messages.ExportReader, out sink, progress func(int64)) (messages.ExportEnd, error) {
	var rows int64
	for {
		part, err := r.Next()
		if err != nil {
			return messages.ExportEnd{}, err
		}
		switch {
		case part.Head != nil:
			err = out.head(*part.Head)
		case part.Readings != nil:
			rows += int64(len(part.Readings))
			err = out.readings(part.Device, part.Readings)
		case part.Rollups != nil:
			rows += int64(len(part.Rollups))
			err = out.rollups(part.Device, part.Rollups)
		case part.End != nil:
			if part.End.Rows != rows {
				return *part.End, fmt.Errorf("%w: %d rows came, and %d were sent", messages.ErrBrokenOff, rows, part.End.Rows)
			}
			return *part.End, out.close(*part.End)
		}
		if err != nil {
			return messages.ExportEnd{}, err
		}
		if progress != nil {
			progress(rows)
		}
	}
}

func newSink(w io.Writer, o Options) (sink, error) {
	switch o.Format {
	case CSV:
		return &textSink{w: bufio.NewWriterSize(w, 256<<10), form: &messages.ExportCSV{}}, nil
	case NDJSON:
		return &textSink{w: bufio.NewWriterSize(w, 256<<10), form: &messages.ExportNDJSON{Bare: true}}, nil
	case Parquet:
		return &parquetSink{w: w}, nil
	}
	return nil, fmt.Errorf("%w: format %q is none of csv, ndjson and parquet", messages.ErrInvalid, o.Format)
}

// textSink writes a form of messages.
type textSink struct {
	w    *bufio.Writer
	form messages.ExportForm
	buf  []byte
}

func (s *textSink) write(b []byte, err error) error {
	s.buf = b[:0]
	if err != nil {
		return err
	}
	_, err = s.w.Write(b)
	return err
}

func (s *textSink) head(h messages.ExportHead) error {
	return s.write(s.form.AppendHead(s.buf, h), nil)
}

func (s *textSink) readings(device string, rows []messages.Sample) error {
	return s.write(s.form.AppendReadings(s.buf, device, rows))
}

func (s *textSink) rollups(device string, rows []messages.Rollup) error {
	return s.write(s.form.AppendRollups(s.buf, device, rows))
}

func (s *textSink) close(e messages.ExportEnd) error {
	if err := s.write(s.form.AppendEnd(s.buf, e), nil); err != nil {
		return err
	}
	return s.w.Flush()
}

// counter counts what is written and marks its errors.
type counter struct {
	w     io.Writer
	bytes int64
	err   error
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.bytes += int64(n)
	if err != nil {
		c.err = fmt.Errorf("%w the export: %w", ErrFile, err)
		err = c.err
	}
	return n, err
}
