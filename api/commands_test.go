package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

func TestCommands(t *testing.T) {
	f := start(t, nil)
	const device = "/api/v1/sites/demo/devices/a"
	id := messages.DeviceID{Site: "demo", Device: "a"}
	for _, req := range [][3]string{
		{"PUT", device + "/settings", `{"windowCount":5,"channels":[{"name":"pressure","unit":"bar"}]}`},
		{"DELETE", device + "/window?before=2026-01-02T03:04:05Z", ""},
		{"DELETE", device + "/window", ""},
		{"DELETE", device, ""},
		{"DELETE", "/api/v1/sites/demo", ""},
	} {
		if got := f.do(t, req[0], req[1], req[2], "Content-Type", "application/json"); got.status != 202 || got.text != "" {
			t.Errorf("%v: got %d %s, want 202", req, got.status, got.text)
		}
	}
	want := []apitest.Control{
		{Device: id, Command: messages.Control{By: "http", Settings: &messages.Settings{WindowCount: 5, Channels: []messages.Channel{{Name: "pressure", Unit: "bar"}}}}},
		{Device: id, Command: messages.Control{By: "http", Trim: &messages.Trim{Before: 1767323045000}}},
		{Device: id, Command: messages.Control{By: "http", Trim: &messages.Trim{}}},
		{Device: id, Command: messages.Control{By: "http", Delete: true}},
		{Device: messages.DeviceID{Site: "demo"}, Command: messages.Control{By: "http", Delete: true}},
	}
	if diff := cmp.Diff(want, f.Controls); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{`{"windowCount":-1}`, `{"windowCounts":1}`, `[]`, ``, `{"windowCount":1e9}`, `{"channels":[` + strings.Repeat(`{"name":"x"},`, 64) + `{"name":"x"}]}`, `{"channels":[{"name":"` + strings.Repeat("x", 65) + `"}]}`} {
		f.do(t, "PUT", device+"/settings", body, "Content-Type", "application/json").problem(t, 400)
	}
	f.do(t, "DELETE", device+"/window?before=x", "").problem(t, 400)
	f.do(t, "DELETE", "/api/v1/sites/a.b", "").problem(t, 400)
	f.do(t, "DELETE", "/api/v1/sites/demo", "", "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site").problem(t, 403)
	f.Set(func(f *apitest.Fleet) { f.Fail = context.DeadlineExceeded })
	f.do(t, "DELETE", "/api/v1/sites/demo", "").problem(t, 504)
}

func TestSiteSettings(t *testing.T) {
	f := start(t, nil)
	const path = "/api/v1/sites/demo/settings"
	got := func() string {
		t.Helper()
		a := f.do(t, "GET", path, "")
		if a.status != 200 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
		return strings.TrimSpace(a.text)
	}
	if got, want := got(), `{"site":"demo","own":{},"settings":{"windowCount":60},"everywhere":true}`; got != want {
		t.Errorf("before: got %s, want %s", got, want)
	}
	if a := f.do(t, "PUT", path, `{"windowAge":60000}`, "Content-Type", "application/json"); a.status != 202 || a.text != "" {
		t.Errorf("got %d %s, want 202", a.status, a.text)
	}
	want := []apitest.Control{{
		Device:  messages.DeviceID{Site: "demo"},
		Command: messages.Control{By: "http", Settings: &messages.Settings{WindowAge: 60_000}},
	}}
	if diff := cmp.Diff(want, f.Controls); diff != "" {
		t.Error(diff)
	}
	f.Set(func(f *apitest.Fleet) { f.Differ = true })
	if got, want := got(), `{"site":"demo","own":{"windowAge":60000},"settings":{"windowCount":60,"windowAge":60000},"everywhere":false}`; got != want {
		t.Errorf("after: got %s, want %s", got, want)
	}
	for _, body := range []string{`{"windowCount":-1}`, `{"windowCounts":1}`, `[]`, ``} {
		f.do(t, "PUT", path, body, "Content-Type", "application/json").problem(t, 400)
	}
	f.do(t, "PUT", "/api/v1/sites/a.b/settings", `{}`, "Content-Type", "application/json").problem(t, 400)
	f.do(t, "GET", "/api/v1/sites/a.b/settings", "").problem(t, 400)
	if len(f.Controls) != 1 {
		t.Errorf("got %d commands, want 1: what is wrong must not be sent", len(f.Controls))
	}
	f.Set(func(f *apitest.Fleet) { f.Fail = api.ErrUnavailable })
	f.do(t, "GET", path, "").problem(t, 503)
	f.Set(func(f *apitest.Fleet) { f.Fail = context.DeadlineExceeded })
	f.do(t, "PUT", path, `{}`, "Content-Type", "application/json").problem(t, 504)
}
