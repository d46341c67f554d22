package actors

import (
	"testing"

	"github.com/wellhead/wellhead/persistence"
)

// A gather waits for company: no longer than FlushAge, not when none comes any more, and not without room.
func TestGatherIsDue(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *core, g *gather)
		want   bool
	}{
		"company keeps coming":       {func(*core, *gather) {}, false},
		"old enough":                 {func(_ *core, g *gather) { g.since = 5_000 }, true},
		"none has come for a while":  {func(_ *core, g *gather) { g.latest = 8_500 }, true},
		"what a flood has left":      {func(_ *core, g *gather) { g.bytes, g.latest = 32<<10, 9_813 }, true},
		"more of the flood may come": {func(_ *core, g *gather) { g.bytes, g.latest = 32<<10, 9_814 }, false},
		"less than a flood":          {func(_ *core, g *gather) { g.bytes, g.latest = 32<<10-1, 9_000 }, false},
		"almost":                     {func(_ *core, g *gather) { g.since, g.latest = 5_001, 8_501 }, false},
		"enough bytes":               {func(_ *core, g *gather) { g.bytes = 256 << 10 }, true},
		"credit is short":            {func(c *core, _ *gather) { c.creditShort = true }, true},
		"all flushes are under way":  {func(c *core, g *gather) { g.since, c.flushing = 0, 4 }, false},
		"nothing is there":           {func(_ *core, g *gather) { g.since, g.latest, g.batch.Devices = 0, 0, nil }, false},
		"the shard is being drained": {func(c *core, _ *gather) { c.draining = true }, true},
	} {
		c := &core{cfg: Config{FlushAge: 5_000}.WithDefaults(), now: 10_000}
		g := &gather{since: 9_000, latest: 9_900, batch: persistence.Batch{Devices: make([]persistence.DeviceRows, 1)}}
		if test.change(c, g); g.due(c) != test.want {
			t.Errorf("%s: due is %v, want %v", name, !test.want, test.want)
		}
	}
}

// A round of snapshots waits until it pays, and not for ever.
func TestRoundOfSnapshotsPays(t *testing.T) {
	for name, test := range map[string]struct {
		waited          int64
		readings, bytes int
		want            bool
	}{
		"many readings a device, too early":    {waited: 29_999, readings: 1000, bytes: 8 << 20},
		"many readings a device":               {waited: 30_000, readings: 80, want: true},
		"few readings a device":                {waited: 30_000, readings: 79, bytes: 1<<20 - 1},
		"a quarter of the stream waits for it": {waited: 30_000, bytes: 1 << 20, want: true},
		"few readings, not yet":                {waited: 179_999, readings: 1},
		"few readings for long":                {waited: 180_000, readings: 1, want: true},
	} {
		c := newCore(0, Config{}.WithDefaults(), Plan{StreamLimit: 4 << 20}, nil, nil, 0)
		c.entries = make([]*entry, 10)
		c.now, c.round.startedAt = 1_000_000, 1_000_000-test.waited
		c.round.readings, c.round.bytesIn = test.readings, test.bytes
		if got := c.roundPays(); got != test.want {
			t.Errorf("%s: it pays: %v, want %v", name, got, test.want)
		}
	}
}

// Pulling stops only for an archive that takes long for much.
func TestArchiveIsBehind(t *testing.T) {
	for name, test := range map[string]struct {
		open     []gather
		next     int // bytes of the gather at hand
		draining bool
		failing  bool
		age      int64 // of what was pulled last, ms
		want     bool
	}{
		"nothing is under way":                    {},
		"much, and not for long":                  {open: []gather{{bytes: 1 << 20, handed: 9_700}}},
		"little for long":                         {open: []gather{{bytes: 100 << 10, handed: 5_000}}},
		"much for long":                           {open: []gather{{bytes: 200 << 10, handed: 9_699}, {bytes: 56 << 10, handed: 9_990}}, want: true},
		"much for long in a shard that ends":      {open: []gather{{bytes: 1 << 20, handed: 5_000}}, draining: true},
		"all are under way, and the next is full": {open: make([]gather, 4), next: 256 << 10, want: true},
		"all are under way, and there is room":    {open: make([]gather, 4), next: 256<<10 - 1},
		"the next is full, and may go":            {open: make([]gather, 3), next: 256 << 10},
		"it fails, and what comes is new":         {open: []gather{{bytes: 1 << 20, handed: 5_000}}, failing: true, age: 9_999},
		"it fails, and what comes is old":         {failing: true, age: 10_001, want: true},
		"it fails in a shard that ends":           {failing: true, age: 10_001, draining: true},
	} {
		c := &core{arrival: 10_000 - test.age, retries: []retry{{store: test.failing}}, cfg: Config{}.WithDefaults(), now: 10_000, draining: test.draining, gather: &gather{bytes: test.next}, flushing: len(test.open)}
		for i := range test.open {
			if test.open[i].handed == 0 {
				test.open[i].handed = c.now
			}
			c.openGather = append(c.openGather, &test.open[i])
		}
		if got := c.behind(); got != test.want {
			t.Errorf("%s: behind is %v, want %v", name, got, test.want)
		}
	}
}
