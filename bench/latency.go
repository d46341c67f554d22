package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/wellhead/wellhead/internal/verify"
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
	events := newQuantiles("latency", "publish → event at a subscriber, 1 000 readings/s", b.revision)
	for range b.runs {
		load := loadAverage()
		m, err := b.start(ctx)
		if err != nil {
			return nil, err
		}
		all, u, err := m.latencies(ctx)
		m.remove()
		if err != nil {
			return nil, err
		}
		events.add(all, u, load)
	}
	return events, nil
}

// half measures the same, and how long latest takes by HTTP, while another site sends as much as -background says.
func half(ctx context.Context, b *bench) ([]figure, error) {
	events := newQuantiles("half", fmt.Sprintf("publish → event at a subscriber, 1 000 readings/s beside %d", b.load), b.revision)
	latest := newQuantiles("half-latest", "latest by HTTP meanwhile, 50 a second", b.revision)
	for range b.runs {
		load := loadAverage()
		if err := b.halfOnce(ctx, load, events, latest); err != nil {
			return nil, err
		}
	}
	return append(events, latest...), nil
}

// Background devices, and how long they send before and after what is measured.
const (
	halfDevices = 10_000
	halfAround  = 5 * time.Second
)

func (b *bench) halfOnce(ctx context.Context, load string, events, latest quantiles) error {
	m, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer m.remove()
	each := int(float64(b.load)*(latencyFor+2*halfAround).Seconds()) / halfDevices
	type result struct {
		sent sent
		err  error
	}
	background := make(chan result, 1)
	go func() {
		s, err := m.simulate(ctx, "--site", "load", "--devices", strconv.Itoa(halfDevices), "--readings", strconv.Itoa(each),
			"--start", fleetStart.Format(time.RFC3339), "--rate", fmt.Sprintf("%d/s", b.load))
		background <- result{s, err}
	}()
	time.Sleep(halfAround)
	asking, stop := context.WithCancel(ctx)
	asked := make(chan []float64, 1)
	go func() { asked <- m.askLatest(asking) }()
	all, u, err := m.latencies(ctx)
	stop()
	answers := <-asked
	came := <-background
	if err := errors.Join(err, came.err); err != nil {
		return err
	}
	if kept := float64(came.sent.Sent) / came.sent.Seconds; kept < 0.8*float64(b.load) {
		return fmt.Errorf("%.0f readings/s came beside, and %d were to come: ask for less", kept, b.load)
	}
	if _, err := m.verify(ctx, came.sent); err != nil {
		return err
	}
	if len(answers) == 0 {
		return errors.New("latest was never answered")
	}
	events.add(all, u, load)
	latest.add(answers, u, load)
	return nil
}

// askLatest asks for the newest reading of one device after the other, 50 a second, until ctx ends, and returns how
// long each answer took, ms.
func (m *member) askLatest(ctx context.Context) (took []float64) {
	client, err := verify.NewClient(m.http)
	if err != nil {
		return nil
	}
	defer client.Close()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return took
		case <-ticker.C:
		}
		var answer struct{}
		begun := time.Now()
		if client.Get(ctx, fmt.Sprintf("/sites/load/devices/dev-%06d/latest", i%halfDevices+1), url.Values{}, &answer) == nil {
			took = append(took, float64(time.Since(begun))/1e6)
		}
	}
}

// quantiles are three figures of one thing: half of all, 99 of 100, and the most.
type quantiles []figure

func newQuantiles(name, what, revision string) quantiles {
	return quantiles{
		{Case: name + "-p50", What: what, Unit: "ms", Revision: revision},
		{Case: name + "-p99", What: "the same", Unit: "ms", Revision: revision},
		{Case: name + "-max", What: "the same", Unit: "ms", Revision: revision},
	}
}

// add takes the values of one run.
func (q quantiles) add(all []float64, u used, load string) {
	slices.Sort(all)
	for i, at := range []int{len(all) / 2, len(all) * 99 / 100, len(all) - 1} {
		f := &q[i]
		f.Runs = append(f.Runs, all[at])
		f.Value, f.Load, f.CPU, f.PeakMiB = median(f.Runs), load, u.cpu/latencyFor.Seconds(), u.peak
		f.Checked += int64(len(all))
	}
}

// latencies has readings published evenly and hears them.
func (m *member) latencies(ctx context.Context) ([]float64, used, error) {
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
