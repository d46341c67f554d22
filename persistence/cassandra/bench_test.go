package cassandra

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// benchFleet is devices of one shard that take turns in sending a reading of 4 channels.
type benchFleet struct {
	shard messages.Shard
	ids   []messages.DeviceID
	next  int
	step  int64
}

func newBenchFleet(shard, devices int) *benchFleet {
	f := &benchFleet{shard: messages.Shard(shard), ids: make([]messages.DeviceID, devices)}
	for i := range f.ids {
		f.ids[i] = messages.DeviceID{Site: fmt.Sprint("site", shard), Device: fmt.Sprintf("device%05d", i)}
	}
	return f
}

// batch returns one reading of each of the next n devices.
func (f *benchFleet) batch(n int) *persistence.Batch {
	const base = 1_767_322_800_000
	b := &persistence.Batch{Shard: f.shard}
	for range n {
		f.next++
		if f.next == len(f.ids) {
			f.next, f.step = 0, f.step+1
		}
		at := base + f.step*1000
		v := float64(f.next+int(f.step)) / 100
		b.Devices = append(b.Devices, persistence.DeviceRows{Device: f.ids[f.next], Rows: []persistence.Row{{
			Time: at, Sequence: uint64(f.step + 1), WriteTime: (at + 50) * 1000, Values: []float64{v, v * 2, v / 3, 17.25}, Note: "t,p,h",
		}}})
	}
	return b
}

// BenchmarkAppend: 8 goroutines, each with a shard of 1000 devices, append batches of 100 devices with
// one reading of 4 channels. Cassandra needs about a minute of load before its figures count, so run
// it with -benchtime 20s -count 4 and take the last.
func BenchmarkAppend(b *testing.B) {
	for _, groups := range []int{1, 4} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			a := open(b, Options{Hosts: []string{testenv.Cassandra(b).Addr}, Keyspace: testenv.Unique("bench"), Groups: groups, Retention: 365 * 24 * time.Hour})
			const writers, devices = 8, 100
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					fleet := newBenchFleet(w, 1000)
					for left.Add(-1) >= 0 {
						if err := a.Append(b.Context(), fleet.batch(devices)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(devices*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkScan reads an hour of one device: 3600 rows out of a partition with 10 devices.
func BenchmarkScan(b *testing.B) {
	a := open(b, Options{Hosts: []string{testenv.Cassandra(b).Addr}, Keyspace: testenv.Unique("bench")})
	fleet := newBenchFleet(1, 10)
	for range 400 {
		if err := a.Append(b.Context(), fleet.batch(90)); err != nil {
			b.Fatal(err)
		}
	}
	for _, test := range []struct {
		name string
		r    persistence.Range
	}{
		{"newest60", persistence.Range{From: 1 << 60, To: -1 << 60, Limit: 60}},
		{"hour", persistence.Range{From: -1 << 60, To: 1 << 60}},
	} {
		b.Run(test.name, func(b *testing.B) {
			rows := 0
			for b.Loop() {
				if err := a.Scan(b.Context(), 1, fleet.ids[3], test.r, func(*persistence.Row) bool { rows++; return true }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
