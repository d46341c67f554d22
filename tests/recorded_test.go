package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/internal/testenv"
)

// recordings are the public data sets with the flags of their dialect, and what is known of them.
// Rows, omitted and duplicate values were counted by others, with other programs.
var recordings = []struct {
	site  string
	flags []string
	files []string // patterns, in order
	want  recorded
}{
	{
		"wells",
		[]string{"--time-column", "timestamp", "--skip-columns", "class", "--device-from-name", `(WELL-\d+)`},
		[]string{"3w-wells/*.csv.gz"},
		recorded{Rows: 128_956, Omitted: 309_331, Devices: 10, Sent: 128_955, Duplicate: 1},
	},
	{
		"pumps",
		[]string{"--time-column", "datetime", "--separator", ";", "--device-from-name", `^(.*)\.csv`, "--skip-columns", "anomaly,changepoint"},
		[]string{"skab/*.csv"},
		recorded{Rows: 19_964, Devices: 11, Sent: 19_964},
	},
	{
		"pump-a",
		[]string{"--time-column", "datetime", "--separator", ";", "--device-from-name", `(o)`},
		[]string{"skab/anomaly-free*.csv", "skab/other_14.csv"},
		recorded{Rows: 10_554, Devices: 1, Sent: 9_983, Duplicate: 571},
	},
	{
		"pump-b",
		[]string{"--time-column", "datetime", "--separator", ";", "--device-from-name", `^(other)`},
		[]string{"skab/other_21.csv", "skab/other_22.csv"},
		recorded{Rows: 2_220, Devices: 1, Sent: 1_797, Duplicate: 423},
	},
	{
		"river",
		[]string{"--time-column", "datetime", "--omitted", "NULL", "--device-from-name", `^([A-Za-z]+)`},
		[]string{"logan-river/*.csv.gz"},
		recorded{Rows: 55_386, Omitted: 535_565, Devices: 6, Sent: 55_386},
	},
	{
		"machines",
		[]string{"--time-column", "timestamp", "--device-from-name", `^(.*)\.csv`},
		[]string{"nab/*.csv"},
		recorded{Rows: 42_187, Devices: 6, Sent: 42_162, Duplicate: 25},
	},
	{
		"meters",
		[]string{"--time-column", "datetime", "--device-from-name", `_(b\d+_[a-z]+)_`},
		[]string{"cambridge-meters/*.csv.gz"},
		recorded{Rows: 1_138_800, Devices: 130, Sent: 1_138_800},
	},
	{
		"solar",
		[]string{"--time-column", "#1", "--device-from-name", `^(.*)\.csv`, "--zone", "America/Denver"},
		[]string{"nrel-pv/serf_west_15min.csv"},
		recorded{Rows: 480, Devices: 1, Sent: 480},
	},
	{
		"weather",
		[]string{"--time-column", "#1", "--time-format", "%m/%d/%Y %H:%M", "--device-from-name", `^(.*)\.csv`},
		[]string{"nrel-pv/rmis_weather_data.csv"},
		recorded{Rows: 1_151, Omitted: 48, Devices: 1, Sent: 1_151},
	},
}

// recorded is what verify replay says of files and of what the server has of them.
type recorded struct {
	Rows, Omitted, Bad                      int64
	Devices, Sent, Duplicate                int64
	Missing, Different, Unexpected, Checked int64
}

// TestRecordings replays all public data and wants verify to find every reading.
func TestRecordings(t *testing.T) {
	m := startMember(t, t.TempDir())
	playRecordings(t, m, testenv.Recordings(t), allMeters, func(string) []string { return []string{"--server", m.nats} })
}

// TestRecordingsOutside does so with real Cassandra and Redis and an outside NATS server, with a
// credential for each site: of the 130 meters with 12, or with WELLHEAD_METERS. Buckets are long, as
// docs/operations.md has them for hourly meters.
func TestRecordingsOutside(t *testing.T) {
	dir := testenv.Recordings(t)
	var sites []string
	for _, r := range recordings {
		sites = append(sites, r.site)
	}
	o := startOutside(t, 1, storeSettings(t)+"cassandra.bucket: 30d\n", sites...)
	playRecordings(t, o.member, dir, numberFrom(t, "WELLHEAD_METERS", 12), func(site string) []string {
		return []string{"--server", o.url, "--creds", o.credsOf(site), "--stored"}
	})
}

// allMeters is how many meters there are, each with 8 760 readings.
const allMeters = 130

// playRecordings replays and verifies the recordings in dir, so many meters among them. to has the flags that
// say where a site's go to.
func playRecordings(t *testing.T, m *member, dir string, meters int, to func(site string) []string) {
	begun := time.Now()
	for _, r := range recordings {
		var files []string
		for _, pattern := range r.files {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(found) == 0 {
				t.Fatalf("no files %s in %s: %v", pattern, dir, err)
			}
			files = append(files, found...)
		}
		want := r.want
		if r.site == "meters" {
			files = files[:meters]
			want.Devices, want.Rows, want.Sent = int64(meters), int64(meters)*8760, int64(meters)*8760
		}
		want.Checked = want.Sent
		args := slices.Concat([]string{"replay", "--site", r.site, "--speed", "max"}, to(r.site), r.flags)
		if _, code := run(t, append(args, files...)...); code != 0 {
			t.Fatalf("replay of %s: exit %d", r.site, code)
		}
		args = append([]string{"verify", "replay", "--server", m.http, "--site", r.site, "--json"}, r.flags...)
		out, code := run(t, append(args, files...)...)
		var got recorded
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("verify of %s printed no JSON: %v: %s", r.site, err, out)
		}
		if diff := gocmp.Diff(want, got); diff != "" || code != 0 {
			t.Errorf("verify of %s: exit %d, want 0 (-want +got):\n%s", r.site, code, diff)
		}
		t.Logf("%s: %.1f s", r.site, time.Since(begun).Seconds())
	}
	t.Logf("all replayed and verified in %.1f s", time.Since(begun).Seconds())
}

// TestReplaySpeedAndShift plays two minutes, long ago, at 60 times their speed up to now.
func TestReplaySpeedAndShift(t *testing.T) {
	m := startMember(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "pump.csv")
	text := "time,a\n"
	for i := range 121 {
		text += fmt.Sprintf("%s,%d\n", time.Unix(1_300_000_000+int64(i), 0).UTC().Format(time.DateTime), i)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dialect := []string{"--site", "shifted", "--time-column", "time", "--device-from-name", `^(\w+)\.`}
	begun := time.Now()
	args := append([]string{"replay", "--server", m.nats, "--speed", "60x", "--shift-to", "now"}, dialect...)
	out, code := run(t, append(args, file)...)
	ended := time.Now()
	if took := ended.Sub(begun); code != 0 || took < 2*time.Second || took > 20*time.Second {
		t.Fatalf("replay: exit %d after %v, want 0 after 2 s and a little", code, took)
	}
	if !strings.Contains(out, "wellhead verify replay --server "+m.http+" ") {
		t.Errorf("the command that checks it does not name %s: %s", m.http, out)
	}
	found := regexp.MustCompile(`--shift-to (\S+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("replay does not print the time that it shifted to: %s", out)
	}
	oldest, err := time.Parse(time.RFC3339, found[1])
	if err != nil {
		t.Fatal(err)
	}
	// nothing may lie ahead of the moment in which it is sent
	if newest := oldest.Add(2 * time.Minute); newest.Before(begun.Add(time.Second)) || newest.After(ended) {
		t.Errorf("the newest is at %v, want it between %v and %v", newest, begun.Add(time.Second), ended)
	}
	v := verify(t, append(append([]string{"replay", "--server", m.http, "--shift-to", found[1]}, dialect...), file)...)
	if v.Sent != 121 {
		t.Errorf("verify: %d sent, want 121", v.Sent)
	}
}
