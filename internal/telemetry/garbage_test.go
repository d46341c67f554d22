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
	if now := readCollector(); now.total < 0 || now.collecting > now.total {
		t.Errorf("the runtime tells %+v", now)
	}
}
