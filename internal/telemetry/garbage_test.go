package telemetry

import "testing"

func TestGarbageFollowsItsCost(t *testing.T) {
	percent := float64(startGarbage)
	settle := func(cost, busy float64) float64 { // cost: the share at 1 %; half as much garbage costs twice as much
		for range 100 {
			percent = nextGarbage(percent, usage{collecting: cost / percent, busy: busy})
		}
		return percent
	}
	for _, c := range []struct {
		name        string
		cost, busy  float64
		least, most float64
	}{
		{"idle", 0.01, 0.1, leastGarbage, leastGarbage},
		{"much to do", 0.9, 0.4, 29, 31},
		{"busy", 0.3, 0.7, 58, 62},
		{"worst", 100, 1, mostGarbage, mostGarbage},
		{"idle again", 0.01, 0.1, leastGarbage, leastGarbage},
	} {
		if got := settle(c.cost, c.busy); got < c.least || got > c.most {
			t.Errorf("%s: %.1f %%, want %v to %v", c.name, got, c.least, c.most)
		}
	}
	for _, c := range []struct {
		name           string
		lives, machine float64
		want           int
	}{
		{"a large heap on an unknown machine", 8 << 30, 0, 20},
		{"256 MiB on a small machine", 1 << 30, 4 << 30, 25},
		{"a quarter of the machine", 5 << 30, 26 << 30, 30},
		{"more than a quarter of the machine", 8 << 30, 24 << 30, 20},
		{"a small heap on a large machine", 1 << 30, 24 << 30, 100},
	} {
		if got := setGarbage(mostGarbage, c.lives, c.machine); got != c.want {
			t.Errorf("a flood, %s: %d %%, want %d", c.name, got, c.want)
		}
	}
	for lives, want := range map[float64]int{0: 1000, 8 << 20: 900, 32 << 20: 150, 64 << 20: 50, 1 << 30: 10} {
		if got := setGarbage(leastGarbage, lives, 24<<30); got != want {
			t.Errorf("%v bytes live: %d %%, want %d", lives, got, want)
		}
	}
	if now := readCollector(); now.lives < 0 || now.heap <= 0 || now.total < 0 || now.collecting+now.idle > now.total {
		t.Errorf("the runtime tells %+v", now)
	}
}
