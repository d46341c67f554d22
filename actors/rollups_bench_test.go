package actors

import (
	"context"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/cassandra"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// BenchmarkTenYears reads hours, and days made of them, of one device over ten years with 4 channels; and of one that
// shares its partitions and sent only on the first and the last day.
func BenchmarkTenYears(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) (persistence.Archive, error){
		"pebble": func(b *testing.B) (persistence.Archive, error) {
			return pebble.OpenArchive(b.TempDir(), pebble.Options{Shards: 1})
		},
		"cassandra": func(b *testing.B) (persistence.Archive, error) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			return cassandra.Open(ctx, cassandra.Options{Hosts: []string{testenv.Cassandra(b).Addr}, Keyspace: testenv.Unique("years"), Shards: 1})
		},
	} {
		b.Run(name, func(b *testing.B) {
			a, err := open(b)
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			benchmarkTenYears(b, a)
		})
	}
}

func benchmarkTenYears(b *testing.B, a persistence.Archive) {
	const years, step = 87_600, int64(messages.Hour)
	begin := messages.Day.Start(1_451_606_400_000) // 2016
	dense, sparse := messages.DeviceID{Site: "s", Device: "dense"}, messages.DeviceID{Site: "s", Device: "sparse"}
	for first := int64(0); first < years; first += 480 {
		var hours []persistence.RollupRow
		for n := first; n < min(first+480, years); n++ {
			v := float64(n%977) / 10
			c := messages.ChannelRollup{Count: 3600, Min: v, Max: v + 7.25, Sum: 3600 * v, First: v + 1, Last: v + 2}
			hours = append(hours, persistence.RollupRow{
				Rollup:   messages.Rollup{Start: begin + n*step, Step: messages.Hour, Count: 3600, Channels: []messages.ChannelRollup{c, c, c, c}},
				Sequence: uint64(n + 1), WriteTime: n + 1,
			})
		}
		batch := persistence.Batch{Devices: []persistence.DeviceRows{{Device: dense, Rollups: hours}}}
		switch {
		case first == 0:
			batch.Devices = append(batch.Devices, persistence.DeviceRows{Device: sparse, Rollups: hours[:24]})
		case first+480 >= years:
			batch.Devices = append(batch.Devices, persistence.DeviceRows{Device: sparse, Rollups: hours[len(hours)-24:]})
		}
		if err := a.Append(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		id     messages.DeviceID
		step   messages.Step
		limit  int
		wanted int
	}{
		{"1h/all", dense, messages.Hour, 0, years},
		{"1h/newest1000", dense, messages.Hour, 1000, 1000},
		{"1d/all", dense, messages.Day, 0, years / 24},
		{"1d/newest365", dense, messages.Day, 365, 365},
		{"1d/sparse", sparse, messages.Day, 0, 2},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			each := func(r persistence.Range, fn func(*messages.Rollup) bool) error {
				return a.Rollups(b.Context(), 0, test.id, messages.Hour, r, func(row *persistence.RollupRow) bool { return fn(&row.Rollup) })
			}
			for b.Loop() {
				n := 0
				var err error
				if test.step == messages.Hour {
					err = each(persistence.Range{From: End, To: Beginning, Limit: test.limit}, func(*messages.Rollup) bool { n++; return true })
				} else {
					var days []messages.Rollup
					days, err = foldDays(End, Beginning, test.limit, each)
					n = len(days)
				}
				if err != nil || n != test.wanted {
					b.Fatalf("%d rollups, %v; want %d", n, err, test.wanted)
				}
			}
		})
	}
}
