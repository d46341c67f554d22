package tests

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestDataOfVersion1Opens starts today's program on a folder that version 1 of the data was written in
// (scripts/fixture): every reading, setting, window and rollup must be there, now and for ever.
func TestDataOfVersion1Opens(t *testing.T) {
	dir := unpack(t, "data-v1.tgz")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("shards: 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, "schema", "status", "--data", dir, "--config", file); code != 1 || !strings.Contains(out, "the data has version 1, this program needs version 2") {
		t.Errorf("schema status: exit %d: %s", code, out)
	}
	if _, code := run(t, "schema", "migrate", "--data", dir, "--config", file); code != 0 {
		t.Errorf("schema migrate: exit %d, want 0", code)
	}
	m := startMember(t, dir, "--config", file)
	v := verify(t, "simulate", "--server", m.http, "--site", "first", "--devices", "3", "--interval", "10s", "--channels", "2",
		"--seed", "7", "--readings", "500", "--start", "2026-01-02T00:00:00Z", "--wait", "30s")
	if v.Stored != 1500 {
		t.Errorf("%d readings, want 1500", v.Stored)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		for device, want := range map[string]int{"dev-000001": 7, "dev-000002": 20, "dev-000003": 20} {
			var window struct{ Readings []struct{ Time string } }
			if err := m.get("/api/v1/sites/first/devices/"+device+"/window", &window); err != nil {
				return err
			}
			if len(window.Readings) != want || window.Readings[0].Time != "2026-01-02T01:23:10.000Z" {
				return fmt.Errorf("window of %s: %d readings, first %v; want %d", device, len(window.Readings), window.Readings[:1], want)
			}
		}
		var rollups struct{ Rollups []struct{ Count int } }
		if err := m.get("/api/v1/sites/first/devices/dev-000002/rollups?step=1h&from=2026-01-02T00:00:00Z", &rollups); err != nil {
			return err
		}
		if r := rollups.Rollups; len(r) != 2 || r[0].Count != 360 || r[1].Count != 140 {
			return fmt.Errorf("hours: %+v, want counts 360 and 140", r)
		}
		return nil
	})
}

// unpack lays a fixture's data folder out and returns its path.
func unpack(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(root.Name(), "data")
		}
		if err == nil && h.Typeflag == tar.TypeDir {
			err = root.MkdirAll(filepath.Clean(h.Name), 0o700)
		} else if err == nil {
			err = extract(root, h.Name, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func extract(root *os.Root, name string, r io.Reader) error {
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}
