package contract

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Archive runs everything that an archive must do. See the package comment for what open must give.
func Archive(t *testing.T, open func(t *testing.T) persistence.Archive) {
	tests := []struct {
		name string
		run  func(t *testing.T, a archiveUnderTest, site string)
	}{
		{"scan both orders with inclusive ends", testScanRanges},
		{"a scan can be stopped", testScanStops},
		{"rows above the highest sequence are skipped", testMaxSequence},
		{"the same row twice is one row", testSameRowTwice},
		{"the higher sequence wins in whatever order", testCorrection},
		{"rows of one append in any order", testAnyOrder},
		{"omitted values, notes, quality and flags", testEveryField},
		{"every float64", testExtremeValues},
		{"negative and far times", testFarTimes},
		{"rows far apart", testSparse},
		{"thousands of rows", testManyRows},
		{"many devices in one append", testManyDevices},
		{"names that begin alike", testNeighbours},
		{"shards are apart", testShardsApart},
		{"rollups", testRollups},
		{"rollups: the higher sequence wins", testRollupCorrection},
		{"rollups: every float64", testRollupValues},
		{"records", testRecords},
		{"devices", testDevices},
		{"delete", testDelete},
		{"delete hides what is replayed later", testDeleteReplay},
		{"delete leaves others alone", testDeleteOthers},
		{"accounts", testAccounts},
		{"concurrent appends", testConcurrent},
		{"a cancelled context is an error", testCancelled},
		{"ping", func(t *testing.T, a archiveUnderTest, _ string) {
			if err := a.Ping(testContext(t)); err != nil {
				t.Fatalf("ping: %v", err)
			}
		}},
		{"random operations against a model", testModel},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, archiveUnderTest{open(t), messages.Shard(i % Shards)}, newSite())
		})
	}
}

func testScanRanges(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	a.wantRows(ctx, t, id, everything, nil)
	var rows []persistence.Row
	for i := range int64(10) {
		rows = append(rows, reading(base+i*1000, uint64(i+1), float64(i), 0.5))
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	back := slices.Clone(rows)
	slices.Reverse(back)

	at := func(i int64) int64 { return base + i*1000 }
	for _, test := range []struct {
		r    persistence.Range
		want []persistence.Row
	}{
		{everything, rows},
		{everythingBack, back},
		{persistence.Range{From: at(2), To: at(5)}, rows[2:6]},
		{persistence.Range{From: at(5), To: at(2)}, back[4:8]},
		{persistence.Range{From: at(2) + 1, To: at(5) - 1}, rows[3:5]},
		{persistence.Range{From: at(5) - 1, To: at(2) + 1}, back[5:7]},
		{persistence.Range{From: at(4), To: at(4)}, rows[4:5]},
		{persistence.Range{From: at(4) + 1, To: at(4) + 1}, nil},
		{persistence.Range{From: at(4) + 2, To: at(4) + 1}, nil},
		{persistence.Range{From: at(-5), To: at(-1)}, nil},
		{persistence.Range{From: at(10), To: at(20)}, nil},
		{persistence.Range{From: at(20), To: at(10)}, nil},
		{persistence.Range{From: at(2), To: at(9), Limit: 3}, rows[2:5]},
		{persistence.Range{From: at(8), To: at(0), Limit: 3}, back[1:4]},
		{persistence.Range{From: math.MaxInt64, To: math.MinInt64, Limit: 1}, back[:1]},
		{persistence.Range{From: math.MinInt64, To: math.MaxInt64, Limit: 1}, rows[:1]},
		{persistence.Range{From: at(0), To: at(9), Limit: 100}, rows},
	} {
		a.wantRows(ctx, t, id, test.r, test.want)
	}
}

func testScanStops(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	var rows []persistence.Row
	for i := range int64(20) {
		rows = append(rows, reading(base+i*hour/4, uint64(i+1), float64(i)))
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	for _, r := range []persistence.Range{everything, everythingBack} {
		calls := 0
		err := a.Scan(ctx, a.shard, id, r, func(*persistence.Row) bool {
			calls++
			return calls < 7
		})
		if err != nil || calls != 7 {
			t.Errorf("stop at the 7th row of %+v: got %d calls and error %v", r, calls, err)
		}
	}
}

func testMaxSequence(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	// The oldest row came last.
	rows := []persistence.Row{reading(base, 9, 1), reading(base+1000, 5, 2), reading(base+2000, 6, 3), reading(base+3000, 7, 4)}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	for _, test := range []struct {
		max   uint64
		limit int
		want  []persistence.Row
	}{
		{0, 0, rows},
		{9, 0, rows},
		{8, 0, rows[1:]},
		{6, 0, rows[1:3]},
		{4, 0, nil},
		{8, 2, rows[1:3]}, // what is skipped does not count
	} {
		a.wantRows(ctx, t, id, persistence.Range{From: base, To: base + hour, MaxSequence: test.max, Limit: test.limit}, test.want)
	}
	a.wantRows(ctx, t, id, persistence.Range{From: base + hour, To: base, MaxSequence: 6, Limit: 1}, rows[2:3])
}

func testSameRowTwice(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	rows := []persistence.Row{reading(base, 1, 1), reading(base+1, 2, 2)}
	for range 3 {
		a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows[:1]})
	a.wantBoth(ctx, t, id, rows)
}

func testCorrection(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	older := persistence.Row{Time: base, Sequence: 3, WriteTime: writeTime(3), Values: []float64{1, 2, 3}, Note: "old", Quality: []uint8{1}, Flags: 1}
	newer := reading(base, 4, 5) // replaces whole: no note, fewer values
	other := reading(base+1, 1, 7)
	for name, order := range map[string][]persistence.Row{
		"up": {older, newer}, "down": {newer, older}, "again": {older, newer, older},
	} {
		apart := messages.DeviceID{Site: site, Device: name + "-apart"}
		a.append(ctx, t, persistence.DeviceRows{Device: apart, Rows: []persistence.Row{other}})
		for _, row := range order {
			a.append(ctx, t, persistence.DeviceRows{Device: apart, Rows: []persistence.Row{row}})
		}
		together := messages.DeviceID{Site: site, Device: name + "-together"}
		a.append(ctx, t, persistence.DeviceRows{Device: together, Rows: append(slices.Clone(order), other)})
		for _, id := range []messages.DeviceID{apart, together} {
			a.wantBoth(ctx, t, id, []persistence.Row{newer, other})
			a.wantRows(ctx, t, id, persistence.Range{From: base, To: base, MaxSequence: 3}, nil)
		}
	}
}

func testAnyOrder(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	rows := []persistence.Row{reading(base-2*hour, 5, 1), reading(base, 2, 2), reading(base+1, 9, 3), reading(base+hour, 1, 4), reading(base+hour+1, 8, 5)}
	mixed := []persistence.Row{rows[3], rows[0], rows[4], rows[2], rows[1]}
	before := toStoredAll(mixed)
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: mixed})
	a.wantBoth(ctx, t, id, rows)
	if diff := cmp.Diff(before, toStoredAll(mixed)); diff != "" {
		t.Errorf("append changed the caller's rows (-before +after):\n%s", diff)
	}
}

func testEveryField(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	nan := math.NaN()
	wide := make([]float64, messages.MaxChannels)
	bad := make([]uint8, messages.MaxChannels)
	for i := range wide {
		wide[i], bad[i] = float64(i)/3, uint8(255-i)
	}
	rows := []persistence.Row{
		reading(base, 1, 1, 2, 3),
		reading(base+1, 2, nan, 2, nan),
		reading(base+2, 3, nan),
		reading(base+3, 4),
		{Time: base + 4, Sequence: 5, WriteTime: writeTime(5), Note: "no values, only a note"},
		{Time: base + 5, Sequence: 6, WriteTime: writeTime(6), Values: []float64{1}, Note: "tab\tquote\"' ünï 漢字 \U0001F6E2 line\nend"},
		{Time: base + 6, Sequence: 7, WriteTime: writeTime(7), Values: []float64{1, 2}, Quality: []uint8{0, 7}},
		{Time: base + 7, Sequence: 8, WriteTime: writeTime(8), Values: []float64{1, 2, 3}, Quality: []uint8{255}},
		{Time: base + 8, Sequence: 9, WriteTime: writeTime(9), Values: []float64{1}, Quality: []uint8{0}},
		{Time: base + 9, Sequence: 10, WriteTime: writeTime(10), Values: []float64{1}, Flags: persistence.FlagAssigned},
		{Time: base + 10, Sequence: 11, WriteTime: writeTime(11), Values: wide, Quality: bad, Note: strings.Repeat("n", messages.MaxNote), Flags: 255},
		{Time: base + 11, Sequence: 12, WriteTime: writeTime(12), Values: wide[:1], Note: "no values, only a note"},
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	a.wantBoth(ctx, t, id, rows)
	single := messages.DeviceID{Site: site, Device: "one-at-a-time"}
	for _, row := range rows {
		a.append(ctx, t, persistence.DeviceRows{Device: single, Rows: []persistence.Row{row}})
	}
	a.wantBoth(ctx, t, single, rows)
}

// extremes are values that a codec is likely to bend.
var extremes = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, -0.1, 0.01, 123456.789, 1e9, 1e-9, 1e15, 1e16, 1e17, 1 << 52, 1 << 53, 1<<53 + 2,
	math.MaxInt64, math.MinInt64, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64,
	2.2250738585072014e-308, 2.225073858507201e-308, math.Pi, math.E, 1.0 / 3, 0.1 + 0.2, 1e22, 1e23, 4503599627370495.5, 9007199254740991,
}

func testExtremeValues(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	var rows []persistence.Row
	for i, v := range extremes {
		rows = append(rows, reading(base+int64(i), uint64(i+1), v, extremes[len(extremes)-1-i], 0.25, math.NaN()))
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	a.wantBoth(ctx, t, id, rows)
	for i, row := range rows {
		one := messages.DeviceID{Site: site, Device: fmt.Sprint("one-", i)}
		a.append(ctx, t, persistence.DeviceRows{Device: one, Rows: []persistence.Row{row}})
		a.wantRows(ctx, t, one, everything, []persistence.Row{row})
	}
}

func testFarTimes(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	times := []int64{
		-1 << 53, -62_135_596_800_000 /* year 1 */, -hour - 1, -hour, -hour + 1, -1, 0, 1, hour - 1, hour,
		base, 253_402_300_799_999 /* end of year 9999 */, 1 << 53,
	}
	var rows []persistence.Row
	for i, at := range times {
		rows = append(rows, reading(at, uint64(i+1), float64(i)))
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows})
	a.wantBoth(ctx, t, id, rows)
	a.wantRows(ctx, t, id, persistence.Range{From: -hour, To: 0}, rows[3:7])
	a.wantRows(ctx, t, id, persistence.Range{From: -1, To: -hour, Limit: 2}, []persistence.Row{rows[5], rows[4]})
	a.wantRows(ctx, t, id, persistence.Range{From: math.MinInt64, To: -hour - 1}, rows[:3])
}

func testSparse(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	const year = 365 * 24 * hour
	var rows []persistence.Row
	for i, at := range []int64{base - 30*year, base - year - 1, base - year, base - 1, base, base + hour - 1, base + hour, base + 3*hour, base + 50*hour, base + year} {
		rows = append(rows, reading(at, uint64(i+1), float64(i)))
	}
	for i := range rows { // one at a time, newest first
		a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows[len(rows)-1-i : len(rows)-i]})
	}
	a.wantBoth(ctx, t, id, rows)
	a.wantRows(ctx, t, id, persistence.Range{From: base - year, To: base + hour}, rows[2:7])
	a.wantRows(ctx, t, id, persistence.Range{From: base + 40*hour, To: base - 20*year, Limit: 2}, []persistence.Row{rows[7], rows[6]})
	a.wantRows(ctx, t, id, persistence.Range{From: base + 4*hour, To: base + 49*hour}, nil)
}

// testManyRows goes beyond any page or chunk: one bucket with thousands of rows, and many buckets.
func testManyRows(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	var rows []persistence.Row
	for i := range int64(7200) {
		rows = append(rows, reading(base+i*500, uint64(i/10+1), math.Round(1000*math.Sin(float64(i)/100))/100, float64(i)))
	}
	for i := range int64(300) {
		rows = append(rows, reading(base+hour+i*hour/3, uint64(i+1000), float64(i)))
	}
	for chunk := range slices.Chunk(rows, 1000) {
		a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: chunk})
	}
	a.wantBoth(ctx, t, id, rows)
	a.wantRows(ctx, t, id, persistence.Range{From: base + 1000*500, To: base + 5999*500}, rows[1000:6000])
	a.wantRows(ctx, t, id, persistence.Range{From: base + 1000*500, To: base + 100*hour, Limit: 4000}, rows[1000:5000])
}

func testManyDevices(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	var devices []persistence.DeviceRows
	for i := range 500 {
		id := messages.DeviceID{Site: fmt.Sprint(site, i%3), Device: fmt.Sprint("d", i)}
		rows := []persistence.Row{reading(base-1, 1, float64(i)), reading(base, 2, float64(i)/10)}
		devices = append(devices, persistence.DeviceRows{
			Device: id, Rows: rows,
			Rollups: []persistence.RollupRow{rollup(messages.Minute, base, 2, float64(i))},
			Records: []persistence.Record{{Sequence: 1, WriteTime: writeTime(1), Payload: []byte{byte(i)}}},
			Err:     errors.New("left from an earlier try"),
		})
	}
	a.appendAll(ctx, t, devices)
	for i := range devices {
		d := &devices[i]
		a.wantRows(ctx, t, d.Device, everything, d.Rows)
		if i%50 == 0 {
			a.wantRollups(ctx, t, d.Device, messages.Minute, everything, d.Rollups)
			a.wantRecords(ctx, t, d.Device, d.Records)
		}
	}
	a.appendAll(ctx, t, nil) // an empty batch is stored as it is
}

// testNeighbours: names that are prefixes of each other, or change places between site and device.
func testNeighbours(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	ids := []messages.DeviceID{
		{Site: site, Device: "a"},
		{Site: site, Device: "a-"},
		{Site: site, Device: "aa"},
		{Site: site, Device: "A"},
		{Site: site + "a", Device: "a"},
		{Site: site + "-", Device: "a"},
		{Site: site, Device: "a_"},
		{Site: site, Device: "-"},
	}
	want := make(map[messages.DeviceID][]persistence.Row)
	for i, id := range ids {
		want[id] = []persistence.Row{reading(base, uint64(i+1), float64(i)), reading(base+hour, uint64(i+1), float64(i))}
		a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: want[id], Rollups: []persistence.RollupRow{rollup(messages.Hour, base, uint64(i+1), float64(i))}})
	}
	for i, id := range ids {
		a.wantBoth(ctx, t, id, want[id])
		a.wantRollups(ctx, t, id, messages.Hour, everything, []persistence.RollupRow{rollup(messages.Hour, base, uint64(i+1), float64(i))})
	}
}

func testShardsApart(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	other := archiveUnderTest{a.Archive, (a.shard + 1) % Shards}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: []persistence.Row{reading(base, 1, 1)}})
	other.wantRows(ctx, t, id, everything, nil)
	other.append(ctx, t, persistence.DeviceRows{Device: id, Rows: []persistence.Row{reading(base, 2, 2)}})
	a.wantRows(ctx, t, id, everything, []persistence.Row{reading(base, 1, 1)})
	if err := a.Delete(ctx, a.shard, id, 100, writeTime(100)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	a.wantRows(ctx, t, id, everything, nil)
	other.wantRows(ctx, t, id, everything, []persistence.Row{reading(base, 2, 2)})
}

// testConcurrent appends from many goroutines, some of them to the same device.
func testConcurrent(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	const writers, appends = 8, 20
	shared := messages.DeviceID{Site: site, Device: "shared"}
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() { errs <- a.appendFrom(ctx, w, appends, shared) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	var want []persistence.Row
	for i := range appends {
		for w := range writers {
			want = append(want, reading(base+int64(i*writers+w), uint64(i*writers+w+1), float64(w)))
		}
	}
	// All wrote the row of base-1; the highest sequence stays.
	want = append([]persistence.Row{reading(base-1, uint64(appends*writers), float64(writers-1))}, want...)
	a.wantBoth(ctx, t, shared, want)
	for w := range writers {
		if got := len(a.rows(ctx, t, messages.DeviceID{Site: site, Device: fmt.Sprint("w", w)}, everything)); got != appends {
			t.Errorf("writer %d: got %d rows, want %d", w, got, appends)
		}
	}
}

func (a archiveUnderTest) appendFrom(ctx context.Context, w, appends int, shared messages.DeviceID) error {
	for i := range appends {
		n := uint64(i*8 + w + 1)
		b := persistence.Batch{Shard: a.shard, Devices: []persistence.DeviceRows{
			{Device: shared, Rows: []persistence.Row{reading(base+int64(n)-1, n, float64(w)), reading(base-1, n, float64(w))}},
			{Device: messages.DeviceID{Site: shared.Site, Device: fmt.Sprint("w", w)}, Rows: []persistence.Row{reading(base+int64(i), n, 1)}},
		}}
		if err := a.Append(ctx, &b); err != nil {
			return fmt.Errorf("writer %d, append %d: %w", w, i, err)
		}
	}
	return nil
}

func testCancelled(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	rows := []persistence.Row{reading(base, 1, 1), reading(base+1, 2, 2)}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rows: rows, Records: []persistence.Record{{Sequence: 1, WriteTime: writeTime(1)}}})

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	b := persistence.Batch{Shard: a.shard, Devices: []persistence.DeviceRows{{Device: id, Rows: rows}}}
	if err := a.Append(cancelled, &b); err == nil || b.Devices[0].Err == nil {
		t.Errorf("append: got error %v and device error %v, want both", err, b.Devices[0].Err)
	} else if errors.Is(err, persistence.ErrRefused) || errors.Is(err, persistence.ErrFenced) {
		t.Errorf("append: %v is of a class that is never tried again", err)
	}
	calls := map[string]func() error{
		"scan": func() error {
			return a.Scan(cancelled, a.shard, id, everything, func(*persistence.Row) bool { return true })
		},
		"rollups": func() error {
			return a.Rollups(cancelled, a.shard, id, messages.Minute, everything, func(*persistence.RollupRow) bool { return true })
		},
		"records": func() error { _, err := a.Records(cancelled, a.shard, id); return err },
		"devices": func() error {
			return a.Devices(cancelled, a.shard, func(messages.DeviceID) bool { return true })
		},
		"delete": func() error { return a.Delete(cancelled, a.shard, id, 5, writeTime(5)) },
		"put accounts": func() error {
			return a.PutAccounts(cancelled, a.shard, []persistence.Account{{AccountKey: persistence.AccountKey{Site: site, Producer: "p", Run: 1}, Sequence: 1, WriteTime: writeTime(1)}})
		},
		"accounts": func() error {
			return a.Accounts(cancelled, a.shard, persistence.AccountKey{}, func(*persistence.Account) bool { return true })
		},
		"ping": func() error { return a.Ping(cancelled) },
	}
	for name, call := range calls {
		if err := call(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	// The same append is good with a living context, and clears the error.
	if err := a.Append(ctx, &b); err != nil || b.Devices[0].Err != nil {
		t.Errorf("append again: got error %v and device error %v", err, b.Devices[0].Err)
	}
}
