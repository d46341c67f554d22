package actors_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// TestSiteSettings sends a site's settings to one shard only, as a change does that is not acknowledged
// by all streams, and then to all.
func TestSiteSettings(t *testing.T) {
	r := startRig(t, t.TempDir(), nil)
	want := func(own, merged int, everywhere bool) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			got, err := r.member.SiteSettings(t.Context(), "site")
			if err != nil {
				return err
			}
			// while the shards differ, either may be told
			if everywhere && (got.Own.WindowCount != own || got.Merged.WindowCount != merged) || got.Everywhere != everywhere {
				return fmt.Errorf("got %+v, want windows of %d and %d, everywhere %v", got, own, merged, everywhere)
			}
			return nil
		})
	}
	want(0, 60, true)
	change := messages.AppendControl(nil, messages.Control{By: "test", Settings: &messages.Settings{WindowCount: 5}})
	// the name that no device can have stands for the site
	if err := r.streams.Control(t.Context(), messages.DeviceID{Site: "site", Device: "@site"}, change); err != nil {
		t.Fatal(err)
	}
	want(0, 0, false)
	if err := r.streams.SiteControl(t.Context(), "site", change); err != nil {
		t.Fatal(err)
	}
	want(5, 5, true)
}
