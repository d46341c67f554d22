package verify

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the HTTP face of an archive that is a map.
type server struct {
	protobuf bool
	page     int // most readings of a page
	slow     int // asked for more readings than that it takes too long; 0 = never
	busy     atomic.Int32
	requests atomic.Int32

	mu      sync.Mutex
	stored  map[string]map[int64]messages.Reading
	rollups map[string]string // answers by device and step
	window  int
}

func (s *server) start(t testing.TB) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /api/v1/sites/{site}/devices/{device}/readings", s.readings)
	mux.HandleFunc("GET /api/v1/sites/{site}/devices/{device}/window", s.answerWindow)
	mux.HandleFunc("GET /api/v1/sites/{site}/devices/{device}/rollups", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, cmp.Or(s.rollups[r.PathValue("device")+r.FormValue("step")], `{"rollups":[]}`))
	})
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	c, err := NewClient(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *server) sorted(device string) []messages.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.stored[device]), func(a, b messages.Reading) int { return cmp.Compare(a.Time, b.Time) })
}

func (s *server) readings(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if s.busy.Add(-1) >= 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if limit, _ := strconv.Atoi(r.FormValue("limit")); s.slow > 0 && limit > s.slow {
		w.WriteHeader(http.StatusGatewayTimeout)
		return
	}
	all := s.sorted(r.PathValue("device"))
	if all == nil {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"title":"Not Found","detail":"no such device"}`)
		return
	}
	from, _ := strconv.ParseInt(cmp.Or(r.FormValue("cursor"), r.FormValue("from")), 10, 64)
	to, _ := strconv.ParseInt(r.FormValue("to"), 10, 64)
	all = slices.DeleteFunc(all, func(r messages.Reading) bool { return r.Time < from || r.Time > to })
	cursor := ""
	if len(all) > s.page {
		all = all[:s.page]
		cursor = strconv.FormatInt(all[len(all)-1].Time+1, 10)
	}
	if s.protobuf && strings.Contains(r.Header.Get("Accept"), protobuf) {
		w.Header().Set("Content-Type", protobuf)
		w.Header().Set(cursorHeader, cursor)
		for part := range slices.Chunk(all, 3) {
			b := messages.AppendBatch(nil, &messages.Batch{Blocks: []messages.Block{{Device: "d", Readings: part}}})
			w.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
		}
		return
	}
	fmt.Fprintf(w, `{"readings":%s,"cursor":%q}`, asJSON(all), cursor)
}

func (s *server) answerWindow(w http.ResponseWriter, r *http.Request) {
	all := s.sorted(r.PathValue("device"))
	fmt.Fprintf(w, `{"readings":%s}`, asJSON(all[max(0, len(all)-s.window):]))
}

func asJSON(readings []messages.Reading) []byte {
	list := []map[string]any{}
	for _, r := range readings {
		values := make([]*float64, len(r.Values))
		for i, v := range r.Values {
			if v == v {
				values[i] = &v
			}
		}
		list = append(list, map[string]any{"time": clock(r.Time), "values": values, "note": r.Note, "sequence": 1})
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return b
}

// device is what was sent of a device, as Run wants it.
func device(name string, readings []messages.Reading) Device {
	d := Device{Name: name, Sent: int64(len(readings)), Readings: slices.Values(readings)}
	if len(readings) > 0 {
		d.First, d.Last = readings[0].Time, readings[len(readings)-1].Time
	}
	return d
}

func devices(list ...Device) iter.Seq2[Device, error] {
	return func(yield func(Device, error) bool) {
		for _, d := range list {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func values(v ...float64) []float64 { return v }

var nan = math.NaN()

// TestCountsAgree compares the report with set arithmetic over maps, whatever is wrong in the archive.
func TestCountsAgree(t *testing.T) {
	s := &server{}
	client := s.start(t)
	rapid.Check(t, func(rt *rapid.T) {
		reading := rapid.Custom(func(t *rapid.T) messages.Reading {
			return messages.Reading{
				Time:   rapid.Int64Range(-20, 20).Draw(t, "time"),
				Values: rapid.SliceOfN(rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 0.1, 1e300, nan}), 0, 3).Draw(t, "values"),
				Note:   rapid.SampledFrom([]string{"", "a"}).Draw(t, "note"),
			}
		})
		s.protobuf = rapid.Bool().Draw(rt, "protobuf")
		s.page = rapid.IntRange(1, 10).Draw(rt, "page")
		s.stored = map[string]map[int64]messages.Reading{}
		var list []Device
		want := Report{Differences: []string{}}
		for i := range rapid.IntRange(1, 4).Draw(rt, "devices") {
			sent, stored := map[int64]messages.Reading{}, map[int64]messages.Reading{}
			for _, r := range rapid.SliceOf(reading).Draw(rt, "sent") {
				sent[r.Time] = r
				if rapid.IntRange(0, 9).Draw(rt, "kept") > 0 {
					stored[r.Time] = r
				}
			}
			for _, r := range rapid.SliceOfN(reading, 0, 3).Draw(rt, "wrong") {
				stored[r.Time] = r
			}
			name := fmt.Sprintf("d%d", i)
			s.stored[name] = stored
			ordered := slices.SortedFunc(maps.Values(sent), func(a, b messages.Reading) int { return cmp.Compare(a.Time, b.Time) })
			d := device(name, ordered)
			list = append(list, d)
			count(&want, d, sent, stored)
		}
		got, err := Run(t.Context(), devices(list...), Options{Client: client, Site: "s"})
		if err != nil {
			rt.Fatal(err)
		}
		if diff := gocmp.Diff(want, got, cmpopts.IgnoreFields(Report{}, "Differences", "Seconds", "Rate")); diff != "" {
			rt.Fatalf("report (-want +got):\n%s\n%v", diff, got.Differences)
		}
		if n := want.Missing + want.Different + want.Unexpected; got.Clean() != (n == 0) || len(got.Differences) != int(min(n, maxDifferences)) {
			rt.Fatalf("%d differences: clean is %v, names %q", n, got.Clean(), got.Differences)
		}
	})
}

func count(want *Report, d Device, sent, stored map[int64]messages.Reading) {
	want.Devices++
	want.Sent += int64(len(sent))
	if len(sent) == 0 {
		return
	}
	for at, r := range stored {
		if at < d.First || at > d.Last {
			continue
		}
		want.Stored++
		other, ok := sent[at]
		if !ok {
			want.Unexpected++
			continue
		}
		want.Checked++
		if !plainlySame(r, other) {
			want.Different++
		}
	}
	for at := range sent {
		if _, ok := stored[at]; !ok {
			want.Missing++
		}
	}
}

// plainlySame compares readings as text, without omitted values at the end.
func plainlySame(a, b messages.Reading) bool {
	say := func(r messages.Reading) string {
		text := ""
		for _, v := range r.Values {
			text += " " + strconv.FormatFloat(v, 'x', -1, 64)
		}
		for strings.HasSuffix(text, " NaN") {
			text = strings.TrimSuffix(text, " NaN")
		}
		return text + "|" + r.Note
	}
	return say(a) == say(b)
}

func TestDifferencesAreNamed(t *testing.T) {
	s := &server{page: 100, stored: map[string]map[int64]messages.Reading{"pump-1": {
		1000: {Time: 1000, Values: values(1.5), Note: "x"},
		3000: {Time: 3000, Values: values(3)},
		3500: {Time: 3500, Values: values(nan, 4)},
	}}}
	sent := []messages.Reading{{Time: 1000, Values: values(1.25, nan)}, {Time: 2000, Values: values(2), Note: "hi"}, {Time: 3000, Values: values(3, nan)}, {Time: 4000}}
	got, err := Run(t.Context(), devices(device("pump-1", sent)), Options{Client: s.start(t), Site: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`different: demo/pump-1 at 1970-01-01T00:00:01.000Z, sent [1.25,null], stored [1.5] "x"`,
		`missing: demo/pump-1 at 1970-01-01T00:00:02.000Z, sent [2] "hi"`,
		`unexpected: demo/pump-1 at 1970-01-01T00:00:03.500Z has [null,4]`,
		`missing: demo/pump-1 at 1970-01-01T00:00:04.000Z, sent []`,
	}
	if diff := gocmp.Diff(want, got.Differences); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// TestWaits makes sure that what is still on its way is waited for, and a server that is busy too.
// TestSlowServer: where a large page takes too long, smaller ones are asked for.
func TestSlowServer(t *testing.T) {
	s := server{page: 300, slow: 300, stored: map[string]map[int64]messages.Reading{"d": {}}}
	var sent []messages.Reading
	for i := range 1000 {
		r := messages.Reading{Time: int64(i), Values: []float64{float64(i)}}
		sent, s.stored["d"][r.Time] = append(sent, r), r
	}
	d := Device{Name: "d", Sent: 1000, Last: 999, Readings: slices.Values(sent)}
	report, err := Run(t.Context(), func(yield func(Device, error) bool) { yield(d, nil) }, Options{Client: s.start(t), Site: "s"})
	if err != nil || !report.Clean() || report.Checked != 1000 {
		t.Errorf("got %+v, %v", report, err)
	}
	if n := s.requests.Load(); n > 20 {
		t.Errorf("%d requests, want not many", n)
	}
}

func TestWaits(t *testing.T) {
	r := messages.Reading{Time: 1000, Values: values(1)}
	s := &server{page: 100, stored: map[string]map[int64]messages.Reading{}}
	client := s.start(t)
	s.busy.Store(2)
	go func() {
		for s.requests.Load() < 4 && t.Context().Err() == nil { // until Run has seen that it is missing
			time.Sleep(time.Millisecond)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stored["d"] = map[int64]messages.Reading{1000: r}
	}()
	got, err := Run(t.Context(), devices(device("d", []messages.Reading{r})), Options{Client: client, Site: "s", Wait: time.Minute})
	if err != nil || !got.Clean() || got.Checked != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	// what never comes ends the waiting early
	lost := device("lost", []messages.Reading{r})
	begun := time.Now()
	got, err = Run(t.Context(), devices(lost), Options{Client: client, Site: "s", Wait: time.Hour, Quiet: 300 * time.Millisecond})
	if err != nil || got.Missing != 1 || time.Since(begun) > 30*time.Second {
		t.Errorf("after %v got %+v, %v", time.Since(begun), got, err)
	}
}

func TestUnreachable(t *testing.T) {
	front := httptest.NewServer(http.NotFoundHandler())
	front.Close()
	c, err := NewClient(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), devices(), Options{Client: c, Wait: time.Hour}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	for _, bad := range []string{"", "ftp://x", "http://"} {
		if _, err := NewClient(bad); err == nil {
			t.Errorf("server %q: got no error", bad)
		}
	}
}

func TestWindowsAndRollups(t *testing.T) {
	// 0.1 + 0.2 + 0.3 rounded once is 0.6; added up from the left it would be 0.6000000000000001
	sent := []messages.Reading{
		{Time: 3_599_000, Values: values(0.1, nan)},
		{Time: 3_599_100, Values: values(0.2)},
		{Time: 3_599_200, Values: values(0.3)},
		{Time: 3_600_000, Values: values(-7, 1)},
	}
	stored := map[int64]messages.Reading{}
	for _, r := range sent {
		stored[r.Time] = r
	}
	const first = `{"start":"1970-01-01T00:%s:00.000Z","count":3,"channels":[{"count":3,"min":0.1,"max":0.3,"sum":0.6,"first":0.1,"last":0.3},{"count":0,"min":null}]}`
	const second = `{"start":"1970-01-01T01:00:00.000Z","count":1,"channels":[{"count":1,"min":-7,"max":-7,"sum":-7,"first":-7,"last":-7},{"count":1,"min":1,"max":1,"sum":1,"first":1,"last":1}]}`
	minutes := `{"rollups":[` + fmt.Sprintf(first, "59") + `,` + second + `]}`
	hours := `{"rollups":[` + fmt.Sprintf(first, "00") + `,` + second + `]}`
	for _, c := range []struct {
		name                  string
		minutes, hours        string
		window                int
		rollups, wrongWindows int64
		want                  string
	}{
		{"right", minutes, hours, 2, 0, 0, ""},
		{"sum rounded twice", strings.Replace(minutes, "0.6", "0.6000000000000001", 1), hours, 2, 1, 0, "rollup: 1m of s/d at 1970-01-01T00:59:00.000Z has sum 0.6000000000000001 of channel 0, not 0.6"},
		{"last is wrong", strings.Replace(minutes, `"last":0.3`, `"last":0.1`, 1), hours, 2, 1, 0, "has last 0.1"},
		{"one missing", minutes, `{"rollups":[` + second + `]}`, 2, 1, 0, "rollup: 1h of s/d at 1970-01-01T00:00:00.000Z is missing"},
		{"all missing", `{"rollups":[]}`, hours, 2, 2, 0, "1m of s/d at 1970-01-01T01:00:00.000Z is missing"},
		{"one too many", minutes, strings.Replace(hours, `T01:`, `T02:`, 1), 2, 2, 0, "T02:00:00.000Z is there and should not be"},
		{"window too small", minutes, hours, 1, 0, 1, "window: s/d has 1 readings, where the newest 2 were expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{page: 100, window: c.window, stored: map[string]map[int64]messages.Reading{"d": stored}, rollups: map[string]string{"d1m": c.minutes, "d1h": c.hours}}
			got, err := Run(t.Context(), devices(device("d", sent)), Options{Client: s.start(t), Site: "s", Rollups: true, Window: 2})
			if err != nil {
				t.Fatal(err)
			}
			if got.Rollups.Wrong != c.rollups || got.Windows.Wrong != c.wrongWindows || got.Clean() != (c.want == "") {
				t.Errorf("got %+v %+v, clean is %v; want %d wrong rollups and %d windows: %q", *got.Rollups, *got.Windows, got.Clean(), c.rollups, c.wrongWindows, got.Differences)
			}
			if !strings.Contains(strings.Join(got.Differences, "\n"), c.want) {
				t.Errorf("got %q, want one with %q", got.Differences, c.want)
			}
		})
	}
}

// TestExactSums compares the sums with ones over integers.
func TestExactSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b bucket
		total := int64(0)
		for _, n := range rapid.SliceOfN(rapid.Int64Range(-1e12, 1e12), 1, 50).Draw(t, "n") {
			total += n
			// scaled so that float64 additions would lose bits
			b.add(&messages.Reading{Values: values(float64(n), float64(n)*0x1p-900)})
		}
		sum, _ := b.channels[0].sum.Float64()
		tiny, _ := b.channels[1].sum.Float64()
		if sum != float64(total) || tiny != float64(total)*0x1p-900 {
			t.Fatalf("got %v and %v, want %d and that times 2^-900", sum, tiny, total)
		}
	})
}
