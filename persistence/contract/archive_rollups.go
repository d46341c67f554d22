package contract

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// rollup returns a rollup of one channel in which every value is v.
func rollup(step messages.Step, start int64, sequence uint64, v float64) persistence.RollupRow {
	return persistence.RollupRow{
		Rollup: messages.Rollup{Start: start, Step: step, Count: 60, Channels: []messages.ChannelRollup{
			{Count: 59, Min: v - 1, Max: v + 1, Sum: v * 59, First: v, Last: v + 0.5},
		}},
		Sequence: sequence, WriteTime: writeTime(sequence),
	}
}

type storedRollup struct {
	Start, Step, Count int64
	Sequence           uint64
	Channels           [][6]uint64
}

func toStoredRollup(r *persistence.RollupRow) storedRollup {
	s := storedRollup{Start: r.Start, Step: int64(r.Step), Count: r.Count, Sequence: r.Sequence}
	for _, c := range r.Channels {
		s.Channels = append(s.Channels, [6]uint64{uint64(c.Count), bits(c.Min), bits(c.Max), bits(c.Sum), bits(c.First), bits(c.Last)})
	}
	return s
}

func (a archiveUnderTest) wantRollups(ctx context.Context, t failer, id messages.DeviceID, step messages.Step, r persistence.Range, want []persistence.RollupRow) {
	t.Helper()
	var got, wanted []storedRollup
	for i := range want {
		wanted = append(wanted, toStoredRollup(&want[i]))
	}
	err := a.Rollups(ctx, a.shard, id, step, r, func(row *persistence.RollupRow) bool {
		got = append(got, toStoredRollup(row))
		return true
	})
	if err != nil {
		t.Fatalf("rollups %v %v %+v: %v", id, step, r, err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Fatalf("rollups %v %v %+v (-want +got):\n%s", id, step, r, diff)
	}
}

func (a archiveUnderTest) wantRecords(ctx context.Context, t failer, id messages.DeviceID, want []persistence.Record) {
	t.Helper()
	got, err := a.Records(ctx, a.shard, id)
	if err != nil {
		t.Fatalf("records %v: %v", id, err)
	}
	if diff := cmp.Diff(recordStrings(want), recordStrings(got)); diff != "" {
		t.Fatalf("records %v (-want +got):\n%s", id, diff)
	}
}

// recordStrings leaves the write time out: a store may give it back or not.
func recordStrings(records []persistence.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, fmt.Sprintf("%d %q", r.Sequence, r.Payload))
	}
	return out
}

func testRollups(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	a.wantRollups(ctx, t, id, messages.Minute, everything, nil)
	minute := int64(messages.Minute)
	var minutes, hours []persistence.RollupRow
	for i := range int64(150) {
		minutes = append(minutes, rollup(messages.Minute, base+(i-60)*minute, uint64(i+1), float64(i)/10))
	}
	for i := range int64(30) {
		hours = append(hours, rollup(messages.Hour, base+(i-10)*hour, uint64(i+1), float64(i)))
	}
	hours = append([]persistence.RollupRow{rollup(messages.Hour, -2*hour, 1, 1)}, hours...)
	for chunk := range slices.Chunk(minutes, 40) {
		a.append(ctx, t, persistence.DeviceRows{Device: id, Rollups: chunk})
	}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rollups: hours})

	back := slices.Clone(minutes)
	slices.Reverse(back)
	a.wantRollups(ctx, t, id, messages.Minute, everything, minutes)
	a.wantRollups(ctx, t, id, messages.Minute, everythingBack, back)
	a.wantRollups(ctx, t, id, messages.Hour, everything, hours)
	a.wantRollups(ctx, t, id, messages.Minute, persistence.Range{From: base, To: base + 10*minute}, minutes[60:71])
	a.wantRollups(ctx, t, id, messages.Minute, persistence.Range{From: base + 1, To: base + 10*minute - 1}, minutes[61:70])
	a.wantRollups(ctx, t, id, messages.Minute, persistence.Range{From: base + 10*minute, To: base, Limit: 2}, back[79:81])
	a.wantRollups(ctx, t, id, messages.Minute, persistence.Range{From: base, To: base + hour, MaxSequence: 62}, minutes[60:62])
	a.wantRollups(ctx, t, id, messages.Hour, persistence.Range{From: math.MaxInt64, To: math.MinInt64, Limit: 1}, hours[30:])
	a.wantRows(ctx, t, id, everything, nil)

	calls := 0
	err := a.Rollups(ctx, a.shard, id, messages.Minute, everything, func(*persistence.RollupRow) bool { calls++; return calls < 5 })
	if err != nil || calls != 5 {
		t.Errorf("stop at the 5th: got %d calls and error %v", calls, err)
	}
}

func testRollupCorrection(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	older, newer := rollup(messages.Minute, base, 5, 1), rollup(messages.Minute, base, 6, 2)
	newer.Channels = append(newer.Channels, messages.ChannelRollup{}, messages.ChannelRollup{Count: 1, Min: 1, Max: 1, Sum: 1, First: 1, Last: 1})
	for name, order := range map[string][]persistence.RollupRow{"up": {older, newer}, "down": {newer, older}, "again": {newer, newer, older}} {
		id := messages.DeviceID{Site: site, Device: name}
		for _, row := range order {
			a.append(ctx, t, persistence.DeviceRows{Device: id, Rollups: []persistence.RollupRow{row}})
		}
		a.wantRollups(ctx, t, id, messages.Minute, everything, []persistence.RollupRow{newer})
		a.wantRollups(ctx, t, id, messages.Hour, everything, nil)
		together := messages.DeviceID{Site: site, Device: name + "-together"}
		a.append(ctx, t, persistence.DeviceRows{Device: together, Rollups: order})
		a.wantRollups(ctx, t, together, messages.Minute, everything, []persistence.RollupRow{newer})
	}
}

func testRollupValues(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	values := append(slices.Clone(extremes), math.Inf(1), math.Inf(-1)) // a sum may overflow
	at := func(i int) float64 { return values[i%len(values)] }
	r := persistence.RollupRow{Rollup: messages.Rollup{Start: base, Step: messages.Hour, Count: math.MaxInt64}, Sequence: 1, WriteTime: writeTime(1)}
	for i := range messages.MaxChannels {
		r.Channels = append(r.Channels, messages.ChannelRollup{Count: int64(i), Min: at(i), Max: at(i + 1), Sum: at(i + 32), First: at(i + 3), Last: at(i + 4)})
	}
	none := persistence.RollupRow{Rollup: messages.Rollup{Start: base + hour, Step: messages.Hour, Count: 3}, Sequence: 2, WriteTime: writeTime(2)}
	a.append(ctx, t, persistence.DeviceRows{Device: id, Rollups: []persistence.RollupRow{r, none}})
	a.wantRollups(ctx, t, id, messages.Hour, everything, []persistence.RollupRow{r, none})
}

func testRecords(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	record := func(sequence uint64, payload string) persistence.Record {
		return persistence.Record{Sequence: sequence, WriteTime: writeTime(sequence), Payload: []byte(payload)}
	}
	for _, id := range []messages.DeviceID{{Site: site, Device: "d"}, {Site: site}} {
		a.wantRecords(ctx, t, id, nil)
		want := []persistence.Record{record(3, ""), record(200, "two\x00\xff"), record(255, "three"), record(256, strings.Repeat("x", 10_000)), record(1<<40, "five")}
		a.append(ctx, t, persistence.DeviceRows{Device: id, Records: []persistence.Record{want[3], want[1], want[4]}})
		for range 2 {
			a.append(ctx, t, persistence.DeviceRows{Device: id, Records: []persistence.Record{want[2], want[0], want[1]}})
		}
		a.wantRecords(ctx, t, id, want)
		a.wantRows(ctx, t, id, everything, nil)
	}
}

func testDevices(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	record := []persistence.Record{{Sequence: 1, WriteTime: writeTime(1), Payload: []byte("r")}}
	want := []messages.DeviceID{
		{Site: site},
		{Site: site, Device: "-"},
		{Site: site, Device: "9"},
		{Site: site, Device: "A"},
		{Site: site, Device: "a"},
		{Site: site, Device: "a-b"},
		{Site: site, Device: "ab"},
		{Site: site + "-", Device: "a"},
		{Site: site + "a", Device: "a"},
		{Site: site + "b"},
	}
	var devices []persistence.DeviceRows
	for i := range want {
		devices = append(devices, persistence.DeviceRows{Device: want[len(want)-1-i], Records: record, Rows: []persistence.Row{reading(base, 1, 1)}})
	}
	devices = append(devices, persistence.DeviceRows{Device: messages.DeviceID{Site: site, Device: "rows-only"}, Rows: []persistence.Row{reading(base, 1, 1)}})
	a.appendAll(ctx, t, devices)
	a.append(ctx, t, persistence.DeviceRows{Device: want[3], Records: []persistence.Record{{Sequence: 7, WriteTime: writeTime(7)}}})

	var got []messages.DeviceID
	err := a.Devices(ctx, a.shard, func(id messages.DeviceID) bool {
		if strings.HasPrefix(id.Site, site) { // others may live here from other runs
			got = append(got, id)
		}
		return true
	})
	if err != nil {
		t.Fatalf("devices: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	calls := 0
	if err := a.Devices(ctx, a.shard, func(messages.DeviceID) bool { calls++; return calls < 3 }); err != nil || calls != 3 {
		t.Errorf("stop at the 3rd: got %d calls and error %v", calls, err)
	}
}

func testDelete(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	d := persistence.DeviceRows{
		Device: id,
		Rows: []persistence.Row{
			reading(base-50*hour, 3, 1), reading(base, 4, 2), reading(base+1, 12, 3), reading(base+2, 10, 4), reading(base+hour, 11, 5), reading(base+90*hour, 10, 6),
		},
		Rollups: []persistence.RollupRow{rollup(messages.Minute, base, 10, 1), rollup(messages.Minute, base+60_000, 11, 1), rollup(messages.Hour, base, 10, 1), rollup(messages.Hour, base+hour, 11, 1)},
		Records: []persistence.Record{{Sequence: 1, WriteTime: writeTime(1)}, {Sequence: 10, WriteTime: writeTime(10)}, {Sequence: 11, WriteTime: writeTime(11), Payload: []byte("later")}},
	}
	a.append(ctx, t, d)
	for range 2 { // a delete is replayed like everything
		if err := a.Delete(ctx, a.shard, id, 10, writeTime(10)); err != nil {
			t.Fatalf("delete: %v", err)
		}
		a.wantBoth(ctx, t, id, []persistence.Row{d.Rows[2], d.Rows[4]})
		a.wantRollups(ctx, t, id, messages.Minute, everything, d.Rollups[1:2])
		a.wantRollups(ctx, t, id, messages.Hour, everythingBack, d.Rollups[3:])
		a.wantRecords(ctx, t, id, d.Records[2:])
	}
	// An older delete, replayed, brings nothing back and takes nothing.
	if err := a.Delete(ctx, a.shard, id, 2, writeTime(2)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	a.wantBoth(ctx, t, id, []persistence.Row{d.Rows[2], d.Rows[4]})

	if err := a.Delete(ctx, a.shard, id, 20, writeTime(20)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	a.wantBoth(ctx, t, id, nil)
	a.wantRecords(ctx, t, id, nil)
	listed := false
	if err := a.Devices(ctx, a.shard, func(got messages.DeviceID) bool { listed = listed || got == id; return true }); err != nil || listed {
		t.Errorf("devices after delete: listed %v, error %v", listed, err)
	}
}

func testDeleteReplay(t *testing.T, a archiveUnderTest, site string) {
	ctx, id := testContext(t), messages.DeviceID{Site: site, Device: "d"}
	old := persistence.DeviceRows{
		Device:  id,
		Rows:    []persistence.Row{reading(base, 4, 1), reading(base+1, 10, 2), reading(base+7*hour, 9, 2)},
		Rollups: []persistence.RollupRow{rollup(messages.Minute, base, 10, 1), rollup(messages.Hour, base, 9, 1)},
		Records: []persistence.Record{{Sequence: 4, WriteTime: writeTime(4)}},
	}
	later := persistence.DeviceRows{
		Device:  id,
		Rows:    []persistence.Row{reading(base, 11, 5), reading(base+2, 12, 6)},
		Rollups: []persistence.RollupRow{rollup(messages.Minute, base, 12, 7)},
		Records: []persistence.Record{{Sequence: 11, WriteTime: writeTime(11), Payload: []byte("new life")}},
	}
	check := func() {
		t.Helper()
		a.wantBoth(ctx, t, id, later.Rows)
		a.wantRollups(ctx, t, id, messages.Minute, everything, later.Rollups)
		a.wantRollups(ctx, t, id, messages.Hour, everything, nil)
		a.wantRecords(ctx, t, id, later.Records)
	}
	a.append(ctx, t, old)
	if err := a.Delete(ctx, a.shard, id, 10, writeTime(10)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	a.append(ctx, t, old)
	a.wantBoth(ctx, t, id, nil)
	a.wantRollups(ctx, t, id, messages.Minute, everything, nil)
	a.wantRecords(ctx, t, id, nil)
	a.append(ctx, t, later)
	check()
	a.append(ctx, t, old)
	check()
	if err := a.Delete(ctx, a.shard, id, 10, writeTime(10)); err != nil {
		t.Fatalf("delete again: %v", err)
	}
	check()
}

func testDeleteOthers(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	ids := []messages.DeviceID{{Site: site, Device: "a"}, {Site: site, Device: "a-"}, {Site: site, Device: "aa"}, {Site: site}, {Site: site + "a", Device: "a"}}
	d := persistence.DeviceRows{
		Rows: []persistence.Row{reading(base, 1, 1)}, Rollups: []persistence.RollupRow{rollup(messages.Hour, base, 1, 1)},
		Records: []persistence.Record{{Sequence: 1, WriteTime: writeTime(1)}},
	}
	for _, id := range ids {
		d.Device = id
		if id.Device == "" {
			a.append(ctx, t, persistence.DeviceRows{Device: id, Records: d.Records})
			continue
		}
		a.append(ctx, t, d)
	}
	if err := a.Delete(ctx, a.shard, ids[0], 5, writeTime(5)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	a.wantRows(ctx, t, ids[0], everything, nil)
	a.wantRecords(ctx, t, ids[0], nil)
	for _, id := range ids[1:] {
		a.wantRecords(ctx, t, id, d.Records)
		if id.Device != "" {
			a.wantRows(ctx, t, id, everything, d.Rows)
			a.wantRollups(ctx, t, id, messages.Hour, everything, d.Rollups)
		}
	}
	// A device that never was can be deleted.
	if err := a.Delete(ctx, a.shard, messages.DeviceID{Site: site, Device: "never"}, 5, writeTime(5)); err != nil {
		t.Errorf("delete of an unknown device: %v", err)
	}
}
