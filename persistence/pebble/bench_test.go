package pebble

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/sstable"
	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
	"github.com/wellhead/wellhead/persistence/contract"
)

const benchChannels = 4

// sines are what a device with a resolution of 0.01 measures.
func sines(device, i int, values []float64) {
	for c := range values {
		v := 100 + 20*float64(c) + 10*math.Sin(float64(i)/float64(60*(c+1))+float64(device))
		values[c] = math.Round(v*100) / 100
	}
}

// noisy is sines with noise of a few steps of the resolution, as real sensors have it.
func noisy(device, i int, values []float64) {
	random := rand.New(rand.NewPCG(uint64(device), uint64(i)))
	sines(device, i, values)
	for c := range values {
		values[c] = math.Round((values[c]+0.05*random.NormFloat64())*100) / 100
	}
}

// doubles are values without any resolution: the worst case.
func doubles(device, i int, values []float64) {
	random := rand.New(rand.NewPCG(uint64(device), uint64(i)))
	for c := range values {
		values[c] = random.NormFloat64()
	}
}

// fleet makes batches: readings rows a device, one a second.
type fleet struct {
	batch persistence.Batch
	fill  func(device, i int, values []float64)
	next  int
}

func newFleet(shard, devices, readings int, fill func(device, i int, values []float64)) *fleet {
	f := &fleet{fill: fill, batch: persistence.Batch{Shard: messages.Shard(shard)}}
	for d := range devices {
		rows := make([]persistence.Row, readings)
		for i := range rows {
			rows[i].Values = make([]float64, benchChannels)
		}
		f.batch.Devices = append(f.batch.Devices, persistence.DeviceRows{Device: messages.DeviceID{Site: "north-7", Device: fmt.Sprintf("well-%05d", d)}, Rows: rows})
	}
	return f
}

// advance makes the next batch of the rows.
func (f *fleet) advance() {
	n := 0
	for d := range f.batch.Devices {
		rows := f.batch.Devices[d].Rows
		n = len(rows)
		for i := range rows {
			at := f.next + i
			rows[i].Time = 1_767_322_800_000 + int64(at)*1000
			rows[i].Sequence = uint64(at/10*len(f.batch.Devices)/10 + d/10 + 1)
			f.fill(d, at, rows[i].Values)
		}
	}
	f.next += n
}

// BenchmarkAppend appends for 1 000 devices from 8 goroutines (8 shards of 125 devices), synced as in service.
func BenchmarkAppend(b *testing.B) {
	for _, readings := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("readings=%d", readings), func(b *testing.B) { benchmarkAppend(b, readings) })
	}
}

func benchmarkAppend(b *testing.B, readings int) {
	const shards, devices = 8, 125
	a, err := OpenArchive(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	fleets := make([]*fleet, shards)
	for i := range fleets {
		fleets[i] = newFleet(i, devices, readings, sines)
		fleets[i].advance()
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, f := range fleets {
		wg.Go(func() {
			for range b.N {
				// Only times move on: making values would cost more than storing them.
				for d := range f.batch.Devices {
					for i := range f.batch.Devices[d].Rows {
						f.batch.Devices[d].Rows[i].Time += int64(readings) * 1000
						f.batch.Devices[d].Rows[i].Sequence += uint64(readings)
					}
				}
				if err := a.Append(context.Background(), &f.batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	total := float64(b.N) * shards * devices * float64(readings)
	m := a.Metrics()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/reading")
	b.ReportMetric(total/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64(m.Syncs)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkEncode is the codec alone.
func BenchmarkEncode(b *testing.B) {
	for _, readings := range []int{1, 10, 50, 3600} {
		for name, fill := range map[string]func(int, int, []float64){"sines": sines, "doubles": doubles} {
			b.Run(fmt.Sprintf("%s/readings=%d", name, readings), func(b *testing.B) {
				f := newFleet(0, 1, readings, fill)
				f.advance()
				var e encoder
				b.ReportAllocs()
				for b.Loop() {
					e.Block.Reset()
					for i := range f.batch.Devices[0].Rows {
						e.Block.Add(&f.batch.Devices[0].Rows[i])
					}
					e.Block.Normalize()
					e.value = e.AppendFrames(e.value[:0], 0, e.Block.Len())
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(readings), "ns/reading")
				b.ReportMetric(float64(len(e.value))/float64(readings), "B/reading")
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, fill := range map[string]func(int, int, []float64){"sines": sines, "doubles": doubles} {
		b.Run(name, func(b *testing.B) {
			const readings = 3600
			f := newFleet(0, 1, readings, fill)
			f.advance()
			var e encoder
			for i := range f.batch.Devices[0].Rows {
				e.Block.Add(&f.batch.Devices[0].Rows[i])
			}
			value := e.AppendFrames(nil, 0, readings)
			var out chunk.Block
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				if err := out.Decode(value); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/readings, "ns/reading")
		})
	}
}

// BenchmarkScan reads one device's day, and its newest 60 readings, out of 100 devices' days.
func BenchmarkScan(b *testing.B) {
	a, err := OpenArchive(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	const devices, day = 20, 86_400
	f := newFleet(0, devices, 60, sines)
	for range day / 60 {
		f.advance()
		if err := a.Append(context.Background(), &f.batch); err != nil {
			b.Fatal(err)
		}
	}
	id := f.batch.Devices[devices/2].Device
	for _, test := range []struct {
		name string
		r    persistence.Range
		rows int
	}{
		{"day", persistence.Range{From: math.MinInt64, To: math.MaxInt64}, day},
		{"newest60", persistence.Range{From: math.MaxInt64, To: math.MinInt64, Limit: 60}, 60},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				if err := a.Scan(context.Background(), 0, id, test.r, func(*persistence.Row) bool { n++; return true }); err != nil || n != test.rows {
					b.Fatalf("got %d rows, error %v", n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(test.rows), "ns/reading")
		})
	}
}

// BenchmarkDisk writes an hour at 1 s of 200 devices and tells the bytes that a reading takes on disk
// once all is compacted, by block compression and by how many readings came in one append.
func BenchmarkDisk(b *testing.B) {
	for _, profile := range []*sstable.CompressionProfile{sstable.SnappyCompression, sstable.ZstdCompression} {
		for name, fill := range map[string]func(int, int, []float64){"sines": sines, "noisy": noisy, "doubles": doubles} {
			for _, readings := range []int{1, 50} {
				b.Run(fmt.Sprintf("%s/%s/readings=%d", profile.Name, name, readings), func(b *testing.B) {
					for range b.N {
						benchmarkDisk(b, Options{compression: profile}, fill, readings)
					}
				})
			}
		}
	}
}

func benchmarkDisk(b *testing.B, o Options, fill func(int, int, []float64), readings int) {
	const devices, hour = 200, 3600
	dir := b.TempDir()
	a, err := OpenArchive(dir, o)
	if err != nil {
		b.Fatal(err)
	}
	f := newFleet(0, devices, readings, fill)
	for range 2 {
		for range hour / readings / 2 {
			f.advance()
			if err := a.Append(context.Background(), &f.batch); err != nil {
				b.Fatal(err)
			}
		}
		flush(b, a)
	}
	compact(b, a)
	written := a.db.Metrics().Total().TableBytesFlushed + a.db.Metrics().Total().TableBytesCompacted
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	total := float64(devices * hour)
	b.ReportMetric(float64(tableBytes(b, dir))/total, "B/reading")
	b.ReportMetric(float64(written)/total, "B-written/reading")
}

// flush puts what is in memory into a table of level 0. Who measures bytes flushes twice: a compaction moves a table that
// is alone as it is, without merging what is under its keys, and with the compression of level 0.
func flush(b *testing.B, a *Archive) {
	if err := a.db.Flush(); err != nil {
		b.Fatal(err)
	}
}

func compact(b *testing.B, a *Archive) {
	if err := a.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false); err != nil {
		b.Fatal(err)
	}
}

func tableBytes(b *testing.B, dir string) int64 {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		b.Fatal(err)
	}
	sum := int64(0)
	for _, table := range tables {
		info, err := os.Stat(table)
		if err != nil {
			b.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

// BenchmarkAppendAlone is one caller that waits for each append: what a sync costs when nobody shares it.
func BenchmarkAppendAlone(b *testing.B) {
	a, err := OpenArchive(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	f := newFleet(0, 10, 10, sines)
	for b.Loop() {
		f.advance()
		if err := a.Append(context.Background(), &f.batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut stores snapshots of 1 KB in thousands, a marker after every ten.
func BenchmarkPut(b *testing.B) {
	s, err := OpenSnapshots(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.RaiseFence(ctx, 0, 1); err != nil {
		b.Fatal(err)
	}
	const each = 1000
	random := rand.New(rand.NewPCG(1, 1))
	snapshots := make([]persistence.Snapshot, each)
	for i := range snapshots {
		snapshots[i].Data = make([]byte, 1024)
		for j := range snapshots[i].Data {
			snapshots[i].Data[j] = byte(random.Uint32())
		}
	}
	for n := 0; b.Loop(); n++ {
		for i := range snapshots {
			snapshots[i].Device, snapshots[i].Sequence = messages.DeviceID{Site: "north-7", Device: fmt.Sprintf("well-%06d", n%100*each+i)}, uint64(n)
		}
		if err := contract.Put(ctx, s, 0, 1, 1, snapshots); err != nil {
			b.Fatal(err)
		}
		if n%10 == 9 {
			next := persistence.Marker{Generation: 1, Snapshotted: uint64(n)}
			marker, err := s.Marker(ctx, 0)
			if err != nil {
				b.Fatal(err)
			}
			if err := s.PutMarker(ctx, 0, 1, marker, next); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*each/b.Elapsed().Seconds(), "snapshots/s")
}

// BenchmarkDeleteSite deletes all of 64 shards' devices, 8 of a shard at a time as the shards do. Each has
// two hours of readings and rollups.
func BenchmarkDeleteSite(b *testing.B) {
	for _, devices := range []int{2_000, 20_000} {
		b.Run(fmt.Sprintf("devices=%d", devices), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				a := fillSite(b, devices)
				b.StartTimer()
				var group errgroup.Group
				for shard := range 64 {
					var some errgroup.Group
					some.SetLimit(8)
					group.Go(func() error {
						for i := shard; i < devices; i += 64 {
							some.Go(func() error { return a.Delete(context.Background(), messages.Shard(shard), device(i), 1<<40, 0) })
						}
						return some.Wait()
					})
				}
				if err := group.Wait(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := a.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(devices)*1e6, "µs/device")
		})
	}
}

// fillSite makes an archive in which device i is in shard i%64.
func fillSite(b *testing.B, devices int) *Archive {
	a, err := OpenArchive(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for shard := range 64 {
		batch := persistence.Batch{Shard: messages.Shard(shard)}
		for i := shard; i < devices; i += 64 {
			rows := make([]persistence.Row, 60)
			for k := range rows {
				rows[k] = persistence.Row{Time: int64(k) * 120_000, Sequence: uint64(k + 1), Values: []float64{1, 2, 3, 4}}
			}
			rollup := persistence.RollupRow{Rollup: messages.Rollup{Step: messages.Hour, Count: 30, Channels: make([]messages.ChannelRollup, 4)}, Sequence: 1}
			batch.Devices = append(batch.Devices, persistence.DeviceRows{
				Device: device(i), Rows: rows, Rollups: []persistence.RollupRow{rollup}, Records: []persistence.Record{{Sequence: 1, Payload: []byte("{}")}},
			})
		}
		if err := a.Append(context.Background(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	return a
}
