package stream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestFlowCut has a site's plain client send more than may be unstored, without asking for acknowledgements: its
// connections are cut and it may not come back until half of that is stored; another site's stay.
func TestFlowCut(t *testing.T) {
	x := startSecured(t)
	const limit = 1 << 20
	stored := make(chan struct{})
	x.streams.WatchFlow(Flow{
		Limit: func(string) int64 { return limit },
		Oldest: func() time.Duration {
			select {
			case <-stored:
				return 0
			default:
				return time.Hour
			}
		},
	})
	busy, _ := x.connect(t, x.server.ClientURL(), "a")
	quiet, _ := x.connect(t, x.server.ClientURL(), "b")
	cut := make(chan struct{}, 100)
	busy.SetDisconnectErrHandler(func(*nats.Conn, error) { cut <- struct{}{} })
	payload := make([]byte, 64<<10)
	eventually(t, "the site is cut", func() bool {
		_ = busy.Publish("readings.a.dev", payload) // fails while it is cut
		select {
		case <-cut:
			return true
		default:
			return false
		}
	})
	barred := x.server.auth.barred.Load()
	if barred == nil || !(*barred)["a"] || (*barred)["b"] {
		t.Errorf("barred: %v, want a only", barred)
	}
	eventually(t, "the connection is counted", func() bool { return x.streams.Counters().FlowCut.Load() > 0 })
	if _, err := quiet.Request("readings.b.dev", []byte(`{"values":[1]}`), 5*time.Second); err != nil {
		t.Errorf("the other site: %v", err)
	}
	close(stored)
	eventually(t, "the site may come back", func() bool { return !(*x.server.auth.barred.Load())["a"] })
}
