package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// influxWriter writes 1 000 points with the client of InfluxDB, half of them one by one and half in its
// batches with gzip, and then a point that must be refused.
const influxWriter = `
import sys
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

def points(numbers):
    for i in numbers:
        yield (Point("well").tag("device", "pump-%d" % (i % 10)).tag("crew", "a")
            .field("pressure", 200 + i / 7).field("count", i).field("running", i % 2 == 0)
            .time(1767323045000 + i, WritePrecision.MS))

def lost(conf, data, error):
    print("lost", error, flush=True)

for gzip in False, True:
    with InfluxDBClient(sys.argv[1], token="any", org="any", enable_gzip=gzip) as client:
        assert client.ping()
        assert client.health().status == "pass"
        if gzip:
            with client.write_api(WriteOptions(batch_size=70), error_callback=lost) as write:
                write.write("oil", "any", points(range(500, 1000)), WritePrecision.MS)
            continue
        write = client.write_api(SYNCHRONOUS)
        write.write("oil", "any", points(range(500)), WritePrecision.MS)
        try:
            write.write("oil", "any", ["well,device=pump-0 pressure=1,said=\"last\" 1767323046000", "no.name pressure=1 5"], WritePrecision.MS)
            print("lost: no error for a name that is none")
        except ApiException as e:
            print(e.status, e.body, flush=True)
`

// TestInfluxClient lets the real client of InfluxDB write, and asks by command for what it wrote.
func TestInfluxClient(t *testing.T) {
	python, err := filepath.Abs(filepath.Join("..", ".cache", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if exec.CommandContext(t.Context(), python, "-c", "import influxdb_client").Run() != nil {
		testenv.Missing(t, "influxdb-client", "scripts/setup")
	}
	m := startMember(t, t.TempDir())
	client := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", influxWriter, m.http)
	out, err := client.CombinedOutput()
	if err != nil || strings.Contains(string(out), "lost") {
		t.Fatalf("the client: %v: %s", err, out)
	}
	if !strings.Contains(string(out), `400 {"code":"invalid","message":"partial write`) || !strings.Contains(string(out), "no.name") {
		t.Errorf("a bad name was answered with %s", out)
	}
	type reading struct {
		Time   time.Time
		Values []*float64
		Note   string
	}
	for device := range 10 {
		name := fmt.Sprintf("pump-%d", device)
		var got struct{ Readings []reading }
		testenv.Eventually(t, 20*time.Second, func() error {
			err := m.get("/api/v1/sites/oil/devices/"+name+"/readings?from=0", &got)
			if err == nil && len(got.Readings) < 100 {
				err = fmt.Errorf("%s has %d readings", name, len(got.Readings))
			}
			return err
		})
		if device > 0 && len(got.Readings) != 100 {
			t.Errorf("%s has %d readings, want 100", name, len(got.Readings))
		}
		for n, r := range got.Readings[:100] {
			i := device + 10*n
			want := []float64{float64(i), 200 + float64(i)/7, float64(1 - i%2)} // count, pressure, running
			if r.Time.UnixMilli() != 1767323045000+int64(i) || len(r.Values) != 3 {
				t.Fatalf("%s: reading %d is %v, want point %d", name, n, r, i)
			}
			for c, v := range r.Values {
				if v == nil || *v != want[c] {
					t.Errorf("%s: point %d has another value in channel %d: want %v", name, i, c, want)
				}
			}
		}
	}
	text, code := run(t, "query", "oil", "pump-0", "--server", m.http, "--json", "--limit", "1")
	var last struct{ Readings []reading }
	if err := json.Unmarshal([]byte(text), &last); code != 0 || err != nil || len(last.Readings) != 1 || last.Readings[0].Note != "last" {
		t.Errorf("wellhead query: exit %d, %v, got %+v, want the note of the last point", code, err, last)
	}
}

// TestLineProtocolExample runs what docs/wire.md tells whoever tries line protocol with curl.
func TestLineProtocolExample(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testenv.Missing(t, "curl", "apt-get install curl")
	}
	page, err := os.ReadFile(filepath.Join("..", "docs", "wire.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok1 := strings.Cut(string(page), "The same in line protocol")
	_, example, ok2 := strings.Cut(example, "```sh\n")
	example, _, ok3 := strings.Cut(example, "```")
	if !ok1 || !ok2 || !ok3 || !strings.Contains(example, "\n# ") {
		t.Fatal("docs/wire.md has no example of line protocol with its answer")
	}
	m := startMember(t, t.TempDir())
	script := strings.ReplaceAll(example, "http://127.0.0.1:8080", m.http)
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, want, _ := strings.Cut(example, "\n# ")
	if got := string(out); !strings.Contains(got, `"accepted":2`) || !strings.HasSuffix(got, strings.TrimSpace(want)+"\n") {
		t.Errorf("got %s, want 2 accepted and %s", got, want)
	}
	text, code := run(t, "query", "demo", "pump-2", "--server", m.http)
	if code != 0 || !strings.Contains(text, "valve opened by hand") {
		t.Errorf("wellhead query: exit %d, %s", code, text)
	}
}

// telegrafConfig is what docs/wire.md tells who has a Telegraf, with points from a file.
const telegrafConfig = `
[agent]
  precision = "1ms"
  omit_hostname = true
  metric_buffer_limit = 5000
[[inputs.file]]
  files = [%q]
  data_format = "influx"
[[outputs.influxdb_v2]]
  urls = [%q]
  organization = "any"
  bucket = "second"
  token = "any"
[[outputs.influxdb]]
  urls = [%q]
  database = "first"
  skip_database_creation = true
`

// TestTelegraf lets a real Telegraf write 2 000 points with both of its outputs for InfluxDB. It is built by
// scripts/setup from tools/telegraf, with the plugins that are needed here.
func TestTelegraf(t *testing.T) {
	telegraf, err := filepath.Abs(filepath.Join("..", ".cache", "telegraf", "telegraf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(telegraf); err != nil {
		testenv.Missing(t, "Telegraf", "scripts/setup")
	}
	const points, devices = 2000, 10
	m := startMember(t, t.TempDir())
	var lines strings.Builder
	for i := range points {
		fmt.Fprintf(&lines, "well,device=pump-%d count=%di,pressure=%v,running=%v,state=\"s %d\" %d\n",
			i%devices, i, 200+float64(i)/7, i%2 == 0, i, 1_767_323_045_000_000_000+int64(i)*1_000_000)
	}
	dir := t.TempDir()
	file, config := filepath.Join(dir, "points.influx"), filepath.Join(dir, "telegraf.conf")
	for name, text := range map[string]string{file: lines.String(), config: fmt.Sprintf(telegrafConfig, file, m.http, m.http)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), telegraf, "--config", config, "--once").CombinedOutput()
	if err != nil || strings.Contains(string(out), " E! ") {
		t.Fatalf("telegraf: %v: %s", err, out)
	}
	for _, site := range []string{"first", "second"} {
		for device := range devices {
			m.wantPoints(fmt.Sprintf("%s/devices/pump-%d", site, device), device, points, devices)
		}
	}
}

// wantPoints waits until the archive has one of every so many points of TestTelegraf, from first on.
func (m *member) wantPoints(where string, first, points, every int) {
	m.t.Helper()
	var got struct {
		Readings []struct {
			Time   time.Time
			Values []float64
			Note   string
		}
	}
	testenv.Eventually(m.t, 20*time.Second, func() error {
		err := m.get("/api/v1/sites/"+where+"/readings?from=0", &got)
		if err == nil && len(got.Readings) != points/every {
			err = fmt.Errorf("%s has %d readings, want %d", where, len(got.Readings), points/every)
		}
		return err
	})
	for n, r := range got.Readings {
		i := first + n*every
		want := []float64{float64(i), 200 + float64(i)/7, float64(1 - i%2)}
		if r.Time.UnixMilli() != 1_767_323_045_000+int64(i) || !slices.Equal(r.Values, want) || r.Note != fmt.Sprint("s ", i) {
			m.t.Fatalf("%s: reading %d is %+v, want %v", where, n, r, want)
		}
	}
}
