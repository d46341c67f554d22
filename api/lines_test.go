package api

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
)

// entry is what a line said, for comparing.
type entry struct {
	line   int
	device string
	time   int64
	values string // by channel index, - = omitted
	note   string
	new    string // names without a channel, with their values
	bad    string
}

// entries decodes a whole body. now is 7 ms, and the site has the channels pressure and well.flow.
func entries(t testing.TB, in io.Reader, unit string) (out []entry, d *lineDecoder) {
	t.Helper()
	d = newLineDecoder(in, precisions[unit], 7, newChannelNames([]string{"pressure", "well.flow"}))
	for {
		ok, bad := d.next()
		if !ok {
			return out, d
		}
		e := entry{line: d.line, device: string(d.device)}
		if bad != nil {
			e.bad = bad.Error()
			out = append(out, e)
			continue
		}
		for _, f := range d.unnamed {
			e.new += fmt.Sprintf("%s=%v ", f.name, f.value)
		}
		var values []string
		for _, v := range d.row[:d.channels] {
			if math.IsNaN(v) {
				values = append(values, "-")
			} else {
				values = append(values, fmt.Sprint(v))
			}
		}
		e.time, e.values, e.note, e.new = d.time, strings.Join(values, " "), d.note, strings.TrimSpace(e.new)
		out = append(out, e)
	}
}

func TestLineDecoder(t *testing.T) {
	const at = 1767323045678
	for _, tt := range []struct {
		name, unit, text string
		want             []entry
	}{
		{"channels by number", "", "pump-1 c0=1.5,c2=3 1767323045678000000", []entry{{line: 1, device: "pump-1", time: at, values: "1.5 - 3"}}},
		{"bare numbers", "ms", "pump-1 0=1,63=-2e3 1767323045678\n", []entry{{line: 1, device: "pump-1", time: at, values: "1" + strings.Repeat(" -", 62) + " -2000"}}},
		{"names of the site", "ms", "pump-1 pressure=2 1767323045678\r\n", []entry{{line: 1, device: "pump-1", time: at, values: "2"}}},
		{"the tag names the device, the measurement the field", "ms", "well,device=W-1,host=a pressure=1,flow=2 1767323045678", []entry{
			{line: 1, device: "W-1", time: at, values: "- 2", new: "well.pressure=1"},
		}},
		{"no timestamp", "", "a c0=1\nb c0=2 \n", []entry{{line: 1, device: "a", time: 7, values: "1"}, {line: 2, device: "b", time: 7, values: "2"}}},
		{"cut to milliseconds, downwards", "", "a c0=1 1999999\na c0=1 -1", []entry{{line: 1, device: "a", time: 1, values: "1"}, {line: 2, device: "a", time: -1, values: "1"}}},
		{"microseconds", "us", "a c0=1 1999", []entry{{line: 1, device: "a", time: 1, values: "1"}}},
		{"seconds", "s", "a c0=1 2", []entry{{line: 1, device: "a", time: 2000, values: "1"}}},
		{"seconds beyond all", "s", "a c0=1 9223372036854775807", []entry{{line: 1, device: "a", bad: "timestamp 9223372036854775807 is too large: is the precision right?"}}},
		{"kinds", "ms", `a c0=t,c1=FALSE,c2=-7i,c3=7u,c4="two words\, a \"quote\"" 5`, []entry{{line: 1, device: "a", time: 5, values: "1 0 -7 7", note: `two words\, a "quote"`}}},
		{"a note of two lines", "ms", "a c0=1,said=\"one\ntwo\" 5\nb c0=2 6", []entry{
			{line: 1, device: "a", time: 5, values: "1", note: "one\ntwo"}, {line: 3, device: "b", time: 6, values: "2"},
		}},
		{"comments and empty lines", "ms", "\n# a \xff comment\n  \na c0=1 5\n#\n\n b c0=1 6\n#", []entry{{line: 4, device: "a", time: 5, values: "1"}, {line: 7, device: "b", time: 6, values: "1"}}},
		{"exact integers", "ms", "a c0=9007199254740992i,c1=-9007199254740992i,c2=9007199254740994i,c3=18446744073709549568u 5", []entry{
			{line: 1, device: "a", time: 5, values: "9.007199254740992e+15 -9.007199254740992e+15 9.007199254740994e+15 1.844674407370955e+19"},
		}},
		{"inexact integers", "ms", "a c0=9007199254740993i 5\na c0=9223372036854775807i 5\na c0=18446744073709551615u 5", []entry{
			{line: 1, device: "a", bad: `field "c0": 9007199254740993i is beyond 2^53 and not exact as a float64, which values are kept as: send it as text, or in two fields`},
			{line: 2, device: "a", bad: `field "c0": 9223372036854775807i is beyond 2^53 and not exact as a float64, which values are kept as: send it as text, or in two fields`},
			{line: 3, device: "a", bad: `field "c0": 18446744073709551615u is beyond 2^53 and not exact as a float64, which values are kept as: send it as text, or in two fields`},
		}},
		{"channels that are none", "ms", "a c64=1 5\na 007=1 5\na 064=1 5\na c1e=1 5\na c=1 5", []entry{
			{line: 1, device: "a", bad: `field "c64" names no channel: they are c0 to c63; give the field a name if it is meant as one`},
			{line: 2, device: "a", bad: `field "007" names no channel: they are c0 to c63; give the field a name if it is meant as one`},
			{line: 3, device: "a", bad: `field "064" names no channel: they are c0 to c63; give the field a name if it is meant as one`},
			{line: 4, device: "a", time: 5, new: "c1e=1"},
			{line: 5, device: "a", time: 5, new: "c=1"},
		}},
		{"names that are none", "ms", "a.b c0=1 5\nm,device=x\\ y c0=1 5\nm,device=x,device=y c0=1 5", []entry{
			{line: 1, device: "a.b", bad: `invalid: the device name "a.b" has "." at position 1: only letters, digits, _ and - are allowed`},
			{line: 2, device: "x y", bad: `invalid: the device name "x y" has " " at position 1: only letters, digits, _ and - are allowed`},
			{line: 3, device: "x", bad: "it has two tags device: leave one out"},
		}},
		{"twice in a line", "ms", "a c0=1,0=2 5\na x=\"1\",y=\"2\" 5\na c0=1 5", []entry{
			{line: 1, device: "a", bad: `field "0": channel 0 is in this line already`},
			{line: 2, device: "a", bad: `field "y" is a second text: a reading has one note`},
			{line: 3, device: "a", time: 5, values: "1"},
		}},
		{"infinite", "ms", "a c0=1e999 5\na c0=-inf 5\na c0=NaN 5", []entry{
			{line: 1, device: "a", bad: `column 6: cannot parse value for field key "c0": line-protocol value out of range`},
			{line: 2, device: "a", bad: `column 6: cannot parse value for field key "c0": non-number "-inf" cannot be represented as a line-protocol field value`},
			{line: 3, device: "a", bad: "column 6: field value has unrecognized type"},
		}},
		{"a bad line spoils only itself", "ms", "a\na c0=1 5 6\na c0=1 x\n{\"json\":1}\n,\na c0=1,\na c0=1 5", []entry{
			{line: 1, device: "a", bad: `column 2: expected tag key or field but found '\n' instead`},
			{line: 2, device: "a", bad: `column 10: unexpected text after timestamp ("6")`},
			{line: 3, device: "a", bad: `column 8: invalid timestamp ("x")`},
			{line: 4, device: `{"json":1}`, bad: `column 11: expected tag key or field but found '\n' instead`},
			{line: 5, bad: "column 1: invalid character ',' found at start of measurement name"},
			{line: 6, device: "a", bad: `column 8: invalid character '\n' found at start of field key`},
			{line: 7, device: "a", time: 5, values: "1"},
		}},
		{"a mistake before a note of two lines", "ms", "a c64=1,said=\"one\n\n# two\" 5\nb c0=2 6", []entry{
			{line: 1, device: "a", bad: `field "c64" names no channel: they are c0 to c63; give the field a name if it is meant as one`},
			{line: 4, device: "b", time: 6, values: "2"},
		}},
		{"a quote that is not closed", "ms", "a c0=1,said=\"one 5\nb said=\"two\" 5\nc c0=1 5", []entry{
			{line: 1, device: "a", bad: `column 9: unexpected character 't' after field (the entry goes on through line 2: a quote is not closed?)`},
			{line: 3, device: "c", time: 5, values: "1"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for how, in := range map[string]io.Reader{"whole": strings.NewReader(tt.text), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.text))} {
				got, d := entries(t, in, tt.unit)
				if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(entry{})); diff != "" || d.reader.err != nil {
					t.Errorf("%s: error %v, %s", how, d.reader.err, diff)
				}
			}
		})
	}
}

func TestLineDecoderEnds(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a c0=1 5\na c0=1 17673"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, d := entries(t, broken, "ms")
	if len(got) != 1 || d.reader.err != io.ErrUnexpectedEOF {
		t.Errorf("a body cut short: got %v and error %v, want the first line only", got, d.reader.err)
	}
	for _, long := range []string{
		"a c0=1 5\na said=\"" + strings.Repeat("line\n", maxEntry) + "\" 5\na c0=1 5\n",
		"a c0=1 5\n" + strings.Repeat("x", maxEntry+1) + " c0=1 5\na c0=1 5\n",
	} {
		got, d = entries(t, strings.NewReader(long), "ms")
		if len(got) != 1 || d.reader.err != errEntry || d.reader.entry != 2 {
			t.Errorf("an entry without end: got %d entries and error %v at line %d", len(got), d.reader.err, d.reader.entry)
		}
	}
	comments := strings.Repeat("# "+strings.Repeat("x", 100)+"\n", 10_000) + "a c0=1 5"
	if got, d = entries(t, strings.NewReader(comments), "ms"); len(got) != 1 || got[0].line != 10_001 {
		t.Errorf("after 1 MB of comments: got %v, error %v", got, d.reader.err)
	}
}

// FuzzLineDecoder checks what holds for every body, and, where no quote lets an entry go over several
// lines, that it says of each line what it says of that line alone.
func FuzzLineDecoder(f *testing.F) {
	for _, seed := range []string{
		"pump-1 c0=1.5,c2=3 1767323045678000000\nwell,device=W-1,host=a pressure=1,flow=2\n", "a c0=t,c1=\"x\ny\" 5\r\nb 63=1i",
		"\n#\xff\n a\\ b,x=y\\,z c0=1u\n,\na c0=1, 5", "a\\\nb c0=1", "a c0=\"\\\\\" 1\na c0=\"\n\"\"\n", "a c0=1 5\rb c0=1 6\n", "a,device=\\",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, d := entries(t, bytes.NewReader(data), "ms")
		if d.reader.err != nil && (len(data) <= maxEntry || d.reader.err != errEntry) {
			t.Fatalf("got error %v", d.reader.err)
		}
		last := 0
		for _, e := range got {
			if e.line <= last || e.line > bytes.Count(data, []byte("\n"))+1 {
				t.Fatalf("line %d after line %d", e.line, last)
			}
			last = e.line
			if e.bad == "" && messages.CheckName("device", e.device) != nil {
				t.Fatalf("took device %q", e.device)
			}
		}
		if bytes.ContainsAny(data, `"`) || len(data) > maxEntry {
			return
		}
		var want []entry
		number := 0
		for line := range bytes.Lines(data) {
			number++
			one, _ := entries(t, bytes.NewReader(line), "ms")
			for _, e := range one {
				e.line = number
				want = append(want, e)
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// BenchmarkLineDecoder decodes lines of 1, 4 and 16 fields; the smallest as Telegraf sends them, with names.
func BenchmarkLineDecoder(b *testing.B) {
	for _, fields := range []int{1, 4, 16} {
		for _, named := range []bool{false, true} {
			b.Run(fmt.Sprintf("fields=%d/named=%v", fields, named), func(b *testing.B) {
				const lines = 1000
				text, names := benchLines(lines, fields, named)
				b.ReportAllocs()
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					d := newLineDecoder(bytes.NewReader(text), precisions["ns"], 0, names)
					n := 0
					for ok, bad := d.next(); ok; ok, bad = d.next() {
						if bad != nil || len(d.unnamed) > 0 {
							b.Fatal(bad, d.unnamed)
						}
						n++
					}
					if n != lines {
						b.Fatalf("%d lines", n)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
			})
		}
	}
}

func benchLines(lines, fields int, named bool) ([]byte, *channelNames) {
	var text bytes.Buffer
	var names []string
	for i := range fields {
		names = append(names, fmt.Sprintf("well.pressure-%d", i))
	}
	for i := range lines {
		fmt.Fprintf(&text, "well,device=WELL-%05d ", i)
		for f := range fields {
			if f > 0 {
				text.WriteByte(',')
			}
			if named {
				fmt.Fprintf(&text, "pressure-%d=%.2f", f, 200+float64(i+f)/7)
			} else {
				fmt.Fprintf(&text, "c%d=%.2f", f, 200+float64(i+f)/7)
			}
		}
		fmt.Fprintf(&text, " %d\n", 1_767_323_045_000_000_000+i*1_000_000)
	}
	return text.Bytes(), newChannelNames(names)
}
