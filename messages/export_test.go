package messages

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var errBoom = errors.New("boom")

// anySamples draws readings of one device, some of them with other numbers of values than the one before.
func anySamples(t *rapid.T) []Sample {
	var out []Sample
	for range rapid.IntRange(1, 30).Draw(t, "readings") {
		out = append(out, Sample{Reading: anyReading(t), Sequence: rapid.Uint64().Draw(t, "sequence")})
	}
	return out
}

func anyRollups(t *rapid.T, step Step) []Rollup {
	var out []Rollup
	for range rapid.IntRange(1, 5).Draw(t, "rollups") {
		r := Rollup{Start: anyTime.Draw(t, "start"), Step: step, Count: rapid.Int64Range(0, 1e6).Draw(t, "count")}
		for range rapid.IntRange(0, 4).Draw(t, "channels") {
			var c ChannelRollup
			if c.Count = rapid.Int64Range(0, 3).Draw(t, "values"); c.Count > 0 {
				v := rapid.Float64Range(-1e9, 1e9)
				c.Min, c.Max, c.Sum, c.First, c.Last = v.Draw(t, "min"), v.Draw(t, "max"), math.Inf(1), v.Draw(t, "first"), v.Draw(t, "last")
			}
			r.Channels = append(r.Channels, c)
		}
		out = append(out, r)
	}
	return out
}

// TestExportFramesRoundTrip wants every row back as it was, by devices, and the head and the end.
func TestExportFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f ExportFrames
		head := ExportHead{Version: 1, Site: "s", Devices: 2, Channels: 3}
		readings, rollups := anySamples(t), anyRollups(t, Hour)
		data := f.AppendAlive(f.AppendHead(nil, head))
		data, _ = f.AppendReadings(data, "a", readings)
		data, _ = f.AppendRollups(data, "b", rollups)
		data = f.AppendEnd(data, ExportEnd{Devices: 2, Rows: 7})

		r := NewExportReader(bytes.NewReader(data))
		var gotReadings []Sample
		var gotRollups []Rollup
		var ends int
		for {
			part, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case part.Head != nil:
				if diff := cmp.Diff(head, *part.Head); diff != "" {
					t.Fatalf("head (-want +got):\n%s", diff)
				}
			case part.Readings != nil:
				for _, s := range part.Readings {
					s.Values, s.Quality, s.Note = append([]float64(nil), s.Values...), append([]uint8(nil), s.Quality...), strings.Clone(s.Note)
					gotReadings = append(gotReadings, s)
				}
			case part.Rollups != nil:
				gotRollups = append(gotRollups, part.Rollups...)
			case part.End != nil:
				ends++
			}
		}
		if diff := cmp.Diff(readings, gotReadings, same); diff != "" {
			t.Fatalf("readings (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(rollups, gotRollups, same); diff != "" {
			t.Fatalf("rollups (-want +got):\n%s", diff)
		}
		if ends != 1 || r.Bytes() != int64(len(data)) {
			t.Fatalf("%d ends, %d bytes read of %d", ends, r.Bytes(), len(data))
		}
	})
}

// TestExportCutIsNeverWhole cuts an export at every byte: none of the pieces may pass for whole.
func TestExportCutIsNeverWhole(t *testing.T) {
	var f ExportFrames
	data := f.AppendHead(nil, ExportHead{Site: "s", Channels: 1})
	data, _ = f.AppendReadings(data, "a", []Sample{{Reading: Reading{Time: 5, Values: []float64{1}, Note: "n"}, Sequence: 9}})
	data, _ = f.AppendRollups(data, "a", []Rollup{{Step: Minute, Count: 1, Channels: []ChannelRollup{{Count: 1}}}})
	data = f.AppendEnd(data, ExportEnd{Devices: 1, Rows: 2})
	for cut := range len(data) {
		r := NewExportReader(bytes.NewReader(data[:cut]))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, ErrBrokenOff) {
			t.Fatalf("cut at %d of %d: got %v, want that it broke off", cut, len(data), err)
		}
	}
	failed := f.AppendError(f.AppendHead(nil, ExportHead{}), "the archive is away")
	r := NewExportReader(bytes.NewReader(failed))
	_, _ = r.Next()
	if _, err := r.Next(); !errors.Is(err, ErrBrokenOff) || !strings.Contains(err.Error(), "the archive is away") {
		t.Errorf("got %v, want what the sender said", err)
	}
	r = NewExportReader(io.MultiReader(bytes.NewReader(f.AppendHead(nil, ExportHead{})), broken{}))
	_, _ = r.Next()
	if _, err := r.Next(); !errors.Is(err, ErrBrokenOff) || !errors.Is(err, errBoom) {
		t.Errorf("got %v, want that it broke off, and the cause", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBoom }

// TestExportFramesStayWithinAMessage: whatever is in the readings, a frame can be decoded.
func TestExportFramesStayWithinAMessage(t *testing.T) {
	var rows []Sample
	for i := range 3000 {
		values := make([]float64, MaxChannels)
		for k := range values {
			values[k] = math.Sqrt(float64(i*64 + k))
		}
		rows = append(rows, Sample{Reading: Reading{Time: int64(i), Values: values, Note: strings.Repeat("x", MaxNote)}, Sequence: -uint64(i % 2)})
	}
	var f ExportFrames
	data, _ := f.AppendReadings(f.AppendHead(nil, ExportHead{}), "a", rows)
	r := NewExportReader(bytes.NewReader(f.AppendEnd(data, ExportEnd{})))
	got := 0
	for {
		part, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got += len(part.Readings)
	}
	if got != len(rows) {
		t.Errorf("got %d readings, want %d", got, len(rows))
	}
}

var exportRows = []Sample{
	{Reading: Reading{Time: 1_767_323_045_678, Values: []float64{1.5, Omitted(), -3}, Note: "a \"b\",\nc"}, Sequence: 7},
	{Reading: Reading{Time: 1_767_323_046_000, Values: []float64{1e-9}, Quality: []uint8{3}}, Sequence: 8},
	{Reading: Reading{Time: 1_767_323_047_000, Note: " only a note"}, Sequence: 9},
}

var exportRollups = []Rollup{{Start: 0, Step: Minute, Count: 3, Channels: []ChannelRollup{{Count: 2, Min: 1, Max: 2, Sum: math.Inf(1), First: 1, Last: 2}, {}}}}

func TestExportCSV(t *testing.T) {
	var f ExportCSV
	data := f.AppendHead(nil, ExportHead{Site: "s", Channels: 3})
	data, err := f.AppendReadings(data, "a", exportRows)
	if err != nil {
		t.Fatal(err)
	}
	const want = "site,device,time,c0,c1,c2,note,sequence,quality\n" +
		"s,a,2026-01-02T03:04:05.678Z,1.5,,-3,\"a \"\"b\"\",\nc\",7,\n" +
		"s,a,2026-01-02T03:04:06.000Z,1e-09,,,,8,3\n" +
		"s,a,2026-01-02T03:04:07.000Z,,,,\" only a note\",9,\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := f.AppendReadings(nil, "a", []Sample{{Reading: Reading{Values: make([]float64, 4)}}}); !errors.Is(err, ErrTooWide) || !strings.Contains(err.Error(), "channels=4") {
		t.Errorf("four values in three columns: got %v", err)
	}
	data = f.AppendHead(nil, ExportHead{Site: "s", Channels: 2, Step: Minute})
	if data, err = f.AppendRollups(data, "a", exportRollups); err != nil {
		t.Fatal(err)
	}
	const wantRollups = "site,device,start,step,count,c0_count,c0_min,c0_max,c0_sum,c0_first,c0_last,c1_count,c1_min,c1_max,c1_sum,c1_first,c1_last\n" +
		"s,a,1970-01-01T00:00:00.000Z,1m,3,2,1,2,,1,2,0,,,,,\n"
	if diff := cmp.Diff(wantRollups, string(data)); diff != "" {
		t.Errorf("rollups (-want +got):\n%s", diff)
	}
}

// TestExportCSVRoundTrip reads lines back with the library's reader.
func TestExportCSVRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := anySamples(t)
		var f ExportCSV
		f.AppendHead(nil, ExportHead{Site: "s", Channels: MaxChannels})
		data, err := f.AppendReadings(nil, "a", rows)
		if err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		if err != nil || len(records) != len(rows) {
			t.Fatalf("got %d lines and error %v, want %d", len(records), err, len(rows))
		}
		for i, record := range records {
			r := rows[i]
			at, err := ParseTime(record[2])
			note := strings.ReplaceAll(r.Note, "\r\n", "\n") // so does the reader
			if err != nil || at != r.Time || record[3+MaxChannels] != note || record[4+MaxChannels] != strconv.FormatUint(r.Sequence, 10) {
				t.Fatalf("got %q, want %+v", record, r)
			}
			for k, v := range r.Values {
				got, err := strconv.ParseFloat(record[3+k], 64)
				if math.IsNaN(v) != (record[3+k] == "") || !math.IsNaN(v) && (err != nil || math.Float64bits(got) != math.Float64bits(v)) {
					t.Fatalf("value %d: got %q, want %v", k, record[3+k], v)
				}
			}
		}
	})
}

func TestExportNDJSON(t *testing.T) {
	var f ExportNDJSON
	data := f.AppendHead(nil, ExportHead{Site: "s"})
	data, _ = f.AppendReadings(data, "a", exportRows)
	data = f.AppendEnd(data, ExportEnd{Devices: 1, Rows: 3})
	const want = `{"site":"s","device":"a","time":"2026-01-02T03:04:05.678Z","values":[1.5,null,-3],"note":"a \"b\",\nc","sequence":7}` + "\n" +
		`{"site":"s","device":"a","time":"2026-01-02T03:04:06.000Z","values":[1e-09],"quality":[3],"note":"","sequence":8}` + "\n" +
		`{"site":"s","device":"a","time":"2026-01-02T03:04:07.000Z","values":[],"note":" only a note","sequence":9}` + "\n" +
		`{"end":true,"devices":1,"readings":3}` + "\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	data = f.AppendHead(nil, ExportHead{Site: "s", Step: Minute})
	data, _ = f.AppendRollups(data, "a", exportRollups)
	data = f.AppendError(data, `a "cause"`)
	const wantRollups = `{"site":"s","device":"a","start":"1970-01-01T00:00:00.000Z","step":"1m","count":3,"channels":[` +
		`{"count":2,"min":1,"max":2,"sum":null,"first":1,"last":2},{"count":0,"min":null,"max":null,"sum":null,"first":null,"last":null}]}` + "\n" +
		`{"end":false,"error":"a \"cause\""}` + "\n"
	if diff := cmp.Diff(wantRollups, string(data)); diff != "" {
		t.Errorf("rollups (-want +got):\n%s", diff)
	}
	for line := range bytes.Lines(data) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
	f.Bare = true
	if end := f.AppendEnd(nil, ExportEnd{}); len(end) > 0 {
		t.Errorf("bare, and yet an end: %s", end)
	}
}

// FuzzExportReader wants an error of ours, or an end, for whatever comes.
func FuzzExportReader(f *testing.F) {
	var frames ExportFrames
	head := frames.AppendHead(nil, ExportHead{Site: "s", Channels: 1})
	readings, _ := frames.AppendReadings(bytes.Clone(head), "a", exportRows)
	rollups, _ := frames.AppendRollups(bytes.Clone(head), "a", exportRollups)
	f.Add(frames.AppendEnd(readings, ExportEnd{Rows: 3}))
	f.Add(frames.AppendEnd(rollups, ExportEnd{Rows: 1}))
	f.Add(frames.AppendError(frames.AppendAlive(head), "x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewExportReader(bytes.NewReader(data))
		for {
			part, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrBrokenOff) {
					t.Fatalf("error %v is none of ours", err)
				}
				return
			}
			if part.Head == nil && part.End == nil && len(part.Readings) == 0 && len(part.Rollups) == 0 {
				t.Fatal("a part with nothing in it")
			}
		}
	})
}
