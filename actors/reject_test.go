package actors

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
)

// spoken is a host that only hears events.
type spoken struct {
	effects
	events map[string]string // by subject
}

func (s *spoken) event(subject string, data []byte) { s.events[subject] += string(data) }

// TestRejectedEvents wants rejects of one second to be said as one event of each device, those without a
// device for their site, and never more than a bound.
func TestRejectedEvents(t *testing.T) {
	fx := &spoken{events: map[string]string{}}
	const begin = 1_000_000
	c := newCore(3, Config{}.WithDefaults(), Plan{}, fx, rand.New(rand.NewPCG(1, 1)), begin)
	reject := func(site, device, reason string, sequence uint64) {
		c.noteRejected(&messages.Reject{
			Shard: 3, Sequence: sequence, Index: -1, Device: messages.DeviceID{Site: site, Device: device},
			Arrival: 1_767_225_600_000, Kind: messages.RejectUndecodable, Reason: reason,
		})
	}
	say := func(after int64) {
		clear(fx.events)
		c.now += after
		c.sayRejected()
	}
	reject("oil", "a", "first", 7)
	reject("oil", "a", `the "last" – ✓`, 8)
	reject("oil", "b", strings.Repeat("x", 1<<20), 9)
	reject("oil", "", "no device", 10)
	reject("oil", "no name", "no device either", 11)
	reject("", "", "no site", 12)
	reject("gas.", "", "no site", 13)
	say(0)
	want := map[string]any{
		"site": "oil", "device": "a", "shard": 3., "epoch": 0., "count": 2., "kind": "undecodable", "reason": `the "last" – ✓`,
		"sequence": 8., "index": -1., "at": "2026-01-01T00:00:00.000Z",
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(fx.events["events.oil.a.rejected"]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if e := fx.events["events.oil.@site.rejected"]; !strings.Contains(e, `"count":2`) || strings.Contains(e, `"device"`) {
		t.Errorf("of the site: got %s", e)
	}
	if n := len(fx.events["events.oil.b.rejected"]); n == 0 || n > 2000 {
		t.Errorf("a long reason makes an event of %d bytes", n)
	}
	if len(fx.events) != 3 {
		t.Errorf("got %d events, want 3: %v", len(fx.events), fx.events)
	}

	reject("oil", "a", "soon after", 14)
	if say(500); len(fx.events) != 0 {
		t.Errorf("half a second later: got %v, want nothing yet", fx.events)
	}
	for i := range 10_000 {
		reject(fmt.Sprintf("site-%d", i%500), fmt.Sprintf("dev-%d", i), "many", 15)
	}
	if say(600); len(fx.events) != 2*mostRejected {
		t.Errorf("a flood: got %d events, want %d", len(fx.events), 2*mostRejected)
	}
	if say(2000); len(fx.events) != 0 {
		t.Errorf("after it: got %v, want nothing", fx.events)
	}
}
