package api

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wellhead/wellhead/messages"
)

const (
	protobuf = "application/x-protobuf"
	// cursorHeader carries the cursor of an answer in protobuf.
	cursorHeader = "Wellhead-Cursor"
	// flushAt is how many bytes of an answer are gathered before they are written.
	flushAt = 128 << 10
	// writeTimeout is how long one write to a client may take.
	writeTimeout = 30 * time.Second
)

type readingsInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	From   string `query:"from" doc:"Event time, RFC 3339 or Unix milliseconds. Later than to: newest first. Left out: the beginning; with to left out as well: newest first." example:"2026-01-02T03:04:05Z"`
	To     string `query:"to" doc:"Event time, RFC 3339 or Unix milliseconds, included. Left out: no end."`
	Limit  int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	Cursor string `query:"cursor" doc:"Of the page before; it holds what is left of from and to."`
	Accept string `header:"Accept" hidden:"true"`
}

type readingsAnswer struct {
	Readings []reading `json:"readings"`
	Cursor   string    `json:"cursor,omitempty" doc:"For the next page; left out on the last."`
}

var pages = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+64<<10); return &b }}

// addReadings registers the archive's readings.
func (s *server) addReadings() {
	schema := s.api.OpenAPI().Components.Schemas.Schema(typeOf[readingsAnswer](), true, "readingsAnswer")
	huma.Register(s.api, huma.Operation{
		OperationID: "getReadings", Method: http.MethodGet, Path: devicePath + "/readings",
		Summary: "Readings of a device from the archive", Tags: []string{"readings"},
		Description: "In order of event time; with from later than to newest first. With `Accept: " + protobuf + "` the answer is a sequence of " +
			"wellhead.v1.Batch messages, each with its length before it as a varint, and the cursor stands in the header " + cursorHeader + ".",
		Responses: map[string]*huma.Response{"200": {
			Description: "A page of readings.",
			Headers:     map[string]*huma.Param{cursorHeader: {Schema: &huma.Schema{Type: huma.TypeString}, Description: "For the next page; left out on the last."}},
			Content: map[string]*huma.MediaType{
				"application/json": {Schema: schema},
				protobuf:           {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			},
		}},
	}, func(ctx context.Context, in *readingsInput) (*huma.StreamResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		samples, cursor, err := s.readings(ctx, in)
		if err != nil {
			return nil, s.failure(ctx, "read the archive", err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			out := &page{w: w, control: http.NewResponseController(w)}
			if cursor != "" {
				w.Header().Set(cursorHeader, cursor)
			}
			if strings.Contains(in.Accept, protobuf) {
				w.Header().Set("Content-Type", protobuf)
				out.batches(in.Device, samples)
			} else {
				w.Header().Set("Content-Type", "application/json")
				out.json(samples, cursor)
			}
		}}, nil
	})
}

func (s *server) readings(ctx context.Context, in *readingsInput) (samples []messages.Sample, cursor string, err error) {
	id, err := deviceID(in.Site, in.Device)
	if err != nil {
		return nil, "", err
	}
	from, to, err := parseSpan(in.From, in.To)
	if err == nil && in.Cursor != "" {
		from, to, err = parseSpanCursor(in.Cursor)
	}
	if err != nil {
		return nil, "", err
	}
	if in.Limit > s.Limits.Readings {
		return nil, "", badRequest("limit=%d: at most %d.", in.Limit, s.Limits.Readings)
	}
	samples, err = s.Fleet.Readings(ctx, id, from, to, in.Limit+1) // one more tells whether there is a next page
	if err != nil {
		return nil, "", err
	}
	if len(samples) > in.Limit {
		samples = samples[:in.Limit]
		cursor = nextSpan(from, to, samples[in.Limit-1].Time)
	}
	return samples, cursor, nil
}

// page writes an answer piece by piece, so that a large one is never whole in memory. After an
// error the rest is not written: the client sees that the answer is cut short.
type page struct {
	w       io.Writer
	control *http.ResponseController
	err     error
}

func (p *page) write(b []byte) {
	if p.err != nil {
		return
	}
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has deadlines
	_, p.err = p.w.Write(b)
}

func (p *page) json(samples []messages.Sample, cursor string) {
	buf := pages.Get().(*[]byte)
	b := append((*buf)[:0], `{"readings":[`...)
	for i := range samples {
		if i > 0 {
			b = append(b, ',')
		}
		b = messages.AppendSampleJSON(b, samples[i])
		if len(b) >= flushAt {
			p.write(b)
			b = b[:0]
		}
	}
	b = append(b, ']')
	if cursor != "" {
		b = append(b, `,"cursor":"`...)
		b = append(b, cursor...)
		b = append(b, '"')
	}
	p.write(append(b, "}\n"...))
	*buf = b[:0]
	pages.Put(buf)
}

// batches writes the readings as batches of the wire, whose limits hold here too, each with its
// length before it.
func (p *page) batches(device string, samples []messages.Sample) {
	buf := pages.Get().(*[]byte)
	b := (*buf)[:0]
	var one []byte
	rows := make([]messages.Reading, 0, min(len(samples), messages.MaxReadings))
	most := messages.MaxReadings
	for len(samples) > 0 {
		n := min(len(samples), most)
		rows = rows[:0]
		for i := range samples[:n] {
			rows = append(rows, samples[i].Reading)
		}
		one = messages.AppendBatch(one[:0], &messages.Batch{Blocks: []messages.Block{{Device: device, Readings: rows}}})
		if len(one) > messages.MaxMessage && n > 1 { // many channels and long notes
			most = n / 2
			continue
		}
		samples = samples[n:]
		b = binary.AppendUvarint(b, uint64(len(one)))
		b = append(b, one...)
		if len(b) >= flushAt {
			p.write(b)
			b = b[:0]
		}
	}
	p.write(b)
	*buf = b[:0]
	pages.Put(buf)
}
