package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
)

// sentReading is one reading with the place that the stream gave it.
type sentReading struct {
	device      string
	at          int64 // event time, ms
	value       float64
	sequence    uint64 // of its message
	index, from int    // in the message; which client
}

// twoStart is the first event time of TestTwoClients.
var twoStart = time.Date(2026, 3, 1, 10, 58, 0, 0, time.UTC)

// TestTwoClients has two clients publish the same devices at once, both correct what the other has sent,
// and the member is killed in the middle. What is stored is what came later in the order of the stream;
// windows and rollups are what a dumb computation makes of it.
func TestTwoClients(t *testing.T) {
	m := startMember(t, t.TempDir())
	devices := []string{"shared-1", "shared-2", "shared-3"}
	messages := outageSeconds(t, 1500)
	var mu sync.Mutex
	var sent []sentReading
	var clients sync.WaitGroup
	for client := range 2 {
		nc := m.mayReconnect()
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(client), 4))
			for n := range messages {
				batch := someReadings(rnd, client, n, messages, devices[rnd.IntN(len(devices))])
				sequence, err := publishUntilAcknowledged(t, nc, batch)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for i := range batch {
					batch[i].sequence = sequence
				}
				sent = append(sent, batch...)
				mu.Unlock()
			}
		})
	}
	testenv.Eventually(t, 60*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(sent) < messages/2 {
			return fmt.Errorf("only %d readings are sent", len(sent))
		}
		return nil
	})
	m.kill()
	m.start()
	clients.Wait()
	for _, device := range devices {
		t.Run(device, func(t *testing.T) { m.wantLatest(t, device, sent) })
	}
}

// mayReconnect connects a client that outlives a member's restart.
func (m *member) mayReconnect() *nats.Conn {
	m.t.Helper()
	nc, err := nats.Connect(m.nats, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(nc.Close)
	return nc
}

// someReadings makes the n-th message of a client: one to three readings, some of them again and again,
// over three minutes and two hours.
func someReadings(rnd *rand.Rand, client, n, messages int, device string) []sentReading {
	const steps = 360
	out := make([]sentReading, 1+rnd.IntN(3))
	for i := range out {
		step := min(max(n*steps/messages+rnd.IntN(81)-60, 0), steps-1)
		out[i] = sentReading{
			device: device, at: twoStart.Add(time.Duration(step) * 500 * time.Millisecond).UnixMilli(),
			value: float64(client*1_000_000 + n*10 + i), index: i, from: client,
		}
	}
	return out
}

// publishUntilAcknowledged sends readings of one device as a request, until it is acknowledged, and
// returns the message's sequence. A try without an answer may be in the stream too: it says the same and
// comes earlier.
func publishUntilAcknowledged(t *testing.T, nc *nats.Conn, batch []sentReading) (uint64, error) {
	var rows []string
	for _, r := range batch {
		rows = append(rows, fmt.Sprintf(`{"time":%d,"values":[%v,%v]}`, r.at, r.value, -r.value))
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		msg, err := nc.Request("readings.two."+batch[0].device, []byte("["+strings.Join(rows, ",")+"]"), time.Second)
		var ack struct {
			Seq   uint64
			Error *struct{ Description string }
		}
		if err == nil {
			if err = json.Unmarshal(msg.Data, &ack); err == nil && ack.Error == nil {
				return ack.Seq, nil
			}
		}
		if t.Context().Err() != nil || time.Now().After(deadline) {
			return 0, fmt.Errorf("not acknowledged: %v %+v", err, ack)
		}
	}
}

type gotReading struct {
	Time     time.Time
	Values   []float64
	Sequence uint64
}

type gotRollup struct {
	Start    time.Time
	Count    int
	Channels []struct{ Count, Min, Max, Sum, First, Last float64 }
}

// wantLatest wants one device to be as the later of each reading makes it.
func (m *member) wantLatest(t *testing.T, device string, sent []sentReading) {
	latest := map[int64]sentReading{}
	corrected := 0
	for _, r := range sent {
		if r.device != device {
			continue
		}
		old, ok := latest[r.at]
		if ok && old.from != r.from {
			corrected++
		}
		if !ok || r.sequence > old.sequence || r.sequence == old.sequence && r.index > old.index {
			latest[r.at] = r
		}
	}
	if corrected < 100 {
		t.Errorf("only %d readings of one client met one of the other", corrected)
	}
	var want []gotReading
	for _, r := range latest {
		want = append(want, gotReading{time.UnixMilli(r.at).UTC(), []float64{r.value, -r.value}, r.sequence})
	}
	slices.SortFunc(want, func(a, b gotReading) int { return a.Time.Compare(b.Time) })

	path := "/api/v1/sites/two/devices/" + device
	testenv.Eventually(t, 30*time.Second, func() error {
		var got struct{ Readings []gotReading }
		if err := m.get(path+"/readings?from=0&to=2026-03-02T00:00:00Z&limit=1000", &got); err != nil {
			return err
		}
		if diff := cmp.Diff(want, got.Readings); diff != "" {
			return fmt.Errorf("readings (-want +got):\n%s", tail(diff, 2000))
		}
		return nil
	})
	var window struct{ Readings []gotReading }
	if err := m.get(path+"/window?limit=1000", &window); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(window.Readings, func(a, b gotReading) int { return a.Time.Compare(b.Time) })
	if diff := cmp.Diff(want[max(0, len(want)-60):], window.Readings); diff != "" {
		t.Errorf("window (-want +got):\n%s", tail(diff, 2000))
	}
	for step, length := range map[string]time.Duration{"1m": time.Minute, "1h": time.Hour} {
		wantRollups := rollupsOf(want, length)
		testenv.Eventually(t, 30*time.Second, func() error {
			var got struct{ Rollups []gotRollup }
			if err := m.get(path+"/rollups?from=0&to=2026-03-02T00:00:00Z&step="+step, &got); err != nil {
				return err
			}
			if diff := cmp.Diff(wantRollups, got.Rollups); diff != "" {
				return fmt.Errorf("rollups of %s (-want +got):\n%s", step, tail(diff, 2000))
			}
			return nil
		})
	}
}

// rollupsOf computes rollups of readings that are in order of time.
func rollupsOf(readings []gotReading, length time.Duration) []gotRollup {
	var out []gotRollup
	for _, r := range readings {
		start := r.Time.Truncate(length)
		if len(out) == 0 || !out[len(out)-1].Start.Equal(start) {
			out = append(out, gotRollup{Start: start, Channels: make([]struct{ Count, Min, Max, Sum, First, Last float64 }, len(r.Values))})
		}
		roll := &out[len(out)-1]
		roll.Count++
		for i, v := range r.Values {
			c := &roll.Channels[i]
			if c.Count == 0 {
				c.First, c.Min, c.Max = v, v, v
			}
			c.Count++
			c.Sum += v
			c.Min, c.Max, c.Last = min(c.Min, v), max(c.Max, v), v
		}
	}
	return out
}
