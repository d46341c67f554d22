package recording

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestRecorded holds what is known of the public recordings: counted by others, with other programs.
func TestRecorded(t *testing.T) {
	dir := testenv.Recordings(t)
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
			"pumps, without the labels that not every file has",
			[]string{"skab/*.csv"},
			Options{TimeColumn: "datetime", Separator: ';', DeviceFromName: wholeName, SkipColumns: []string{"anomaly", "changepoint"}},
			want{11, 19_964, 19_964, 0, 0},
		},
		{
			"a pump, two files as one device in the order given",
			[]string{"skab/anomaly-free*.csv", "skab/other_14.csv"},
			Options{TimeColumn: "datetime", Separator: ';', DeviceFromName: regexp.MustCompile(`(o)`)},
			want{1, 10_554, 9_983, 571, 0},
		},
		{
			"another",
			[]string{"skab/other_21.csv", "skab/other_22.csv"},
			Options{TimeColumn: "datetime", Separator: ';', DeviceFromName: regexp.MustCompile(`^(other)`)},
			want{1, 2_220, 1_797, 423, 0},
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
			"rivers, without what technicians corrected, and without sentinels",
			[]string{"logan-river/*.csv.gz"},
			Options{
				TimeColumn: "datetime", Omitted: []string{"NULL", "-9999"}, DeviceFromName: regexp.MustCompile(`^([A-Za-z]+)`),
				Channels: []string{"temp", "cond", "ph", "do", "turb", "stage"},
			},
			want{6, 55_386, 55_386, 0, 24},
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
	shelf := NewShelf(0)
	for _, s := range sources {
		devices, err := shelf.Load(s)
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
