// Package telemetry holds a member's metrics and sets up its log.
//
// Metrics have the prefix wellhead_ and base units (seconds, bytes), and never a device or site as a
// label. What the shards count is read when somebody scrapes (Shards), so that counting costs them
// nothing more; what happens rarely or is timed is recorded here at once.
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wellhead/wellhead/persistence"
)

// Metrics is one member's metrics, in a registry of their own. All methods may be called by many
// goroutines at once.
type Metrics struct {
	registry *prometheus.Registry
	stores   *prometheus.HistogramVec
	requests *prometheus.HistogramVec

	wentBack *prometheus.CounterVec
	corrupt  *prometheus.CounterVec // by what
	lost     prometheus.Counter
	handoffs prometheus.Histogram

	mu         sync.Mutex
	operations map[operationKey]*operation
}

type operationKey struct{ store, operation string }

// operation is what Operations tells and a histogram does not.
type operation struct {
	mu     sync.Mutex
	counts [len(storeBuckets) + 1]uint64
	count  uint64
	errors uint64
	max    time.Duration
	down   time.Time // when the last call failed, zero when it did not
}

// failingFor is how long an operation counts as failing after its last call failed, if none follows.
const failingFor = time.Minute

// storeBuckets reach from what a call in memory takes to the longest that a retry waits; seconds.
var storeBuckets = [...]float64{
	.000_05, .000_1, .000_2, .000_5, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30,
}

// New returns metrics with the Go and process collectors.
func New() *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		operations: make(map[operationKey]*operation),
		stores: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wellhead_store_operation_seconds", Buckets: storeBuckets[:],
			Help: "Duration of calls to the archive and the snapshots. outcome: ok, not_found, conflict, fenced, refused, error.",
		}, []string{"store", "operation", "outcome"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wellhead_http_request_seconds", Buckets: prometheus.DefBuckets,
			Help: "Duration of HTTP requests by route and status; live events count when they end.",
		}, []string{"route", "status"}),
		wentBack: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wellhead_went_back_total",
			Help: "Times that a stream or the snapshots were found older than the checkpoint says, or a hole was found. what: stream, snapshots, hole.",
		}, []string{"what"}),
		corrupt: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wellhead_corrupt_total",
			Help: "Times that something in a store was found damaged, and was not used. what: snapshot, chunk, rollup.",
		}, []string{"what"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wellhead_live_events_lost_total", Help: "Events that listeners of live events missed because they read too slowly.",
		}),
	}
	m.handoffs = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "wellhead_handoff_duration_seconds", Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30, 60},
		Help: "How long the devices of a shard stood still while it was handed over to this member: from the last pull of its owner before until they are as far here, by both machines' clocks.",
	})
	for _, what := range []string{WentBackStream, WentBackSnapshots, WentBackHole} {
		m.wentBack.WithLabelValues(what) // 0 from the start: an alert on an increase needs it
	}
	for _, what := range []string{"snapshot", "chunk", "rollup"} {
		m.corrupt.WithLabelValues(what)
	}
	m.registry.MustRegister(m.stores, m.requests, m.wentBack, m.corrupt, m.lost, m.handoffs,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry is where another part may register what only it knows.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// What WentBack counts.
const (
	WentBackStream    = "stream"    // re-created, or an older copy
	WentBackSnapshots = "snapshots" // wiped, or an older copy
	WentBackHole      = "hole"      // messages that no checkpoint knows of are missing in the stream
)

// WentBack counts something that was found older than it should be; what is one of the constants.
func (m *Metrics) WentBack(what string) { m.wentBack.WithLabelValues(what).Inc() }

// HandedOver records how long a shard stood still while it came to this member.
func (m *Metrics) HandedOver(pause time.Duration) { m.handoffs.Observe(pause.Seconds()) }

// Corrupt counts something in a store that was found damaged; it fits actors.Parts.Corrupt.
func (m *Metrics) Corrupt(what string) { m.corrupt.WithLabelValues(what).Inc() }

// EventsLost counts events that a listener missed; it fits api.Options.EventsLost.
func (m *Metrics) EventsLost(n int) { m.lost.Add(float64(n)) }

// Request records an HTTP request; it fits api.Options.Observe.
func (m *Metrics) Request(route string, status int, d time.Duration) {
	m.requests.WithLabelValues(cmp.Or(route, "none"), strconv.Itoa(status)).Observe(d.Seconds())
}

// Store returns what records the calls to one store ("archive", "snapshots"), for
// persistence.ObservedArchive and persistence.ObservedSnapshots.
func (m *Metrics) Store(store string) func(op string, d time.Duration, err error) {
	_ = m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "wellhead_store_up", ConstLabels: prometheus.Labels{"store": store},
		Help: "0 while the last call of some operation of the store failed, within the last minute.",
	}, func() float64 {
		if len(m.Failing(store)) > 0 {
			return 0
		}
		return 1
	})) // fails only when it is there already
	return func(op string, d time.Duration, err error) {
		m.stores.WithLabelValues(store, op, outcome(err)).Observe(d.Seconds())
		m.operation(operationKey{store, op}).add(d, err)
	}
}

func (m *Metrics) operation(k operationKey) *operation {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.operations[k]
	if o == nil {
		o = &operation{}
		m.operations[k] = o
	}
	return o
}

func (o *operation) add(d time.Duration, err error) {
	i, _ := slices.BinarySearch(storeBuckets[:], d.Seconds())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[i]++
	o.count++
	o.max = max(o.max, d)
	if failed(err) {
		o.errors++
	}
	o.down = time.Time{}
	if outcome(err) == "error" && !errors.Is(err, context.Canceled) {
		o.down = time.Now()
	}
}

// Failing lists the operations of a store whose last call failed within the last minute, sorted. What a
// healthy store answers (not found, conflict, fenced, refused) is no failure.
func (m *Metrics) Failing(store string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for k, o := range m.operations {
		if k.store != store {
			continue
		}
		o.mu.Lock()
		if time.Since(o.down) < failingFor {
			out = append(out, k.operation)
		}
		o.mu.Unlock()
	}
	slices.Sort(out)
	return out
}

// failed tells an error from an answer: that nothing is there is an answer.
func failed(err error) bool { return err != nil && !errors.Is(err, persistence.ErrNotFound) }

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, persistence.ErrNotFound):
		return "not_found"
	case errors.Is(err, persistence.ErrConflict):
		return "conflict"
	case errors.Is(err, persistence.ErrFenced):
		return "fenced"
	case errors.Is(err, persistence.ErrRefused):
		return "refused"
	}
	return "error"
}

// Operation says how one operation of a store went so far. The percentiles are estimated from the
// histogram's buckets.
type Operation struct {
	Store, Operation string
	Count, Errors    uint64
	P50, P99, Max    time.Duration
}

// Operations lists every operation that was called, ordered by store and operation.
func (m *Metrics) Operations() []Operation {
	m.mu.Lock()
	keys := make([]operationKey, 0, len(m.operations))
	for k := range m.operations {
		keys = append(keys, k)
	}
	m.mu.Unlock()
	slices.SortFunc(keys, func(a, b operationKey) int {
		return cmp.Or(cmp.Compare(a.store, b.store), cmp.Compare(a.operation, b.operation))
	})
	out := make([]Operation, len(keys))
	for i, k := range keys {
		o := m.operation(k)
		o.mu.Lock()
		out[i] = Operation{k.store, k.operation, o.count, o.errors, o.quantile(.5), o.quantile(.99), o.max}
		o.mu.Unlock()
	}
	return out
}

// quantile finds the bucket that holds the q-th call and goes into it in proportion, never beyond
// the longest call seen. The caller holds o.mu.
func (o *operation) quantile(q float64) time.Duration {
	rank := math.Ceil(q * float64(o.count))
	below := 0.0
	for i, n := range o.counts {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		if i == len(storeBuckets) {
			return o.max
		}
		low := 0.0
		if i > 0 {
			low = storeBuckets[i-1]
		}
		seconds := low + (storeBuckets[i]-low)*(rank-below)/float64(n)
		return min(time.Duration(seconds*float64(time.Second)), o.max)
	}
	return o.max
}
