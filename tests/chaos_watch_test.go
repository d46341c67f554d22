package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/internal/testenv"
)

// markersEvery is how often the markers in Redis are looked at.
const markersEvery = 250 * time.Millisecond

// fenceWatch looks from outside whether an owner of before got through: a checkpoint or a snapshot that is older than
// one that was there already.
type fenceWatch struct {
	nc    *nats.Conn
	redis *testenv.RedisServer
	work  sync.WaitGroup
	end   context.CancelFunc

	mu          sync.Mutex
	checkpoints map[string]seenCheckpoint
	fences      map[string]string // by key
	markers     map[string]string
	wipes       int // how often Redis lost its data or went back, as we did to it
	seen        int // checkpoints
	looked      int // fences and markers
	wrong       []string
}

// seenCheckpoint is what must not go back.
type seenCheckpoint struct{ Epoch, Stored, Generation uint64 }

// watchFences begins to watch.
func watchFences(t *testing.T, p *chaosParts) *fenceWatch {
	t.Helper()
	nc, err := nats.Connect(p.url, nats.UserInfo("member", "secret"), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.PingInterval(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	w := &fenceWatch{
		nc: nc, end: end, redis: p.redis,
		checkpoints: map[string]seenCheckpoint{}, fences: map[string]string{}, markers: map[string]string{},
	}
	t.Cleanup(func() { w.stop() })
	w.work.Go(func() { w.watchCheckpoints(ctx) })
	w.work.Go(func() { w.watchMarkers(ctx, p.prefix) })
	return w
}

// stop ends the watch and returns what was wrong.
func (w *fenceWatch) stop() []string {
	w.end()
	w.work.Wait()
	w.nc.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == 0 || w.looked == 0 {
		return append(w.wrong, fmt.Sprintf("%d checkpoints and %d fences and markers were seen: nothing was watched", w.seen, w.looked))
	}
	return w.wrong
}

// accepted is what was accepted of an owner of before, until now.
func (w *fenceWatch) accepted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.wrong...)
}

func (w *fenceWatch) watchCheckpoints(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.follow(ctx); err != nil && ctx.Err() == nil {
			select { // the servers are away; from then on it begins with what is there
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// follow reads every checkpoint, in order, from those that are there on.
func (w *fenceWatch) follow(ctx context.Context) error {
	js, err := jetstream.New(w.nc)
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kv, err := js.KeyValue(opening, "wellhead-checkpoints")
	if err != nil {
		return err
	}
	watcher, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case update, ok := <-watcher.Updates():
			if !ok {
				return errors.New("the watch ended")
			}
			if update != nil && update.Operation() == jetstream.KeyValuePut {
				w.checkpoint(update.Key(), update.Value())
			}
		}
	}
}

// checkpoint compares a checkpoint with the one before.
func (w *fenceWatch) checkpoint(key string, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var c seenCheckpoint
	if err := json.Unmarshal(value, &c); err != nil {
		w.wrong = append(w.wrong, fmt.Sprintf("checkpoint %s: %v", key, err))
		return
	}
	w.seen++
	before := w.checkpoints[key]
	if c.Epoch < before.Epoch || c.Stored < before.Stored || c.Generation < before.Generation {
		w.wrong = append(w.wrong, fmt.Sprintf("a checkpoint of an owner of before was accepted: %s was %+v, and became %+v", key, before, c))
	}
	w.checkpoints[key] = c
}

// wiped says that Redis loses its data, or goes back, by our doing: until the answer is called nothing is compared.
func (w *fenceWatch) wiped() (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wipes++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wipes++
		clear(w.fences)
		clear(w.markers)
	}
}

// watchMarkers reads the fences and markers of all shards again and again.
func (w *fenceWatch) watchMarkers(ctx context.Context, prefix string) {
	var fences, markers []string
	for shard := range clusterShards {
		fences = append(fences, fmt.Sprintf("%s:{s%d}:fence", prefix, shard))
		markers = append(markers, fmt.Sprintf("%s:{s%d}:marker", prefix, shard))
	}
	tick := time.NewTicker(markersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		began := w.wipes
		w.mu.Unlock()
		values, err := w.redis.Values(ctx, append(fences[:clusterShards:clusterShards], markers...)...)
		if err != nil {
			continue
		}
		w.mu.Lock()
		if began == w.wipes && began%2 == 0 {
			for i := range clusterShards {
				w.compare(w.fences, fences[i], values[i])
				w.compare(w.markers, markers[i], putsOf(values[clusterShards+i]))
			}
		}
		w.mu.Unlock()
	}
}

// putsOf is what of a marker only grows: its generation and the number of its put. How far its snapshots reach may
// become less with a new owner, whose checkpoint may be older than the last marker.
func putsOf(marker string) string {
	generation, rest, _ := strings.Cut(marker, ":")
	_, puts, _ := strings.Cut(rest, ":")
	return generation + puts
}

// compare compares a text of digits that must not become less; w.mu is held. A generation that begins takes the
// marker away.
func (w *fenceWatch) compare(before map[string]string, key, text string) {
	if text == "" {
		return
	}
	w.looked++
	if strings.Compare(text, before[key]) < 0 {
		w.wrong = append(w.wrong, fmt.Sprintf("a snapshot of an owner of before was accepted: %s was %s, and became %s", key, before[key], text))
	}
	before[key] = text
}

// TestFenceWatch: what goes back is seen, and what we took away ourselves is not.
func TestFenceWatch(t *testing.T) {
	w := &fenceWatch{checkpoints: map[string]seenCheckpoint{}, fences: map[string]string{}, markers: map[string]string{}}
	for _, text := range []string{`{"epoch":5,"stored":10}`, `{"epoch":5,"stored":12}`, `{"epoch":7,"stored":12}`} {
		w.checkpoint("shard.0", []byte(text))
	}
	w.compare(w.fences, "f", "00000000000000000007")
	w.compare(w.fences, "f", "")
	w.compare(w.markers, "m", putsOf("00000000000000000001:00000000000000000009:00000000000000000002"))
	w.compare(w.markers, "m", putsOf("00000000000000000001:00000000000000000007:00000000000000000003"))
	w.wiped()()
	w.compare(w.fences, "f", "00000000000000000001")
	if len(w.wrong) != 0 {
		t.Fatalf("nothing went back, and %q is seen", w.wrong)
	}
	for i, back := range []func(){
		func() { w.checkpoint("shard.0", []byte(`{"epoch":6,"stored":20}`)) },
		func() { w.checkpoint("shard.0", []byte(`{"epoch":6,"stored":19}`)) },
		func() { w.compare(w.fences, "f", "00000000000000000000") },
		func() {
			w.compare(w.markers, "m", putsOf("00000000000000000001:00000000000000000007:00000000000000000003"))
			w.compare(w.markers, "m", putsOf("00000000000000000001:00000000000000000009:00000000000000000002"))
		},
	} {
		if back(); len(w.wrong) != i+1 {
			t.Errorf("number %d went back, and was not seen: %q", i, w.wrong)
		}
	}
}
