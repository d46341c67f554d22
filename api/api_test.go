package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

type face struct {
	*apitest.Fleet
	server *httptest.Server
}

// start serves a fleet in memory; change may alter the options.
func start(t *testing.T, change func(*api.Options)) *face {
	t.Helper()
	f := apitest.New()
	o := api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Totals: f.Totals, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	s := httptest.NewServer(api.New(o))
	t.Cleanup(s.Close)
	return &face{f, s}
}

type answer struct {
	status int
	header http.Header
	text   string
}

// do sends a request; headers come as name, value pairs.
func (f *face) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.text), v); err != nil {
		t.Fatalf("got %s: %v", a.text, err)
	}
}

// problem checks that the answer is a problem document with that status, and returns its detail.
func (a answer) problem(t *testing.T, status int) string {
	t.Helper()
	var p struct {
		Status        int
		Title, Detail string
	}
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s %s, want a problem with %d", a.status, a.header.Get("Content-Type"), a.text, status)
	}
	a.into(t, &p)
	if p.Status != status || p.Title == "" || p.Detail == "" {
		t.Errorf("problem is incomplete: %s", a.text)
	}
	return p.Detail
}

const posts = "/api/v1/sites/demo/readings"

// newest has every device say the same.
type newest struct {
	*apitest.Fleet
	says messages.Newest
}

func (f newest) Newest(context.Context, messages.DeviceID) (messages.Newest, error) {
	return f.says, nil
}

// TestLatestIsTheSameEverywhere compares what is asked over HTTP with what is asked otherwise.
func TestLatestIsTheSameEverywhere(t *testing.T) {
	sample := messages.Sample{
		Reading:  messages.Reading{Time: 1_767_323_045_678, Values: []float64{1.5, messages.Omitted(), 3e21}, Note: `<"ä">`},
		Sequence: 7,
	}
	marked := sample
	marked.Quality = []uint8{0, 0, 2}
	for _, says := range []messages.Newest{
		{Status: messages.StatusUnknown},
		{Status: messages.StatusOffline, LastSeen: 1_767_323_045_700},
		{Status: messages.StatusOnline, LastSeen: 1_767_323_045_700, HasReading: true, Reading: sample},
		{Status: messages.StatusUnknown, HasReading: true, Reading: marked, Partial: true},
	} {
		fleet := newest{apitest.New(), says}
		f := start(t, func(o *api.Options) { o.Fleet = fleet })
		want := f.do(t, "GET", "/api/v1/sites/demo/devices/pump-1/latest", "").text
		got, err := api.LatestJSON(t.Context(), fleet, messages.DeviceID{Site: "demo", Device: "pump-1"})
		if err != nil || string(got) != want {
			t.Errorf("%+v: %s, %v; over HTTP %s", says, got, err, want)
		}
	}
}

// fill stores n readings of a device, one a second from epoch on, values {i, -i}.
func (f *face) fill(t *testing.T, device string, n int) {
	t.Helper()
	rows := make([]messages.Reading, n)
	for i := range rows {
		rows[i] = messages.Reading{Time: int64(i) * 1000, Values: []float64{float64(i), -float64(i)}}
	}
	if err := f.Publish(t.Context(), "demo", []api.DeviceReadings{{Device: device, Readings: rows}}, api.How{}); err != nil {
		t.Fatal(err)
	}
}

func TestPostAndAsk(t *testing.T) {
	f := start(t, nil)
	got := f.do(t, "POST", posts, `{"device":"pump-1","time":"2026-01-02T03:04:05.678Z","values":[1.5,null,3],"note":"hi"}`)
	if want := `{"accepted":1,"stored":false,"refusedCount":0,"refused":[]}` + "\n"; got.status != 200 || got.text != want {
		t.Fatalf("post: got %d %s, want %s", got.status, got.text, want)
	}
	const row = `{"time":"2026-01-02T03:04:05.678Z","values":[1.5,null,3],"note":"hi","sequence":1}`
	var latest struct {
		Site, Device, Status string
		Reading              json.RawMessage
	}
	f.do(t, "GET", "/api/v1/sites/demo/devices/pump-1/latest", "").into(t, &latest)
	if string(latest.Reading) != row || latest.Device != "pump-1" || latest.Site != "demo" || latest.Status != "online" {
		t.Errorf("latest: got %+v %s, want %s", latest, latest.Reading, row)
	}
	for _, path := range []string{"window", "readings", "window?from=1767323045678&to=2026-01-02T03:04:05.678Z"} {
		if got := f.do(t, "GET", "/api/v1/sites/demo/devices/pump-1/"+path, ""); strings.TrimSpace(got.text) != `{"readings":[`+row+`]}` {
			t.Errorf("%s: got %d %s", path, got.status, got.text)
		}
	}
	if got := f.do(t, "GET", "/api/v1/sites", ""); strings.TrimSpace(got.text) != `{"sites":["demo"]}` {
		t.Errorf("sites: got %s", got.text)
	}
	var st struct {
		Device, FirstSeen, Newest string
		InWindow                  int
		Counts                    messages.Counts
		Hour                      struct{ Channels []struct{ Count, Sum any } }
		Latest                    json.RawMessage
	}
	f.do(t, "GET", "/api/v1/sites/demo/devices/pump-1", "").into(t, &st)
	if st.Device != "pump-1" || st.Newest != "2026-01-02T03:04:05.678Z" || st.InWindow != 1 || st.Counts.InOrder != 1 || string(st.Latest) != row || st.FirstSeen == "" {
		t.Errorf("state: got %+v", st)
	}
	if len(st.Hour.Channels) != 3 || st.Hour.Channels[1].Sum != nil || st.Hour.Channels[2].Sum != 3.0 {
		t.Errorf("hour: got %+v", st.Hour)
	}
}

func TestPostRefusesOnlyWhatIsBad(t *testing.T) {
	type refused struct {
		Index  *int
		Line   int
		Device string
		Reason string
	}
	var out struct {
		Accepted, RefusedCount int
		Refused                []refused
		Detail                 string
	}
	f := start(t, func(o *api.Options) { o.Limits.MaxFuture = time.Hour })
	got := f.do(t, "POST", posts, `[{"device":"a","time":1,"values":[1]}, {"device":"b!","time":1,"values":[1]},
		{"device":"a","values":[2]} , 7, {"device":"a","time":"`+messages.FormatTime(time.Now().Add(2*time.Hour).UnixMilli())+`","values":[1]},{"device":"c","time":1,"values":[1,null,"]"]},{"device":"c","time":5,"values":[],"note":"],{"}]`)
	got.into(t, &out)
	if got.status != 200 || out.Accepted != 2 || out.RefusedCount != 5 {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	for i, want := range []int{1, 2, 3, 4, 5} {
		if r := out.Refused[i]; r.Index == nil || *r.Index != want || r.Reason == "" {
			t.Errorf("refusal %d: got %+v, want index %d and a reason", i, r, want)
		}
	}
	if r := out.Refused[1]; r.Device != "a" || !strings.Contains(r.Reason, "no time") {
		t.Errorf("got %+v", r)
	}
	out.Refused = nil
	got = f.do(t, "POST", posts, "{\"device\":\"a\",\"time\":10,\"values\":[1]}\n\nnonsense\r\n{\"device\":\"a\",\"time\":11,\"values\":[1]}\n", "Content-Type", "application/x-ndjson; charset=utf-8")
	got.into(t, &out)
	if got.status != 200 || out.Accepted != 2 || len(out.Refused) != 1 || out.Refused[0].Line != 3 || out.Refused[0].Index != nil {
		t.Errorf("ndjson: got %d %s", got.status, got.text)
	}
	got = f.do(t, "POST", posts, `{"device":"a","values":"x"}`)
	if detail := got.problem(t, 400); !strings.HasPrefix(detail, "No reading was taken") {
		t.Errorf("got %q", detail)
	}
	got.into(t, &out)
	if out.RefusedCount != 1 {
		t.Errorf("got %s, want the refusal in the problem", got.text)
	}
}

func TestPostBadRequests(t *testing.T) {
	f := start(t, func(o *api.Options) { o.Limits.Body = 2000 })
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 100_000))
	_ = z.Close()
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		status           int
		detail           string
	}{
		{"empty", posts, " ", nil, 400, "The body is empty"},
		{"cut short", posts, `[{"device":"a"`, nil, 400, "not closed"},
		{"more after it", posts, `[] 1`, nil, 400, "follows the array"},
		{"wrong bracket", posts, `[1}`, nil, 400, "ends with }"},
		{"site name", "/api/v1/sites/a.b/readings", `{}`, nil, 400, "a.b"},
		{"wait", posts + "?wait=forever", `{}`, nil, 400, "wait=stored"},
		{"parameter", posts + "?what=stored", `{}`, nil, 400, `"what"`},
		{"type", posts, `{}`, []string{"Content-Type", "image/png"}, 415, "image/png"},
		{"encoding", posts, `{}`, []string{"Content-Encoding", "br"}, 415, "gzip"},
		{"not gzip", posts, `{}`, []string{"Content-Encoding", "gzip"}, 400, "not gzip"},
		{"too large", posts, strings.Repeat(" ", 2001), nil, 413, "2000 bytes"},
		{"too large unpacked", posts, packed.String(), []string{"Content-Encoding", "gzip"}, 413, "2000 bytes"},
		{"foreign page", posts, `{}`, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "another origin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := f.do(t, "POST", tt.path, tt.body, tt.headers...).problem(t, tt.status); !strings.Contains(got, tt.detail) {
				t.Errorf("got %q, want it to say %q", got, tt.detail)
			}
		})
	}
	if got := f.do(t, "POST", posts, `[]`); got.status != 200 {
		t.Errorf("an empty array: got %d %s, want 200", got.status, got.text)
	}
}

func TestPostPackedAndStored(t *testing.T) {
	f := start(t, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 1000 {
		fmt.Fprintf(z, `{"device":"d%d","time":%d,"values":[%d]}`+"\n", i%10, i, i)
	}
	_ = z.Close()
	got := f.do(t, "POST", posts+"?wait=stored", packed.String(), "Content-Encoding", "gzip", "Content-Type", "application/x-ndjson")
	if want := `{"accepted":1000,"stored":true,"refusedCount":0,"refused":[]}` + "\n"; got.text != want || f.Stored != 1 {
		t.Errorf("got %s and %d waits, want %s", got.text, f.Stored, want)
	}
}

func TestPostWithoutTimeIsNotWaitedFor(t *testing.T) {
	f := start(t, nil)
	detail := f.do(t, "POST", posts+"?wait=stored", `{"device":"a","values":[1]}`).problem(t, 400)
	if !strings.Contains(detail, "no time") || f.Stored != 0 {
		t.Errorf("got %q and %d waits", detail, f.Stored)
	}
	if got := f.do(t, "POST", posts, `{"device":"a","values":[1]}`); got.status != 200 {
		t.Errorf("got %d %s, want 200", got.status, got.text)
	}
}

func TestBodiesShareABudget(t *testing.T) {
	f := start(t, func(o *api.Options) { o.Limits.Bodies = 8 << 10 })
	small := `{"device":"a","time":1,"values":[1]}`
	large := small + strings.Repeat(" ", 20<<10)
	for range 3 { // what was taken is given back, also after a refusal
		if got := f.do(t, "POST", posts, large); got.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %v", got.header)
		} else {
			got.problem(t, 429)
		}
		if got := f.do(t, "POST", posts, small); got.status != 200 {
			t.Errorf("got %d %s, want 200", got.status, got.text)
		}
	}
}

func TestFailuresBecomeProblems(t *testing.T) {
	f := start(t, nil)
	f.fill(t, "a", 1)
	const device = "/api/v1/sites/demo/devices/a"
	for _, tt := range []struct {
		fail   error
		status int
		retry  bool
	}{
		{fmt.Errorf("x: %w", api.ErrOverloaded), 429, true},
		{fmt.Errorf("x: %w", api.ErrUnavailable), 503, true},
		{fmt.Errorf("x: %w", persistence.ErrUnreachable), 503, true},
		{fmt.Errorf("x: %w", api.ErrNotFound), 404, false},
		{context.DeadlineExceeded, 504, false},
		{fmt.Errorf("%w: x", messages.ErrInvalid), 400, false},
		{fmt.Errorf("secret-address refused"), 500, false},
	} {
		f.Set(func(f *apitest.Fleet) { f.Fail = tt.fail })
		for _, got := range []answer{
			f.do(t, "POST", posts, `{"device":"a","values":[1]}`),
			f.do(t, "GET", device, ""), f.do(t, "GET", device+"/readings", ""), f.do(t, "GET", device+"/window", ""),
			f.do(t, "GET", device+"/rollups", ""), f.do(t, "GET", "/api/v1/sites/demo/devices", ""), f.do(t, "DELETE", device, ""),
		} {
			detail := got.problem(t, tt.status)
			if tt.retry != (got.header.Get("Retry-After") != "") {
				t.Errorf("%v: Retry-After is %q", tt.fail, got.header.Get("Retry-After"))
			}
			if strings.Contains(detail, "secret") {
				t.Errorf("%q tells the cause to a stranger", detail)
			}
		}
	}
}

func TestReadingsInPages(t *testing.T) {
	f := start(t, nil)
	f.fill(t, "a", 25)
	type row struct {
		Time   time.Time
		Values []float64
	}
	walk := func(query string) (seconds []int64) {
		cursor := ""
		for range 10 {
			var page struct {
				Readings []row
				Cursor   string
			}
			f.do(t, "GET", "/api/v1/sites/demo/devices/a/readings?limit=10&"+query+"&cursor="+cursor, "").into(t, &page)
			for _, r := range page.Readings {
				seconds = append(seconds, r.Time.Unix())
			}
			if cursor = page.Cursor; cursor == "" {
				return seconds
			}
		}
		t.Fatal("the pages never end")
		return nil
	}
	series := func(from, to int64) (out []int64) {
		step := int64(1)
		if from > to {
			step = -1
		}
		for s := from; s != to+step; s += step {
			out = append(out, s)
		}
		return out
	}
	for query, want := range map[string][]int64{
		"":                                       series(24, 0),
		"from=0":                                 series(0, 24),
		"to=1970-01-01T00:00:09Z":                series(0, 9),
		"from=3000&to=22000":                     series(3, 22),
		"from=22000&to=3000":                     series(22, 3),
		"from=5000&to=5000":                      series(5, 5),
		"from=1970-01-01T00:00:14.001Z&to=24000": series(15, 24),
	} {
		if diff := cmp.Diff(want, walk(query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	for _, query := range []string{"limit=0", "limit=10001", "limit=x", "from=yesterday", "to=x", "cursor=%25", "cursor=eHg", "form=1"} {
		f.do(t, "GET", "/api/v1/sites/demo/devices/a/readings?"+query, "").problem(t, 400)
	}
	f.do(t, "GET", "/api/v1/sites/demo/devices/none/readings", "").problem(t, 404)
	f.do(t, "GET", "/api/v1/sites/demo/devices/no.ne/readings", "").problem(t, 400)
}

func TestRollupsInPages(t *testing.T) {
	f := start(t, nil)
	f.fill(t, "a", 7200)
	type page struct {
		Rollups []struct {
			Start    time.Time
			Step     string
			Count    int
			Channels []struct{ Count, Min, Max, Sum, First, Last float64 }
		}
		Cursor string
	}
	var p page
	f.do(t, "GET", "/api/v1/sites/demo/devices/a/rollups?step=1h&from=0", "").into(t, &p)
	if len(p.Rollups) != 2 || p.Rollups[1].Step != "1h" || p.Rollups[1].Count != 3600 || p.Rollups[1].Channels[0].Min != 3600 || p.Rollups[1].Channels[1].Last != -7199 {
		t.Errorf("hours: got %+v", p)
	}
	total, cursor := 0, ""
	for range 5 {
		p = page{}
		f.do(t, "GET", "/api/v1/sites/demo/devices/a/rollups?limit=50&cursor="+cursor, "").into(t, &p)
		total += len(p.Rollups)
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if total != 120 {
		t.Errorf("got %d minutes, want 120", total)
	}
}

func TestDevicesInPages(t *testing.T) {
	f := start(t, nil)
	for i := range 25 {
		f.fill(t, fmt.Sprintf("d%02d", i), 1)
	}
	for _, sort := range []string{"name", "lastSeen"} {
		seen, cursor := map[string]bool{}, ""
		for range 10 {
			var page struct {
				Devices []struct{ Device string }
				Cursor  string
			}
			f.do(t, "GET", "/api/v1/sites/demo/devices?limit=10&query=d&status=online&sort="+sort+"&cursor="+cursor, "").into(t, &page)
			for _, d := range page.Devices {
				if seen[d.Device] {
					t.Errorf("%s: %s comes twice", sort, d.Device)
				}
				seen[d.Device] = true
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		if len(seen) != 25 {
			t.Errorf("%s: got %d devices, want 25", sort, len(seen))
		}
	}
	if got := f.do(t, "GET", "/api/v1/sites/demo/devices?status=offline", ""); strings.TrimSpace(got.text) != `{"devices":[]}` {
		t.Errorf("got %s", got.text)
	}
	for _, query := range []string{"status=dead", "sort=size", "limit=1001", "cursor=AAAA", "sort=lastSeen&cursor=" + api.Cursor(messages.DeviceRow{Device: messages.DeviceID{Device: "a"}}, "name")} {
		f.do(t, "GET", "/api/v1/sites/demo/devices?"+query, "").problem(t, 400)
	}
}

func TestHealthAndUnknown(t *testing.T) {
	f := start(t, func(o *api.Options) {
		o.Hosts = []string{"wellhead.example"}
		o.Page = fstest.MapFS{"index.html": {Data: []byte("<p>page")}, "app.js": {Data: []byte("1")}}
		o.Operations = func() []api.Operation {
			return []api.Operation{{Store: "archive", Operation: "append", Count: 3, P99: .5}}
		}
	})
	if got := f.do(t, "GET", "/livez", ""); got.status != 200 {
		t.Errorf("livez: got %d", got.status)
	}
	if got := f.do(t, "GET", "/readyz", ""); got.status != 200 {
		t.Errorf("readyz: got %d", got.status)
	}
	f.Set(func(f *apitest.Fleet) {
		f.NotReady = []string{"the archive cannot be reached", "3 shards are starting"}
	})
	if got := f.do(t, "GET", "/readyz", "").problem(t, 503); got != "Not ready: the archive cannot be reached; 3 shards are starting" {
		t.Errorf("readyz: got %q", got)
	}
	page := f.do(t, "GET", "/", "")
	if page.text != "<p>page" || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'self'") || page.header.Get("X-Content-Type-Options") != "nosniff" || page.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("page: got %s %v", page.text, page.header)
	}
	f.do(t, "GET", "/nowhere", "").problem(t, 404)
	f.do(t, "GET", "/metrics", "").problem(t, 404)
	f.do(t, "GET", "/api/v1/teapot", "").problem(t, 404)
	f.do(t, "POST", "/", "").problem(t, 404)
	got := f.do(t, "PATCH", "/api/v1/sites/demo/devices/a", "")
	if got.problem(t, 405); got.header.Get("Allow") != "GET, DELETE" {
		t.Errorf("Allow: got %q", got.header.Get("Allow"))
	}
	f.do(t, "GET", "/livez", "", "Host", "evil.example").problem(t, 403)
	for _, host := range []string{"localhost:8080", "127.0.0.1:1", "[::1]:1", "[::1]", "wellhead.example:80", "wellhead.example"} {
		if got := f.do(t, "GET", "/livez", "", "Host", host); got.status != 200 {
			t.Errorf("host %s: got %d", host, got.status)
		}
	}
	var ops struct{ Operations []api.Operation }
	f.do(t, "GET", "/api/v1/operations", "").into(t, &ops)
	if len(ops.Operations) != 1 || ops.Operations[0].Count != 3 {
		t.Errorf("operations: got %+v", ops)
	}
}

func TestOpenAPINamesEveryPath(t *testing.T) {
	f := start(t, nil)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ OperationID string }
	}
	f.do(t, "GET", "/api/v1/openapi.json", "").into(t, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version: got %s", doc.OpenAPI)
	}
	const device = "/api/v1/sites/{site}/devices/{device}"
	for path, methods := range map[string]string{
		"/api/v1/sites": "get", "/api/v1/sites/{site}/devices": "get", "/api/v1/sites/{site}/readings": "post",
		device: "get delete", device + "/latest": "get", device + "/window": "get delete", device + "/readings": "get",
		device + "/rollups": "get", device + "/settings": "put", "/api/v1/sites/{site}/settings": "get put", "/api/v1/live": "get", "/api/v1/operations": "get", "/api/v1/totals": "get",
	} {
		for _, m := range strings.Fields(methods) {
			if doc.Paths[path][m].OperationID == "" {
				t.Errorf("%s %s is not documented", m, path)
			}
		}
	}
}

func TestProtobufReadings(t *testing.T) {
	f := start(t, nil)
	rows := make([]messages.Reading, 2500)
	for i := range rows {
		rows[i] = messages.Reading{Time: int64(i), Values: []float64{float64(i), math.NaN()}, Note: fmt.Sprint(i % 2)}
	}
	if err := f.Publish(t.Context(), "demo", []api.DeviceReadings{{Device: "a", Readings: rows}}, api.How{}); err != nil {
		t.Fatal(err)
	}
	got := f.do(t, "GET", "/api/v1/sites/demo/devices/a/readings?from=0&limit=2400", "", "Accept", "application/x-protobuf")
	if got.status != 200 || got.header.Get("Content-Type") != "application/x-protobuf" || got.header.Get("Wellhead-Cursor") == "" {
		t.Fatalf("got %d %v", got.status, got.header)
	}
	next := readBatches(t, []byte(got.text), "a")
	got = f.do(t, "GET", "/api/v1/sites/demo/devices/a/readings?from=0&limit=2400&cursor="+got.header.Get("Wellhead-Cursor"), "", "Accept", "application/x-protobuf")
	if got.header.Get("Wellhead-Cursor") != "" {
		t.Error("the last page has a cursor")
	}
	next = append(next, readBatches(t, []byte(got.text), "a")...)
	same := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
	if diff := cmp.Diff(rows, next, same); diff != "" {
		t.Error(diff)
	}
}

// A thousand readings of 64 channels with the longest notes are more than one message may hold.
func TestProtobufReadingsOfTheLargestKind(t *testing.T) {
	f := start(t, nil)
	rows := make([]messages.Reading, 1500)
	for i := range rows {
		rows[i] = messages.Reading{Time: int64(i), Values: make([]float64, messages.MaxChannels), Note: strings.Repeat("n", messages.MaxNote)}
	}
	if err := f.Publish(t.Context(), "demo", []api.DeviceReadings{{Device: "a", Readings: rows}}, api.How{}); err != nil {
		t.Fatal(err)
	}
	got := f.do(t, "GET", "/api/v1/sites/demo/devices/a/readings?from=0&limit=10000", "", "Accept", "application/x-protobuf")
	if diff := cmp.Diff(rows, readBatches(t, []byte(got.text), "a")); diff != "" {
		t.Error(diff)
	}
}
