package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).UnixMilli()
	tests := map[string]struct {
		data   string
		want   []Reading
		single bool
	}{
		"the one of the contract": {
			`{"time":"2026-01-02T03:04:05.678Z","values":[1.5,null,3],"note":"ok"}`,
			[]Reading{{Time: at, Values: []float64{1.5, Omitted(), 3}, Note: "ok"}},
			true,
		},
		"milliseconds":        {`{"values":[1],"time":1767323045678}`, []Reading{{Time: at, Values: []float64{1}}}, true},
		"cut milliseconds":    {`{"values":[1],"time":1767323045678.9}`, []Reading{{Time: at, Values: []float64{1}}}, true},
		"cut before 1970":     {`{"values":[1],"time":-0.5}`, []Reading{{Time: -1, Values: []float64{1}}}, true},
		"a time in quotes":    {`{"values":[1],"time":"1767323045678"}`, []Reading{{Time: at, Values: []float64{1}}}, true},
		"with an exponent":    {`{"values":[1],"time":1.767323045678e12}`, []Reading{{Time: at, Values: []float64{1}}}, true},
		"no time":             {`{"values":[1]}`, []Reading{{Time: NoTime, Values: []float64{1}}}, true},
		"null is left out":    {`{"values":[1],"time":null,"note":null,"quality":null}`, []Reading{{Time: NoTime, Values: []float64{1}}}, true},
		"only a note":         {`{"note":"pump changed"}`, []Reading{{Time: NoTime, Note: "pump changed"}}, true},
		"all values omitted":  {`{"values":[null]}`, []Reading{{Time: NoTime, Values: []float64{Omitted()}}}, true},
		"quality":             {`{"quality":[0,3,9],"values":[1,2,null,4]}`, []Reading{{Time: NoTime, Values: []float64{1, 2, Omitted(), 4}, Quality: []uint8{0, 3, 0, 0}}}, true},
		"good quality":        {`{"quality":[0],"values":[1,2]}`, []Reading{{Time: NoTime, Values: []float64{1, 2}}}, true},
		"an array":            {`[{"time":1,"values":[1]},{"time":2,"values":[2]}]`, []Reading{{Time: 1, Values: []float64{1}}, {Time: 2, Values: []float64{2}}}, false},
		"an array of one":     {`[{"time":1,"values":[1]}]`, []Reading{{Time: 1, Values: []float64{1}}}, false},
		"an empty array":      {` [ ] `, nil, false},
		"white space":         {"\r\n\t { \"time\" : 1 , \"values\" : [ 1 , null ] } \n", []Reading{{Time: 1, Values: []float64{1, Omitted()}}}, true},
		"escapes":             {`{"note":"a\"\\\/\b\f\n\r\tä\u00e4\ud83d\ude00\ud800x"}`, []Reading{{Time: NoTime, Note: "a\"\\/\b\f\n\r\tää😀\ufffdx"}}, true},
		"an escaped key":      {`{"\u0074ime":1,"values":[1]}`, []Reading{{Time: 1, Values: []float64{1}}}, true},
		"numbers of all kind": {`{"values":[-0,0.1,123456789012345678,1e-400,1E+2,4.9e-324,1.7976931348623157e308,0.30000000000000004]}`, []Reading{{Time: NoTime, Values: []float64{math.Copysign(0, -1), 0.1, 123456789012345678, 0, 100, 5e-324, math.MaxFloat64, 0.30000000000000004}}}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			got, single, refused, err := d.JSON([]byte(test.data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, same); diff != "" || single != test.single || len(refused) > 0 {
				t.Errorf("single %v, refused %v, difference (-want +got):\n%s", single, refused, diff)
			}
		})
	}
}

func TestJSONIsRefused(t *testing.T) {
	tests := map[string]struct{ data, want string }{
		"nothing":            {``, "it ends"},
		"text":               {`hello`, `byte 0: found "h"`},
		"a number":           {`12`, "a reading such as"},
		"an unknown key":     {`{"value":[1]}`, `unknown key "value": a reading has time, values, quality and note`},
		"a device":           {`{"device":"a","values":[1]}`, "the subject names the device"},
		"a key twice":        {`{"note":"a","note":"b"}`, "byte 12: a key that this reading has already"},
		"more after it":      {`{"values":[1]} {`, "byte 15"},
		"two lines":          {"{\"values\":[1]}\n{\"values\":[1]}", "expected the end"},
		"a comma too much":   {`{"values":[1,]}`, "byte 13"},
		"a comma at the end": {`{"values":[1],}`, "a key in quotes"},
		"one not closed":     {`{"values":[1]`, "it ends"},
		"values as text":     {`{"values":"1"}`, "an array of numbers and nulls"},
		"a value as text":    {`{"values":["1"]}`, "a number or null"},
		"NaN":                {`{"values":[NaN]}`, "a number or null"},
		"a leading zero":     {`{"values":[01]}`, "byte 11"},
		"a plus":             {`{"values":[+1]}`, "byte 11"},
		"no decimals":        {`{"values":[1.]}`, "digit after the point"},
		"no exponent":        {`{"values":[1e]}`, "digit in the exponent"},
		"nested":             {`{"values":[[1]]}`, "byte 11"},
		"a note as a number": {`{"note":1}`, "text in quotes"},
		"a line in a note":   {"{\"note\":\"a\nb\"}", "control character"},
		"a bad escape":       {`{"note":"\x"}`, "an escape that JSON does not have"},
		"half an escape":     {`{"note":"\u12"}`, "hexadecimal"},
		"quotes not closed":  {`{"note":"a`, "byte 8: quotes that are not closed"},
		"quotes at escape":   {`{"note":"a\`, "quotes that are not closed"},
		"quality 256":        {`{"values":[1],"quality":[256]}`, "0 to 255"},
		"time as an object":  {`{"time":{},"values":[1]}`, "byte 8"},
		"a reading too many": {"[" + strings.Repeat(`{"time":1,"values":[1]},`, MaxReadings) + `{"time":1,"values":[1]}]`, "more than 1000"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			_, _, _, err := d.JSON([]byte(test.data))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error = %v, want one about %q that wraps ErrInvalid", err, test.want)
			}
		})
	}
}

func TestOneBadJSONReadingDoesNotTakeTheOthers(t *testing.T) {
	tests := map[string]struct{ reading, want string }{
		"no time":          {`{"values":[2]}`, "it has no time"},
		"a bad time":       {`{"time":"yesterday","values":[2]}`, "RFC 3339"},
		"year 10000":       {`{"time":253402300800000,"values":[2]}`, "years 1 to 9999"},
		"a huge time":      {`{"time":1e300,"values":[2]}`, "Unix milliseconds"},
		"a huge value":     {`{"time":2,"values":[1,1e999]}`, "1e999 at byte"},
		"nothing":          {`{"time":2}`, "no values and no note"},
		"an empty reading": {`{}`, "no time"},
		"65 values":        {`{"time":2,"values":[` + strings.Repeat("1,", MaxChannels) + `1]}`, "65 values"},
		"more quality":     {`{"time":2,"values":[1],"quality":[1,1]}`, "2 quality numbers"},
		"a long note":      {`{"time":2,"note":"` + strings.Repeat("x", MaxNote+1) + `"}`, "1025 bytes"},
		"not UTF-8":        {"{\"time\":2,\"note\":\"\xff\"}", "UTF-8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			got, _, refused, err := d.JSON([]byte(`[{"time":1,"values":[1]},` + test.reading + `,{"time":3,"values":[3]}]`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Reading{{Time: 1, Values: []float64{1}}, {Time: 3, Values: []float64{3}}}, got, same); diff != "" {
				t.Errorf("the others (-want +got):\n%s", diff)
			}
			if len(refused) != 1 || refused[0].Reading != 1 || !strings.Contains(refused[0].Reason, test.want) {
				t.Errorf("refused = %+v, want reading 1 because of %q", refused, test.want)
			}
		})
	}
}

func TestJSONWithDevice(t *testing.T) {
	var d Decoder
	device, r, err := d.JSONWithDevice([]byte(` {"device":"pump-1","values":[1.5],"time":5} `))
	if diff := cmp.Diff(Reading{Time: 5, Values: []float64{1.5}}, r, same); err != nil || device != "pump-1" || diff != "" {
		t.Errorf("device %q, error %v, difference (-want +got):\n%s", device, err, diff)
	}
	for data, want := range map[string]string{
		`{"values":[1]}`:                            "the device has no name",
		`{"device":"a b","values":[1]}`:             "device name",
		`{"device":"pump-1"}`:                       "no values and no note",
		`{"device":"pump-1","x":1}`:                 `a reading has device, time`,
		`[{"device":"pump-1","values":[1]}]`:        "a reading such as",
		`{"device":"pump-1","values":[1]}{}`:        "expected the end",
		`{"device":"pump-1","time":"","values":[]}`: "time",
	} {
		device, _, err := d.JSONWithDevice([]byte(data))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error = %v, want one about %q", data, err, want)
		}
		if strings.Contains(data, `{"device":"pump-1"`) && data[0] == '{' && device != "pump-1" {
			t.Errorf("%s: device = %q, want it told though the reading is invalid", data, device)
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	var d Decoder
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(anyReading), 1, 5).Draw(t, "readings")
		data := []byte("[")
		for i, r := range want {
			if i > 0 {
				data = append(data, ',')
			}
			data = AppendReadingJSON(data, r)
		}
		data = append(data, ']')
		got, single, refused, err := d.JSON(data)
		if err != nil || single || len(refused) > 0 {
			t.Fatalf("%s: single %v, refused %v, error %v", data, single, refused, err)
		}
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", data, diff)
		}
		if !json.Valid(data) {
			t.Fatalf("%s is not JSON", data)
		}
	})
}

// TestNumbersAgainstStandardLibrary holds the scanner's short way to numbers against encoding/json.
func TestNumbersAgainstStandardLibrary(t *testing.T) {
	var d Decoder
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
		var want float64
		if err := json.Unmarshal([]byte(number), &want); err != nil {
			t.Fatal(err)
		}
		got, _, _, err := d.JSON([]byte(`{"values":[` + number + `]}`))
		if err != nil || math.Float64bits(got[0].Values[0]) != math.Float64bits(want) {
			t.Fatalf("%s: %v, error %v, want %v", number, got, err, want)
		}
	})
}

func TestAppendSampleJSON(t *testing.T) {
	s := Sample{Sequence: 7, Reading: Reading{Time: 1767323045678, Values: []float64{1.5, Omitted(), 1e21, 1e-7, 0.1, 100000}, Quality: []uint8{0, 0}}}
	want := `{"time":"2026-01-02T03:04:05.678Z","values":[1.5,null,1e+21,1e-07,0.1,100000],"note":"","sequence":7}`
	if got := string(AppendSampleJSON(nil, s)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.Values, s.Quality, s.Note = s.Values[:2], []uint8{4}, "a \"b\"\x00\xff\n"
	want = `{"time":"2026-01-02T03:04:05.678Z","values":[1.5,null],"quality":[4],"note":"a \"b\"\u0000` + "\ufffd" + `\n","sequence":7}`
	if got := string(AppendSampleJSON(nil, s)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTimesAgainstStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := anyTime.Draw(t, "time")
		want := time.UnixMilli(at).UTC().Format("2006-01-02T15:04:05.000Z")
		if got := FormatTime(at); got != want {
			t.Fatalf("FormatTime(%d) = %s, want %s", at, got, want)
		}
		zone := time.FixedZone("", rapid.IntRange(-23*60-59, 23*60+59).Draw(t, "offset")*60)
		nano := rapid.Int64Range(0, 999_999).Draw(t, "ns")
		local := time.UnixMilli(at).Add(time.Duration(nano)).In(zone)
		if local.Year() < 1 || local.Year() > 9999 {
			return
		}
		for _, s := range []string{want, local.Format(time.RFC3339Nano), fmt.Sprint(at)} {
			if got, err := ParseTime(s); err != nil || got != at {
				t.Fatalf("ParseTime(%s) = %d, %v, want %d", s, got, err, at)
			}
		}
	})
}

func TestTimesThatAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "now", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04Z", "2026-13-02T03:04:05Z", "2026-02-29T03:04:05Z",
		"1900-02-29T00:00:00Z", "2026-01-00T03:04:05Z", "2026-01-02T24:00:00Z", "2026-01-02T03:60:05Z", "2026-01-02T03:04:60Z",
		"2026-01-02T03:04:05.Z", "2026-01-02T03:04:05+0100", "2026-01-02T03:04:05+24:00", "2026-01-02T03:04:05Zx", "2026-01-02X03:04:05Z",
		"0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "0000-12-31T23:59:59Z", "253402300800000", "NaN", "inf", "0x10", "1_0", "-62135596800001",
		"２026-01-02T03:04:05Z",
	} {
		if got, err := ParseTime(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseTime(%q) = %d, %v, want an error that wraps ErrInvalid", s, got, err)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add(`{"time":"2026-01-02T03:04:05.678Z","values":[1.5,null,3],"note":"…"}`)
	f.Add(`[{"time":1,"values":[1e5],"quality":[1]},{"time":2.5,"note":"\ud83d\ude00"}]`)
	f.Add(`{"device":"a","values":[-0.0]}`)
	f.Fuzz(func(t *testing.T, data string) {
		var d Decoder
		if device, r, err := d.JSONWithDevice([]byte(data)); err == nil {
			if CheckName("device", device) != nil || CheckReading(r) != nil || !json.Valid([]byte(data)) {
				t.Fatalf("%q gave %q %v", data, device, r)
			}
		}
		readings, single, refused, err := d.JSON([]byte(data))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		if !json.Valid([]byte(data)) {
			t.Fatalf("%q was taken and is not JSON", data)
		}
		if single && len(readings)+len(refused) != 1 {
			t.Fatalf("single with readings %v, refused %v", readings, refused)
		}
		for _, r := range readings {
			if err := CheckReading(r); err != nil {
				t.Fatalf("reading %v: %v", r, err)
			}
			again, _, refused, err := d.JSON(AppendReadingJSON(nil, r))
			if diff := cmp.Diff([]Reading{r}, again, same); diff != "" || err != nil {
				t.Fatalf("error %v, refused %v, after another round (-want +got):\n%s", err, refused, diff)
			}
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	one := AppendReadingJSON(nil, fleet(1, 1).Blocks[0].Readings[0])
	many := []byte("[")
	for i, r := range fleet(1, 100).Blocks[0].Readings {
		if i > 0 {
			many = append(many, ',')
		}
		many = AppendReadingJSON(many, r)
	}
	many = append(many, ']')
	for name, data := range map[string][]byte{"readings=1": one, "readings=100": many} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var d Decoder
			n := 0
			for b.Loop() {
				readings, _, _, err := d.JSON(data)
				if err != nil {
					b.Fatal(err)
				}
				n = len(readings)
				d.Reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/reading")
			b.ReportMetric(float64(len(data))/float64(n), "B/reading")
		})
	}
}

func BenchmarkAppendSampleJSON(b *testing.B) {
	s := Sample{Reading: fleet(1, 1).Blocks[0].Readings[0], Sequence: 12345}
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = AppendSampleJSON(data[:0], s)
	}
}
