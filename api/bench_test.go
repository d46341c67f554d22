package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

// full answers every question for readings with the same samples, and takes everything.
type full struct {
	*apitest.Fleet
	samples []messages.Sample
}

func (f full) Readings(_ context.Context, _ messages.DeviceID, _, _ int64, limit int) ([]messages.Sample, error) {
	return f.samples[:min(limit, len(f.samples))], nil
}

func (f full) Publish(context.Context, string, []api.DeviceReadings, api.How) error { return nil }

// nowhere is a response writer that only counts.
type nowhere struct {
	header http.Header
	bytes  int64
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { n.bytes += int64(len(b)); return len(b), nil }
func (n *nowhere) WriteHeader(status int)      { n.status = status }

func benchFace(readings int) http.Handler {
	f := full{apitest.New(), make([]messages.Sample, readings)}
	for i := range f.samples {
		f.samples[i] = messages.Sample{Sequence: uint64(i + 1), Reading: messages.Reading{
			Time: 1_767_323_045_000 + int64(i)*1000, Values: []float64{210.25 + float64(i%7), 64.5, float64(i) / 100, 12},
		}}
	}
	return api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: slog.New(slog.DiscardHandler)})
}

func BenchmarkGetReadings(b *testing.B) {
	for _, accept := range []string{"application/json", "application/x-protobuf"} {
		for _, limit := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", strings.TrimPrefix(accept, "application/"), limit), func(b *testing.B) {
				h := benchFace(limit)
				w := &nowhere{header: http.Header{}}
				r := httptest.NewRequest("GET", fmt.Sprintf("/api/v1/sites/demo/devices/a/readings?limit=%d", limit), nil)
				r.Header.Set("Accept", accept)
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(w, r)
				}
				if w.bytes == 0 || w.status > 200 {
					b.Fatalf("status %d, %d bytes", w.status, w.bytes)
				}
				b.ReportMetric(float64(b.N*limit)/b.Elapsed().Seconds(), "readings/s")
				b.ReportMetric(float64(w.bytes)/float64(b.N*limit), "B/reading")
			})
		}
	}
}

func BenchmarkPostReadings(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("ndjson/%d", n), func(b *testing.B) {
			h := benchFace(1)
			var body strings.Builder
			for i := range n {
				fmt.Fprintf(&body, `{"device":"well-%d","time":%d,"values":[%d.25,64.5,null,12]}`+"\n", i%100, 1_767_323_045_000+i, i)
			}
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", posts, strings.NewReader(body.String()))
				r.Header.Set("Content-Type", "application/x-ndjson")
				w := &nowhere{header: http.Header{}}
				if h.ServeHTTP(w, r); w.status != 200 {
					b.Fatalf("status %d", w.status)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}
