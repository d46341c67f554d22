package actors_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// publish sends readings of one device in this order, and waits until they are stored.
func (r *rig) publish(t *testing.T, id messages.DeviceID, readings []messages.Reading) {
	t.Helper()
	publisher := publisherTo(t, r.streams)
	for _, reading := range readings {
		if err := publisher.PublishReading(t.Context(), id, messages.AppendReadingJSON(nil, reading)); err != nil {
			t.Fatal(err)
		}
	}
	if err := publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		for _, reading := range readings {
			found, err := r.member.Readings(t.Context(), id, reading.Time, reading.Time, 1)
			if err != nil || len(found) == 0 {
				return fmt.Errorf("reading of %d is not stored: %w", reading.Time, err)
			}
		}
		if n := r.member.Status(t.Context())[messages.ShardOf(id, 4)].Stats.InFlight; n > 0 {
			return fmt.Errorf("messages of %d bytes are not done", n)
		}
		return nil
	})
}

// TestLateReadingKeepsTheRollup sends a late reading for an hour whose readings have expired, all but the rollup:
// that stays, is counted, and the message is done.
func TestLateReadingKeepsTheRollup(t *testing.T) {
	r := startRig(t, t.TempDir(), nil, actors.Limits{Classes: persistence.Classes{"raw": {Readings: 1000 * time.Hour}}})
	id := messages.DeviceID{Site: "site", Device: "pump"}
	now := time.Now().UnixMilli()
	start := messages.Hour.Start(now) - 5*int64(messages.Hour)
	old := persistence.RollupRow{
		Rollup:   messages.Rollup{Start: start, Step: messages.Hour, Count: 10, Channels: []messages.ChannelRollup{{Count: 10, Max: 9, Sum: 45, Last: 9}}},
		Sequence: 1, WriteTime: start * 1000,
	}
	shard := messages.ShardOf(id, 4)
	if err := r.archive.Append(t.Context(), &persistence.Batch{Shard: shard, Devices: []persistence.DeviceRows{{Device: id, Rollups: []persistence.RollupRow{old}}}}); err != nil {
		t.Fatal(err)
	}
	r.publish(t, id, []messages.Reading{{Time: now, Values: []float64{1}}, {Time: start + 1000, Values: []float64{77}}})
	got, err := r.member.Rollups(t.Context(), id, messages.Hour, start, start, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]messages.Rollup{old.Rollup}, got); diff != "" {
		t.Errorf("rollup of the hour (-want +got):\n%s", diff)
	}
	// Its minute had no rollup.
	minute, err := r.member.Rollups(t.Context(), id, messages.Minute, start, start, 1)
	if err != nil || len(minute) != 1 || minute[0].Count != 1 {
		t.Errorf("rollup of the minute: %+v, %v; want one of 1 reading", minute, err)
	}
	if s := r.member.Status(t.Context())[shard].Stats; s.RollupsKept != 1 || s.Recomputed != 1 {
		t.Errorf("%d kept, %d recomputed; want 1 and 1", s.RollupsKept, s.Recomputed)
	}
}

// TestDays asks a member for days of readings that lie in five days of eleven, of which the last hour runs, in
// both directions and page by page, and wants what the readings come to.
func TestDays(t *testing.T) {
	r := startRig(t, t.TempDir(), nil)
	id := messages.DeviceID{Site: "site", Device: "pump"}
	base := messages.Day.Start(time.Now().UnixMilli()) - 20*int64(messages.Day)
	var readings []messages.Reading
	var want []messages.Rollup
	for _, day := range []int64{0, 1, 5, 6, 10} {
		start := base + day*int64(messages.Day)
		c := messages.ChannelRollup{Min: math.Inf(1), Max: math.Inf(-1)}
		for i := range int64(30) {
			v := float64((i*7+day*11)%13) - 4
			readings = append(readings, messages.Reading{Time: start + i*47*60_000, Values: []float64{v}})
			if c.Count++; i == 0 {
				c.First = v
			}
			c.Min, c.Max, c.Sum, c.Last = min(c.Min, v), max(c.Max, v), c.Sum+v, v
		}
		want = append(want, messages.Rollup{Start: start, Step: messages.Day, Count: 30, Channels: []messages.ChannelRollup{c}})
	}
	r.publish(t, id, readings)
	for _, limit := range []int{1, 2, 5, 0} {
		for _, backwards := range []bool{false, true} {
			from, to := base, base+10*int64(messages.Day)
			if backwards {
				from, to = to, from
			}
			var got []messages.Rollup
			for len(got) <= len(want) {
				page, err := r.member.Rollups(t.Context(), id, messages.Day, from, to, limit)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, page...)
				if len(page) < limit || limit == 0 || page[len(page)-1].Start == to {
					break
				}
				if from = page[len(page)-1].Start + 1; backwards {
					from -= 2
				}
			}
			if backwards {
				slices.Reverse(got)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d a page, backwards %v (-want +got):\n%s", limit, backwards, diff)
			}
		}
	}
	// A range that begins inside a day has it not; one that ends inside it has all of it.
	got, err := r.member.Rollups(t.Context(), id, messages.Day, base+1, base+int64(messages.Day), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:2], got); diff != "" {
		t.Errorf("a range that begins in the first day (-want +got):\n%s", diff)
	}
}
