package recording

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// testdata returns the folder of recorded public data.
func testdata(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WELLHEAD_TESTDATA")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("WELLHEAD_TESTDATA is not set: the recorded data must be tested in CI")
		}
		t.Skip("SKIPPED: WELLHEAD_TESTDATA is not set, so nothing is tested on recorded data")
	}
	return dir
}

// TestRecorded holds what is known of the public recordings: counted by others, with other programs.
func TestRecorded(t *testing.T) {
	dir := testdata(t)
	wholeName := regexp.MustCompile(`^(.*?)\.csv`)
	type want struct {
		devices                  int
		rows, distinct, repeated int64
		omitted                  int64
	}
	for _, c := range []struct {
		name    string
		files   []string
		options Options
		want    want
	}{
		{
			"wells",
			[]string{"3w-wells/*.csv.gz"},
			Options{TimeColumn: "timestamp", SkipColumns: []string{"class"}, DeviceFromName: regexp.MustCompile(`(WELL-\d+)`)},
			want{10, 128_956, 128_955, 1, 309_331},
		},
		{
			"pumps",
			[]string{"skab/*.csv"},
			Options{TimeColumn: "datetime", Separator: ';', DeviceFromName: wholeName},
			want{11, 19_964, 19_964, 0, 0},
		},
		{
			"pump, two files as one device",
			[]string{"skab/anomaly-free*.csv", "skab/other_14.csv"},
			Options{
				TimeColumn: "datetime", Separator: ';', DeviceFromName: regexp.MustCompile(`(a|o)`),
				Channels: []string{"Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature", "Thermocouple", "Voltage", "Volume Flow RateRMS"},
			},
			want{2, 10_554, 10_554, 0, 0},
		},
		{
			"rivers",
			[]string{"logan-river/*.csv.gz"},
			Options{TimeColumn: "datetime", Omitted: []string{"NULL"}, DeviceFromName: regexp.MustCompile(`^([A-Za-z]+)`)},
			want{6, 55_386, 55_386, 0, 535_565},
		},
		{
			"sensors",
			[]string{"nab/*.csv"},
			Options{TimeColumn: "timestamp", DeviceFromName: wholeName},
			want{6, 42_187, 42_162, 25, 0},
		},
		{
			"meters",
			[]string{"cambridge-meters/*.csv.gz"},
			Options{TimeColumn: "datetime", DeviceFromName: regexp.MustCompile(`_(b\d+_[a-z]+)_`)},
			want{130, 1_138_800, 1_138_800, 0, 0},
		},
		{
			"solar plant",
			[]string{"nrel-pv/serf_west_15min.csv"},
			Options{TimeColumn: "#1", DeviceFromName: wholeName},
			want{1, 480, 480, 0, 0},
		},
		{
			"weather station",
			[]string{"nrel-pv/rmis_weather_data.csv"},
			Options{TimeColumn: "#1", TimeFormat: "%m/%d/%Y %H:%M", DeviceFromName: wholeName},
			want{1, 1_151, 1_151, 0, 48},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := count(t, dir, c.files, c.options)
			if got := want(got); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	t.Run("files of one device in the order given", func(t *testing.T) {
		o := Options{
			TimeColumn: "datetime", Separator: ';', DeviceFromName: regexp.MustCompile(`(o)`),
			Channels: []string{"#2", "#3", "#4", "#5", "#6", "#7", "#8", "#9"},
		}
		for _, c := range []struct {
			first, second  string
			rows, distinct int64
		}{{"anomaly-free_anomaly-free", "other_14", 10_554, 9_983}, {"other_21", "other_22", 2_220, 1_797}} {
			got := count(t, dir, []string{"skab/" + c.first + ".csv", "skab/" + c.second + ".csv"}, o)
			if got.devices != 1 || got.rows != c.rows || got.distinct != c.distinct {
				t.Errorf("%s, %s: got %+v, want %d rows and %d distinct of one device", c.first, c.second, got, c.rows, c.distinct)
			}
		}
	})
}

type counted struct {
	devices                  int
	rows, distinct, repeated int64
	omitted                  int64
}

func count(t *testing.T, dir string, patterns []string, o Options) (c counted) {
	t.Helper()
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil || len(found) == 0 {
			t.Fatalf("no files %s in %s: %v", p, dir, err)
		}
		files = append(files, found...)
	}
	sources, err := Open(files, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		devices, err := Load(s)
		if err != nil {
			t.Fatal(err)
		}
		c.devices += len(devices)
		c.rows += s.Stats.Rows
		c.omitted += s.Stats.Omitted
		for _, d := range devices {
			c.distinct += int64(d.Len())
			c.repeated += d.Repeated
		}
	}
	return c
}
