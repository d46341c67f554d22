package chunk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/persistence"
)

// sameRows compares rows bit by bit; write times are not kept.
var sameRows = cmp.Options{
	cmp.Comparer(func(x, y float64) bool {
		return math.Float64bits(x) == math.Float64bits(y) || math.IsNaN(x) && math.IsNaN(y)
	}),
	cmpopts.EquateEmpty(),
	cmpopts.IgnoreFields(persistence.Row{}, "WriteTime"),
}

func encodeRows(version byte, rows []persistence.Row) []byte {
	e := Encoder{Version: version}
	for i := range rows {
		e.Block.Add(&rows[i])
	}
	e.Block.Normalize()
	return e.AppendFrames(nil, 0, e.Block.Len())
}

func decodeRows(value []byte) ([]persistence.Row, error) {
	var b Block
	if err := b.Decode(value); err != nil {
		return nil, err
	}
	b.Normalize()
	rows := make([]persistence.Row, b.Len())
	for i := range rows {
		b.Row(i, &rows[i])
	}
	return rows, nil
}

// newestRows is the dumb second version of normalize.
func newestRows(rows []persistence.Row) []persistence.Row {
	best := make(map[int64]persistence.Row)
	for _, row := range rows {
		if old, held := best[row.Time]; !held || row.Sequence >= old.Sequence {
			row.Quality = trimGood(row.Quality)
			best[row.Time] = row
		}
	}
	var out []persistence.Row
	for _, row := range best {
		out = append(out, row)
	}
	slices.SortFunc(out, func(x, y persistence.Row) int {
		if x.Time < y.Time {
			return -1
		}
		return 1
	})
	return out
}

func values() *rapid.Generator[float64] { return rapid.OneOf(kinds()...) }

// kinds are the kinds of values that a column may have.
func kinds() []*rapid.Generator[float64] {
	return []*rapid.Generator[float64]{
		rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.Int32().Draw(t, "hundredths")) / 100 }),
		rapid.Custom(func(t *rapid.T) float64 { return math.Float64frombits(rapid.Uint64().Draw(t, "bits")) }),
		rapid.Custom(func(t *rapid.T) float64 { // nearly decimal
			v := float64(rapid.Int32().Draw(t, "thousandths")) / 1000
			return math.Float64frombits(math.Float64bits(v) + uint64(rapid.Int64Range(-9, 9).Draw(t, "ulps")))
		}),
		rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, 1 << 51, 1<<51 - 1,
			-(1 << 51), 1 << 53, 1e-9, 1e-10, 123456789.123456789, 1.0 / 3, 2251799813685247.5, 0.000000001, 2251799.813685247, 22517998.13685249,
		}),
	}
}

// rows draws columns that are alike, as a device's are, and some that are not.
func drawRows(t *rapid.T) []persistence.Row {
	times := rapid.OneOf(rapid.Int64Range(1000, 1030), rapid.Int64())
	sequences := rapid.OneOf(rapid.Uint64Range(1, 9), rapid.Uint64())
	notes := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"", "a", "b", strings.Repeat("long", 300)}), rapid.String())
	column := rapid.OneOf(values(), rapid.Just(rapid.Float64().Draw(t, "constant")))
	if rapid.Bool().Draw(t, "alike") { // so that whole columns are decimal, nearly so, or neither
		column = rapid.SampledFrom(kinds()).Draw(t, "kind")
	}
	channels := rapid.SampledFrom([]int{0, 1, 3, 64}).Draw(t, "channels")
	plain := rapid.Bool().Draw(t, "plain")
	n := rapid.IntRange(1, 40).Draw(t, "rows")
	rows := make([]persistence.Row, n)
	for i := range rows {
		rows[i] = persistence.Row{Time: times.Draw(t, "time"), Sequence: sequences.Draw(t, "sequence")}
		count := channels
		if !plain {
			count = rapid.IntRange(0, channels).Draw(t, "count")
			rows[i].Note = notes.Draw(t, "note")
			rows[i].Flags = rapid.SampledFrom([]uint8{0, 0, 1, 255}).Draw(t, "flags")
			rows[i].Quality = rapid.SliceOfN(rapid.SampledFrom([]uint8{0, 0, 7}), 0, count).Draw(t, "quality")
		}
		for range count {
			rows[i].Values = append(rows[i].Values, column.Draw(t, "value"))
		}
	}
	return rows
}

func drawVersion(t *rapid.T) byte {
	return rapid.SampledFrom([]byte{Version1, Version2, Version3}).Draw(t, "version")
}

func TestChunkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t)
		got, err := decodeRows(encodeRows(drawVersion(t), rows))
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		if diff := cmp.Diff(newestRows(rows), got, sameRows); diff != "" {
			t.Fatalf("rows (-want +got):\n%s", diff)
		}
	})
}

// TestMergeChunks merges at once and in two steps, and wants the same rows each time.
func TestMergeChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []persistence.Row
		var chunks [][]byte
		for range rapid.IntRange(1, 6).Draw(t, "chunks") {
			rows := drawRows(t)
			all = append(all, rows...)
			chunks = append(chunks, encodeRows(drawVersion(t), rows))
		}
		cut := rapid.IntRange(0, len(chunks)-1).Draw(t, "cut")
		halves := [][]byte{Merge(chunks[cut:])}
		if cut > 0 {
			halves = [][]byte{Merge(chunks[:cut]), halves[0]}
		}
		results := map[string][]byte{"halves": Merge(halves)}
		results["together"] = Merge(chunks)
		for name, value := range results {
			got, err := decodeRows(value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(newestRows(all), got, sameRows); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

// TestSeries codes integers of every size, alone and among smooth ones.
func TestSeries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-40, 40), rapid.Just(int64(7))), 1, 60).Draw(t, "integers")
		if rapid.Bool().Draw(t, "sums") {
			for i := range want[1:] {
				want[i+1] += want[i]
			}
		}
		if unit := rapid.OneOf(rapid.Just(int64(1)), rapid.Int64()).Draw(t, "unit"); unit != 1 {
			for i := range want {
				want[i] *= unit
			}
		}
		version := rapid.SampledFrom([]byte{Version2, Version3}).Draw(t, "version")
		e := Encoder{Version: version}
		coded := e.appendSeries(nil, want)
		got := make([]int64, len(want))
		r := reader{data: coded, version: version}
		r.series(got)
		if r.bad != "" || len(r.data) > 0 || !slices.Equal(got, want) {
			t.Fatalf("got %d, %d bytes left, %q", got, len(r.data), r.bad)
		}
		if most := 10 + 2 + 10 + 10*len(want) + 1; len(coded) > most {
			t.Fatalf("%d integers take %d bytes, more than %d", len(want), len(coded), most)
		}
	})
}

// TestMergeManyRows goes beyond one frame: merged frames stop growing, and nothing is lost or doubled.
func TestMergeManyRows(t *testing.T) {
	var all []persistence.Row
	var merged []byte
	for i := range 30 {
		rows := make([]persistence.Row, 1000)
		for j := range rows { // half of each piece corrects the piece before
			rows[j] = persistence.Row{Time: int64(i*500 + j), Sequence: uint64(i + 1), Values: []float64{float64(i), float64(j)}}
		}
		all = append(all, rows...)
		if merged == nil {
			merged = encodeRows(Version1, rows)
			continue
		}
		merged = Merge([][]byte{merged, encodeRows(Version2, rows)})
	}
	got, err := decodeRows(merged)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newestRows(all), got, sameRows); diff != "" {
		t.Fatalf("rows (-want +got):\n%s", diff)
	}
	frames := 0
	for value := merged; len(value) > 0; frames++ {
		f, rest, err := nextFrame(value)
		if err != nil || f.rows > maxFrameRows {
			t.Fatalf("frame of %d rows, error %v", f.rows, err)
		}
		value = rest
	}
	if frames < 2 || frames > 5 {
		t.Errorf("got %d frames of 15 500 rows", frames)
	}
}

// TestChunkFormat holds the bytes of the format: what is on people's disks must stay readable.
func TestChunkFormat(t *testing.T) {
	rows := []persistence.Row{
		{Time: 1000, Sequence: 5, Values: []float64{1.25, math.NaN(), 0.1, 7}},
		{Time: 2000, Sequence: 6, Values: []float64{1.5, 2, math.Pi, 7}, Note: "ok", Quality: []uint8{0, 3}},
		{Time: 3001, Sequence: 6, Values: []float64{-1.5}, Flags: 1, Note: "ok"},
	}
	inSteps := []persistence.Row{ // of a quarter, and of a tenth that is computed; times of whole seconds
		{Time: 1000, Sequence: 5, Values: []float64{20.75, 0.1}},
		{Time: 3000, Sequence: 6, Values: []float64{20.25, 0.2}},
		{Time: 4000, Sequence: 7, Values: []float64{21.5, 0.30000000000000004}},
	}
	for _, c := range []struct {
		version byte
		rows    []persistence.Row
		want    string
	}{
		{Version1, rows, "013ca18b649903040f06d00fd00f0201020004040121fa0132d70405020407039a9999999999b93f182d4454fb2109400d030e01026f6b0001010002000300000001"},
		{Version2, rows, "023f7e9ef8c503040f06d00f02d00f0302010104040121fa0122324b0405020407039a9999999999b93f182d4454fb2109400d030e01026f6b000202010002000300000001"},
		{Version3, rows, "03406cc6d18e03040f06d00f02d00f020201010004040121fa010619021905020407039a9999999999b93f182d4454fb2109400d030e01026f6b000202010002000300000001"},
		{Version3, inSteps, "031f93bb14bf03020007d00f06e80704010402010021b6200619030ef10102020200000002"},
	} {
		value := encodeRows(c.version, c.rows)
		if got := hex.EncodeToString(value); got != c.want {
			t.Errorf("the format of version %d has changed:\n got %s\nwant %s", c.version, got, c.want)
		}
		old, err := hex.DecodeString(c.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRows(old)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.rows, got, sameRows); diff != "" {
			t.Errorf("version %d: rows (-want +got):\n%s", c.version, diff)
		}
	}
}

// TestCorruptChunk turns every bit and cuts at every byte: each must be an error.
func TestCorruptChunk(t *testing.T) {
	rows := []persistence.Row{
		{Time: 1000, Sequence: 5, Values: []float64{1.25, 2, 0.1}},
		{Time: 2000, Sequence: 6, Values: []float64{1.5, math.Pi, 0.30000000000000004}, Note: "note"},
	}
	for _, version := range []byte{Version1, Version2, Version3} {
		testCorruptChunk(t, encodeRows(version, rows))
	}
}

func testCorruptChunk(t *testing.T, value []byte) {
	for i := range len(value) * 8 {
		broken := bytes.Clone(value)
		broken[i/8] ^= 1 << (i % 8)
		if got, err := decodeRows(broken); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d turned: got %+v, error %v", i, got, err)
		}
		// Merged with a good one it is still an error, whichever comes first.
		for _, pair := range [][][]byte{{broken, value}, {value, broken}} {
			if got, err := decodeRows(Merge(pair)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d turned, merged: got %+v, error %v", i, got, err)
			}
		}
	}
	for i := range value {
		if got, err := decodeRows(value[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: got %+v, error %v", i, got, err)
		}
	}
}

func chunkSeeds() [][]byte {
	rows := []persistence.Row{
		{Time: 1000, Sequence: 5, Values: []float64{1.25, math.NaN(), 0.1}},
		{Time: 2000, Sequence: 6, Values: []float64{1.5, 2, math.Pi}, Note: "ok", Quality: []uint8{0, 3}},
		{Time: -3001, Sequence: 1, Values: []float64{-1.5, 250, 0.30000000000000004}, Flags: 1, Note: "other"},
	}
	var seeds [][]byte
	for i := range rows {
		for _, version := range []byte{Version1, Version2, Version3} {
			seeds = append(seeds, encodeRows(version, rows[i:]), encodeRows(version, rows[:i+1]))
		}
	}
	return seeds
}

// FuzzChunk decodes bodies that pass no checksum. What decodes must encode to the same rows again.
func FuzzChunk(f *testing.F) {
	for _, seed := range chunkSeeds() {
		first, _, err := nextFrame(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(first.version, first.body)
	}
	f.Fuzz(func(t *testing.T, version byte, body []byte) {
		version = Version1 + version%3
		var b Block
		if err := b.decodeBody(version, body); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if n := b.Len(); n > maxFrameRows || cap(b.values) > 256*len(body)+64 {
			t.Fatalf("%d bytes decoded to %d rows and %d places for values", len(body), n, cap(b.values))
		}
		b.Normalize()
		rows := make([]persistence.Row, b.Len())
		for i := range rows {
			b.Row(i, &rows[i])
		}
		again, err := decodeRows(encodeRows(version, rows))
		if err != nil {
			t.Fatalf("encoded again it does not decode: %v", err)
		}
		if diff := cmp.Diff(newestRows(rows), again, sameRows); diff != "" {
			t.Fatalf("encoded again (-want +got):\n%s", diff)
		}
	})
}

// FuzzValue gives the reader and the merger any bytes.
func FuzzValue(f *testing.F) {
	for _, seed := range chunkSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		want, wantErr := decodeRows(value)
		good := encodeRows(Version2, []persistence.Row{{Time: math.MaxInt64, Sequence: math.MaxUint64}})
		got, err := decodeRows(Merge([][]byte{value, good}))
		if len(value) > 0 && (err == nil) != (wantErr == nil) {
			t.Fatalf("alone: error %v, merged: error %v", wantErr, err)
		}
		if err == nil && len(got) < len(want) {
			t.Fatalf("merged: %d rows, alone %d", len(got), len(want))
		}
	})
}
