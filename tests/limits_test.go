package tests

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// limitsState is what `wellhead limits --json` says.
type limitsState struct {
	Revision uint64
	Limits   struct {
		InFlight, SiteUnstored int64
		Sites                  map[string]int64
	}
}

// TestLimits changes limits while a member runs, and finds them after kill -9. A site whose window is full is
// refused or waits, as it asks for, and another site goes on.
func TestLimits(t *testing.T) {
	m := startMember(t, t.TempDir())
	limits := func(args ...string) (state limitsState) {
		t.Helper()
		out, code := run(t, append([]string{"limits", "--server", m.http, "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("limits %v: exit %d", args, code)
		}
		if err := json.Unmarshal([]byte(out), &state); err != nil {
			t.Fatalf("limits printed no JSON: %v: %s", err, out)
		}
		return state
	}
	if got := limits(); got.Revision != 0 || got.Limits.InFlight != 256<<20 || got.Limits.SiteUnstored != 64<<20 {
		t.Errorf("at first: %+v", got)
	}
	limits("set", "--in-flight", "512MiB", "--site", "small=1MiB")
	m.kill()
	m.start()
	got := limits()
	if got.Limits.InFlight != 512<<20 || got.Limits.Sites["small"] != 1<<20 || got.Limits.SiteUnstored != 64<<20 {
		t.Errorf("after kill -9: %+v", got)
	}
	if total := m.counter("wellhead_credit_bytes"); total != 512<<20 {
		t.Errorf("wellhead_credit_bytes is %v after kill -9, want 512 MiB", total)
	}
	if _, code := run(t, "limits", "set", "--server", m.http, "--site", "small=1"); code != 2 {
		t.Errorf("a limit of one byte: exit %d, want 2", code)
	}

	// about 4 MB at once: more than the window takes before something is stored
	note := strings.Repeat("x", 1000)
	body := func() string {
		var rows []string
		for i := range 1000 {
			rows = append(rows, `{"device":"d","time":`+jsonTime(i)+`,"values":[1],"note":"`+note+`"}`)
		}
		return "[" + strings.Join(rows, ",") + "]"
	}()
	refused := 0
	for range 20 {
		status, retry := m.postBody("small", "?overload=refuse", body)
		switch {
		case status == http.StatusTooManyRequests && retry != "":
			refused++
		case status != http.StatusOK:
			t.Fatalf("status %d", status)
		}
		if status, _ := m.postBody("other", "?overload=refuse", `{"device":"d","values":[1]}`); status != http.StatusOK {
			t.Fatalf("another site: status %d", status)
		}
	}
	if refused == 0 {
		t.Error("20 MB at once went through a window of 1 MiB, and nothing was refused")
	}
	began := time.Now()
	if status, _ := m.postBody("small", "", body); status != http.StatusOK {
		t.Errorf("who waits: status %d", status)
	}
	t.Logf("%d of 20 requests were refused; one that waits was taken after %v", refused, time.Since(began))
	if got := limits("set", "--site", "small=default", "--in-flight", "default"); len(got.Limits.Sites) != 0 || got.Limits.InFlight != 256<<20 {
		t.Errorf("back to what is configured: %+v", got)
	}
}

func jsonTime(i int) string {
	return time.UnixMilli(floodStart*1000 + int64(i)).UTC().Format(`"2006-01-02T15:04:05.000Z"`)
}

// postBody posts readings.
func (m *member) postBody(site, query, body string) (status int, retryAfter string) {
	m.t.Helper()
	resp, err := http.Post(m.http+"/api/v1/sites/"+site+"/readings"+query, "application/json", strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Retry-After")
}
