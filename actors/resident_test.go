package actors_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// TestDueDevicesAreResident: after a start the devices that are about to send are resident though nobody has asked for
// any, and those that have been silent for too long are not. What was received before counts still.
func TestDueDevicesAreResident(t *testing.T) {
	const due, silent = 200, 50
	dir := t.TempDir()
	want := func(t *testing.T, r *rig, resident, online int) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			var active, up int
			var readings uint64
			for _, s := range r.member.Status(t.Context()) {
				active, up, readings = active+s.Stats.Active, up+s.Stats.Online, readings+s.Stats.Readings
			}
			if active != resident || up != online || readings != due+silent {
				return fmt.Errorf("%d devices are resident and %d online, after %d readings; want %d and %d, and %d", active, up, readings, resident, online, due+silent)
			}
			return nil
		})
	}
	t.Run("first life", func(t *testing.T) {
		r := startRig(t, dir, nil)
		hasty := messages.AppendControl(nil, messages.Control{By: "test", Settings: &messages.Settings{OfflineAfter: 200}})
		if err := r.streams.SiteControl(t.Context(), "silent", hasty); err != nil {
			t.Fatal(err)
		}
		publisher := publisherTo(t, r.streams)
		reading := messages.AppendReadingJSON(nil, messages.Reading{Time: time.Now().UnixMilli(), Values: []float64{1}})
		for i := range due + silent {
			id := messages.DeviceID{Site: "due", Device: fmt.Sprintf("dev-%d", i)}
			if i >= due {
				id.Site = "silent"
			}
			if err := publisher.PublishReading(t.Context(), id, reading); err != nil {
				t.Fatal(err)
			}
		}
		if err := publisher.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, r, due+silent, due)
	})
	t.Run("second life", func(t *testing.T) {
		want(t, startRig(t, dir, nil), due, due)
	})
}
