package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// outage is how long something is away: this long, or as many times longer as WELLHEAD_OUTAGES says,
// which `make outages` sets.
func outage(t *testing.T, short time.Duration) time.Duration {
	t.Helper()
	times := 1
	if s := os.Getenv("WELLHEAD_OUTAGES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("WELLHEAD_OUTAGES=%q: want a number from 1 on", s)
		}
		times = n
	}
	return short * time.Duration(times)
}

// outageSeconds is outage in whole seconds.
func outageSeconds(t *testing.T, short int) int {
	return int(outage(t, time.Duration(short)*time.Second).Seconds())
}

// load is a simulated site that publishes all the time.
type load struct {
	m     *member
	flags []string
	ended chan int
	over  bool
}

// loads begins to publish a site's readings, at a rate a second, for about so many seconds. It waits for
// a member that refuses.
func (m *member) loads(site string, devices, seconds, rate int) *load {
	l := &load{m: m, ended: make(chan int, 1), flags: []string{
		"--site", site, "--devices", strconv.Itoa(devices), "--readings", strconv.Itoa(seconds * rate / devices),
		"--start", "2026-03-01T00:00:00Z", "--seed", "7", "--batch", "50",
	}}
	go func() {
		_, code := run(m.t, append([]string{"simulate", "--server", m.nats, "--rate", fmt.Sprintf("%d/s", rate), "--json"}, l.flags...)...)
		l.ended <- code
	}()
	return l
}

// wantAcknowledged waits until all is published and acknowledged.
func (l *load) wantAcknowledged() {
	l.m.t.Helper()
	if l.over {
		return
	}
	select {
	case code := <-l.ended:
		l.over = true
		if code != 0 {
			l.m.t.Fatalf("simulate: exit %d", code)
		}
	case <-time.After(5 * time.Minute):
		l.m.t.Fatal("simulate does not come to its end")
	}
}

// wantStored waits until all is published, and wants all to be stored, windows and rollups to be right.
func (l *load) wantStored() {
	l.m.t.Helper()
	l.wantAcknowledged()
	verify(l.m.t, append([]string{"simulate", "--server", l.m.http, "--rollups", "--windows", "--wait", "90s"}, l.flags...)...)
}

// wantNotReady wants /readyz to be 503, soon, with a reason that has this word.
func (m *member) wantNotReady(word string) {
	m.t.Helper()
	testenv.Eventually(m.t, 20*time.Second, func() error {
		err := m.get("/readyz", nil)
		if err == nil {
			return errors.New("the member says that it is ready")
		}
		if !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), word) {
			return fmt.Errorf("readyz: %w; want 503 and a reason with %q", err, word)
		}
		return nil
	})
}

func (m *member) wantReady(within time.Duration) {
	m.t.Helper()
	testenv.Eventually(m.t, within, func() error { return m.get("/readyz", nil) })
}

// wantAlive wants the process to be there and to answer.
func (m *member) wantAlive() {
	m.t.Helper()
	select {
	case <-m.done:
		m.t.Fatal("the member has ended")
	default:
	}
	testenv.Eventually(m.t, 10*time.Second, func() error { return m.get("/livez", nil) })
}

// wantWindow wants a device of a load to answer with its window.
func (m *member) wantWindow(site string) {
	m.t.Helper()
	var w struct{ Readings []json.RawMessage }
	if err := m.get("/api/v1/sites/"+site+"/devices/dev-000001/window", &w); err != nil {
		m.t.Fatal(err)
	}
	if len(w.Readings) == 0 {
		m.t.Error("the window is empty")
	}
}

// wantReadings wants the archive to have so many readings of a device.
func (m *member) wantReadings(site, device string, want int) {
	m.t.Helper()
	testenv.Eventually(m.t, 20*time.Second, func() error {
		var stored struct{ Readings []json.RawMessage }
		err := m.get("/api/v1/sites/"+site+"/devices/"+device+"/readings", &stored)
		if err != nil && want == 0 && strings.Contains(err.Error(), "404") {
			return nil
		}
		if err != nil {
			return err
		}
		if len(stored.Readings) != want {
			return fmt.Errorf("%s/%s has %d readings stored, want %d", site, device, len(stored.Readings), want)
		}
		return nil
	})
}
