package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

// startNamed is start with a registry for the names of channels.
func startNamed(t *testing.T, registry *apitest.Registry, change func(*api.Options)) *face {
	t.Helper()
	return start(t, func(o *api.Options) {
		o.Registry = registry
		if change != nil {
			change(o)
		}
	})
}

// rows returns a device's readings as text.
func (f *face) rows(t *testing.T, device string) []string {
	t.Helper()
	var page struct {
		Readings []struct {
			Time   string
			Values []*float64
			Note   string
		}
	}
	f.do(t, "GET", "/api/v1/sites/demo/devices/"+device+"/readings?from=0&limit=10000", "").into(t, &page)
	var out []string
	for _, r := range page.Readings {
		values, err := json.Marshal(r.Values)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s %s", r.Time[14:23], values, r.Note))
	}
	return out
}

type taken struct {
	Accepted, RefusedCount int
	Refused                []struct {
		Line           int
		Device, Reason string
	}
	IgnoredTags []string
}

func TestPostLineProtocol(t *testing.T) {
	f := startNamed(t, new(apitest.Registry), nil)
	const text = `# two devices
pump-1 temperature=20.5,pressure=2i 1000
pump-1 running=t 1000
pump-2,host=a c2=3,said="hi" 1000
pump 3 c0=1 1000
pump-1 pressure=9 1000
pump-1 pressure=9,temperature=21 2000
`
	for name, headers := range map[string][]string{
		"text/plain": {"Content-Type", "text/plain; charset=utf-8"}, "a form, as curl says": {"Content-Type", "application/x-www-form-urlencoded"}, "nothing": nil,
	} {
		var got taken
		a := f.do(t, "POST", posts+"?precision=ms", text, headers...)
		a.into(t, &got)
		if a.status != 200 || got.Accepted != 3 || got.RefusedCount != 2 || !cmp.Equal(got.IgnoredTags, []string{"host"}) {
			t.Errorf("%s: got %d %s", name, a.status, a.text)
		}
		if r := got.Refused[0]; r.Line != 5 || !strings.Contains(r.Reason, "'=' after field key") {
			t.Errorf("%s: got %+v", name, r)
		}
		if r := got.Refused[1]; r.Line != 6 || r.Device != "pump-1" || !strings.Contains(r.Reason, "another value") {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	// pressure and temperature came first, in this line's alphabetical order; then running
	if diff := cmp.Diff([]string{"00:01.000 [2,20.5,1] ", "00:02.000 [9,21] "}, f.rows(t, "pump-1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"00:01.000 [null,null,3] hi"}, f.rows(t, "pump-2")); diff != "" {
		t.Error(diff)
	}
	if got := f.do(t, "GET", "/api/v1/sites/demo/channels", "").text; got != `{"channels":["pressure","temperature","running"]}`+"\n" {
		t.Errorf("channels: got %s", got)
	}
	if got := f.do(t, "POST", posts, ` [{"device":"a","time":1,"values":[1]}]`, "Content-Type", "text/plain"); !strings.Contains(got.text, `"accepted":1`) {
		t.Errorf("JSON as text/plain: got %s", got.text)
	}
	for query, want := range map[string]string{"precision=day": "ns, us, ms or s", "wait=no": "wait=stored", "x=1": `"x"`} {
		if got := f.do(t, "POST", posts+"?"+query, "a c0=1 5").problem(t, 400); !strings.Contains(got, want) {
			t.Errorf("%s: got %q", query, got)
		}
	}
	if got := f.do(t, "POST", posts+"?precision=ms", `{"device":"a","values":[1]}`).problem(t, 400); !strings.Contains(got, "line protocol") {
		t.Errorf("precision with JSON: got %q", got)
	}
	if got := f.do(t, "POST", posts, "#\n").problem(t, 400); !strings.Contains(got, "no line") {
		t.Errorf("comments only: got %q", got)
	}
	if got := f.do(t, "POST", posts, "a c0=1,c1 5").problem(t, 400); !strings.Contains(got, "No reading was taken") {
		t.Errorf("one bad line: got %q", got)
	}
}

// TestLinesMerge posts what may and may not make one reading.
func TestLinesMerge(t *testing.T) {
	f := startNamed(t, new(apitest.Registry), nil)
	got := f.do(t, "POST", posts+"?precision=ms", `temperature,device=d value=20 1000
other,device=e c0=1 1000
pressure,device=d value=3,said="one" 1000
temperature,device=d value=20,said="one" 1000
temperature,device=d value=20,said="two" 1000
temperature,device=d value=21 1001
d c5=5 1000
`)
	var out taken
	got.into(t, &out)
	if out.Accepted != 3 || out.RefusedCount != 1 || out.Refused[0].Line != 5 || !strings.Contains(out.Refused[0].Reason, "one note") {
		t.Errorf("got %s", got.text)
	}
	if diff := cmp.Diff([]string{"00:01.000 [20,3,null,null,null,5] one", "00:01.001 [21] "}, f.rows(t, "d")); diff != "" {
		t.Error(diff)
	}
	// without timestamps all lines of a request have the time it came
	f.do(t, "POST", posts, "n c0=1\nn c1=2\n").into(t, &out)
	if rows := f.rows(t, "n"); out.Accepted != 1 || len(rows) != 1 || !strings.Contains(rows[0], "[1,2]") {
		t.Errorf("got %v", rows)
	}
}

// TestLargeLineProtocol posts more than is published at once, packed and unpacked.
func TestLargeLineProtocol(t *testing.T) {
	f := startNamed(t, new(apitest.Registry), func(o *api.Options) { o.Limits.Body = 1000 }) // a limit of JSON
	const n = 35_000
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "d%d a=%d %d\nd%d b=1 %d\n", i%7, i, i, i%7, i) // two lines a reading
	}
	fmt.Fprintf(&text, "d0 c=1 0\nd0 b=1 %d\n", n-7)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(text.Bytes())
	_ = z.Close()
	for name, a := range map[string]answer{ // posted in this order
		"as it is": f.do(t, "POST", posts+"?precision=ms", text.String()),
		"packed":   f.do(t, "POST", posts+"?precision=ms&wait=stored", packed.String(), "Content-Encoding", "gzip", "Content-Type", "text/plain"),
	} {
		var out taken
		a.into(t, &out)
		if a.status != 200 || out.Accepted != n || out.RefusedCount != 1 || out.Refused[0].Line != 2*n+1 || !strings.Contains(out.Refused[0].Reason, "next to each other") {
			t.Errorf("%s: got %d %.300s", name, a.status, a.text)
		}
	}
	for i, row := range f.rows(t, "d3") {
		if !strings.HasSuffix(row, fmt.Sprintf(" [%d,1] ", 3+7*i)) {
			t.Fatalf("reading %d of d3: got %s", i, row)
		}
	}
	var state struct{ Counts messages.Counts }
	f.do(t, "GET", "/api/v1/sites/demo/devices/d3", "").into(t, &state)
	if state.Counts.InOrder != n/7 || state.Counts.Duplicate != n/7 {
		t.Errorf("got %+v, want %d in order and then as many again", state.Counts, n/7)
	}
	if f.Stored != 1 {
		t.Errorf("waited %d times until all was stored, want once", f.Stored)
	}
	if got := f.do(t, "POST", posts, packed.String()[:packed.Len()/2], "Content-Encoding", "gzip").problem(t, 400); !strings.Contains(got, "damaged at line") {
		t.Errorf("cut short: got %q", got)
	}
}

// TestLinesTakeFromTheBudget posts again and again what does not fit into the memory that bodies share.
func TestLinesTakeFromTheBudget(t *testing.T) {
	f := startNamed(t, nil, func(o *api.Options) { o.Limits.Bodies = 1 << 20; o.Registry = nil })
	var text bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&text, "d c0=1 %d\n", i)
	}
	for range 3 {
		if got := f.do(t, "POST", posts+"?precision=ms", text.String()); got.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %v", got.header)
		} else {
			got.problem(t, 429)
		}
		if got := f.do(t, "POST", "/write?db=demo&precision=ms", text.String()); got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("got %d %v", got.status, got.header)
		}
		if got := f.do(t, "POST", posts, "d c0=1 5\n"); got.status != 200 {
			t.Errorf("got %d %s, want 200", got.status, got.text)
		}
	}
}

// TestLinesAreCounted posts one reading more than a request may bring.
func TestLinesAreCounted(t *testing.T) {
	f := full{apitest.New(), nil}
	h := api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: slog.New(slog.DiscardHandler)})
	var text []byte
	for i := range 1_000_001 {
		text = append(strconv.AppendInt(append(text, "d c0=1 "...), int64(i), 10), '\n')
	}
	for more, want := range map[int]int{0: 200, 1: 413} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", posts+"?precision=ms", bytes.NewReader(text[:len(text)-(1-more)*len("d c0=1 1000000\n")])))
		if w.Code != want {
			t.Errorf("a million lines and %d: got %d %s, want %d", more, w.Code, w.Body, want)
		}
	}
}

// TestLinesMayTakeTheirTime sends a body more slowly than the server would read a whole request.
func TestLinesMayTakeTheirTime(t *testing.T) {
	f := apitest.New()
	server := api.NewServer(api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: slog.New(slog.DiscardHandler)}), slog.New(slog.DiscardHandler))
	server.ReadTimeout = 100 * time.Millisecond
	s := serve(t, server)
	body, in := io.Pipe()
	go func() {
		line := "d c0=1 1\n" + strings.Repeat("#", 1000) + "\n"
		_, _ = io.WriteString(in, line)
		<-time.After(3 * server.ReadTimeout)
		_, _ = io.WriteString(in, "d c0=1 2\n")
		_ = in.Close()
	}()
	resp, err := http.Post(s.URL+"/write?db=demo&precision=ms", "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); resp.StatusCode != 204 {
		t.Errorf("got %d %s %v, want 204", resp.StatusCode, text, err)
	}
}

func TestInfluxWrite(t *testing.T) {
	f := startNamed(t, new(apitest.Registry), nil)
	const v2, v1 = "/api/v2/write?org=o&bucket=demo&precision=ms", "/write?db=demo&precision=ms&rp=autogen&consistency=all"
	for _, path := range []string{v2, v1} {
		got := f.do(t, "POST", path, "w,device=a,host=h pressure=1 5\n", "Authorization", "Token secret", "Content-Type", "text/plain")
		if got.status != 204 || got.text != "" || got.header.Get("X-Influxdb-Version") == "" || got.header.Get("Wellhead-Ignored-Tags") != "host" {
			t.Errorf("%s: got %d %v %s, want 204", path, got.status, got.header, got.text)
		}
	}
	const bad = "a c0=1 6\na.b c0=1 6\na c0=1 7\na\n"
	var doc struct {
		Code, Message, Error string
		Line                 int
		taken
	}
	got := f.do(t, "POST", v2, bad)
	got.into(t, &doc)
	if got.status != 400 || doc.Code != "invalid" || doc.Line != 2 || doc.Accepted != 2 || len(doc.Refused) != 2 || doc.Refused[1].Line != 4 ||
		!strings.HasPrefix(doc.Message, "partial write: 2 refused") || !strings.Contains(doc.Message, "; line 4: ") {
		t.Errorf("got %d %s", got.status, got.text)
	}
	if rows := f.rows(t, "a"); len(rows) != 3 {
		t.Errorf("got %q, want three readings", rows)
	}
	got = f.do(t, "POST", v1, bad)
	if got.into(t, &doc); got.status != 400 || doc.Error != doc.Message || got.header.Get("X-Influxdb-Error") != doc.Error {
		t.Errorf("version 1: got %d %v %s", got.status, got.header, got.text)
	}
	got = f.do(t, "POST", v1, "a\n")
	if got.into(t, &doc); got.status != 400 || !strings.HasPrefix(doc.Error, "unable to parse") {
		t.Errorf("nothing good: got %d %s", got.status, got.text)
	}
	for path, want := range map[string]string{
		"/api/v2/write?org=o":                    "bucket=: it is the site",
		"/api/v2/write?bucket=db/autogen":        "1 to 64 characters",
		"/api/v2/write?bucket=demo&precision=ps": "ns, us, ms or s",
		"/api/v2/write?bucket=demo":              "no line",
	} {
		got := f.do(t, "POST", path, "")
		if got.into(t, &doc); got.status != 400 || doc.Code != "invalid" || !strings.Contains(doc.Message, want) {
			t.Errorf("%s: got %d %s, want %q", path, got.status, got.text, want)
		}
	}
	for fail, status := range map[error]int{api.ErrOverloaded: 503, api.ErrUnavailable: 503, fmt.Errorf("secret"): 500} {
		f.Set(func(f *apitest.Fleet) { f.Fail = fail })
		got := f.do(t, "POST", v2, "a c0=1 6\n")
		if got.status != status || (status == 503) != (got.header.Get("Retry-After") != "") || strings.Contains(got.text, "secret") {
			t.Errorf("%v: got %d %v %s", fail, got.status, got.header, got.text)
		}
	}
}

// TestLinesOutOfTime posts event times that the device would refuse.
func TestLinesOutOfTime(t *testing.T) {
	f := startNamed(t, nil, func(o *api.Options) {
		o.Registry, o.Limits.MaxFuture, o.Limits.MaxAge = nil, time.Minute, time.Hour
	})
	now := time.Now()
	var out taken
	f.do(t, "POST", posts+"?precision=s", fmt.Sprintf("a c0=1 %d\na c0=2 %d\na c0=3 %d\n", now.Add(2*time.Minute).Unix(), now.Unix(), now.Add(-2*time.Hour).Unix())).into(t, &out)
	if out.Accepted != 1 || out.RefusedCount != 2 || !strings.Contains(out.Refused[0].Reason, "ahead of") || !strings.Contains(out.Refused[1].Reason, "behind") {
		t.Errorf("got %+v", out)
	}
}

func TestInfluxStart(t *testing.T) {
	f := start(t, nil)
	for _, path := range []string{"/ping", "/api/v2/ping"} {
		for _, method := range []string{"GET", "HEAD"} {
			if got := f.do(t, method, path, ""); got.status != 204 || !strings.HasPrefix(got.header.Get("X-Influxdb-Version"), "v2.") {
				t.Errorf("%s %s: got %d %v", method, path, got.status, got.header)
			}
		}
	}
	if got := f.do(t, "GET", "/health", ""); got.status != 200 || !strings.Contains(got.text, `"status":"pass"`) {
		t.Errorf("got %d %s", got.status, got.text)
	}
	f.Set(func(f *apitest.Fleet) { f.NotReady = []string{"asleep"} })
	if got := f.do(t, "GET", "/health", ""); got.status != 503 || !strings.Contains(got.text, `"status":"fail"`) || !strings.Contains(got.text, "asleep") {
		t.Errorf("got %d %s", got.status, got.text)
	}
	for q, status := range map[string]int{`q=CREATE+DATABASE+"demo"`: 200, `q=create+database+demo`: 200, `q=CREATE+DATABASE+"a+b"`: 400, `q=SHOW+DATABASES`: 400, "": 400} {
		got := f.do(t, "POST", "/query", q, "Content-Type", "application/x-www-form-urlencoded")
		if got.status != status || !json.Valid([]byte(got.text)) {
			t.Errorf("%s: got %d %s, want %d", q, got.status, got.text, status)
		}
	}
}

// TestChannelNamesGoWithTheSite deletes a site: its fields begin anew, those of another site stay.
func TestChannelNamesGoWithTheSite(t *testing.T) {
	registry := new(apitest.Registry)
	f := startNamed(t, registry, nil)
	channels := func(site string) string {
		return strings.TrimSpace(f.do(t, "GET", "/api/v1/sites/"+site+"/channels", "").text)
	}
	send := func(site, line string) {
		t.Helper()
		if a := f.do(t, "POST", "/api/v1/sites/"+site+"/readings?precision=ms", line); a.status != 200 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
	}
	send("demo", "a pressure=1 1")
	send("other", "a pressure=1 1")
	for range 2 { // once more does no harm
		if a := f.do(t, "DELETE", "/api/v1/sites/demo", ""); a.status != 202 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
	}
	if got := channels("demo"); got != `{"channels":[]}` {
		t.Errorf("after the deletion: got %s", got)
	}
	send("demo", "a temperature=1,flow=2 1")
	send("demo", "a pressure=1 2")
	if got, want := channels("demo"), `{"channels":["flow","temperature","pressure"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := channels("other"), `{"channels":["pressure"]}`; got != want {
		t.Errorf("the other site: got %s, want %s", got, want)
	}
}

// TestChannelNamesFill gives a site more names than there are channels.
func TestChannelNamesFill(t *testing.T) {
	registry := new(apitest.Registry)
	f := startNamed(t, registry, nil)
	var text strings.Builder
	for i := range 70 {
		fmt.Fprintf(&text, "a name-%02d=%d %d\n", i, i, i)
	}
	for range 2 {
		var out taken
		f.do(t, "POST", posts+"?precision=ms", text.String()).into(t, &out)
		if out.Accepted != 64 || out.RefusedCount != 6 || out.Refused[0].Line != 65 || !strings.Contains(out.Refused[0].Reason, "no room") {
			t.Fatalf("got %+v", out)
		}
	}
	if got := registry.Gets(); got > 64 {
		t.Errorf("the registry was asked %d times for 64 names", got)
	}
	if rows := f.rows(t, "a"); !strings.HasPrefix(rows[63], "00:00.063 [null,") || !strings.HasSuffix(rows[63], ",63] ") {
		t.Errorf("got %s", rows[63])
	}
	if got := start(t, nil).do(t, "POST", posts, "a name=1 5").problem(t, 400); !strings.Contains(got, "c0 to c63") {
		t.Errorf("without a registry: got %q", got)
	}
}

// TestChannelNamesBeginWithTheSettings names channels in a site's settings before its first line comes.
func TestChannelNamesBeginWithTheSettings(t *testing.T) {
	f := startNamed(t, new(apitest.Registry), nil)
	const settings = `{"channels":[{"name":"pressure"},{"name":""},{"name":"temperature"},{"name":"pressure"}]}`
	if got := f.do(t, "PUT", "/api/v1/sites/demo/settings", settings, "Content-Type", "application/json"); got.status >= 300 {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	f.do(t, "POST", posts+"?precision=ms", "a flow=4,temperature=2,pressure=1 5")
	f.do(t, "POST", posts+"?precision=ms", "a temperature=3 6")
	if diff := cmp.Diff([]string{"00:00.005 [1,null,2,null,4] ", "00:00.006 [null,null,3] "}, f.rows(t, "a")); diff != "" {
		t.Error(diff)
	}
	if got := f.do(t, "GET", "/api/v1/sites/demo/channels", "").text; !strings.Contains(got, `["pressure","","temperature","pressure","flow"]`) {
		t.Errorf("channels: got %s", got)
	}
}

// TestChannelNamesOfManyMembers lets members that share a registry get new names at the same time.
func TestChannelNamesOfManyMembers(t *testing.T) {
	registry := new(apitest.Registry)
	var wg sync.WaitGroup
	for m := range 4 {
		f := startNamed(t, registry, nil)
		wg.Go(func() {
			for i := range 16 {
				body := fmt.Sprintf("a n%d=%d,m%d=1 %d", i, i, m, i)
				resp, err := http.Post(f.server.URL+posts+"?precision=ms", "text/plain", strings.NewReader(body))
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: got %v, %v", body, resp, err)
					return
				}
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	var list struct{ Channels []string }
	f := startNamed(t, registry, nil)
	f.do(t, "GET", "/api/v1/sites/demo/channels", "").into(t, &list)
	at := map[string]int{}
	for i, name := range list.Channels {
		if _, twice := at[name]; twice {
			t.Errorf("%s has two channels", name)
		}
		at[name] = i
	}
	if len(at) != 20 {
		t.Fatalf("got %q, want 20 names", list.Channels)
	}
	f.do(t, "POST", posts+"?precision=ms", "b m3=7 1")
	if rows := f.rows(t, "b"); strings.Count(rows[0], "null") != at["m3"] {
		t.Errorf("got %s, want m3 as channel %d", rows[0], at["m3"])
	}
}
