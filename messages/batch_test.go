package messages

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages/wirepb"
)

// same compares readings bit by bit, but for NaN, which is all one.
var same = cmp.Options{cmp.Comparer(func(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}), cmpopts.EquateEmpty()}

var benchStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()

// fleet is a batch of `devices` blocks of `readings` readings of 4 channels.
func fleet(devices, readings int) *Batch {
	b := &Batch{Producer: "agent-1", Run: 0x1234567890abcdef, Sequence: 1234}
	for d := range devices {
		block := Block{Device: fmt.Sprintf("device-%04d", d)}
		for r := range readings {
			x := float64(d*readings + r)
			block.Readings = append(block.Readings, Reading{
				Time:   benchStart + int64(r)*1000 + int64(d%50),
				Values: []float64{20.5 + x/8, 1013.25 - x/16, math.Sqrt(x), -x},
			})
		}
		b.Blocks = append(b.Blocks, block)
	}
	return b
}

func decodeBatch(t testing.TB, data []byte) (Batch, []RefusedReading) {
	t.Helper()
	var d Decoder
	var b Batch
	if err := d.Batch(data, &b); err != nil {
		t.Fatalf("Batch: %v", err)
	}
	return b, d.Refused()
}

var anyTime = rapid.OneOf(
	rapid.Int64Range(minTime, maxTime),
	rapid.Int64Range(benchStart-100_000, benchStart+100_000),
	rapid.SampledFrom([]int64{minTime, maxTime, 0, -1, 1}),
)

func anyValue(t *rapid.T) float64 {
	switch rapid.IntRange(0, 5).Draw(t, "value kind") {
	case 0:
		return Omitted()
	case 1:
		return rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1e21, 1e-7, 0.1}).Draw(t, "value")
	default:
		return rapid.Float64Range(-1e12, 1e12).Draw(t, "value")
	}
}

// anyReading draws a valid reading in the form in which decoders return it.
func anyReading(t *rapid.T) Reading {
	r := Reading{Time: anyTime.Draw(t, "time")}
	for range rapid.OneOf(rapid.IntRange(0, 5), rapid.SampledFrom([]int{MaxChannels})).Draw(t, "channels") {
		r.Values = append(r.Values, anyValue(t))
	}
	if rapid.IntRange(0, 3).Draw(t, "has note") == 0 || len(r.Values) == 0 {
		r.Note = rapid.OneOf(rapid.StringN(1, 40, 200), rapid.Just(strings.Repeat("x", MaxNote))).Draw(t, "note")
	}
	if rapid.IntRange(0, 3).Draw(t, "has quality") == 0 {
		quality := make([]uint8, len(r.Values))
		for i, v := range r.Values {
			if !math.IsNaN(v) {
				quality[i] = rapid.SampledFrom([]uint8{0, 0, 1, 255}).Draw(t, "quality")
			}
		}
		r.Quality = someBad(quality)
	}
	return r
}

// anyBatch draws a batch in the form in which the decoder returns it: neighbouring readings of a block
// have the same number of values.
func anyBatch(t *rapid.T) Batch {
	var b Batch
	if rapid.Bool().Draw(t, "accounted") {
		b.Producer = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "producer")
		b.Run = rapid.Uint64Min(1).Draw(t, "run")
		b.Sequence = rapid.Uint64Min(1).Draw(t, "sequence")
	}
	for range rapid.IntRange(0, 6).Draw(t, "blocks") {
		block := Block{Device: rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "device")}
		first := anyReading(t)
		block.Readings = append(block.Readings, first)
		for range rapid.IntRange(0, 20).Draw(t, "more readings") {
			r := anyReading(t)
			if len(r.Values) == len(first.Values) {
				block.Readings = append(block.Readings, r)
			}
		}
		b.Blocks = append(b.Blocks, block)
	}
	return b
}

func TestBatchRoundTrip(t *testing.T) {
	var d Decoder // one for all, so that memory that is used again is tested
	rapid.Check(t, func(t *rapid.T) {
		want := anyBatch(t)
		data := AppendBatch([]byte("head"), &want)[4:]
		var got Batch
		if err := d.Batch(data, &got); err != nil {
			t.Fatalf("Batch: %v", err)
		}
		if diff := cmp.Diff(want, got, same); diff != "" || len(d.Refused()) > 0 {
			t.Fatalf("refused %v, difference (-want +got):\n%s", d.Refused(), diff)
		}
		for _, b := range got.Blocks {
			for _, r := range b.Readings {
				if err := CheckReading(r); err != nil {
					t.Fatalf("a decoded reading is not valid: %v", err)
				}
			}
		}
		if rapid.Bool().Draw(t, "reset") {
			d.Reset()
		}
	})
}

func TestReadingsOfDifferentWidthComeBackAsTheyWere(t *testing.T) {
	rows := []Reading{
		{Time: 5, Values: []float64{1}}, {Time: 6, Values: []float64{1, 2}}, {Time: 7, Values: []float64{3, 4}}, {Time: 8, Note: "n"},
	}
	b, refused := decodeBatch(t, AppendBatch(nil, &Batch{Blocks: []Block{{Device: "a", Readings: rows}}}))
	var got []Reading
	for _, block := range b.Blocks {
		got = append(got, block.Readings...)
	}
	if diff := cmp.Diff(rows, got, same); diff != "" || len(refused) > 0 {
		t.Errorf("refused %v, difference (-want +got):\n%s", refused, diff)
	}
}

func TestDecodedValuesStayValidUntilReset(t *testing.T) {
	var d Decoder
	var first, other Batch
	data := AppendBatch(nil, withFirstQuality(fleet(10, 3)))
	if err := d.Batch(data, &first); err != nil {
		t.Fatal(err)
	}
	// what is appended to a slice that was handed out must not reach its neighbour
	_ = append(first.Blocks[0].Readings[0].Values, 99)
	_ = append(first.Blocks[0].Readings[0].Quality, 99)
	_ = append(first.Blocks[0].Readings, Reading{})
	first.Blocks = slices.Clone(first.Blocks) // blocks and readings are those of the message at hand
	for i := range first.Blocks {
		first.Blocks[i].Readings = slices.Clone(first.Blocks[i].Readings)
	}
	for i := range 140 { // first within the chunks of the first batch, then far beyond
		next := withFirstQuality(fleet(1+i, 7))
		for k := range next.Blocks {
			next.Blocks[k].Readings[0].Values[0], next.Blocks[k].Readings[0].Quality[0] = -1, 9
		}
		if err := d.Batch(AppendBatch(nil, next), &other); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(*withFirstQuality(fleet(10, 3)), first, same); diff != "" {
		t.Errorf("the first batch changed (-want +got):\n%s", diff)
	}
}

func TestResetLetsGoOfTheData(t *testing.T) {
	var d Decoder
	var b Batch
	for _, shape := range [][2]int{{50, 7}, {3, 1}} { // what the large one left is behind the small one's
		if err := d.Batch(AppendBatch(nil, fleet(shape[0], shape[1])), &b); err != nil {
			t.Fatal(err)
		}
	}
	d.Reset()
	for _, r := range d.readings.chunk[:cap(d.readings.chunk)] {
		if r.Values != nil || r.Quality != nil || r.Note != "" {
			t.Fatalf("the decoder still holds %+v", r)
		}
	}
	for _, block := range d.blocks.chunk[:cap(d.blocks.chunk)] {
		if block.Device != "" || block.Readings != nil {
			t.Fatalf("the decoder still holds %+v", block)
		}
	}
}

// withFirstQuality gives each device's first reading a quality.
func withFirstQuality(b *Batch) *Batch {
	for i := range b.Blocks {
		r := &b.Blocks[i].Readings[0]
		r.Quality = make([]uint8, len(r.Values))
		r.Quality[0] = 7
	}
	return b
}

// wire builds protobuf by hand.
type wire []byte

func (w wire) varint(field protowire.Number, v uint64) wire {
	return protowire.AppendVarint(protowire.AppendTag(w, field, protowire.VarintType), v)
}

func (w wire) bytes(field protowire.Number, b []byte) wire {
	return protowire.AppendBytes(protowire.AppendTag(w, field, protowire.BytesType), b)
}

func (w wire) double(field protowire.Number, v float64) wire {
	return protowire.AppendFixed64(protowire.AppendTag(w, field, protowire.Fixed64Type), math.Float64bits(v))
}

func doubles(v ...float64) []byte {
	var b []byte
	for _, v := range v {
		b = protowire.AppendFixed64(b, math.Float64bits(v))
	}
	return b
}

func deltas(v ...int64) []byte {
	var b []byte
	for _, v := range v {
		b = protowire.AppendVarint(b, zigzag(v))
	}
	return b
}

func one(device string, t int64, values ...float64) wire {
	return wire{}.bytes(1, []byte(device)).varint(2, zigzag(t)).bytes(4, doubles(values...))
}

func TestEncodingsThatProtobufAllows(t *testing.T) {
	full := wire{}.varint(5, zigzag(1000)).bytes(6, wire{}.bytes(1, []byte("a")).varint(2, zigzag(-10)).bytes(3, deltas(1, 2)).bytes(4, doubles(1, 2, 3, 4, 5, 6)))
	want := []Block{{Device: "a", Readings: []Reading{
		{Time: 990, Values: []float64{1, 2}}, {Time: 991, Values: []float64{3, 4}}, {Time: 993, Values: []float64{5, 6}},
	}}}
	block := wire{}.bytes(1, []byte("a")).varint(2, zigzag(-10)).bytes(3, deltas(1, 2)).bytes(4, doubles(1, 2, 3, 4, 5, 6))
	tests := map[string]wire{
		"as it should be":            full,
		"base time after the blocks": wire{}.bytes(6, block).varint(5, zigzag(1000)),
		"base time twice":            wire{}.varint(5, zigzag(7)).bytes(6, block).varint(5, zigzag(0)).varint(5, zigzag(1000)),
		"fields in another order": wire{}.varint(5, zigzag(1000)).bytes(6,
			wire{}.bytes(4, doubles(1, 2, 3, 4, 5, 6)).bytes(3, deltas(1, 2)).bytes(1, []byte("a")).varint(2, zigzag(-10))),
		"nothing packed": wire{}.varint(5, zigzag(1000)).bytes(6, wire{}.bytes(1, []byte("a")).varint(2, zigzag(-10)).
			varint(3, zigzag(1)).varint(3, zigzag(2)).double(4, 1).double(4, 2).double(4, 3).double(4, 4).double(4, 5).double(4, 6)),
		"packed in pieces": wire{}.varint(5, zigzag(1000)).bytes(6, wire{}.bytes(4, doubles(1, 2)).bytes(3, deltas(1)).bytes(1, []byte("a")).
			varint(2, zigzag(-10)).double(4, 3).bytes(4, nil).bytes(4, doubles(4, 5, 6)).bytes(3, nil).varint(3, zigzag(2))),
		"the last of repeated ones": wire{}.varint(5, zigzag(1000)).bytes(6, append(wire{}.bytes(1, []byte("b")).varint(2, 77), block...)),
		"unknown fields": append(append(wire{}.varint(99, 1).bytes(100, []byte("x")), full...),
			wire{}.double(7, 1).varint(6, 5)...), // field 6 as a number is not the schema's field 6
		"overlong tag and length":    append(wire{}.varint(5, zigzag(1000)), append([]byte{6<<3 | 2 | 0x80, 0, byte(len(block)) | 0x80, 0}, block...)...),
		"presence that says nothing": wire{}.varint(5, zigzag(1000)).bytes(6, append(block[:len(block):len(block)], wire{}.bytes(5, nil).bytes(7, nil)...)),
		"all good quality":           wire{}.varint(5, zigzag(1000)).bytes(6, append(block[:len(block):len(block)], wire{}.bytes(7, make([]byte, 6)).bytes(5, []byte{0xff})...)),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			b, refused := decodeBatch(t, data)
			if diff := cmp.Diff(want, b.Blocks, same); diff != "" || len(refused) > 0 {
				t.Errorf("refused %v, difference (-want +got):\n%s", refused, diff)
			}
		})
	}
}

func TestBaseTimeThatGoesBackToZeroAfterABlock(t *testing.T) {
	b, _ := decodeBatch(t, wire{}.varint(5, zigzag(1000)).bytes(6, one("a", 5, 1)).varint(5, 0))
	if got := b.Blocks[0].Readings[0].Time; got != 5 {
		t.Errorf("time = %d, want 5", got)
	}
}

func TestWholeBatchIsRefused(t *testing.T) {
	many := wire{}
	for range MaxReadings + 1 {
		many = many.bytes(6, one("a", 5, 1))
	}
	good := wire{}.bytes(6, one("a", 5, 1))
	producer := func(name string, run, sequence uint64) wire {
		w := protowire.AppendFixed64(protowire.AppendTag(wire{}.bytes(2, []byte(name)), 3, protowire.Fixed64Type), run)
		return wire(w).varint(4, sequence)
	}
	tests := map[string]struct {
		data wire
		want string
	}{
		"a newer version":         {append(wire{}.varint(1, 2), good...), "version 2"},
		"too many readings":       {many, "more than 1000 readings"},
		"too many in one block":   {wire{}.bytes(6, wire{}.bytes(1, []byte("a")).bytes(3, make([]byte, MaxReadings)).bytes(4, doubles(make([]float64, MaxReadings+1)...))), "more than 1000 readings"},
		"too many bytes":          {wire{}.bytes(100, make([]byte, MaxMessage)), "1048576"},
		"cut off":                 {good[:len(good)-1], "byte 0"},
		"a tag only":              {wire{0x80}, "byte 0"},
		"field number 0":          {wire{0x02, 0x00}, "byte 0"},
		"an end without a group":  {wire{0x0c}, "byte 0"},
		"half a value":            {wire{}.bytes(6, wire{}.bytes(1, []byte("a")).bytes(4, make([]byte, 12))), "12 bytes"},
		"half a delta":            {wire{}.bytes(6, wire{}.bytes(1, []byte("a")).bytes(3, []byte{0x80})), "time delta"},
		"a delta of eleven bytes": {wire{}.bytes(6, wire{}.bytes(1, []byte("a")).bytes(3, append([]byte(strings.Repeat("\xff", 10)), 1)).bytes(4, doubles(1, 2))), "time delta 0"},
		"a producer without run":  {producer("p", 0, 1), "run 0"},
		"a producer's sequence 0": {producer("p", 1, 0), "sequence 0"},
		"a producer with a space": {producer("p p", 1, 1), "producer name"},
		"text":                    {wire("hello"), "nor JSON"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var b Batch
			err := d.Batch(test.data, &b)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error = %v, want one about %q that wraps ErrInvalid", err, test.want)
			}
		})
	}
}

func TestOneBadReadingDoesNotTakeTheOthers(t *testing.T) {
	three := func() wire {
		return wire{}.bytes(1, []byte("a")).varint(2, zigzag(10)).bytes(3, deltas(1, 1))
	}
	tests := map[string]struct {
		block wire
		kept  []int64 // times
		lost  []int   // readings
		want  string
	}{
		"NaN":                    {three().bytes(4, doubles(1, math.NaN(), 3)), []int64{10, 12}, []int{1}, "value 0 is infinite"},
		"infinity":               {three().bytes(4, doubles(1, 2, math.Inf(-1))), []int64{10, 11}, []int{2}, "value 0 is infinite"},
		"NaN that is omitted":    {three().bytes(4, doubles(1, math.NaN(), 3)).bytes(5, []byte{0b101}), []int64{10, 11, 12}, nil, ""},
		"NaN beyond presence":    {three().bytes(4, doubles(1, 1, 1, 1, 1, 1, 1, 1, math.NaN())).bytes(5, []byte{0}), []int64{10, 11}, []int{2}, "value 2 is infinite"},
		"a long note":            {three().bytes(4, doubles(1, 2, 3)).bytes(6, wire{}.varint(1, 2).bytes(2, make([]byte, MaxNote+1))), []int64{10, 11}, []int{2}, "1025 bytes"},
		"a note that is not UTF": {three().bytes(4, doubles(1, 2, 3)).bytes(6, wire{}.bytes(2, []byte{0xff})), []int64{11, 12}, []int{0}, "UTF-8"},
		"no values":              {three().bytes(6, wire{}.varint(1, 1).bytes(2, []byte("n"))), []int64{11}, []int{0, 2}, "no values and no note"},
		"a time out of range":    {wire{}.bytes(1, []byte("a")).varint(2, zigzag(maxTime)).bytes(3, deltas(1, -1)).bytes(4, doubles(1, 2, 3)), []int64{maxTime, maxTime}, []int{1}, "years 1 to 9999"},
		"an overflow":            {wire{}.bytes(1, []byte("a")).varint(2, zigzag(10)).bytes(3, deltas(math.MaxInt64, math.MinInt64)).bytes(4, doubles(1, 2, 3)), []int64{10, 9}, []int{1}, "years 1 to 9999"},
		"a bad name":             {one("a b", 1, 1), nil, []int{0}, "device name"},
		"no name":                {wire{}.bytes(4, doubles(1)), nil, []int{0}, "no name"},
		"an empty block":         {wire{}, nil, []int{0}, "no name"},
		"only a name":            {one("a", 1), nil, []int{0}, "no values and no note"},
		"single NaN":             {one("a", 1, 2, math.NaN()), nil, []int{0}, "value 1"},
		"single late":            {one("a", maxTime+1, 2), nil, []int{0}, "years 1 to 9999"},
		"values that do not fit": {three().bytes(4, doubles(1, 2)), nil, []int{0, 1, 2}, "2 values for 3 readings"},
		"65 channels":            {wire{}.bytes(1, []byte("a")).bytes(4, doubles(make([]float64, MaxChannels+1)...)), nil, []int{0}, "65 values"},
		"a note for nobody":      {three().bytes(4, doubles(1, 2, 3)).bytes(6, wire{}.varint(1, 3).bytes(2, []byte("n"))), nil, []int{0, 1, 2}, "reading 3"},
		"too much presence":      {three().bytes(4, doubles(1, 2, 3)).bytes(5, []byte{0, 0}), nil, []int{0, 1, 2}, "presence"},
		"too much quality":       {three().bytes(4, doubles(1, 2, 3)).bytes(7, make([]byte, 4)), nil, []int{0, 1, 2}, "quality"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b, refused := decodeBatch(t, wire{}.bytes(6, one("before", 1, 1)).bytes(6, test.block).bytes(6, one("after", 2, 2)))
			want := []Block{{Device: "before", Readings: []Reading{{Time: 1, Values: []float64{1}}}}}
			var kept []int64
			for _, block := range b.Blocks {
				if block.Device == "a" {
					for _, r := range block.Readings {
						kept = append(kept, r.Time)
					}
				}
			}
			if diff := cmp.Diff(test.kept, kept); diff != "" {
				t.Errorf("kept readings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, b.Blocks[:1], same); diff != "" {
				t.Errorf("the block before (-want +got):\n%s", diff)
			}
			if last := b.Blocks[len(b.Blocks)-1]; last.Device != "after" || len(last.Readings) != 1 {
				t.Errorf("the block after is %v", last)
			}
			var lost []int
			for _, r := range refused {
				lost = append(lost, r.Reading)
				if r.Block != 1 || !strings.Contains(r.Reason, test.want) || strings.HasPrefix(r.Reason, "invalid") {
					t.Errorf("refused %+v, want block 1 and a reason about %q", r, test.want)
				}
			}
			if diff := cmp.Diff(test.lost, lost); diff != "" {
				t.Errorf("refused readings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptyBatchCarriesItsSequence(t *testing.T) {
	want := Batch{Producer: "p", Run: 7, Sequence: 9}
	got, refused := decodeBatch(t, AppendBatch(nil, &want))
	if diff := cmp.Diff(want, got); diff != "" || len(refused) != 0 {
		t.Errorf("refused %v, difference (-want +got):\n%s", refused, diff)
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	for _, shape := range [][2]int{{100, 1}, {1, 100}, {1, 1}} {
		data := AppendBatch(nil, fleet(shape[0], shape[1]))
		var d Decoder
		var b Batch
		allocs := testing.AllocsPerRun(100, func() {
			if err := d.Batch(data, &b); err != nil {
				t.Fatal(err)
			}
			d.Reset()
		})
		if allocs != 0 {
			t.Errorf("%d devices of %d readings: %v allocations a batch, want 0", shape[0], shape[1], allocs)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(AppendBatch(nil, fleet(3, 2)))
	f.Add(AppendBatch(nil, fleet(3, 1)))
	f.Add([]byte(wire{}.bytes(6, one("a", 5, 1, math.NaN())).varint(5, 77)))
	f.Add([]byte(wire{}.bytes(6, wire{}.bytes(1, []byte("a")).varint(3, 2).double(4, 1).double(4, 2).bytes(5, []byte{1}).bytes(6, wire{}.varint(1, 1).bytes(2, []byte("n"))).bytes(7, []byte{3}))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Decoder
		var b Batch
		err := d.Batch(data, &b)
		// Generated code must agree on what is protobuf at all; but it ends at text that is not UTF-8.
		foreign := proto.Unmarshal(data, &wirepb.Batch{})
		if foreign == nil || !strings.Contains(foreign.Error(), "UTF-8") {
			if err == nil && foreign != nil || foreign == nil && err != nil && strings.Contains(err.Error(), "malformed") {
				t.Fatalf("our error: %v, that of generated code: %v", err, foreign)
			}
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		readings := len(d.Refused())
		for _, block := range b.Blocks {
			readings += len(block.Readings)
			if err := CheckName("device", block.Device); err != nil || len(block.Readings) == 0 {
				t.Fatalf("block %v: %v", block, err)
			}
			for _, r := range block.Readings {
				if err := CheckReading(r); err != nil {
					t.Fatalf("reading %v: %v", r, err)
				}
			}
		}
		if readings > MaxReadings {
			t.Fatalf("%d readings", readings)
		}
		again, refused := decodeBatch(t, AppendBatch(nil, &b))
		if b.Producer == "" {
			b.Run, b.Sequence = 0, 0 // are not sent without a producer
		}
		if diff := cmp.Diff(b, again, same); diff != "" || len(refused) > 0 {
			t.Fatalf("refused %v, after another round (-want +got):\n%s", refused, diff)
		}
	})
}

func benchmarkShapes(b *testing.B, run func(b *testing.B, batch *Batch)) {
	for _, shape := range [][2]int{{100, 1}, {1, 100}, {1, 1}} {
		b.Run(fmt.Sprintf("devices=%d/readings=%d", shape[0], shape[1]), func(b *testing.B) {
			b.ReportAllocs()
			run(b, fleet(shape[0], shape[1]))
			n := float64(shape[0] * shape[1])
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/reading")
			b.ReportMetric(float64(len(AppendBatch(nil, fleet(shape[0], shape[1]))))/n, "B/reading")
		})
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, batch *Batch) {
		data := AppendBatch(nil, batch)
		var d Decoder
		var out Batch
		for b.Loop() {
			if err := d.Batch(data, &out); err != nil {
				b.Fatal(err)
			}
			d.Reset()
		}
	})
}

func BenchmarkEncodeBatch(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, batch *Batch) {
		var data []byte
		for b.Loop() {
			data = AppendBatch(data[:0], batch)
		}
	})
}
