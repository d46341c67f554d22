package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/wellhead/wellhead/internal/chaos"
	"github.com/wellhead/wellhead/messages"
)

const (
	askEvery    = 200 * time.Millisecond
	storeEvery  = time.Second
	askWithin   = 5 * time.Second
	storeWithin = 30 * time.Second
	mostAsked   = 64 // questions of a shard under way at once
	probeSite   = "probe"
)

// probes ask and feed a device of each shard all the time, at all members that can be reached in turn, and note when
// it went well.
type probes struct {
	parts *chaosParts
	shard []*shardProbe
	work  sync.WaitGroup
	end   context.CancelFunc
}

// shardProbe is a device of one shard.
type shardProbe struct {
	device string
	asking chan struct{} // a place for each question under way

	mu        sync.Mutex
	answered  []time.Time // when the device's actor has answered
	stored    []time.Time // when a reading that was sent after all before it was stored
	newest    int64       // event time of the newest of them
	tried     map[int64]float64
	confirmed map[int64]bool // surely stored
	last      string         // what went wrong last
}

// startProbes begins to probe.
func startProbes(ctx context.Context, p *chaosParts) *probes {
	ctx, end := context.WithCancel(ctx)
	all := &probes{parts: p, end: end, shard: make([]*shardProbe, clusterShards)}
	for found, n := 0, 0; found < clusterShards; n++ {
		device := fmt.Sprintf("p%d", n)
		shard := messages.ShardOf(messages.DeviceID{Site: probeSite, Device: device}, clusterShards)
		if all.shard[shard] == nil {
			all.shard[shard] = &shardProbe{device: device, asking: make(chan struct{}, mostAsked), tried: map[int64]float64{}, confirmed: map[int64]bool{}}
			found++
		}
	}
	for i, s := range all.shard {
		all.work.Go(func() { all.every(ctx, askEvery, i, s.ask) })
		all.work.Go(func() { all.every(ctx, storeEvery, i, s.store) })
	}
	return all
}

// stop ends the probes and waits for what is under way.
func (p *probes) stop() {
	p.end()
	p.work.Wait()
}

// every calls do beside, at the next member each time.
func (p *probes) every(ctx context.Context, interval time.Duration, turn int, do func(context.Context, *keptMember)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		members := p.parts.reachable()
		if len(members) == 0 {
			continue
		}
		turn++
		p.work.Go(func() { do(ctx, members[turn%len(members)]) })
	}
}

// ask asks the device for its state.
func (s *shardProbe) ask(ctx context.Context, m *keptMember) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	default:
		return
	}
	var state struct{ Partial bool }
	err := m.get(ctx, askWithin, "/api/v1/sites/"+probeSite+"/devices/"+s.device, &state)
	if err == nil && state.Partial {
		err = fmt.Errorf("%s answered from the archive only", m.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.last = err.Error()
		return
	}
	s.answered = append(s.answered, time.Now())
}

// store sends a reading and waits until it is stored.
func (s *shardProbe) store(ctx context.Context, m *keptMember) {
	now := time.Now()
	at := now.UnixMilli()
	value := float64(at%1_000_000) / 100
	s.mu.Lock()
	if _, twice := s.tried[at]; twice {
		s.mu.Unlock()
		return
	}
	s.tried[at] = value
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWithin)
	defer cancel()
	text, _ := json.Marshal([]any{map[string]any{"device": s.device, "time": at, "values": []float64{value}}})
	var answer struct {
		Accepted int
		Stored   bool
	}
	err := m.ask(ctx, http.MethodPost, "/api/v1/sites/"+probeSite+"/readings?wait=stored", string(text), &answer)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.last = err.Error()
	case answer.Accepted != 1 || !answer.Stored:
		s.last = fmt.Sprintf("the answer to a reading is %+v", answer)
	default:
		s.confirmed[at] = true
		if at > s.newest {
			s.newest = at
			s.stored = append(s.stored, time.Now())
		}
	}
}

// since tells what is not well, after a moment: a device that has not answered, or where nothing that was sent since is
// stored. nil = nothing.
func (p *probes) since(moment time.Time) error {
	for n, s := range p.shard {
		s.mu.Lock()
		answered := len(s.answered) > 0 && s.answered[len(s.answered)-1].After(moment)
		stored := s.newest > moment.UnixMilli()
		last := s.last
		s.mu.Unlock()
		if !answered || !stored {
			return fmt.Errorf("shard %d: answered %v, stored %v; the last failure was: %s", n, answered, stored, last)
		}
	}
	return nil
}

// gaps are, of each shard, the longest times without an answer and without anything new stored.
func (p *probes) gaps(begin, end time.Time) (answers, stored []time.Duration) {
	for _, s := range p.shard {
		s.mu.Lock()
		answers = append(answers, chaos.LongestGap(s.answered, begin, end))
		stored = append(stored, chaos.LongestGap(s.stored, begin, end))
		s.mu.Unlock()
	}
	return answers, stored
}

// check compares what the archive has of the probes' devices with what was sent: all that was confirmed, and nothing
// that was not sent.
func (p *probes) check(ctx context.Context, m *keptMember) (readings int, err error) {
	for _, s := range p.shard {
		stored, err := s.read(ctx, m)
		if err != nil {
			return 0, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for at := range s.confirmed {
			if _, there := stored[at]; !there {
				return 0, fmt.Errorf("%s: the reading of %d was called stored, and is not there", s.device, at)
			}
		}
		for at, value := range stored {
			if want, sent := s.tried[at]; !sent || want != value {
				return 0, fmt.Errorf("%s: the reading of %d is %v, sent was %v", s.device, at, value, want)
			}
		}
		readings += len(stored)
	}
	return readings, nil
}

// read reads all readings of the device.
func (s *shardProbe) read(ctx context.Context, m *keptMember) (map[int64]float64, error) {
	stored := map[int64]float64{}
	query := url.Values{"limit": {"1000"}}
	for {
		var page struct {
			Readings []struct {
				Time   time.Time
				Values []float64
			}
			Cursor string
		}
		if err := m.get(ctx, storeWithin, "/api/v1/sites/"+probeSite+"/devices/"+s.device+"/readings?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		for _, r := range page.Readings {
			if len(r.Values) != 1 {
				return nil, fmt.Errorf("%s: the reading of %v has %d values, want 1", s.device, r.Time, len(r.Values))
			}
			stored[r.Time.UnixMilli()] = r.Values[0]
		}
		if page.Cursor == "" {
			return stored, nil
		}
		query.Set("cursor", page.Cursor)
	}
}
