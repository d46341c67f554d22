package recording

import (
	"regexp"
	"testing"
)

// TestExamples makes sure that the files in examples/data are read as their README says.
func TestExamples(t *testing.T) {
	wholeName := regexp.MustCompile(`^(.*)\.csv`)
	for _, c := range []struct {
		files   string
		options Options
		devices int
		rows    int64
	}{
		{"wells/*.csv", Options{TimeColumn: "timestamp", SkipColumns: []string{"class"}, DeviceFromName: regexp.MustCompile(`(WELL-\d+)`)}, 2, 1800},
		{"pump/*.csv", Options{TimeColumn: "datetime", Separator: ';', DeviceFromName: wholeName}, 1, 855},
		{"river/*.csv", Options{TimeColumn: "datetime", Omitted: []string{"NULL"}, DeviceFromName: wholeName}, 1, 960},
		{"meters/*.csv", Options{TimeColumn: "datetime", DeviceFromName: regexp.MustCompile(`_(b\d+_[a-z]+)\.`)}, 2, 2880},
		{"weather/*.csv", Options{TimeColumn: "#1", TimeFormat: "%m/%d/%Y %H:%M", DeviceFromName: wholeName}, 1, 864},
	} {
		got := count(t, "../../examples/data", []string{c.files}, c.options)
		if got.devices != c.devices || got.rows != c.rows || got.distinct != c.rows {
			t.Errorf("%s: got %+v, want %d devices and %d rows", c.files, got, c.devices, c.rows)
		}
		if (got.omitted > 0) != (c.files != "meters/*.csv") {
			t.Errorf("%s: got %d omitted values", c.files, got.omitted)
		}
	}
}
