package recording

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/messages"
)

// overtaking is a publisher whose unacknowledged batches arrive in any order.
type overtaking struct {
	shards  int
	random  *rand.Rand
	pending [][]messages.Block
	kept    map[string]map[int64]float64
	batches int
}

func (o *overtaking) Publish(_ context.Context, site string, shard messages.Shard, blocks []messages.Block) error {
	o.batches++
	var copied []messages.Block
	for _, b := range blocks {
		if got := messages.ShardOf(messages.DeviceID{Site: site, Device: b.Device}, o.shards); got != shard {
			return fmt.Errorf("device %s is in a batch of shard %d", b.Device, shard)
		}
		b.Readings = slices.Clone(b.Readings)
		for i := range b.Readings {
			b.Readings[i].Values = slices.Clone(b.Readings[i].Values)
		}
		copied = append(copied, b)
	}
	o.pending = append(o.pending, copied)
	return nil
}

func (o *overtaking) Flush(context.Context) error {
	o.random.Shuffle(len(o.pending), func(i, j int) { o.pending[i], o.pending[j] = o.pending[j], o.pending[i] })
	for _, blocks := range o.pending {
		for _, b := range blocks {
			for _, r := range b.Readings {
				if o.kept[b.Device] == nil {
					o.kept[b.Device] = map[int64]float64{}
				}
				o.kept[b.Device][r.Time] = r.Values[0]
			}
		}
	}
	o.pending = nil
	return nil
}

// TestPlayKeepsTheLast holds that of several rows with one event time the last counts, although batches
// that are not acknowledged may overtake each other.
func TestPlayKeepsTheLast(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		var files []string
		want := map[string]map[int64]float64{}
		value := 0.0
		for i := range rapid.IntRange(1, 4).Draw(rt, "files") {
			device := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "device")
			if want[device] == nil {
				want[device] = map[int64]float64{}
			}
			content := "t,v\n"
			at := int64(0)
			for _, step := range rapid.SliceOfN(rapid.Int64Range(-3, 5), 1, 60).Draw(rt, "steps") {
				at += step
				value++
				content += fmt.Sprintf("%d,%v\n", at, value)
				want[device][at] = value
			}
			name := filepath.Join(dir, fmt.Sprintf("%s.%d", device, i))
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				rt.Fatal(err)
			}
			files = append(files, name)
		}
		sources, err := Open(files, Options{TimeColumn: "t", TimeFormat: "unix_ms", DeviceFromName: regexp.MustCompile(`^(\w)\.`)})
		if err != nil {
			rt.Fatal(err)
		}
		m, err := Merge(sources, rapid.IntRange(0, 2).Draw(rt, "most"))
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		to := &overtaking{shards: 3, random: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 1)), kept: map[string]map[int64]float64{}}
		o := PlayOptions{Site: "s", Shards: 3, Batch: rapid.IntRange(1, 9).Draw(rt, "batch"), Pace: &pace.Pace{}}
		if err := Play(t.Context(), m, o, to); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, to.kept); diff != "" {
			rt.Fatalf("what is kept (-want +got):\n%s", diff)
		}
	})
}
