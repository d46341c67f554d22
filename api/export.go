package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wellhead/wellhead/messages"
)

const (
	// exportTrailer says, after an export's last byte, that it is whole and what was in it.
	exportTrailer = "Wellhead-Export"
	// pageReadings and pageBytes bound what one look into the archive brings into memory; the archive is
	// let go of before any of it is sent.
	pageReadings = 10_000
	pageBytes    = 1 << 20
	// widthReadings is how many readings one look into the archive goes through for their number of values.
	widthReadings = 50_000
	// pageRollups is the same for rollups: 64 channels take 3.5 kB each.
	pageRollups = 500
	// sendAt is how much of an export is gathered before it is sent.
	sendAt = 256 << 10
	// pieceBytes is what a reader must take within writeTimeout: 2 kB/s.
	pieceBytes = 64 << 10
	// aliveAfter is how long an export in frames is silent at most.
	aliveAfter = 10 * time.Second
)

type exportInput struct {
	Site     string   `path:"site" doc:"Name of the site." example:"demo"`
	Device   []string `query:"device" doc:"Only these devices, separated by commas, at most 200. Left out: all of the site."`
	From     string   `query:"from" doc:"Event time, RFC 3339 or Unix milliseconds. Left out: the beginning." example:"2026-01-02T03:04:05Z"`
	To       string   `query:"to" doc:"Event time, RFC 3339 or Unix milliseconds, included. Left out: no end."`
	Step     string   `query:"step" enum:"1m,1h,1d" doc:"Rollups of this length instead of readings."`
	Format   string   `query:"format" enum:"ndjson,csv,frames" default:"ndjson" doc:"frames: the compact form that wellhead export reads."`
	Channels int      `query:"channels" minimum:"0" maximum:"64" doc:"Columns for values. Left out: as many as the widest reading of the export has, which is looked for first. csv and frames only."`
}

// addExport registers exports.
func (s *server) addExport() {
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	huma.Register(s.api, huma.Operation{
		OperationID: "export", Method: http.MethodGet, Path: base + "/sites/{site}/export",
		Summary: "All readings, or rollups, of a site or some of its devices", Tags: []string{"readings"},
		Description: "Device by device, sorted, each in order of event time, from the archive. A whole export ends with the trailer " + exportTrailer +
			" (`complete; devices=2; rows=120`), NDJSON also with the line `{\"end\":true,…}`; one that fails is broken off, and `curl` then ends " +
			"with an error. `wellhead export` checks it, and writes Parquet too.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The export.",
			Headers:     map[string]*huma.Param{exportTrailer: {Schema: &huma.Schema{Type: huma.TypeString}, Description: "A trailer: the export is whole."}},
			Content: map[string]*huma.MediaType{
				"application/x-ndjson": text, "text/csv": text,
				messages.TypeExport: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			},
		}},
	}, func(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
		e, err := s.newExport(in)
		if err != nil {
			return nil, err
		}
		if s.exports.Add(1) > int64(s.Limits.Exports) {
			s.exports.Add(-1)
			return nil, later(http.StatusTooManyRequests, fmt.Sprintf("%d exports are under way already. Wait until one has ended, or raise limits.exports.", s.Limits.Exports))
		}
		begin, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		if err := e.begin(begin, in); err != nil {
			s.exports.Add(-1)
			return nil, s.failure(begin, "list the site's devices", err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer s.exports.Add(-1)
			r, w := humago.Unwrap(hc)
			s.export(w, r, e)
		}}, nil
	})
}

// export is one export under way. It holds one page of readings and what is made of it.
type export struct {
	fleet    Fleet
	within   time.Duration // for one look into the archive
	site     string
	from, to int64
	step     messages.Step // 0 = readings
	form     messages.ExportForm
	kind     string // content type
	devices  []messages.DeviceWidth
	head     messages.ExportHead
	measured bool // head has as many channels as are needed, or were asked for
	rows     int64

	w       http.ResponseWriter
	control *http.ResponseController
	out     []byte
	begun   bool // something was sent
	sent    time.Time

	samples []messages.Sample
	values  []float64 // of samples
	quality []uint8   // of samples
}

// newExport checks what was asked for.
func (s *server) newExport(in *exportInput) (*export, error) {
	if err := checkSite(in.Site); err != nil {
		return nil, err
	}
	if len(in.Device) > maxFollowed {
		return nil, badRequest("%d devices: name at most %d, or leave device out and get the whole site.", len(in.Device), maxFollowed)
	}
	for _, d := range in.Device {
		if err := checkDevice(d); err != nil {
			return nil, err
		}
	}
	e := &export{fleet: s.Fleet, within: s.Limits.Query, site: in.Site, from: Earliest, to: Latest}
	if in.From != "" || in.To != "" {
		var err error
		if e.from, e.to, err = parseSpan(in.From, in.To); err != nil {
			return nil, err
		}
	}
	if e.from > e.to {
		return nil, badRequest("from=%s is later than to=%s: an export goes forward in time.", in.From, in.To)
	}
	if in.Step != "" {
		var err error
		if e.step, err = messages.ParseStep(in.Step); err != nil {
			return nil, err
		}
	}
	switch in.Format {
	case "csv":
		e.form, e.kind = &messages.ExportCSV{}, "text/csv; charset=utf-8; header=present"
	case "frames":
		e.form, e.kind = &messages.ExportFrames{}, messages.TypeExport
	default:
		e.form, e.kind = &messages.ExportNDJSON{}, "application/x-ndjson"
	}
	return e, nil
}

// begin finds the devices.
func (e *export) begin(ctx context.Context, in *exportInput) error {
	all, err := e.fleet.Widths(ctx, in.Site)
	if err != nil {
		return err
	}
	if e.devices, err = chosen(all, in); err != nil {
		return err
	}
	channels := in.Channels
	for _, d := range e.devices {
		channels = max(channels, d.Channels)
	}
	_, plain := e.form.(*messages.ExportNDJSON) // it has no columns
	e.measured = plain || in.Channels > 0
	e.head = messages.ExportHead{Site: e.site, Devices: len(e.devices), Channels: channels, Step: e.step}
	return nil
}

// chosen picks the devices that were named, each once.
func chosen(all []messages.DeviceWidth, in *exportInput) ([]messages.DeviceWidth, error) {
	if len(in.Device) == 0 {
		if len(all) == 0 {
			return nil, newProblem(http.StatusNotFound, "No device of site "+in.Site+" has ever sent a reading. GET "+base+"/sites lists the sites.")
		}
		return all, nil
	}
	named := make(map[string]bool, len(in.Device))
	for _, d := range in.Device {
		named[d] = true
	}
	var out []messages.DeviceWidth
	for _, d := range all {
		if named[d.Device] {
			out = append(out, d)
			delete(named, d.Device)
		}
	}
	for d := range named {
		return nil, newProblem(http.StatusNotFound, "Device "+d+" of site "+in.Site+" has never sent a reading. GET "+base+"/sites/"+in.Site+"/devices lists the devices.")
	}
	return out, nil
}

// export sends e, and breaks the connection when it cannot be whole: then no reader takes it for whole.
func (s *server) export(w http.ResponseWriter, r *http.Request, e *export) {
	if _, bare := e.form.(*messages.ExportCSV); bare && !r.ProtoAtLeast(1, 1) {
		writeProblem(w, newProblem(http.StatusHTTPVersionNotSupported, "HTTP/1.0 cannot tell a whole CSV from one that was cut off. "+
			"Ask with HTTP/1.1 (a proxy in between may have changed it), or for format=ndjson, whose last line says it."))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Export)
	defer cancel()
	e.w, e.control = w, http.NewResponseController(w)
	_ = e.control.SetReadDeadline(time.Time{}) // the server's would end the connection
	h := w.Header()
	h.Set("Content-Type", e.kind)
	h.Set("Trailer", exportTrailer)
	h.Set("X-Accel-Buffering", "no")
	err := e.run(ctx)
	if err == nil {
		h.Set(exportTrailer, fmt.Sprintf("complete; devices=%d; rows=%d", len(e.devices), e.rows))
		return
	}
	if !e.begun && r.Context().Err() == nil {
		h.Del("Trailer")
		writeProblem(w, s.failure(ctx, "read the archive", err))
		return
	}
	if r.Context().Err() == nil {
		s.log.Warn("export broken off", "site", e.site, "rows", e.rows, "error", err)
		e.out = e.form.AppendError(e.out[:0], exportReason(err))
		_ = e.send()
	}
	panic(http.ErrAbortHandler)
}

// exportReason is what a reader is told; causes that are ours are in the log.
func exportReason(err error) string {
	switch {
	case errors.Is(err, messages.ErrTooWide):
		return reason(err)
	case errors.Is(err, context.DeadlineExceeded):
		return "the archive did not answer in time, or the export took too long"
	}
	return "the archive could not be read; the cause is in the member's log"
}

func (e *export) run(ctx context.Context) error {
	e.sent = time.Now()
	if !e.measured {
		if err := e.measure(ctx); err != nil {
			return err
		}
	}
	e.out, e.sent = e.form.AppendHead(e.out, e.head), time.Now()
	page := e.readings
	if e.step != 0 {
		page = e.rollups
	}
	if err := e.eachPage(ctx, page); err != nil {
		return err
	}
	e.out = e.form.AppendEnd(e.out, messages.ExportEnd{Devices: len(e.devices), Rows: e.rows})
	return e.send()
}

// measure finds how many columns the values need, by going through all that will be exported: the archive
// keeps the number of values nowhere but in each reading. A wider one that is stored afterwards still breaks the export off.
func (e *export) measure(ctx context.Context) error {
	page := e.readingWidths
	if e.step != 0 {
		page = e.rollupWidths
	}
	return e.eachPage(ctx, page)
}

// eachPage calls page for each device until it has no more, and sends what gathers, or that more is to come.
func (e *export) eachPage(ctx context.Context, page func(ctx context.Context, id messages.DeviceID, from int64) (next int64, more bool, err error)) error {
	for _, d := range e.devices {
		id := messages.DeviceID{Site: e.site, Device: d.Device}
		for from, more := e.from, true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			var err error
			if from, more, err = page(ctx, id, from); err != nil {
				return err
			}
			if time.Since(e.sent) > aliveAfter {
				e.out, e.sent = e.form.AppendAlive(e.out), time.Now()
				if len(e.out) == 0 {
					continue // the form has nothing for that
				}
			} else if len(e.out) < sendAt {
				continue
			}
			if err := e.send(); err != nil {
				return err
			}
		}
	}
	return nil
}

// readingWidths raises the channels to those of the readings in one page.
func (e *export) readingWidths(ctx context.Context, id messages.DeviceID, from int64) (next int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.within)
	defer cancel()
	seen, last := 0, int64(0)
	err = e.fleet.Scan(ctx, id, from, e.to, func(s *messages.Sample) bool {
		e.head.Channels = max(e.head.Channels, len(s.Values))
		seen, last = seen+1, s.Time
		return seen < widthReadings
	})
	return last + 1, err == nil && seen == widthReadings && last < e.to, err
}

// rollupWidths is readingWidths for rollups.
func (e *export) rollupWidths(ctx context.Context, id messages.DeviceID, from int64) (next int64, more bool, err error) {
	rows, next, more, err := e.rollupPage(ctx, id, from)
	for i := range rows {
		e.head.Channels = max(e.head.Channels, len(rows[i].Channels))
	}
	return next, more, err
}

// send sends what was gathered. A reader that takes longer than writeTimeout for a piece of it is given up.
func (e *export) send() error {
	e.begun = true
	defer func() { e.out, e.sent = e.out[:0], time.Now() }()
	for rest := e.out; len(rest) > 0; {
		n := min(len(rest), pieceBytes)
		if err := send(e.w, e.control, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// readings appends a device's next page of readings. more: there may be others, from next on.
func (e *export) readings(ctx context.Context, id messages.DeviceID, from int64) (next int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.within)
	defer cancel()
	e.samples, e.values, e.quality = e.samples[:0], e.values[:0], e.quality[:0]
	bytes := 0
	err = e.fleet.Scan(ctx, id, from, e.to, func(s *messages.Sample) bool {
		e.keep(s)
		bytes += 16 + 8*len(s.Values) + len(s.Quality) + len(s.Note)
		more = len(e.samples) == pageReadings || bytes >= pageBytes
		return !more
	})
	if err != nil {
		return 0, false, err
	}
	if e.out, err = e.form.AppendReadings(e.out, id.Device, e.samples); err != nil {
		return 0, false, err
	}
	e.rows += int64(len(e.samples))
	if more {
		last := e.samples[len(e.samples)-1].Time
		next, more = last+1, last < e.to
	}
	clear(e.samples) // lets go of the notes
	return next, more, nil
}

// keep copies a reading into the page. A slice of values that is full is left to the readings that lie in it.
func (e *export) keep(s *messages.Sample) {
	c := *s
	if len(c.Values) > cap(e.values)-len(e.values) {
		e.values = make([]float64, 0, max(2*cap(e.values), 1024))
	}
	n := len(e.values)
	e.values = append(e.values, c.Values...)
	c.Values = e.values[n:len(e.values):len(e.values)]
	if len(c.Quality) > cap(e.quality)-len(e.quality) {
		e.quality = make([]uint8, 0, max(2*cap(e.quality), 1024))
	}
	n = len(e.quality)
	e.quality = append(e.quality, c.Quality...)
	c.Quality = e.quality[n:len(e.quality):len(e.quality)]
	c.Note = strings.Clone(c.Note)
	e.samples = append(e.samples, c)
}

// rollups is readings for rollups.
func (e *export) rollups(ctx context.Context, id messages.DeviceID, from int64) (next int64, more bool, err error) {
	rows, next, more, err := e.rollupPage(ctx, id, from)
	if err != nil {
		return 0, false, err
	}
	if e.out, err = e.form.AppendRollups(e.out, id.Device, rows); err != nil {
		return 0, false, err
	}
	e.rows += int64(len(rows))
	return next, more, nil
}

// rollupPage returns the device's next rollups, and where those after them begin, if there may be more.
func (e *export) rollupPage(ctx context.Context, id messages.DeviceID, from int64) (rows []messages.Rollup, next int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.within)
	defer cancel()
	rows, err = e.fleet.Rollups(ctx, id, e.step, from, e.to, pageRollups)
	if errors.Is(err, ErrNotFound) {
		return nil, 0, false, nil // deleted since the export began
	}
	if err != nil || len(rows) < pageRollups {
		return rows, 0, false, err
	}
	last := rows[len(rows)-1].Start
	return rows, last + int64(e.step), last <= math.MaxInt64-int64(e.step) && last+int64(e.step) <= e.to, nil
}
