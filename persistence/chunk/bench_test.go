package chunk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wellhead/wellhead/persistence"
)

// wavesWithNoise are readings of 4 channels, one a second: a smooth sine and three with noise of 16 steps, as the
// simulator makes them.
func wavesWithNoise(n int) []persistence.Row {
	random := rand.New(rand.NewPCG(1, 2))
	rows := make([]persistence.Row, n)
	for i := range rows {
		rows[i] = persistence.Row{Time: 1_767_322_800_000 + int64(i)*1000, Sequence: uint64(3 * i / 2), Values: make([]float64, 4)}
		for c := range rows[i].Values {
			v := 20_000 + 2_000*math.Sin(float64(i)/float64(50*(c+1)))
			if c > 0 {
				v += float64(random.IntN(16))
			}
			rows[i].Values[c] = math.Round(v) / 100
		}
	}
	return rows
}

func BenchmarkCodec(b *testing.B) {
	for _, version := range []byte{Version1, Version2, Version3} {
		for _, n := range []int{5, 50, 100, 3600} {
			rows := wavesWithNoise(n)
			value := encodeRows(version, rows)
			b.Run(fmt.Sprintf("encode/version=%d/readings=%d", version, n), func(b *testing.B) {
				e, out := Encoder{Version: version}, []byte(nil)
				for b.Loop() {
					e.Block.Reset()
					for i := range rows {
						e.Block.Add(&rows[i])
					}
					e.Block.Normalize()
					out = e.AppendFrames(out[:0], 0, e.Block.Len())
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/reading")
				b.ReportMetric(float64(len(out))/float64(n), "B/reading")
			})
			b.Run(fmt.Sprintf("decode/version=%d/readings=%d", version, n), func(b *testing.B) {
				var out Block
				for b.Loop() {
					out.Reset()
					if err := out.Decode(value); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/reading")
			})
		}
	}
}

// BenchmarkMerge merges an hour of one device out of chunks of so many readings, as a compaction does.
func BenchmarkMerge(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("readings=%d", n), func(b *testing.B) {
			const hour = 3600
			var chunks [][]byte
			for part := range slices.Chunk(wavesWithNoise(hour), n) {
				chunks = append(chunks, encodeRows(Version1, part))
			}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				out = Merge(chunks)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/hour, "ns/reading")
			b.ReportMetric(float64(len(out))/hour, "B/reading")
		})
	}
}
