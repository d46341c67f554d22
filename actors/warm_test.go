package actors_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// TestStartWakesDevices: after a start the devices that are about to send become resident, more than are woken at
// once, and though nobody asks for any.
func TestStartWakesDevices(t *testing.T) {
	const devices = 1200
	dir := t.TempDir()
	id := func(i int) messages.DeviceID {
		return messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", i)}
	}
	resident := func(r *rig) (n int) {
		for _, s := range r.member.Status(t.Context()) {
			n += s.Stats.Active
		}
		return n
	}
	t.Run("first life", func(t *testing.T) {
		r := startRig(t, dir, nil)
		publisher := publisherTo(t, r.streams)
		now := time.Now().UnixMilli()
		for i := range devices {
			if err := publisher.PublishReading(t.Context(), id(i), messages.AppendReadingJSON(nil, messages.Reading{Time: now, Values: []float64{1}})); err != nil {
				t.Fatal(err)
			}
		}
		if err := publisher.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 20*time.Second, func() error {
			if n := resident(r); n != devices {
				return fmt.Errorf("%d devices are resident, want %d", n, devices)
			}
			return nil
		})
	})
	t.Run("second life", func(t *testing.T) {
		r := startRig(t, dir, nil)
		testenv.Eventually(t, 20*time.Second, func() error {
			if n := resident(r); n != devices {
				return fmt.Errorf("%d devices are resident, want %d", n, devices)
			}
			return nil
		})
	})
}
