package recording

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func packed(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read returns every row as text: device, time, values, note.
func read(t testing.TB, s *Source) ([]string, error) {
	t.Helper()
	defer s.Close()
	var rows []string
	for {
		row, err := s.Next()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		at := time.UnixMilli(row.Reading.Time).UTC().Format("2006-01-02T15:04:05.000")
		rows = append(rows, strings.TrimSpace(fmt.Sprint(row.Device, " ", at, " ", row.Reading.Values, " ", row.Reading.Note)))
	}
}

var anyName = regexp.MustCompile(`^(\w+)\.`)

func TestDialects(t *testing.T) {
	plain := Options{TimeColumn: "time", DeviceFromName: anyName}
	with := func(change func(*Options)) Options {
		o := plain
		change(&o)
		return o
	}
	for _, c := range []struct {
		name    string
		content string
		options Options
		want    []string
	}{
		{
			"omitted, carriage returns, no newline at the end", "time,a,b\r\n2020-01-02 03:04:05.678999,1.5,\r\n2020-01-02 03:04:06,,-3e2",
			plain,
			[]string{"w 2020-01-02T03:04:05.678 [1.5 NaN]", "w 2020-01-02T03:04:06.000 [NaN -300]"},
		},
		{"packed", packed(t, "time,a\n2020-01-02 03:04,1\n"), plain, []string{"w 2020-01-02T03:04:00.000 [1]"}},
		{"byte order mark and blank lines", "\ufefftime,a\n\n2020-01-02T03:04:05Z,1\n\n", plain, []string{"w 2020-01-02T03:04:05.000 [1]"}},
		{"semicolon, words for omitted", "time;a;b\n2020-01-02 03:04:05;NULL;-9999\n", with(func(o *Options) {
			o.Separator, o.Omitted = ';', []string{"NULL", "-9999"}
		}), []string{"w 2020-01-02T03:04:05.000 [NaN NaN]"}},
		{"quoted fields, device and note in columns", "time,who,\"a, b\",note\n2020-01-02 03:04:05,x,1,\"said \"\"no\"\",\nleft\"\n2020-01-02 03:04:05,y,2,\n", with(func(o *Options) {
			o.DeviceFromName, o.DeviceColumn, o.NoteColumn = nil, "who", "note"
		}), []string{"x 2020-01-02T03:04:05.000 [1] said \"no\",\nleft", "y 2020-01-02T03:04:05.000 [2]"}},
		{"empty header name, month first", ",a\n1/9/2022 0:05,1\n", with(func(o *Options) {
			o.TimeColumn, o.TimeFormat = "#1", "%m/%d/%Y %H:%M"
		}), []string{"w 2022-01-09T00:05:00.000 [1]"}},
		{"no header line", "7,1577934245678,8\n9,1577934246678,10\n", with(func(o *Options) {
			o.TimeColumn, o.TimeFormat = "#2", "unix_ms"
		}), []string{"w 2020-01-02T03:04:05.678 [7 8]", "w 2020-01-02T03:04:06.678 [9 10]"}},
		{"channels in another order", "time,a,b,c\n2020-01-02 03:04:05,1,2,3\n", with(func(o *Options) {
			o.Channels = []string{"c", "#2"}
		}), []string{"w 2020-01-02T03:04:05.000 [3 1]"}},
		{"column skipped", "time,a,label\n2020-01-02 03:04:05,1,bad\n", with(func(o *Options) {
			o.SkipColumns = []string{"label"}
		}), []string{"w 2020-01-02T03:04:05.000 [1]"}},
		{"zone by name", "time,a\n2020-07-02 03:04:05,1\n2020-07-02 03:04:05+05:30,1\n", with(func(o *Options) {
			o.Zone = time.FixedZone("two", 7200)
		}), []string{"w 2020-07-02T01:04:05.000 [1]", "w 2020-07-01T21:34:05.000 [1]"}},
		{"shifted", "time,a\n2020-01-02 03:04:05,1\n", with(func(o *Options) { o.Shift = -5000 }), []string{"w 2020-01-02T03:04:00.000 [1]"}},
		{"bad rows skipped", "time,a\nnever,1\n2020-01-02 03:04:05,x\n2020-01-02 03:04:05,1,2\n2020-01-02 03:04:05,1\"\n2020-01-02 03:04:06,1\n", with(func(o *Options) {
			o.SkipBad = true
		}), []string{"w 2020-01-02T03:04:06.000 [1]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources, err := Open([]string{write(t, "w.csv", c.content)}, c.options)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(t, sources[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if c.options.SkipBad && sources[0].Stats.Bad.Count != 4 {
				t.Errorf("got %d bad rows, want 4: %v", sources[0].Stats.Bad.Count, sources[0].Stats.Bad.First)
			}
		})
	}
}

// TestComplaints holds that whatever is wrong is told with the place.
func TestComplaints(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"time", "time,a\n2020-01-02 03:04:05,1\n2020-02-30 03:04:05,1\n", `w.csv:3: time "2020-02-30 03:04:05" cannot be read`},
		{"value", "time,a\n2020-01-02 03:04:05,True\n", `w.csv:2: channel 0 (column #2): "True" is no finite number`},
		{"infinite", "time,a\n2020-01-02 03:04:05,inf\n", `w.csv:2: channel 0 (column #2): "inf" is no finite number`},
		{"too few fields", "time,a,b\n2020-01-02 03:04:05,1\n", `w.csv:2: 2 fields, where the first line has 3`},
		{"no such column", "t,a\n2020-01-02 03:04:05,1\n", `w.csv: time column: there is no column "time"; the header line has "t", "a"`},
		{"empty", "", `w.csv: the file is empty`},
		{"cut gzip", packed(t, "time,a\n2020-01-02 03:04:05,1\n")[:30], `w.csv: after line 1: unexpected EOF`},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources, err := Open([]string{write(t, "w.csv", c.content)}, Options{TimeColumn: "time", DeviceFromName: anyName})
			if err == nil {
				_, err = read(t, sources[0])
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if regexp.MustCompile(`csv:( after line)? ?\d`).MatchString(c.want) != errors.Is(err, ErrRow) {
				t.Errorf("is %v a bad row: got %v", err, errors.Is(err, ErrRow))
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"no time column":            {DeviceColumn: "d"},
		"neither a pattern":         {TimeColumn: "t"},
		"both a pattern":            {TimeColumn: "t", DeviceColumn: "d", DeviceFromName: anyName},
		"time format \"iso\" is":    {TimeColumn: "t", DeviceColumn: "d", TimeFormat: "iso"},
		"%Q is not known":           {TimeColumn: "t", DeviceColumn: "d", TimeFormat: "%Y%Q"},
		"the pattern":               {TimeColumn: "t", DeviceFromName: regexp.MustCompile("x")},
		"the device name \"w.csv\"": {TimeColumn: "t", DeviceFromName: regexp.MustCompile(".*")},
	} {
		if _, err := Open([]string{"w.csv"}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ format, field, want string }{
		{"", "1969-12-31 23:59:59.9999", "1969-12-31T23:59:59.999Z"},
		{"", "2024-02-29T00:00", "2024-02-29T00:00:00Z"},
		{"", "2023-02-29T00:00", ""},
		{"", "2023-02-28T00:00:00x", ""},
		{"", "2023-02-28", ""},
		{"", "2020-01-01 00:00:00-07:00", "2020-01-01T07:00:00Z"},
		{"rfc3339", "2020-01-01T00:00:00+01:00", "2019-12-31T23:00:00Z"},
		{"unix", "1577934245.6789", "2020-01-02T03:04:05.678Z"},
		{"unix", "-0.0001", "1969-12-31T23:59:59.999Z"},
		{"unix", "1e9", ""},
		{"%d.%m.%y %H:%M:%S.%f", "02.01.20 03:04:05.6", "2020-01-02T03:04:05.6Z"},
		{"%-d %b %Y %I:%M %p", "2 Jan 2020 12:04 am", "2020-01-02T00:04:00Z"},
		{"%d %B %Y %I %p", "2 March 2020 12 PM", "2020-03-02T12:00:00Z"},
		{"%Y-%j", "2020-366", "2020-12-31T00:00:00Z"},
		{"%FT%T%z", "2020-01-01T00:00:00+0130", "2019-12-31T22:30:00Z"},
		{"100%% %Y", "100% 2020", "2020-01-01T00:00:00Z"},
		{"%H:%M", "24:00", ""},
	} {
		parse, err := newTimeParser(c.format, time.UTC)
		if err != nil {
			t.Errorf("%q: %v", c.format, err)
			continue
		}
		got := ""
		if ms, err := parse(c.field); err == nil {
			got = time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
		}
		if got != c.want {
			t.Errorf("%q as %q: got %s, want %s", c.field, c.format, got, c.want)
		}
	}
}

// TestPlainTimesAgree compares the quick parser with the standard library's.
func TestPlainTimesAgree(t *testing.T) {
	zone := time.FixedZone("", -5400)
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-1e18, 4e18).Draw(t, "ns")
		layout := rapid.SampledFrom([]string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05Z07:00"}).Draw(t, "layout")
		field := time.Unix(0, ns).In(zone).Format(layout)
		want, err := time.ParseInLocation(layout, field, zone)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsePlain(field, zone)
		if err != nil || got != want.UnixMilli() {
			t.Fatalf("%q: got %d %v, want %d", field, got, err, want.UnixMilli())
		}
	})
}

// TestMergeAndLoad compares with a dumb second version: rows of a source stay in order, due never goes
// back, and of equal times the last stays.
func TestMergeAndLoad(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		var files []string
		want := map[string]map[int64]float64{}
		perDevice := map[string][]float64{}
		value := 0.0
		for i := range rapid.IntRange(1, 6).Draw(rt, "files") {
			device := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "device")
			if want[device] == nil {
				want[device] = map[int64]float64{}
			}
			content := "t,v\n"
			for _, ms := range rapid.SliceOfN(rapid.Int64Range(-30, 30), 0, 20).Draw(rt, "times") {
				value++
				content += fmt.Sprintf("%d,%v\n", ms, value)
				want[device][ms] = value
				perDevice[device] = append(perDevice[device], value)
			}
			name := filepath.Join(dir, fmt.Sprintf("%s.%d", device, i))
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				rt.Fatal(err)
			}
			files = append(files, name)
		}
		o := Options{TimeColumn: "t", TimeFormat: "unix_ms", DeviceFromName: regexp.MustCompile(`^(\w)\.`)}
		checkMerge(rt, files, o, perDevice)
		sources, err := Open(files, o)
		if err != nil {
			rt.Fatal(err)
		}
		shelf := NewShelf(rapid.SampledFrom([]int64{0, 1, 400, 2000}).Draw(rt, "limit"))
		defer shelf.Close()
		for _, s := range sources {
			devices, err := shelf.Load(s)
			if err != nil {
				rt.Fatal(err)
			}
			for _, d := range devices {
				last, n := int64(math.MinInt64), 0
				for r := range d.Readings() {
					if r.Time <= last {
						rt.Fatalf("%s: %d after %d", d.Name, r.Time, last)
					}
					last = r.Time
					n++
					if got := r.Values[0]; got != want[d.Name][r.Time] {
						rt.Fatalf("%s at %d: got %v, want %v", d.Name, r.Time, got, want[d.Name][r.Time])
					}
				}
				if err := d.Err(); err != nil {
					rt.Fatal(err)
				}
				if n != len(want[d.Name]) || n != d.Len() || int64(len(perDevice[d.Name])-n) != d.Repeated {
					rt.Fatalf("%s: %d readings, %d repeated; want %d of %d", d.Name, n, d.Repeated, len(want[d.Name]), len(perDevice[d.Name]))
				}
			}
		}
	})
}

func checkMerge(t *rapid.T, files []string, o Options, want map[string][]float64) {
	sources, err := Open(files, o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Merge(sources, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := map[string][]float64{}
	before := int64(math.MinInt64)
	for {
		row, due, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if due < before || due < row.Reading.Time {
			t.Fatalf("row of %d is due at %d, after one due at %d", row.Reading.Time, due, before)
		}
		before = due
		got[row.Device] = append(got[row.Device], row.Reading.Values[0])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("rows by device (-want +got):\n%s", diff)
	}
}

// TestComplaintsHelp wants file, line, what is wrong and the flag that may help.
func TestComplaintsHelp(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"time,a\n2026-01-02 03:04:05,1\n2026-01-02 03:04:06,NULL\n", `d.csv:3: channel 0 (column #2): "NULL" is no finite number, nor a word for an omitted value: name such words with --omitted`},
		{"time,a\n02.01.2026 03:04,1\n", `d.csv:2: time "02.01.2026 03:04" cannot be read as a time: say its form with --time-format`},
		{"time,a\n2026-01-02 03:04:05\n", `d.csv:2: 1 fields, where the first line has 2: --bad-rows skip`},
		{"time;a\n2026-01-02 03:04:05;1\n", `there is no column "time"; the header line has "time;a": is another --separator needed?`},
	} {
		name := filepath.Join(t.TempDir(), "d.csv")
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		sources, err := Open([]string{name}, Options{TimeColumn: "time", DeviceFromName: regexp.MustCompile(`^(d)`)})
		for err == nil {
			_, err = sources[0].Next()
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %q, want %q in it", err, c.want)
		}
	}
}
