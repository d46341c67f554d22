package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestBrowser looks at the real member's page in a real Chromium while a fleet sends.
func TestBrowser(t *testing.T) {
	web := filepath.Join("..", "web")
	if _, err := os.Stat(filepath.Join(web, "node_modules", "playwright-core")); err != nil {
		testenv.Missing(t, "playwright-core", "scripts/setup")
	}
	m := startMember(t, t.TempDir())
	fleet, end := context.WithTimeout(t.Context(), 3*time.Minute)
	defer end()
	load := exec.CommandContext(fleet, binary, "simulate", "--server", m.nats, "--site", "demo", "--devices", "60", "--readings", "180", "--rate", "real")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		end()
		_ = load.Wait()
	}()
	testenv.Eventually(t, 20*time.Second, func() error { return m.get("/api/v1/sites/demo/devices/dev-000060/latest", nil) })
	b := newBookkeeper(t, m, "other")
	b.send("agent", 1, 1)
	b.send("agent", 1, 3) // the page shows that 2 is missing
	page := exec.CommandContext(fleet, "node", "test/page.mjs")
	page.Dir = web
	page.Env = append(os.Environ(), "WELLHEAD_URL="+m.http)
	out, err := page.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the page in Chromium: %v", err)
	}
}
