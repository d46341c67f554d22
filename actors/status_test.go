package actors_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// TestStatusOfBusyShard: a shard that is too busy to answer has the figures that it gave last, so that counters
// never go back; the others answer.
func TestStatusOfBusyShard(t *testing.T) {
	busy, goOn := make(chan struct{}), make(chan struct{})
	r := startRig(t, t.TempDir(), func(a *actors.Arrived) {
		if a.Reading.Note == "busy" {
			close(busy)
			<-goOn
		}
	})
	publisher := publisherTo(t, r.streams)
	id := messages.DeviceID{Site: "site", Device: "dev"}
	shard := messages.ShardOf(id, 4)
	publish := func(at int64, note string) {
		t.Helper()
		reading := messages.Reading{Time: at, Values: []float64{1}, Note: note}
		if err := publisher.PublishReading(t.Context(), id, messages.AppendReadingJSON(nil, reading)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UnixMilli()
	publish(now-1000, "")
	testenv.Eventually(t, 20*time.Second, func() error {
		status := r.member.Status(t.Context())
		for n, s := range status {
			if !s.Ready {
				return fmt.Errorf("shard %d has not started", n)
			}
		}
		if n := status[shard].Stats.Counts.InOrder; n != 1 {
			return fmt.Errorf("the shard has taken %d readings, want 1", n)
		}
		return nil
	})
	publish(now, "busy")
	<-busy
	defer close(goOn)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for n, s := range r.member.Status(ctx) {
		if late := messages.Shard(n) == shard; s.Ready == late || s.Late != late {
			t.Errorf("shard %d is ready: %t, late: %t", n, s.Ready, s.Late)
		}
		if messages.Shard(n) == shard && s.Stats.Counts.InOrder != 1 {
			t.Errorf("the busy shard has taken %d readings, want 1 as before", s.Stats.Counts.InOrder)
		}
	}
}
