package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStreamGoesBack puts the stream's folder back to an older copy, and takes it away altogether,
// while the member is down. It says so loudly, what was stored stays, and nothing new is lost.
func TestStreamGoesBack(t *testing.T) {
	dir := t.TempDir()
	folder, older := filepath.Join(dir, "stream"), filepath.Join(t.TempDir(), "stream")
	m := startMember(t, dir)
	send := func(n int) []string {
		t.Helper()
		flags := []string{"--site", fmt.Sprintf("run-%d", n), "--devices", "80", "--readings", "100", "--start", "2026-03-01T00:00:00Z", "--seed", fmt.Sprint(n)}
		if _, code := run(t, append([]string{"simulate", "--server", m.nats, "--rate", "max", "--stored"}, flags...)...); code != 0 {
			t.Fatalf("simulate %d: exit %d", n, code)
		}
		return append([]string{"simulate", "--server", m.http, "--windows", "--rollups"}, flags...)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := send(1)
	m.stop()
	must(os.CopyFS(older, os.DirFS(folder)))
	m.start()
	second := send(2)
	m.kill()
	must(os.RemoveAll(folder))
	must(os.CopyFS(folder, os.DirFS(older)))
	m.start()
	m.wantWentBack()
	third := send(3)
	m.kill()
	must(os.RemoveAll(folder))
	m.start()
	m.wantWentBack()
	fourth := send(4)
	for _, flags := range [][]string{first, second, third, fourth} {
		verify(t, flags...)
	}
}

// wantWentBack wants the member to have said that the stream went back, in its log and in a metric.
func (m *member) wantWentBack() {
	m.t.Helper()
	if text := m.metrics(); !strings.Contains(text, `what="stream_went_back"`) && !strings.Contains(text, "stream_went_back") {
		m.t.Error("no metric tells that the stream went back")
	}
	log, err := os.ReadFile(m.log.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(string(log), "kind=stream_went_back") {
		m.t.Error("the log does not tell that the stream went back")
	}
}
