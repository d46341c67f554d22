package actors

import (
	"testing"
	"time"
)

// TestComplaintsAreNoFlood says one of each kind in ten seconds, and how many were left unsaid.
func TestComplaintsAreNoFlood(t *testing.T) {
	var c complaints
	at := time.Unix(1_000_000, 0)
	for _, step := range []struct {
		after  time.Duration
		text   string
		unsaid int
		say    bool
	}{
		{0, "put snapshots: of shard 1", 0, true},
		{0, "put snapshots: of shard 2", 0, false},
		{time.Second, "append: to shard 2", 0, true},
		{8 * time.Second, "put snapshots: of shard 3", 0, false},
		{time.Second, "put snapshots: of shard 4", 2, true},
		{9 * time.Second, "put snapshots: of shard 5", 0, false},
		{time.Second, "put snapshots: of shard 6", 1, true},
	} {
		at = at.Add(step.after)
		if unsaid, say := c.due(step.text, at); unsaid != step.unsaid || say != step.say {
			t.Errorf("%q: got %d, %v, want %d, %v", step.text, unsaid, say, step.unsaid, step.say)
		}
	}
}
