package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// limitsInMemory keeps limits as one member would.
type limitsInMemory struct{ state api.LimitsState }

func (l *limitsInMemory) Limits(context.Context) (api.LimitsState, error) { return l.state, nil }

func (l *limitsInMemory) SetLimits(_ context.Context, own messages.Limits, revision uint64) error {
	if revision != 0 && revision != l.state.Revision {
		return persistence.ErrConflict
	}
	l.state.Own, l.state.Limits, l.state.Revision = own, own, l.state.Revision+1
	return nil
}

// TestLimitsOverHTTP shows, replaces and refuses limits.
func TestLimitsOverHTTP(t *testing.T) {
	const path = "/api/v1/limits"
	f := start(t, func(o *api.Options) {
		o.Operator = &limitsInMemory{state: api.LimitsState{Sites: []api.SiteUnstored{}}}
	})
	want := messages.Limits{SiteUnstored: 2 << 20, Sites: map[string]int64{"plant": 1 << 20}, Members: map[string]int64{"m2": 1 << 30}}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"PUT", "GET"} {
		got := f.do(t, method, path, map[string]string{"PUT": string(body)}[method], "Content-Type", "application/json")
		var state api.LimitsState
		if err := json.Unmarshal([]byte(got.text), &state); err != nil || got.status != 200 {
			t.Fatalf("%s: %d %s", method, got.status, got.text)
		}
		if diff := cmp.Diff(want, state.Own); diff != "" || state.Revision != 1 {
			t.Errorf("%s: revision %d, %s", method, state.Revision, diff)
		}
	}
	for query, status := range map[string]int{"?revision=1": 200, "?revision=7": 409} {
		if got := f.do(t, "PUT", path+query, "{}", "Content-Type", "application/json"); got.status != status {
			t.Errorf("%s: got %d %s, want %d", query, got.status, got.text, status)
		}
	}
	for _, wrong := range []string{`{"inFlight":5}`, `{"siteUnstored":-1}`, `{"sites":{"a b":1048576}}`, `{"sites":{"a":1}}`, `{"members":{"m1":1048576}}`, `{"members":{"":1073741824}}`, `{"unknown":1}`} {
		f.do(t, "PUT", path, wrong, "Content-Type", "application/json").problem(t, 400)
	}
}

// TestOverload hands on what the sender wants when there is no room.
func TestOverload(t *testing.T) {
	f := start(t, nil)
	for i, tt := range []struct {
		path, header string
		refuse       bool
	}{
		{posts, "", false},
		{posts + "?overload=wait", "refuse", false},
		{posts + "?overload=refuse", "", true},
		{posts, "refuse", true},
		{"/write?db=demo&overload=refuse&precision=ms", "", true},
		{"/write?db=demo&precision=ms", "refuse", true},
		{"/write?db=demo&precision=ms", "", false},
	} {
		f.do(t, "POST", tt.path, fmt.Sprintf("d c0=1 %d\n", i+1), "Wellhead-Overload", tt.header, "Content-Type", "text/plain")
		if got := f.How.Refuse; got != tt.refuse {
			t.Errorf("%s, header %q: refuse is %v, want %v", tt.path, tt.header, got, tt.refuse)
		}
	}
	f.do(t, "POST", posts+"?overload=maybe", `{"device":"a","values":[1]}`).problem(t, 400)
}
