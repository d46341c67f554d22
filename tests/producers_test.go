package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// TestManyProducers has more producers than the 1 400 that a checkpoint holds: 2 000, or WELLHEAD_PRODUCERS,
// that send to each of 64 shards, and 2 000 that send to one. The account of each is whole, before a kill and after it.
func TestManyProducers(t *testing.T) {
	everywhere := numberFrom(t, "WELLHEAD_PRODUCERS", 2000)
	const inOne = 2000
	m := startMember(t, t.TempDir())
	devices := oneOfEachShard()
	begun := time.Now()
	m.produce("everywhere", everywhere, devices)
	m.produce("one", inOne, devices[7:8])
	t.Logf("%d batches acknowledged in %.1f s", everywhere*len(devices)+inOne, time.Since(begun).Seconds())
	for _, when := range []string{"before a kill", "after a kill"} {
		m.wantProducers(when, "everywhere", everywhere, len(devices))
		m.wantProducers(when, "one", inOne, 1)
		t.Logf("%s: all accounts were right after %.1f s", when, time.Since(begun).Seconds())
		m.kill()
		m.start()
	}
}

// oneOfEachShard names a device in each of 64 shards, in their order.
func oneOfEachShard() []string {
	devices, found := make([]string, 64), 0
	for i := 0; found < len(devices); i++ {
		id := messages.DeviceID{Site: "everywhere", Device: fmt.Sprint("d", i)}
		if shard := messages.ShardOf(id, 64); devices[shard] == "" {
			devices[shard] = id.Device
			found++
		}
	}
	return devices
}

// produce has n producers, of one run each, send a batch of one reading of each device, until it is acknowledged.
func (m *member) produce(site string, n int, devices []string) {
	m.t.Helper()
	nc, err := nats.Connect(m.nats)
	if err != nil {
		m.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096), jetstream.WithPublishAsyncErrHandler(
		func(_ jetstream.JetStream, lost *nats.Msg, err error) { m.t.Errorf("%s: %v", lost.Subject, err) }))
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range n {
		for _, device := range devices {
			id := messages.DeviceID{Site: site, Device: device}
			batch := messages.Batch{Producer: fmt.Sprintf("p%04d", i), Run: uint64(i + 1), Sequence: 1, Blocks: []messages.Block{
				{Device: device, Readings: []messages.Reading{{Time: auditStart + int64(i)*1000, Values: []float64{float64(i)}}}},
			}}
			if _, err := js.PublishAsync(messages.BatchSubject(site, messages.ShardOf(id, 64)), messages.AppendBatch(nil, &batch), jetstream.WithStallWait(time.Minute)); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		m.t.Fatalf("%d batches are not acknowledged", js.PublishAsyncPending())
	}
}

// wantProducers wants n producers of the site, each with a whole account of so many batches in as many shards.
func (m *member) wantProducers(when, site string, n, batches int) {
	m.t.Helper()
	testenv.Eventually(m.t, 90*time.Second, func() error { // not all may be stored yet
		return m.lacksProducers(when, site, n, batches)
	})
}

func (m *member) lacksProducers(when, site string, n, batches int) error {
	found, wrong, example := 0, 0, account{}
	for cursor := ""; ; {
		var page struct {
			Producers []account
			Cursor    string
		}
		if err := m.get("/api/v1/audit/producers?limit=200&site="+site+"&cursor="+cursor, &page); err != nil {
			return err
		}
		for _, p := range page.Producers {
			found++
			b := uint64(batches)
			if p.Received != b || p.Stored != b || p.Readings != b || p.Missing+p.Duplicates != 0 || p.OpenGaps != 0 || len(p.Shards) != batches {
				wrong, example = wrong+1, p
			}
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if found != n || wrong > 0 {
		return fmt.Errorf("%s: %d producers of %s, want %d; %d have not %d batches, such as %+v", when, found, site, n, wrong, batches, example)
	}
	return nil
}
