package tests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// publish sends bytes with a foreign client, which hears no more than that MQTT took them.
func (m *member) publish(topic string, payload []byte) {
	m.t.Helper()
	mosquitto, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		testenv.Missing(m.t, "mosquitto_pub", "apt-get install mosquitto-clients")
	}
	host, port, _ := strings.Cut(m.mqtt, ":")
	cmd := exec.CommandContext(m.t.Context(), mosquitto, "-h", host, "-p", port, "-q", "1", "-t", topic, "-s")
	cmd.Stdin = bytes.NewReader(payload)
	if text, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("mosquitto_pub: %v: %s", err, text)
	}
}

// listen hands on the lines of a site's live events.
func (m *member) listen(site string) <-chan string {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.http+"/api/v1/live?site="+site, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { resp.Body.Close() })
	lines := make(chan string, 100)
	hello := make(chan struct{})
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if strings.HasPrefix(s.Text(), "retry:") {
				close(hello)
				continue
			}
			select {
			case lines <- s.Text():
			case <-m.t.Context().Done():
				return
			}
		}
	}()
	select {
	case <-hello:
	case <-time.After(10 * time.Second):
		m.t.Fatal("the live events do not begin")
	}
	return lines
}

// rejectLine is a reject in an answer, as far as the tests look at it.
type rejectLine struct {
	ID                           uint64
	Site, Device, Kind, Encoding string
	Arrival, Subject, Reason     string
	Payload                      string
	Size                         int
	Sequence                     uint64
	Decoded                      *struct{ Devices []struct{ Device string } }
	Retried                      *struct{ Sequence uint64 }
}

// rejects waits until that many are listed.
func (m *member) rejects(query string, want int) []rejectLine {
	m.t.Helper()
	var list struct{ Rejects []rejectLine }
	testenv.Eventually(m.t, 20*time.Second, func() error {
		list.Rejects = nil
		if err := m.get("/api/v1/rejects?limit=1000&"+query, &list); err != nil {
			return err
		}
		if len(list.Rejects) != want {
			return fmt.Errorf("%d rejects are listed with %q, want %d: %+v", len(list.Rejects), query, want, list.Rejects)
		}
		return nil
	})
	return list.Rejects
}

// TestRejects sends what cannot be taken, looks at it, repairs it and sends it again, twice, with a kill -9
// between; the reading is stored once, with the time of its first arrival.
func TestRejects(t *testing.T) {
	m := startMember(t, t.TempDir())
	payloads := map[string][]byte{
		"broken":  []byte(`{"values":[1,}`),
		"unicode": []byte(`{"values":[2],"note":"Größe ✓ 井",}`),
		"binary":  {0x32, 0, 1, 0xff, '\r', '\n'},
		"large":   append([]byte(`{"note":"`), bytes.Repeat([]byte("x"), 1<<20-9)...),
		"future":  []byte(`{"time":"2999-01-01T00:00:00Z","values":[1]}`),
	}
	events := m.listen("demo")
	for device, payload := range payloads {
		m.publish("readings/demo/"+device, payload)
	}
	for range payloads {
		hear(t, events, "data: ", `"kind":`)
	}
	ids := map[string]string{}
	for _, r := range m.rejects("site=demo", len(payloads)) {
		ids[r.Device] = fmt.Sprint(r.ID)
		want, kind := payloads[r.Device], "undecodable"
		if r.Device == "future" {
			kind = "time"
		} else if r.Size != len(want) {
			t.Errorf("%s: %d bytes, want %d", r.Device, r.Size, len(want))
		}
		if r.Kind != kind || r.Sequence == 0 || r.Arrival == "" || !strings.HasSuffix(r.Subject, ".demo."+r.Device) {
			t.Errorf("%s: got %+v", r.Device, r)
		}
		file := filepath.Join(t.TempDir(), "payload")
		text, code := run(t, "rejects", "show", fmt.Sprint(r.ID), "--server", m.http, "--out", file)
		if got, err := os.ReadFile(file); code != 0 || err != nil || r.Device != "future" && !bytes.Equal(got, want) || !strings.Contains(text, r.Subject) {
			t.Errorf("show of %s: exit %d, %v, %d bytes, want %d\n%s", r.Device, code, err, len(got), len(want), text)
		}
	}
	if got := m.rejects("reason=time", 1); got[0].Device != "future" {
		t.Errorf("by reason: got %+v", got)
	}
	if text, code := run(t, "rejects", "show", ids["unicode"], "--server", m.http); code != 0 || !strings.Contains(text, "Größe ✓ 井") {
		t.Errorf("show: exit %d, %s", code, text)
	}
	if text, code := run(t, "rejects", "list", "--site", "demo", "--limit", "2", "--server", m.http); code != 0 || !strings.Contains(text, "--cursor ") {
		t.Errorf("list: exit %d, no cursor in %s", code, text)
	}

	repaired := filepath.Join(t.TempDir(), "repaired.json")
	if err := os.WriteFile(repaired, []byte(`{"values":[1,2],"note":"Größe"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	retry := func() (answer struct {
		Sequence uint64
		Again    bool
	},
	) {
		t.Helper()
		text, code := run(t, "rejects", "retry", ids["broken"], "--with", repaired, "--server", m.http, "--json")
		if err := json.Unmarshal([]byte(text), &answer); code != 0 || err != nil {
			t.Fatalf("retry: exit %d, %v: %s", code, err, text)
		}
		return answer
	}
	first := retry()
	m.kill()
	m.start()
	if again := retry(); first.Again || !again.Again || again.Sequence != first.Sequence {
		t.Errorf("retried twice: got %+v, then %+v; want the same message, the second time as told before", first, again)
	}
	stored := func(device string, want int) []struct{ Time, Note string } {
		t.Helper()
		var readings struct{ Readings []struct{ Time, Note string } }
		testenv.Eventually(t, 20*time.Second, func() error {
			err := m.get("/api/v1/sites/demo/devices/"+device+"/readings", &readings)
			if err == nil && len(readings.Readings) != want {
				err = fmt.Errorf("%d readings of %s, want %d", len(readings.Readings), device, want)
			}
			return err
		})
		return readings.Readings
	}
	var kept rejectLine
	if err := m.get("/api/v1/rejects/"+ids["broken"], &kept); err != nil || kept.Retried == nil {
		t.Fatalf("got %+v, %v; want it marked as retried", kept, err)
	}
	if got := stored("broken", 1)[0]; got.Note != "Größe" || got.Time != kept.Arrival {
		t.Errorf("got %+v, want the note and the time of arrival %s", got, kept.Arrival)
	}
	m.rejects("site=demo", len(payloads)-1)
	m.rejects("site=demo&retried=true", len(payloads))

	if text, code := run(t, "rejects", "retry", "--all", "--reason", "time", "--server", m.http); code != 0 || !strings.Contains(text, "1 sent again") {
		t.Errorf("retry --all: exit %d, %s", code, text)
	}
	if got := m.rejects("reason=time", 1); fmt.Sprint(got[0].ID) == ids["future"] {
		t.Error("what is still wrong must come to rejects anew")
	}
	for path, want := range map[string]string{"4711": " 404 ", "0": " 404 ", "x": " 400 ", ids["large"] + "/retry": " 400 "} {
		method, body := "GET", ""
		if strings.HasSuffix(path, "retry") {
			method, body = "POST", `{"values":`
		}
		if err := m.request(method, "/api/v1/rejects/"+path, body, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: got %v, want%s", method, path, err, want)
		}
	}
	if n := m.counter("wellhead_rejects_total"); n == 0 {
		t.Error("nothing is counted")
	}
}

// TestRetryAllThroughKills refuses readings for their age, takes the limit away and sends all of them again
// while the member is killed: none is missing.
func TestRetryAllThroughKills(t *testing.T) {
	const readings, kills = 300, 3
	dir := t.TempDir()
	m := startMember(t, dir, "--config", settingsFile(t, "limits:\n  max-age: 1h\n"))
	var lines strings.Builder
	for i := range readings {
		fmt.Fprintf(&lines, "{\"time\":%d,\"values\":[%d]}\n", 1_600_000_000_000+i*1000, i)
	}
	host, port, _ := strings.Cut(m.mqtt, ":")
	publish := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "readings/demo/old", "-l")
	publish.Stdin = strings.NewReader(lines.String())
	if text, err := publish.CombinedOutput(); err != nil {
		testenv.Missing(t, fmt.Sprintf("mosquitto_pub (%v: %s)", err, text), "apt-get install mosquitto-clients")
	}
	m.rejects("reason=time", readings)
	m.stop()
	m.args = m.args[:len(m.args)-2] // without the limit
	m.start()
	done := make(chan bool, 1)
	go func() {
		for range 20 { // one that was broken off is left alone for some seconds
			if _, _, code := runWithin(t, time.Minute, "rejects", "retry", "--all", "--reason", "time", "--server", m.http); code == 0 {
				done <- true
				return
			}
			pause(t, time.Second)
		}
		done <- false
	}()
	for range kills {
		pause(t, 100*time.Millisecond)
		m.kill()
		m.start()
	}
	if !<-done {
		t.Fatal("some cannot be sent again")
	}
	m.rejects("", 0)
	testenv.Eventually(t, 20*time.Second, func() error {
		var state struct {
			Counts struct{ Received, InOrder, Late, Refused, Duplicate uint64 }
		}
		if err := m.get("/api/v1/sites/demo/devices/old", &state); err != nil {
			return err
		}
		// One that was broken off is sent again after newer ones. It may also have been sent before, when its place was
		// purged before the next try: then it replaces itself.
		if n := state.Counts; n.InOrder+n.Late != readings || n.Late > kills || n.Duplicate > kills {
			return fmt.Errorf("got %+v, want %d new ones, at most %d of them late, and at most %d twice", n, readings, kills, kills)
		}
		return nil
	})
}
