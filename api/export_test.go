package api_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

const exportPath = "/api/v1/sites/demo/export"

// whole asks for an export and returns its body and what its trailer says.
func (f *face) whole(t *testing.T, query string) (text, trailer string) {
	t.Helper()
	resp, err := http.Get(f.server.URL + exportPath + query)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, error %v: %s", query, resp.StatusCode, err, body)
	}
	return string(body), resp.Trailer.Get("Wellhead-Export")
}

func TestExportForms(t *testing.T) {
	f := start(t, nil)
	f.fill(t, "b", 2)
	f.fill(t, "a", 3)
	f.do(t, "POST", posts, `{"device":"a","time":9000,"values":[null,7],"quality":[0,2],"note":"x,y"}`)

	got, trailer := f.whole(t, "")
	want := `{"site":"demo","device":"a","time":"1970-01-01T00:00:00.000Z","values":[0,0],"note":"","sequence":2}
{"site":"demo","device":"a","time":"1970-01-01T00:00:01.000Z","values":[1,-1],"note":"","sequence":2}
{"site":"demo","device":"a","time":"1970-01-01T00:00:02.000Z","values":[2,-2],"note":"","sequence":2}
{"site":"demo","device":"a","time":"1970-01-01T00:00:09.000Z","values":[null,7],"quality":[0,2],"note":"x,y","sequence":3}
{"site":"demo","device":"b","time":"1970-01-01T00:00:00.000Z","values":[0,0],"note":"","sequence":1}
{"site":"demo","device":"b","time":"1970-01-01T00:00:01.000Z","values":[1,-1],"note":"","sequence":1}
{"end":true,"devices":2,"readings":6}
`
	if diff := cmp.Diff(strings.ReplaceAll(want, "-0,", "0,"), strings.ReplaceAll(strings.ReplaceAll(got, "[0,-0]", "[0,0]"), "-0,", "0,")); diff != "" {
		t.Errorf("ndjson (-want +got):\n%s", diff)
	}
	if trailer != "complete; devices=2; rows=6" {
		t.Errorf("ndjson: trailer %q", trailer)
	}

	got, trailer = f.whole(t, "?format=csv&device=a&from=1970-01-01T00:00:02Z&to=9000&channels=3")
	want = "site,device,time,c0,c1,c2,note,sequence,quality\n" +
		"demo,a,1970-01-01T00:00:02.000Z,2,-2,,,2,\n" +
		"demo,a,1970-01-01T00:00:09.000Z,,7,,\"x,y\",3,0 2\n"
	if diff := cmp.Diff(want, got); diff != "" || trailer != "complete; devices=1; rows=2" {
		t.Errorf("csv: trailer %q (-want +got):\n%s", trailer, diff)
	}

	got, _ = f.whole(t, "?step=1h&device=b,a")
	if lines := strings.Split(strings.TrimSpace(got), "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"device":"a","start":"1970-01-01T00:00:00.000Z","step":"1h","count":4`) ||
		lines[2] != `{"end":true,"devices":2,"rollups":2}` {
		t.Errorf("rollups: got %s", got)
	}

	got, _ = f.whole(t, "?format=frames")
	head, rows, end := readFrames(t, strings.NewReader(got))
	if head != (messages.ExportHead{Version: 1, Site: "demo", Devices: 2, Channels: 2}) || rows != 6 || end != (messages.ExportEnd{Devices: 2, Rows: 6}) {
		t.Errorf("frames: got %+v, %d rows, %+v", head, rows, end)
	}
}

func readFrames(t *testing.T, r io.Reader) (head messages.ExportHead, rows int, end messages.ExportEnd) {
	t.Helper()
	for parts := messages.NewExportReader(r); ; {
		part, err := parts.Next()
		if err == io.EOF {
			return head, rows, end
		}
		if err != nil {
			t.Fatal(err)
		}
		rows += len(part.Readings) + len(part.Rollups)
		if part.Head != nil {
			head = *part.Head
		}
		if part.End != nil {
			end = *part.End
		}
	}
}

// TestExportPages: what is more than a page comes whole, each reading once, also rollups.
func TestExportPages(t *testing.T) {
	f := start(t, nil)
	const n = 25_003
	f.fill(t, "long", n)
	f.fill(t, "short", 1)
	text, trailer := f.whole(t, "?format=csv")
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(records) != n+2 || trailer != fmt.Sprintf("complete; devices=2; rows=%d", n+1) {
		t.Fatalf("got %d lines, trailer %q, error %v", len(records), trailer, err)
	}
	for i, record := range records[1 : n+1] {
		if want := messages.FormatTime(int64(i) * 1000); record[1] != "long" || record[2] != want {
			t.Fatalf("line %d: got %q, want %s", i, record, want)
		}
	}
	hours, _ := f.whole(t, "?format=csv&step=1m")
	if got, want := strings.Count(hours, "\n"), 1+(n+59)/60+1; got != want {
		t.Errorf("minutes: got %d lines, want %d", got, want)
	}
}

func TestExportRefuses(t *testing.T) {
	f := start(t, nil)
	f.fill(t, "a", 1)
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/api/v1/sites/nosuch/export", 404, "No device of site nosuch"},
		{exportPath + "?device=a,zz", 404, "Device zz"},
		{exportPath + "?device=a!", 400, "device name"},
		{exportPath + "?from=5&to=4", 400, "goes forward"},
		{exportPath + "?from=now", 400, "from=now"},
		{exportPath + "?format=parquet", 400, "format"},
		{exportPath + "?step=1w", 400, "step"},
		{exportPath + "?channels=65", 400, "channels"},
		{exportPath + "?limit=5", 400, "limit"},
	} {
		if detail := f.do(t, "GET", c.path, "").problem(t, c.status); !strings.Contains(detail, c.says) {
			t.Errorf("%s: says %q, want %q in it", c.path, detail, c.says)
		}
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", exportPath+"?format=csv", nil)
	r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	f.server.Config.Handler.ServeHTTP(w, r)
	if w.Code != 505 || !strings.Contains(w.Body.String(), "cut off") {
		t.Errorf("csv over HTTP/1.0: got %d %s", w.Code, w.Body)
	}
	f.Set(func(f *apitest.Fleet) { f.Fail = api.ErrUnavailable })
	f.do(t, "GET", exportPath, "").problem(t, 503)
}

// failing is a fleet whose archive fails at a reading of one device, or has one there with more values
// than the newest of the device.
type failing struct {
	*apitest.Fleet
	device      string
	after, wide int // 0 = never
	err         error
}

func (f failing) Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error {
	given := 0
	err := f.Fleet.Scan(ctx, id, from, to, func(s *messages.Sample) bool {
		if given++; id.Device == f.device && given == f.wide {
			s.Values = append(s.Values, 1, 2, 3)
		}
		return (id.Device != f.device || given != f.after) && fn(s)
	})
	if id.Device == f.device && given == f.after {
		return f.err
	}
	return err
}

// TestExportFailsAtOnce: as long as nothing was sent, the answer is a problem document.
func TestExportFailsAtOnce(t *testing.T) {
	f := start(t, func(o *api.Options) {
		o.Fleet = failing{Fleet: o.Fleet.(*apitest.Fleet), device: "a", after: 4, err: errors.New("disk on fire")}
	})
	f.fill(t, "a", 10)
	for _, format := range []string{"csv", "ndjson", "frames"} {
		detail := f.do(t, "GET", exportPath+"?format="+format, "").problem(t, 500)
		if strings.Contains(detail, "fire") || !strings.Contains(detail, "log") {
			t.Errorf("%s: says %q", format, detail)
		}
	}
	f = start(t, func(o *api.Options) { o.Fleet = failing{Fleet: o.Fleet.(*apitest.Fleet), device: "a", wide: 4} })
	f.fill(t, "a", 10)
	detail := f.do(t, "GET", exportPath+"?format=csv&channels=4", "").problem(t, 400)
	if !strings.Contains(detail, "channels=5") {
		t.Errorf("a reading with too many values: says %q", detail)
	}
	if got, _ := f.whole(t, "?format=csv&channels=5"); strings.Count(got, "\n") != 11 {
		t.Errorf("with channels=5: got %s", got)
	}
}

// TestExportColumns: the columns are enough for every reading, however old, and for no more than those of the period.
func TestExportColumns(t *testing.T) {
	f := start(t, nil)
	publish := func(device string, readings ...messages.Reading) {
		t.Helper()
		if err := f.Publish(t.Context(), "demo", []api.DeviceReadings{{Device: device, Readings: readings}}, api.How{}); err != nil {
			t.Fatal(err)
		}
	}
	publish("a", messages.Reading{Time: 1000, Values: []float64{1, 2, 3, messages.Omitted()}})
	long := make([]messages.Reading, 60_000) // two looks into the archive
	for i := range long {
		long[i] = messages.Reading{Time: 2000 + int64(i), Values: []float64{5}}
	}
	long[55_000].Values = []float64{1, 2}
	publish("a", long...)
	f.fill(t, "b", 1) // two values at 0
	for query, want := range map[string]string{
		"?format=csv":                        "c0,c1,c2,c3,note",
		"?format=csv&from=1001":              "c0,c1,note",
		"?format=csv&from=57000":             "c0,c1,note",
		"?format=csv&device=a&from=57001":    "c0,note",
		"?format=csv&channels=6":             "c0,c1,c2,c3,c4,c5,note",
		"?format=csv&step=1m&to=10000":       "c3_last",
		"?format=csv&step=1m&channels=4":     "c3_last",
		"?format=csv&device=b":               "c0,c1,note",
		"?format=csv&device=b&from=1&to=999": "time,c0,c1,note", // nothing; the newest reading has two
	} {
		got, _ := f.whole(t, query)
		head, _, _ := strings.Cut(got, "\n")
		if !strings.Contains(head, want) || strings.Contains(head, "c4") != strings.Contains(want, "c4") || strings.Contains(head, "c2") && !strings.Contains(want, "c2") && !strings.Contains(want, "c3") {
			t.Errorf("%s: got %s, want %s", query, head, want)
		}
	}
	head, rows, _ := readFrames(t, strings.NewReader(first(f.whole(t, "?format=frames"))))
	if head.Channels != 4 || rows != 60_002 {
		t.Errorf("frames: got %+v and %d rows", head, rows)
	}
}

func first(a, _ string) string { return a }

// TestExportBrokenOff: an export that cannot be whole is not taken for whole in any form.
func TestExportBrokenOff(t *testing.T) {
	for _, c := range []struct {
		format      string
		after, wide int
		says        string // where the form can say it
	}{
		{format: "csv", after: 4},
		{format: "ndjson", after: 4, says: `{"end":false,"error":"the archive could not be read`},
		{format: "frames", after: 4, says: "the archive could not be read"},
		{format: "csv", wide: 4},
	} {
		f := start(t, func(o *api.Options) {
			o.Fleet = failing{Fleet: o.Fleet.(*apitest.Fleet), device: "b", after: c.after, wide: c.wide, err: errors.New("disk on fire")}
		})
		rows := make([]messages.Reading, 9_000) // enough that something has been sent before device b
		for i := range rows {
			rows[i] = messages.Reading{Time: int64(i), Note: strings.Repeat("long note ", 10)}
		}
		if err := f.Publish(t.Context(), "demo", []api.DeviceReadings{{Device: "a", Readings: rows}}, api.How{}); err != nil {
			t.Fatal(err)
		}
		f.fill(t, "b", 10)
		resp, err := http.Get(f.server.URL + exportPath + "?channels=2&format=" + c.format)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || resp.Trailer.Get("Wellhead-Export") != "" || resp.StatusCode != 200 {
			t.Fatalf("%+v: status %d, %d bytes came without an error, trailer %q", c, resp.StatusCode, len(body), resp.Trailer.Get("Wellhead-Export"))
		}
		if !bytes.Contains(body, []byte(c.says)) || bytes.Contains(body, []byte(`"end":true`)) || bytes.Contains(body, []byte("fire")) {
			t.Errorf("%+v: ends with %s", c, body[max(0, len(body)-200):])
		}
	}
}

// endless has one device with as many readings as one likes, made as they are asked for.
type endless struct {
	*apitest.Fleet
	readings int64
	scanned  int64 // by one export at a time
}

func (e *endless) Widths(context.Context, string) ([]messages.DeviceWidth, error) {
	return []messages.DeviceWidth{{Device: "a", Channels: 4}}, nil
}

func (e *endless) Scan(ctx context.Context, _ messages.DeviceID, from, _ int64, fn func(*messages.Sample) bool) error {
	values := make([]float64, 4)
	for at := max(from, 0); at < e.readings; at++ {
		for k := range values {
			values[k] = float64(at) + float64(k)/4
		}
		e.scanned++
		if !fn(&messages.Sample{Reading: messages.Reading{Time: at, Values: values}, Sequence: uint64(at)}) {
			return nil
		}
	}
	return ctx.Err()
}

// stepwise is a client that takes one piece at a time, and looks after each.
type stepwise struct {
	nowhere
	look func(sent int64)
}

func (s *stepwise) Write(b []byte) (int, error) {
	n, err := s.nowhere.Write(b)
	s.look(s.bytes)
	return n, err
}

func (s *stepwise) Flush() {}

// TestExportMemory: an export looks into the archive only for what its reader takes, one page ahead, and
// its memory does not grow with what it sends.
func TestExportMemory(t *testing.T) {
	for _, format := range []string{"csv", "csv&channels=4", "frames&channels=4"} {
		_, looksOnce := strings.CutSuffix(format, "&channels=4")
		e := &endless{Fleet: apitest.New(), readings: 3_000_000}
		h := api.New(api.Options{Fleet: e, Ingest: e, Live: e, Health: e, Logger: slog.New(slog.DiscardHandler)})
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		before, pieces := m.HeapAlloc, 0
		var sent, scanned int64
		w := &stepwise{nowhere: nowhere{header: http.Header{}}}
		w.look = func(now int64) {
			if ahead := e.scanned - scanned; ahead > 20_000 && (looksOnce || sent > 0) {
				t.Errorf("%s: %d readings were read between two pieces", format, ahead)
			}
			if now-sent > 64<<10 {
				t.Errorf("%s: a piece of %d bytes", format, now-sent)
			}
			sent, scanned = now, e.scanned
			if pieces++; pieces%100 == 0 {
				runtime.GC()
				if runtime.ReadMemStats(&m); m.HeapAlloc > before+12<<20 {
					t.Fatalf("%s: after %d bytes it holds %d MB", format, now, (m.HeapAlloc-before)>>20)
				}
			}
		}
		h.ServeHTTP(w, httptest.NewRequest("GET", exportPath+"?format="+format, nil))
		if got := w.header.Get("Wellhead-Export"); got != "complete; devices=1; rows=3000000" || pieces < 200 {
			t.Errorf("%s: trailer %q after %d pieces", format, got, pieces)
		}
	}
}

// TestExportsAtOnce: a reader that takes nothing keeps a place and no more; when it goes away the place is free.
func TestExportsAtOnce(t *testing.T) {
	e := &endless{Fleet: apitest.New(), readings: 1 << 40}
	f := start(t, func(o *api.Options) { o.Fleet, o.Limits.Exports = e, 1 })
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, "GET", f.server.URL+exportPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	refused := f.do(t, "GET", exportPath+"?to=5", "")
	if detail := refused.problem(t, 429); !strings.Contains(detail, "1 exports") || refused.header.Get("Retry-After") == "" {
		t.Errorf("says %q, Retry-After %q", detail, refused.header.Get("Retry-After"))
	}
	if got := f.do(t, "GET", "/api/v1/sites", ""); got.status != 200 {
		t.Errorf("another question meanwhile: %d", got.status)
	}
	leave()
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := f.do(t, "GET", exportPath+"?device=nosuch", "")
		if got.status == 404 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the place is not free: %d %s", got.status, got.text)
		}
	}
}
