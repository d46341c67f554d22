package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// fleet serves readings over HTTP as a member does.
func fleet(t *testing.T, devices ...api.DeviceReadings) *verify.Client {
	t.Helper()
	f := apitest.New()
	if err := f.Publish(t.Context(), "demo", devices, api.How{}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Logger: slog.New(slog.DiscardHandler)}))
	t.Cleanup(s.Close)
	return client(t, s.URL)
}

func client(t *testing.T, url string) *verify.Client {
	t.Helper()
	c, err := verify.NewClient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var omitted = messages.Omitted()

// sent are readings with all that a reading may have; the newest have fewer values than some.
func sent() []api.DeviceReadings {
	long := make([]messages.Reading, 12_345)
	for i := range long {
		long[i] = messages.Reading{Time: 1_700_000_000_000 + int64(i)*250, Values: []float64{math.Sqrt(float64(i)), -float64(i), omitted}}
		if i%7 == 0 {
			long[i].Note = fmt.Sprintf("note %d, \"quoted\"", i%50)
		}
	}
	return []api.DeviceReadings{
		{Device: "long", Readings: long},
		{Device: "odd", Readings: []messages.Reading{
			{Time: -5, Values: []float64{1, 2, 3}, Quality: []uint8{0, 0, 9}},
			{Time: 0, Note: "no values at all\nbut two lines"},
			{Time: 7, Values: []float64{omitted, math.MaxFloat64}, Note: "é"},
			{Time: 8, Values: []float64{math.SmallestNonzeroFloat64}},
		}},
	}
}

// row is a line of a Parquet file.
type row struct {
	Site, Device, Note, Quality string
	Time, Sequence              int64
	Values                      []float64 // NaN = null
}

// readParquet reads a file back with the library, by the names of its columns.
func readParquet(t *testing.T, data []byte) (columns []string, rows []map[string]parquet.Value) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Schema().Columns() {
		columns = append(columns, strings.Join(c, "."))
	}
	for _, group := range f.RowGroups() {
		reader := group.Rows()
		buf := make([]parquet.Row, 100)
		for {
			n, err := reader.ReadRows(buf)
			for _, values := range buf[:n] {
				m := make(map[string]parquet.Value, len(columns))
				for _, v := range values {
					m[columns[v.Column()]] = v.Clone()
				}
				rows = append(rows, m)
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		reader.Close()
	}
	return columns, rows
}

func text(v parquet.Value) string { return string(v.ByteArray()) }

func toRow(m map[string]parquet.Value, channels int) row {
	r := row{
		Site: text(m["site"]), Device: text(m["device"]), Note: text(m["note"]),
		Time: m["time"].Int64(), Sequence: m["sequence"].Int64(),
	}
	if !m["quality"].IsNull() {
		r.Quality = text(m["quality"])
	}
	for c := range channels {
		v := omitted
		if cell := m[fmt.Sprintf("c%d", c)]; !cell.IsNull() {
			v = cell.Double()
		}
		r.Values = append(r.Values, v)
	}
	return r
}

// TestParquetHoldsWhatWasSent: member, wire and file; every row, in order, with its nulls.
func TestParquetHoldsWhatWasSent(t *testing.T) {
	all := sent()
	name := filepath.Join(t.TempDir(), "all.parquet")
	var told int64
	report, err := ToFile(t.Context(), name, Options{Client: fleet(t, all...), Site: "demo", Format: Parquet, Progress: func(n int64) { told = n }})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if report.Devices != 2 || report.Readings != 12_349 || report.Bytes != int64(len(data)) || report.File != name || told != 12_349 {
		t.Errorf("report: %+v, told %d, file %d bytes", report, told, len(data))
	}
	columns, got := readParquet(t, data)
	if diff := cmp.Diff([]string{"site", "device", "time", "c0", "c1", "c2", "note", "sequence", "quality"}, columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	var want []row
	for i, d := range all {
		for _, r := range d.Readings {
			values := append(append([]float64{}, r.Values...), omitted, omitted, omitted)[:3]
			want = append(want, row{
				Site: "demo", Device: d.Device, Note: r.Note, Quality: string(messages.AppendQuality(nil, r.Quality)),
				Time: r.Time, Sequence: int64(i + 1), Values: values,
			})
		}
	}
	rows := make([]row, len(got))
	for i := range got {
		rows[i] = toRow(got[i], 3)
	}
	if diff := cmp.Diff(want, rows, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("rows (-want +got):\n%.4000s", diff)
	}
}

func TestParquetRollups(t *testing.T) {
	var out bytes.Buffer
	report, err := To(t.Context(), &out, Options{Client: fleet(t, sent()...), Site: "demo", Devices: []string{"odd"}, Step: "1h", Channels: 3, Format: Parquet})
	if err != nil || report.Rollups != 2 || report.Readings != 0 {
		t.Fatalf("got %+v, %v", report, err)
	}
	_, rows := readParquet(t, out.Bytes())
	first, second := rows[0], rows[1]
	if first["start"].Int64() != -3_600_000 || text(first["step"]) != "1h" || first["count"].Int64() != 1 || first["c2_sum"].Double() != 3 {
		t.Errorf("first hour: %v", first)
	}
	if second["count"].Int64() != 3 || second["c1_count"].Int64() != 1 || second["c1_last"].Double() != math.MaxFloat64 || second["c2_count"].Int64() != 0 || !second["c2_min"].IsNull() {
		t.Errorf("second hour: %v", second)
	}
}

// TestRowGroupsAreBounded: what is held before it is compressed does not grow with the file.
func TestRowGroupsAreBounded(t *testing.T) {
	var out bytes.Buffer
	s := &parquetSink{w: &out}
	if err := s.head(messages.ExportHead{Site: "demo", Channels: 64}); err != nil {
		t.Fatal(err)
	}
	rows := make([]messages.Sample, 1000)
	for i := range rows {
		rows[i].Values = make([]float64, 64)
	}
	for range 120 {
		if err := s.readings("a", rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(messages.ExportEnd{}); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(f.RowGroups()); f.NumRows() != 120_000 || got != 3 {
		t.Errorf("got %d rows in %d groups, want 120000 in 3", f.NumRows(), got)
	}
}

func TestTextFiles(t *testing.T) {
	c := fleet(t, sent()...)
	for format, want := range map[Format]string{
		CSV: "site,device,time,c0,c1,c2,note,sequence,quality\ndemo,odd,1970-01-01T00:00:00.000Z,,,,\"no values at all\nbut two lines\",2,\n" +
			"demo,odd,1970-01-01T00:00:00.007Z,,1.7976931348623157e+308,,é,2,\n",
		NDJSON: `{"site":"demo","device":"odd","time":"1970-01-01T00:00:00.000Z","values":[],"note":"no values at all\nbut two lines","sequence":2}` + "\n" +
			`{"site":"demo","device":"odd","time":"1970-01-01T00:00:00.007Z","values":[null,1.7976931348623157e+308],"note":"é","sequence":2}` + "\n",
	} {
		var out bytes.Buffer
		report, err := To(t.Context(), &out, Options{Client: c, Site: "demo", Devices: []string{"odd"}, From: "0", To: "7", Channels: 3, Format: format})
		if err != nil || report.Readings != 2 || report.Bytes != int64(out.Len()) {
			t.Fatalf("%s: %+v, %v", format, report, err)
		}
		if got := out.String(); got != want {
			t.Errorf("%s: got %s, want %s", format, got, want)
		}
	}
}

// TestTooWide says how to go on, and following that works.
func TestTooWide(t *testing.T) {
	o := Options{Client: fleet(t, sent()...), Site: "demo", Devices: []string{"odd"}, Format: Parquet, Channels: 2}
	_, err := To(t.Context(), io.Discard, o)
	if !errors.Is(err, messages.ErrTooWide) || !strings.Contains(err.Error(), "--channels") || !strings.Contains(err.Error(), "channels=3") {
		t.Errorf("got %v", err)
	}
	for _, o.Channels = range []int{3, 0} {
		if report, err := To(t.Context(), io.Discard, o); err != nil || report.Readings != 4 {
			t.Errorf("with %d channels: %+v, %v", o.Channels, report, err)
		}
	}
}

// TestNothingIsLeftBehind: whatever breaks off, a file that was there stays, and no other appears.
func TestNothingIsLeftBehind(t *testing.T) {
	var frames messages.ExportFrames
	head := frames.AppendHead(nil, messages.ExportHead{Site: "demo", Channels: 1})
	body, _ := frames.AppendReadings(head, "a", []messages.Sample{{Reading: messages.Reading{Time: 1, Values: []float64{1}}}})
	for _, c := range []struct {
		name string
		body []byte
		says string
	}{
		{"cut", body, "it has no end"},
		{"cut in a frame", body[:len(body)-2], "it has no end"},
		{"said so", frames.AppendError(bytes.Clone(body), "the archive is away"), "the archive is away"},
		{"rows are missing", frames.AppendEnd(bytes.Clone(body), messages.ExportEnd{Rows: 2}), "1 rows came"},
		{"too wide", frames.AppendEnd(must(frames.AppendReadings(bytes.Clone(body), "a", []messages.Sample{{Reading: messages.Reading{Time: 2, Values: []float64{1, 2}}}})), messages.ExportEnd{Rows: 2}), "--channels"},
		{"not an export", []byte("<html>" + strings.Repeat("x", 100)), "head of the export"},
	} {
		for _, format := range []Format{CSV, Parquet} {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.body) }))
			dir := t.TempDir()
			name := filepath.Join(dir, "out")
			if err := os.WriteFile(name, []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ToFile(t.Context(), name, Options{Client: client(t, s.URL), Site: "demo", Format: format})
			s.Close()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: got %v, want %q", c.name, format, err, c.says)
			}
			if unreachable := errors.Is(err, verify.ErrUnreachable); unreachable != errors.Is(err, messages.ErrBrokenOff) {
				t.Errorf("%s: %v, unreachable: %v", c.name, err, unreachable)
			}
			entries, _ := os.ReadDir(dir)
			if data, _ := os.ReadFile(name); len(entries) != 1 || string(data) != "before" {
				t.Errorf("%s, %s: left behind %v, the file says %q", c.name, format, entries, data)
			}
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriterFails(t *testing.T) {
	c := fleet(t, sent()...)
	for _, format := range []Format{CSV, NDJSON, Parquet} {
		_, err := To(t.Context(), full{}, Options{Client: c, Site: "demo", Format: format, Channels: 3})
		if !errors.Is(err, ErrFile) || errors.Is(err, verify.ErrUnreachable) {
			t.Errorf("%s: got %v", format, err)
		}
	}
	if _, err := ToFile(t.Context(), filepath.Join(t.TempDir(), "nosuch", "a.csv"), Options{Client: c, Site: "demo", Format: CSV}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such folder: got %v", err)
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{"a.csv": CSV, "a/b.NDJSON": NDJSON, "x.jsonl": NDJSON, "x.parquet": Parquet, "x": "", "x.csv.gz": ""} {
		if got, err := FormatOf(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// BenchmarkSink writes a thousand readings of 4 channels again and again, so it compresses them too well.
func BenchmarkSink(b *testing.B) {
	rows := make([]messages.Sample, 1000)
	for i := range rows {
		x := float64(i)
		rows[i] = messages.Sample{Reading: messages.Reading{Time: int64(i) * 1000, Values: []float64{math.Round(x*7.3) / 100, 64.5, x / 100, 12}}, Sequence: uint64(i / 100)}
	}
	for _, format := range []Format{CSV, NDJSON, Parquet} {
		b.Run(string(format), func(b *testing.B) {
			s, err := newSink(io.Discard, Options{Format: format})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.head(messages.ExportHead{Site: "demo", Channels: 4}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.readings("pump-1", rows); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.close(messages.ExportEnd{}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "readings/s")
		})
	}
}
