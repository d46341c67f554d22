package telemetry

import "testing"

func TestGarbageFollowsItsCost(t *testing.T) {
	percent := float64(startGarbage)
	settle := func(cost float64) float64 { // cost: the share at 1 %; half as much garbage costs twice as much
		for range 100 {
			percent = nextGarbage(percent, cost/percent)
		}
		return percent
	}
	for _, c := range []struct {
		name        string
		cost        float64
		least, most float64
	}{
		{"idle", 0.01, leastGarbage, leastGarbage},
		{"flood", 0.9, 29, 31},
		{"worst", 100, mostGarbage, mostGarbage},
		{"idle again", 0.01, leastGarbage, leastGarbage},
	} {
		if got := settle(c.cost); got < c.least || got > c.most {
			t.Errorf("%s: %.1f %%, want %v to %v", c.name, got, c.least, c.most)
		}
	}
	if got := setGarbage(mostGarbage, 8<<30); got != 20 {
		t.Errorf("a flood of a large heap: %d %%, want 20", got)
	}
	for lives, want := range map[float64]int{0: 1000, 8 << 20: 400, 64 << 20: 50, 1 << 30: 10} {
		if got := setGarbage(mostGarbage, 1<<30); got != 25 {
			t.Errorf("a flood: %d %%, want 25, which is 256 MiB", got)
		}
		if got := setGarbage(leastGarbage, lives); got != want {
			t.Errorf("%v bytes live: %d %%, want %d", lives, got, want)
		}
	}
	if now := readCollector(); now.lives < 0 || now.total < 0 || now.collecting > now.total {
		t.Errorf("the runtime tells %+v", now)
	}
}
