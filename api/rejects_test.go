package api_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

func startRejects(t *testing.T, rejects ...messages.Reject) (*face, *apitest.Rejects) {
	t.Helper()
	r := &apitest.Rejects{}
	r.Add(rejects...)
	return start(t, func(o *api.Options) { o.Rejects = r }), r
}

// rejected is a reject in an answer.
type rejected struct {
	ID            uint64
	Site, Device  string
	Shard         *int
	Kind, Preview string
	Payload       *string
	Encoding      string
	Decoded       json.RawMessage
	Problem       string
	Size          int
	Retried       *struct{ Sequence uint64 }
	Subject       string
	Index         int
	Arrival, Type string
	Sequence      uint64
	Reason        string
}

func (f *face) list(t *testing.T, query string) (list struct {
	Rejects      []rejected
	Cursor       string
	Newest, Kept uint64
},
) {
	t.Helper()
	a := f.do(t, "GET", "/api/v1/rejects?"+query, "")
	if err := json.Unmarshal([]byte(a.text), &list); a.status != 200 || err != nil {
		t.Fatalf("%s: got %d %s, %v", query, a.status, a.text, err)
	}
	return list
}

func TestRejectsList(t *testing.T) {
	var all []messages.Reject
	for i := range 5 {
		all = append(all, messages.Reject{
			Shard: 3, Sequence: uint64(i + 1), Subject: "shard.3.s.d", Device: messages.DeviceID{Site: fmt.Sprint("s", i%2), Device: "d"},
			Kind: messages.RejectTime, Reason: fmt.Sprintf("reason %d", i), Data: []byte(strings.Repeat("é", 150)),
		})
	}
	all = append(all, messages.Reject{Index: -1, Subject: "readings.s", Kind: messages.RejectStray, Reason: "none takes it", Data: []byte{0xff, 0, 1}})
	f, _ := startRejects(t, all...)
	var got []uint64
	cursor, pages := "", 0
	for {
		list := f.list(t, "limit=2&cursor="+cursor)
		if list.Newest != 6 || list.Kept != 6 {
			t.Errorf("got %+v, want 6 kept", list)
		}
		for _, r := range list.Rejects {
			got = append(got, r.ID)
			if r.Payload != nil || r.Decoded != nil {
				t.Errorf("a list has a payload: %+v", r)
			}
		}
		pages++
		if cursor = list.Cursor; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, got); diff != "" || pages != 3 {
		t.Errorf("%d pages\n%s", pages, diff)
	}
	for query, want := range map[string]int{"site=s1": 2, "reason=time": 5, "reason=reason+4": 1, "reason=stray": 1, "site=s0&reason=stray": 0, "retried=true": 6} {
		if list := f.list(t, query); len(list.Rejects) != want {
			t.Errorf("%s: got %d, want %d", query, len(list.Rejects), want)
		}
	}
	first, stray := f.list(t, "limit=1").Rejects[0], f.list(t, "reason=stray").Rejects[0]
	if first.Preview != strings.Repeat("é", 100) || first.Size != 300 || first.Shard == nil || *first.Shard != 3 {
		t.Errorf("got %+v", first)
	}
	if stray.Preview != "0xff0001" || stray.Shard != nil {
		t.Errorf("got %+v", stray)
	}
	for _, query := range []string{"cursor=x", "cursor=-1", "cursor=18446744073709551615", "limit=0", "limit=1001", "site=a.b", "nonsense=1", "retried=maybe"} {
		f.do(t, "GET", "/api/v1/rejects?"+query, "").problem(t, 400)
	}
}

func TestRejectWhole(t *testing.T) {
	batch := messages.AppendBatch(nil, &messages.Batch{Producer: "p", Run: 10, Sequence: 4, Blocks: []messages.Block{
		{Device: "d", Readings: []messages.Reading{{Time: 1767225600000, Values: []float64{1}}}},
	}})
	large := strings.Repeat("井", messages.MaxMessage/3)
	cases := []struct {
		name, subject, data, encoding, decoded, problem string
		index                                           int
	}{
		{"a reading", "shard.3.s.d", `{"values":[1,null],"note":"Größe"}`, "text", `{"devices":[{"device":"d","readings":[{"values":[1,null],"note":"Größe"}]}]}`, "", 0},
		{"no JSON", "shard.3.s.d", `{"values":[1,}`, "text", ``, `Invalid JSON at byte 13: found "}", expected a number or null.`, -1},
		{"half good", "shard.3.s.d", `[{"time":1,"values":[1]},{"time":2}]`, "text", `{"devices":[{"device":"d","readings":[{"time":"1970-01-01T00:00:00.001Z","values":[1]}]}],"refused":["block 0, reading 1: the reading has no values and no note"]}`, "", 1_000_001},
		{"a batch", "shard.3.s", string(batch), "hex", `{"producer":"p","run":"000000000000000a","batch":4,"devices":[{"device":"d","readings":[{"time":"2026-01-01T00:00:00.000Z","values":[1]}]}]}`, "", -1},
		{"a command", "shard.3.s.d.control", `{"by":"ann","trim":{"before":1}}`, "text", `{"command":{"by":"ann","trim":"1970-01-01T00:00:00.001Z"}}`, "", -1},
		{"no command", "shard.3.s.d.control", `{}`, "text", ``, `A command is exactly one of settings, trim and delete, not 0 of them.`, -1},
		{"binary", "shard.3.s.d", "\x00\xff", "hex", ``, "", -1},
		{"1 MiB", "shard.3.s.d", large, "text", ``, "", -1},
		{"nothing", "shard.3.s.d", ``, "text", ``, "", -1},
		{"stray", "readings.s", `{}`, "text", ``, "", -1},
	}
	var all []messages.Reject
	for _, c := range cases {
		all = append(all, messages.Reject{Subject: c.subject, Index: c.index, Device: messages.DeviceID{Site: "s", Device: "d"}, Data: []byte(c.data)})
	}
	f, _ := startRejects(t, all...)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := f.do(t, "GET", fmt.Sprintf("/api/v1/rejects/%d", i+1), "")
			var got rejected
			if err := json.Unmarshal([]byte(a.text), &got); a.status != 200 || err != nil {
				t.Fatalf("got %d %.300s, %v", a.status, a.text, err)
			}
			want := c.data
			if c.encoding == "hex" {
				want = hex.EncodeToString([]byte(c.data))
			}
			if got.Payload == nil || *got.Payload != want || got.Encoding != c.encoding || got.Size != len(c.data) {
				t.Errorf("payload: got %d bytes, %s, size %d; want %d, %s", len(want), got.Encoding, got.Size, len(want), c.encoding)
			}
			if string(got.Decoded) != c.decoded {
				t.Errorf("decoded: got %s, want %s", got.Decoded, c.decoded)
			}
			if c.problem != "" && got.Problem != c.problem || (got.Problem == "") != (c.decoded != "") {
				t.Errorf("problem: got %q, want %q", got.Problem, c.problem)
			}
		})
	}
	f.do(t, "GET", "/api/v1/rejects/11", "").problem(t, 404)
	f.do(t, "GET", "/api/v1/rejects/x", "").problem(t, 400)
}

func TestRejectRetry(t *testing.T) {
	f, r := startRejects(t,
		messages.Reject{Subject: "shard.3.s.d", Index: -1, Data: []byte(`{"values":[1,}`)},
		messages.Reject{Subject: "shard.3.s.d", Index: -1, Data: []byte("\xff")},
		messages.Reject{Subject: "shard.3.s.d", Index: -1, Data: []byte("\xff")})
	retry := func(id int, body, contentType string) string {
		t.Helper()
		a := f.do(t, "POST", fmt.Sprintf("/api/v1/rejects/%d/retry", id), body, "Content-Type", contentType)
		if a.status != 200 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
		return strings.TrimSpace(a.text)
	}
	const fixed = `{"values":[1]}`
	if got, want := retry(1, fixed, "application/json; charset=utf-8"), `{"id":1,"subject":"shard.3.s.d","sequence":1,"repaired":true,"again":false}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := retry(1, "", ""), `{"id":1,"subject":"shard.3.s.d","sequence":1,"repaired":true,"again":true}`; got != want {
		t.Errorf("again: got %s, want %s", got, want)
	}
	if got, want := retry(2, "", ""), `{"id":2,"subject":"shard.3.s.d","sequence":2,"repaired":false,"again":false}`; got != want {
		t.Errorf("the original: got %s, want %s", got, want)
	}
	if diff := cmp.Diff([][]byte{[]byte(fixed), nil}, r.Sent); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"application/json", ""}, r.Types); diff != "" {
		t.Error(diff)
	}
	if list := f.list(t, ""); len(list.Rejects) != 1 || list.Rejects[0].ID != 3 {
		t.Errorf("listed: got %+v, want only the third", list.Rejects)
	}
	const third = "/api/v1/rejects/3/retry"
	f.do(t, "POST", third, `{"values":[1,}`, "Content-Type", "application/json").problem(t, 400)
	f.do(t, "POST", third, strings.Repeat("x", messages.MaxMessage+1)).problem(t, 413)
	f.do(t, "POST", "/api/v1/rejects/4/retry", "").problem(t, 404)
	f.do(t, "POST", third, "", "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site").problem(t, 403)
	for want, err := range map[int]error{409: api.ErrRetryBusy, 429: api.ErrOverloaded, 500: errors.New("what")} {
		r.Fail = err
		f.do(t, "POST", third, "").problem(t, want)
	}
	r.Fail = api.ErrRetryUnsure
	f.do(t, "POST", third, "").problem(t, 409)
}
