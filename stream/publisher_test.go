package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// newPublisher makes a publisher on a connection of its own.
func newPublisher(t testing.TB, s *Streams, o PublisherOptions) *Publisher {
	t.Helper()
	c, err := s.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p, err := c.NewPublisher(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// someBlocks are n devices with one reading each.
func someBlocks(n int) []messages.Block {
	blocks := make([]messages.Block, n)
	for i := range blocks {
		blocks[i] = messages.Block{Device: fmt.Sprintf("d%d", i), Readings: []messages.Reading{{Time: int64(i), Values: []float64{1, 2, 3, 4}}}}
	}
	return blocks
}

func TestPublisherSequences(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	p := newPublisher(t, s, PublisherOptions{Producer: "test", MaxInFlight: 16})
	const n = 200
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range n / 2 {
				if err := p.Publish(t.Context(), "site", 4, someBlocks(3)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := p.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	seen := sequencesOf(t, s, 4, n)
	for i := uint64(1); i <= n; i++ {
		if seen[i] != 1 {
			t.Errorf("producer sequence %d: got %d times, want once", i, seen[i])
		}
	}
}

// sequencesOf reads n batches of a shard and counts their producer sequences.
func sequencesOf(t *testing.T, s *Streams, shard messages.Shard, n int) map[uint64]int {
	t.Helper()
	f, err := s.Log().Open(t.Context(), shard, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[uint64]int{}
	for got := 0; got < n; {
		list, err := f.Pull(shortly(t), MinPull)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			b, err := decodeBatch(m)
			if err != nil {
				t.Fatal(err)
			}
			seen[b.Sequence]++
			got++
		}
	}
	return seen
}

func TestFullStreamRefuses(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), func(o *ServerOptions) { o.Shards = 1 }), func(o *Options) { o.MaxBytes = 1 })
	state, err := s.Log().State(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if state.Limit != minStreamBytes {
		t.Fatalf("limit: got %d, want %d", state.Limit, minStreamBytes)
	}
	refusing := newPublisher(t, s, PublisherOptions{Producer: "refusing", OnFull: Refuse})
	big := []messages.Block{{Device: "d", Readings: make([]messages.Reading, 900)}}
	for i := range big[0].Readings {
		big[0].Readings[i] = messages.Reading{Time: int64(i), Values: make([]float64, 4), Note: strings.Repeat("x", 500)}
	}
	sent := 0
	for err == nil {
		if err = refusing.Publish(shortly(t), "site", 0, big); err == nil {
			sent++
		}
		if sent > 1000 {
			t.Fatal("1000 batches were taken")
		}
	}
	if !errors.Is(err, ErrOverloaded) {
		t.Fatalf("got %v, want overloaded", err)
	}
	// who waits gets in when there is room
	waiting := newPublisher(t, s, PublisherOptions{Producer: "waiting"})
	if err := waiting.Publish(shortly(t), "site", 0, big); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := waiting.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("flush into a full stream: got %v, want deadline exceeded", err)
	}
	if err := s.Log().Purge(t.Context(), 0, 5, state.Created); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	// the refused sequence is used again
	if err := refusing.Publish(shortly(t), "site", 0, big); err != nil {
		t.Fatal(err)
	}
	if got := refusing.counters[counterKey{"site", 0}].last; got != uint64(sent)+1 {
		t.Errorf("last producer sequence: got %d, want %d", got, sent+1)
	}
	after, err := s.Log().State(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(sent) + 2; after.Last != want {
		t.Errorf("last sequence: got %d, want %d", after.Last, want)
	}
}

func TestPublisherSurvivesCuts(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	p := newPublisher(t, s, PublisherOptions{Producer: "test", MaxInFlight: 64})
	const n, cuts = 3000, 5
	for i := range n {
		if err := p.Publish(shortly(t), "site", 1, someBlocks(1)); err != nil {
			t.Fatal(err)
		}
		if i%(n/cuts) == n/cuts/2 {
			if id, err := p.client.nc.GetClientID(); err == nil {
				server.nats.DisconnectClientByID(id)
			}
		}
	}
	if err := p.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	state, err := s.Log().State(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := sequencesOf(t, s, 1, int(state.Last))
	for i := uint64(1); i <= n; i++ {
		if seen[i] == 0 {
			t.Errorf("producer sequence %d is missing", i)
		}
	}
	t.Logf("%d batches arrived as %d messages", n, state.Last)
}

func TestWaitStored(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	p := newPublisher(t, s, PublisherOptions{Producer: "test"})
	for range 10 {
		if err := p.Publish(t.Context(), "site", 1, someBlocks(1)); err != nil {
			t.Fatal(err)
		}
	}
	stored := make(chan error, 1)
	ctx := shortly(t)
	go func() { stored <- p.WaitStored(ctx) }()
	outside := s.Outside(EventsNone)
	eventually(t, "the publisher listens", func() bool {
		outside.Stored("site", "test", Stored{Shard: 1, Run: p.Run() + 1, Through: 10, Highest: 10})
		outside.Stored("site", "test", Stored{Shard: 1, Run: p.Run(), Through: 8, Highest: 10, Gaps: [][2]uint64{{9, 9}}})
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.counters[counterKey{"site", 1}].stored.Through == 8
	})
	select {
	case err := <-stored:
		t.Fatalf("stored too early: %v", err)
	default:
	}
	outside.Stored("site", "test", Stored{Shard: 1, Run: p.Run(), Through: 10, Highest: 10})
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
}

func TestWaitStoredAsks(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	p := newPublisher(t, s, PublisherOptions{Producer: "test"})
	if err := p.Publish(t.Context(), "site", 2, someBlocks(1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- s.ServeQueries(ctx, "m1", handlerFunc(func(what string, id messages.DeviceID, _ []byte) ([]byte, error) {
			if what != QueryStored || id != (messages.DeviceID{Site: "site", Device: "test"}) {
				return nil, messages.ErrInvalid
			}
			return json.Marshal([]Stored{{Shard: 2, Run: p.Run(), Through: 1}})
		}))
	}()
	if err := p.WaitStored(shortly(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestIngestWaitsForItsSite wants the wait to end with what the site had at its beginning: not before,
// and whatever other sites and what is given back do.
func TestIngestWaitsForItsSite(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	p := newPublisher(t, s, PublisherOptions{Producer: "test"})
	i := NewIngest(p, 8)
	devices := []DeviceReadings{{Device: "d", Readings: []messages.Reading{{Time: 1, Values: []float64{1}}}}}
	for _, site := range []string{"site", "other", "site"} {
		if err := i.Publish(t.Context(), site, devices, How{}); err != nil {
			t.Fatal(err)
		}
	}
	shard := messages.ShardOf(messages.DeviceID{Site: "site", Device: "d"}, 8)
	key := counterKey{"site", shard}
	under := p.next(key) // a batch of somebody else's that no stream will take
	stored := make(chan error, 1)
	ctx := shortly(t)
	go func() { stored <- i.WaitStored(ctx, "site") }()
	outside := s.Outside(EventsNone)
	eventually(t, "the publisher listens", func() bool {
		outside.Stored("site", "test", Stored{Shard: shard, Run: p.Run(), Through: 1, Highest: 1})
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.counters[key].stored.Through == 1
	})
	select {
	case err := <-stored:
		t.Fatalf("stored too early: %v", err)
	default:
	}
	p.giveBack(key, under)
	outside.Stored("site", "test", Stored{Shard: shard, Run: p.Run(), Through: 2, Highest: 2})
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
}

type handlerFunc func(what string, id messages.DeviceID, request []byte) ([]byte, error)

func (f handlerFunc) Answer(_ context.Context, what string, id messages.DeviceID, request []byte) ([]byte, error) {
	return f(what, id, request)
}

func TestStoredForm(t *testing.T) {
	want := Stored{Shard: 3, Run: 0xfedcba9876543210, Through: 7, Highest: 13, Gaps: [][2]uint64{{8, 9}, {12, 12}}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if wire := `{"shard":3,"run":"fedcba9876543210","through":7,"highest":13,"gaps":[[8,9],[12,12]]}`; string(data) != wire {
		t.Errorf("got %s, want %s", data, wire)
	}
	var got Stored
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for sequence, stored := range []bool{true, true, true, true, true, true, true, true, false, false, true, true, false, true, false} {
		if got.Has(uint64(sequence)) != stored {
			t.Errorf("sequence %d: got %v, want %v", sequence, !stored, stored)
		}
	}

	// Of more gaps than a message tells, what is above those told counts as not known.
	many := Stored{Through: 1, Highest: 1000}
	for s := uint64(2); s < 1000; s += 2 {
		many.Gaps = append(many.Gaps, [2]uint64{s, s})
	}
	if data, err = json.Marshal(many); err == nil {
		err = json.Unmarshal(data, &got)
	}
	if err != nil || len(got.Gaps) != 64 || got.Highest != 129 || !got.Has(129) || got.Has(128) || got.Has(131) {
		t.Errorf("of 499 gaps: told %d up to %d, error %v; want 64 up to 129", len(got.Gaps), got.Highest, err)
	}
}

func TestStoredRequest(t *testing.T) {
	for request, want := range map[string]uint64{"": 0, "{}": 0, `{"run":"fedcba9876543210"}`: 0xfedcba9876543210} {
		if got, err := ParseStoredRequest([]byte(request)); err != nil || got != want {
			t.Errorf("%s: got %x, error %v; want %x", request, got, err, want)
		}
	}
	for _, request := range []string{"run", `{"run":"x"}`, `{"run":"0000000000000000"}`, `{"run":7}`} {
		if _, err := ParseStoredRequest([]byte(request)); !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("%s: got error %v, want one that it is invalid", request, err)
		}
	}
}

func TestIngestSplits(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	i := NewIngest(newPublisher(t, s, PublisherOptions{Producer: "http"}), 8)
	var devices []DeviceReadings
	total := 0
	for d := range 40 {
		readings := make([]messages.Reading, 10+d*100)
		for n := range readings {
			readings[n] = messages.Reading{Time: int64(n), Values: []float64{1}, Note: strings.Repeat("n", d*20)}
		}
		total += len(readings)
		devices = append(devices, DeviceReadings{Device: fmt.Sprintf("d%d", d), Readings: readings})
	}
	pieces, err := i.split("site", devices)
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int64{}
	for _, p := range pieces {
		n := 0
		for _, b := range p.blocks {
			if got := messages.ShardOf(messages.DeviceID{Site: "site", Device: b.Device}, 8); got != p.shard {
				t.Fatalf("device %s is in shard %d, want %d", b.Device, p.shard, got)
			}
			for _, r := range b.Readings {
				if r.Time != next[b.Device] {
					t.Fatalf("device %s: got reading %d, want %d", b.Device, r.Time, next[b.Device])
				}
				next[b.Device]++
			}
			n += len(b.Readings)
		}
		if n == 0 || n > messages.MaxReadings {
			t.Errorf("a batch of %d readings", n)
		}
		total -= n
	}
	if total != 0 {
		t.Errorf("%d readings are missing", total)
	}
	if err := i.Publish(shortly(t), "site", devices, How{}); err != nil {
		t.Fatal(err)
	}
	now := []DeviceReadings{{Device: "now", Readings: []messages.Reading{{Time: messages.NoTime, Values: []float64{7}}}}, devices[1]}
	if err := i.Publish(shortly(t), "site", now, How{}); err != nil {
		t.Error(err)
	}
	shard := messages.ShardOf(messages.DeviceID{Site: "site", Device: "now"}, 8)
	state, err := s.Log().State(shortly(t), shard)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for sequence := state.First; sequence <= state.Last; sequence++ {
		m, err := s.Log().Get(shortly(t), shard, sequence)
		if err != nil {
			t.Fatal(err)
		}
		found = found || m.Subject == messages.ShardReadingsSubject(shard, messages.DeviceID{Site: "site", Device: "now"}) && string(m.Data) == `{"values":[7]}`
	}
	if !found {
		t.Error("the reading without a time has not arrived")
	}
	if _, err := s.Log().Get(shortly(t), shard, state.Last+1); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get beyond the end: got %v, want not found", err)
	}
	if err := i.Publish(shortly(t), "site", now, How{Stored: true}); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("wait for a reading without a time: got %v, want invalid", err)
	}
	if err := i.Publish(shortly(t), "si.te", devices, How{}); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("bad site: got %v, want invalid", err)
	}
}

func TestRejects(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	o := s.Outside("")
	rejects := []messages.Reject{
		{Shard: 1, Sequence: 5, Index: -1, Subject: "shard.1.site.dev", Arrival: 1000, Reason: "no JSON:\r\nline 2", Data: []byte("\x00{"), Type: "application/json"},
		{Shard: 1, Sequence: 5, Index: 3, Subject: "shard.1.site", Device: messages.DeviceID{Site: "site", Device: "dev"}, Arrival: 1001, Reason: "too old", Data: []byte("x")},
	}
	for range 2 { // a repeat is kept once
		if err := o.Reject(shortly(t), rejects); err != nil {
			t.Fatal(err)
		}
	}
	// what no shard takes
	for _, subject := range []string{"batches.site.99", "readings.site", "readings.site.dev.more", "batches.site.x"} {
		answer, err := s.main.nc.Request(subject, []byte("stray"), time.Second)
		if err != nil {
			t.Logf("%s: %v", subject, err)
			continue
		}
		t.Logf("%s: %s", subject, answer.Data)
	}
	list, err := s.Rejects(shortly(t), RejectQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	got := list.Rejects
	if len(got) != 5 {
		t.Fatalf("got %d rejects, want 5", len(got))
	}
	for i, want := range rejects {
		if diff := cmp.Diff(want, got[i].Reject); diff != "" {
			t.Error(diff)
		}
	}
	list, err = s.Rejects(shortly(t), RejectQuery{Site: "site", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if got = list.Rejects; len(got) != 1 || got[0].Index != 3 {
		t.Errorf("rejects of the site: got %+v", got)
	}
	state, err := s.RejectsState(shortly(t))
	if err != nil {
		t.Fatal(err)
	}
	if state.Kept != 5 || state.Lost != 0 {
		t.Errorf("state of rejects: got %+v, want 5 kept", state)
	}
}

func TestAnnounceOnce(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	o := s.Outside("")
	online := messages.Announcement{Subject: "events.site.dev.online", ID: "3-17", Data: []byte("{}")}
	for range 3 {
		if err := errors.Join(o.Announce(shortly(t), []messages.Announcement{online, online})...); err != nil {
			t.Fatal(err)
		}
	}
	refused := online
	refused.Data = make([]byte, s.out.nc.MaxPayload()+1)
	ended, end := context.WithCancel(t.Context())
	if errs := o.Announce(shortly(t), []messages.Announcement{refused, online}); errs[0] == nil || errs[1] != nil {
		t.Errorf("one that is too large, and one that is not: %v", errs)
	}
	unanswered := messages.Announcement{Subject: "no.stream.has.this", ID: "3-18", Data: []byte("{}")}
	brief, endBrief := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer endBrief()
	if errs := o.Announce(brief, []messages.Announcement{unanswered}); !errors.Is(errs[0], context.DeadlineExceeded) {
		t.Errorf("no answer until the end: %v", errs)
	}
	end()
	if errs := o.Announce(ended, []messages.Announcement{online, online}); !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("after the end: %v", errs)
	}
	stream, err := s.js.Stream(t.Context(), eventsStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 1 {
		t.Errorf("got %d events, want 1", got)
	}
}

func TestListening(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	now := time.Now()
	listens := func(site string) bool {
		now = now.Add(2 * listeningFor)
		return s.listening.to(server, site, now)
	}
	if listens("a") {
		t.Error("nobody listens, but a is listened to")
	}
	nc, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, step := range []struct {
		subject string
		a, b    bool
	}{
		{"events.a.>", true, false},
		{"events.a.dev.reading", true, false},
		{"events.*.dev.*", true, true},
		{"events.*.*.online", false, false},
		{"events.b", false, false},
		{">", true, true},
	} {
		sub, err := nc.SubscribeSync(step.subject)
		if err != nil {
			t.Fatal(err)
		}
		nc.Flush()
		if a, b := listens("a"), listens("b"); a != step.a || b != step.b {
			t.Errorf("%s: a %v, b %v, want %v, %v", step.subject, a, b, step.a, step.b)
		}
		sub.Unsubscribe()
		nc.Flush()
	}
}

func TestLiveLosesOldest(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	c, err := s.Client("live")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = liveCount + 1000
	ctx, cancel := context.WithCancel(shortly(t))
	received, lost, last := 0, 0, 0
	block := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Events(ctx, "site", "", func(subject string, data []byte, gone int) {
			if received == 0 {
				<-block
			}
			received++
			lost += gone
			fmt.Sscan(string(data), &last)
			if last == n {
				cancel()
			}
		})
	}()
	o := s.Outside(EventsAll)
	eventually(t, "somebody listens", func() bool { return s.listening.to(s.options.Server, "site", time.Now().Add(time.Hour)) })
	for i := 1; i <= n; i++ {
		o.Event("events.site.dev.reading", fmt.Append(nil, i))
	}
	s.main.nc.Flush()
	c.nc.Flush()
	eventually(t, "all events came", func() bool {
		list := c.nc.NumSubscriptions()
		return list >= 1 && c.nc.Stats().InMsgs >= n
	})
	close(block)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if last != n || received+lost != n {
		t.Errorf("received %d, lost %d, last %d, want %d in all", received, lost, last, n)
	}
}

func TestQueries(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- s.ServeQueries(ctx, "m1", handlerFunc(func(what string, id messages.DeviceID, request []byte) ([]byte, error) {
			switch what {
			case QueryShards:
				return []byte(`{"shards":8,"http":"127.0.0.1:80"}`), nil
			case QueryWindow:
				return fmt.Appendf(nil, "%s %s %s", what, id, request), nil
			case QueryState:
				return nil, errNoSuch
			default:
				return nil, ErrOverloaded
			}
		}))
	}()
	c, err := Dial(shortly(t), DialOptions{URL: server.ClientURL(), Logger: quietLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "somebody answers", func() bool {
		l, err := c.Layout(shortly(t))
		return err == nil && l == Layout{Shards: 8, HTTP: "127.0.0.1:80"}
	})
	id := messages.DeviceID{Site: "site", Device: "dev"}
	got, err := c.Ask(shortly(t), QueryWindow, id, []byte("{}"))
	if err != nil || !bytes.Equal(got, []byte("window site/dev {}")) {
		t.Errorf("got %q, %v", got, err)
	}
	for range 1000 { // answers are not the business of the goroutine that brings the questions: the race detector looks
		if _, err := c.Ask(shortly(t), QueryState, id, nil); !errors.Is(err, messages.ErrInvalid) {
			t.Fatalf("got %v, want invalid", err)
		}
	}
	if _, err := c.Ask(shortly(t), QueryLatest, id, nil); !errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v, want overloaded", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := c.Ask(shortly(t), QueryShards, messages.DeviceID{}, nil); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v, want no answer", err)
	}
}

var errNoSuch = fmt.Errorf("channel 99: %w", messages.ErrInvalid)

// decodeBatch reads a batch.
func decodeBatch(m messages.Message) (messages.Batch, error) {
	var b messages.Batch
	var d messages.Decoder
	err := d.Batch(m.Data, &b)
	return b, err
}
