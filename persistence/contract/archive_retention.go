package contract

import (
	"errors"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Classes are what the archive under test of Retention must have been opened with.
var Classes = persistence.Classes{
	"short": {Readings: 3 * time.Hour, Rollups: 30 * time.Hour},
}

// Retention runs what an archive with Classes must do beside the rest. Times count from now here: an
// archive goes by its own clock, or its server's.
func Retention(t *testing.T, open func(t *testing.T) persistence.Archive) {
	a, site, ctx := archiveUnderTest{open(t), 5}, newSite(), testContext(t)
	now := time.Now().UnixMilli()
	row := func(age int64, sequence uint64) persistence.Row {
		return persistence.Row{Time: now - age, Sequence: sequence, WriteTime: (now-age)*1000 + int64(sequence), Values: []float64{1}}
	}
	hours := func(age int64, sequence uint64) persistence.RollupRow {
		start := messages.Hour.Start(now - age)
		return persistence.RollupRow{Rollup: messages.Rollup{Start: start, Step: messages.Hour, Count: 1}, Sequence: sequence, WriteTime: start*1000 + int64(sequence)}
	}
	// All came when they were new, but the archive has it only now, as after a long outage of it.
	brief, lasting := messages.DeviceID{Site: site, Device: "brief"}, messages.DeviceID{Site: site, Device: "lasting"}
	a.append(ctx, t, persistence.DeviceRows{Device: brief, Class: "short", Rows: []persistence.Row{row(hour, 2)}, Rollups: []persistence.RollupRow{hours(9*hour, 1), hours(hour, 2)}})
	a.append(ctx, t, persistence.DeviceRows{Device: lasting, Rows: []persistence.Row{row(1000*hour, 1), row(hour, 2)}, Rollups: []persistence.RollupRow{hours(1000*hour, 1)}})
	counts := func(id messages.DeviceID) (rows, rollups int) {
		t.Helper()
		r := persistence.Range{From: now - 2000*hour, To: now}
		err := errors.Join(
			a.Scan(ctx, a.shard, id, r, func(*persistence.Row) bool { rows++; return true }),
			a.Rollups(ctx, a.shard, id, messages.Hour, r, func(*persistence.RollupRow) bool { rollups++; return true }),
		)
		if err != nil {
			t.Fatal(err)
		}
		return rows, rollups
	}
	if rows, rollups := counts(brief); rows != 1 || rollups != 2 {
		t.Errorf("class short: %d readings, %d rollups; want 1 and 2", rows, rollups)
	}
	if rows, rollups := counts(lasting); rows != 2 || rollups != 1 {
		t.Errorf("no class: %d readings, %d rollups; want 2 and 1", rows, rollups)
	}
}
