package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

// run is one of the runs in an answer.
type run struct {
	Site, Producer, Run       string
	Received, Stored, Missing uint64
	OpenGaps                  int
	First, Last               string
	Retired                   bool
	Shards                    []struct {
		OpenGaps int
		Gaps     [][2]uint64
	}
}

func accounts() []messages.ProducerAccount {
	gaps := make([][2]uint64, 40)
	for i := range gaps {
		gaps[i] = [2]uint64{uint64(10 * i), uint64(10*i + 1)}
	}
	var out []messages.ProducerAccount
	for i := range uint64(5) {
		out = append(out, messages.ProducerAccount{
			ProducerRun: messages.ProducerRun{Site: "a", Producer: "p", Run: 1<<63 + i},
			Shards: []messages.ShardAccount{
				{Shard: 1, Received: 3, Stored: 2, Through: 2, Highest: 2, First: 2000, Last: 3000, Retired: true},
				{Shard: 9, Received: 1, Stored: 1, Through: 1, Highest: 1, First: 1000, Last: 4000, Retired: i > 0},
			},
		})
	}
	last := messages.ProducerAccount{ProducerRun: messages.ProducerRun{Site: "b", Producer: "p", Run: 1}}
	last.Shards = []messages.ShardAccount{{Shard: 2, Missing: 80, Gaps: gaps, First: 5000, Last: 9000}}
	return append(out, last)
}

func TestAuditProducers(t *testing.T) {
	f := start(t, nil)
	f.Set(func(f *apitest.Fleet) { f.Accounts = accounts() })
	list := func(query string) (runs []run, cursor string) {
		t.Helper()
		var page struct {
			Producers []run
			Cursor    string
		}
		f.do(t, http.MethodGet, "/api/v1/audit/producers"+query, "").into(t, &page)
		return page.Producers, page.Cursor
	}
	var all []run
	for cursor, pages := "", 0; ; {
		page, next := list("?limit=2&cursor=" + cursor)
		all = append(all, page...)
		if pages++; next == "" {
			break
		}
		if cursor = next; pages > 5 {
			t.Fatal("the pages do not end")
		}
	}
	if len(all) != 6 || all[1].Run != "8000000000000001" {
		t.Fatalf("got %+v, want 6 runs in order", all)
	}
	if r := all[0]; r.Received != 4 || r.Stored != 3 || r.Retired || r.First != "1970-01-01T00:00:01.000Z" || r.Last != "1970-01-01T00:00:04.000Z" || r.Shards[0].Gaps == nil {
		t.Errorf("sums of two shards: got %+v", r)
	}
	if !all[1].Retired {
		t.Errorf("all shards have let go of it: got %+v", all[1])
	}
	if r := all[5]; r.OpenGaps != 40 || r.Missing != 80 || r.Shards[0].OpenGaps != 40 || len(r.Shards[0].Gaps) != 16 {
		t.Errorf("many gaps: got %+v, want all counted and 16 listed", r)
	}
	for query, want := range map[string]int{"?site=a": 5, "?site=b&producer=p": 1, "?site=b&producer=q": 0, "?open=true": 1, "?since=4001": 1, "?since=1970-01-01T00:00:04Z": 6} {
		if got, _ := list(query); len(got) != want {
			t.Errorf("%s: got %d runs, want %d", query, len(got), want)
		}
	}
	for query, want := range map[string]string{
		"?producer=p": "site", "?site=a%20b": "name", "?since=soon": "since", "?cursor=xyz": "cursor", "?limit=0": "limit", "?colour=red": "colour",
	} {
		if detail := f.do(t, http.MethodGet, "/api/v1/audit/producers"+query, "").problem(t, 400); !strings.Contains(detail, want) {
			t.Errorf("%s: got %q, want something about %s", query, detail, want)
		}
	}
	f.Set(func(f *apitest.Fleet) { f.Fail = fmt.Errorf("%w: shard 3", api.ErrUnavailable) })
	f.do(t, http.MethodGet, "/api/v1/audit/producers", "").problem(t, 503)
}

func TestRecount(t *testing.T) {
	f := start(t, nil)
	for i := range 3 {
		body := fmt.Sprintf(`[{"device":"d%d","time":1000,"values":[1,null]},{"device":"d%d","time":2000,"values":[1]}]`, i, i)
		if a := f.do(t, http.MethodPost, fmt.Sprintf("/api/v1/sites/s%d/readings", i%2), body, "Content-Type", "application/json"); a.status != 200 {
			t.Fatal(a.text)
		}
	}
	type line struct {
		Site, Device, Error       string
		Devices                   int
		Readings, Values, Omitted int
		First, Last               string
		End                       bool
	}
	count := func(query string) (lines []line) {
		t.Helper()
		d := json.NewDecoder(strings.NewReader(f.do(t, http.MethodGet, "/api/v1/audit/readings"+query, "").text))
		for d.More() {
			var l line
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		return lines
	}
	got := fmt.Sprintf("%+v", count("?from=0&to=1999&devices=true"))
	for _, want := range []string{
		"Site:s0 Device:d2 Error: Devices:0 Readings:1 Values:1 Omitted:1",
		"Site:s0 Device: Error: Devices:2 Readings:2 Values:2 Omitted:2 First:1970-01-01T00:00:01.000Z Last:1970-01-01T00:00:01.000Z",
		"Site:s1 Device: Error: Devices:1 Readings:1",
		"Site: Device: Error: Devices:3 Readings:3 Values:3 Omitted:3 First:1970-01-01T00:00:01.000Z Last:1970-01-01T00:00:01.000Z End:true",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if lines := count("?from=0&to=5000&site=s1"); len(lines) != 2 || lines[1].Readings != 2 || !lines[1].End {
		t.Errorf("one site: got %+v", lines)
	}
	if lines := count("?from=5000&to=6000"); len(lines) != 1 || lines[0].Readings != 0 || !lines[0].End {
		t.Errorf("nothing in the period: got %+v", lines)
	}
	for _, query := range []string{"", "?from=1", "?from=5&to=1", "?from=x&to=1", "?from=1&to=2&site=a%20b"} {
		f.do(t, http.MethodGet, "/api/v1/audit/readings"+query, "").problem(t, 400)
	}
	f.Set(func(f *apitest.Fleet) { f.Fail = errors.New("the disk is gone") })
	r, err := http.Get(f.server.URL + "/api/v1/audit/readings?from=0&to=5000")
	if err == nil {
		defer r.Body.Close()
		var l line
		if err = json.NewDecoder(r.Body).Decode(&l); err == nil && (l.Error == "" || strings.Contains(l.Error, "disk")) {
			t.Errorf("a count that fails: got %+v, want an error without its cause", l)
		}
	}
	if err != nil {
		t.Error(err)
	}
}
