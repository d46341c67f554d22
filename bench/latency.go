package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// The load of the latency case: one reading a message, published evenly.
const (
	latencyRate    = 1000 // readings a second
	latencyDevices = 1000
	latencyFor     = 20 * time.Second
)

// latencies are times from the publish to the event, in ms; publisher and subscriber share this
// process and its clock, and the member is another process.
type latencies struct {
	mu  sync.Mutex
	all []float64
}

// hear notes how old the readings in an event are. Their note is the time of their publish, Unix ns.
func (l *latencies) hear(data []byte) {
	var event struct {
		Readings []struct {
			Note string `json:"note"`
		} `json:"readings"`
	}
	now := time.Now().UnixNano()
	if json.Unmarshal(data, &event) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range event.Readings {
		if sent, err := strconv.ParseInt(r.Note, 10, 64); err == nil {
			l.all = append(l.all, float64(now-sent)/1e6)
		}
	}
}

// latency measures publish → event at a subscriber.
func latency(ctx context.Context, b *bench) ([]figure, error) {
	figures := []figure{
		{Case: "latency-p50", What: "publish → event at a subscriber, 1 000 readings/s", Unit: "ms", Revision: b.revision},
		{Case: "latency-p99", What: "the same", Unit: "ms", Revision: b.revision},
		{Case: "latency-max", What: "the same", Unit: "ms", Revision: b.revision},
	}
	for range b.runs {
		load := loadAverage()
		all, u, err := b.latencyOnce(ctx)
		if err != nil {
			return nil, err
		}
		slices.Sort(all)
		for i, at := range []int{len(all) / 2, len(all) * 99 / 100, len(all) - 1} {
			f := &figures[i]
			f.Runs = append(f.Runs, all[at])
			f.Value, f.Load, f.CPU, f.PeakMiB = median(f.Runs), load, u.cpu/latencyFor.Seconds(), u.peak
			f.Checked += int64(len(all))
		}
	}
	return figures, nil
}

func (b *bench) latencyOnce(ctx context.Context) ([]float64, used, error) {
	m, err := b.start(ctx)
	if err != nil {
		return nil, used{}, err
	}
	defer m.remove()
	client, err := stream.Dial(ctx, stream.DialOptions{URL: m.nats, Name: "bench subscriber"})
	if err != nil {
		return nil, used{}, err
	}
	defer client.Close()
	var l latencies
	listening, stop := context.WithCancel(ctx)
	var listener sync.WaitGroup
	listener.Go(func() {
		_ = client.Events(listening, "demo", "", func(_ string, data []byte, _ int) { l.hear(data) }) // ends with listening
	})
	defer listener.Wait()
	defer stop()
	sent, err := m.publishEvenly(ctx)
	if err != nil {
		return nil, used{}, err
	}
	heard := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.all)
	}
	for until := time.Now().Add(10 * time.Second); heard() < sent && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	u, err := m.usage()
	if err != nil {
		return nil, used{}, err
	}
	stop()
	listener.Wait()
	if n := len(l.all); n < sent {
		return nil, used{}, fmt.Errorf("%d readings were published and %d heard", sent, n)
	}
	return l.all, u, nil
}

// publishEvenly publishes the load and returns how many readings that was. The first second is not
// marked, so that it is not counted: the devices' actors are made in it.
func (m *member) publishEvenly(ctx context.Context) (int, error) {
	client, err := stream.Dial(ctx, stream.DialOptions{URL: m.nats, Name: "bench publisher"})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	publisher, err := client.NewPublisher(stream.PublisherOptions{})
	if err != nil {
		return 0, err
	}
	defer publisher.Close()
	ticker := time.NewTicker(time.Second / latencyRate)
	defer ticker.Stop()
	marked := 0
	for i, begun := 0, time.Now(); time.Since(begun) < latencyFor; i++ {
		<-ticker.C
		now := time.Now()
		r := messages.Reading{Time: now.UnixMilli(), Values: []float64{float64(i), 1, 2, 3}}
		if i >= latencyDevices {
			r.Note = strconv.FormatInt(now.UnixNano(), 10)
			marked++
		}
		id := messages.DeviceID{Site: "demo", Device: fmt.Sprintf("dev-%06d", i%latencyDevices)}
		if err := publisher.PublishReading(ctx, id, messages.AppendReadingJSON(nil, r)); err != nil {
			return 0, err
		}
	}
	return marked, publisher.Flush(ctx)
}
