package actors_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// inShardNought returns a device of shard 0 whose name begins with prefix.
func inShardNought(prefix string) messages.DeviceID {
	for n := 0; ; n++ {
		id := messages.DeviceID{Site: "site", Device: fmt.Sprint(prefix, n)}
		if messages.ShardOf(id, 4) == 0 {
			return id
		}
	}
}

// damageFirstBlock turns a byte in the first block of the archive's largest table. What stands behind it in the shard is
// padding, or the store's own keys would be in that block.
func damageFirstBlock(t *testing.T, dir string) {
	t.Helper()
	for range 2 { // it moves its log into a table
		a, err := pebble.OpenArchive(dir, pebble.Options{Shards: 4, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	largest := slices.MaxFunc(tables, func(a, b string) int { return int(size(a) - size(b)) })
	data, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1
	if err := os.WriteFile(largest, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedReadingsAreRepaired turns a byte in the files of a member that has stopped. Of a device whose window has all its
// readings they are written again, of another one those of the window, and who asks for the others gets an error, also later.
func TestDamagedReadingsAreRepaired(t *testing.T) {
	dir := t.TempDir()
	whole, part := inShardNought("a"), inShardNought("b")
	start := messages.Hour.Start(time.Now().UnixMilli()) - 5*int64(messages.Hour)
	readings := func(n int) (out []messages.Reading) {
		for i := range int64(n) {
			out = append(out, messages.Reading{Time: start + i*120_000, Values: []float64{float64(i), 0.5}, Note: fmt.Sprint(i)})
		}
		return out
	}
	const few, many, window = 20, 100, 60
	t.Run("before", func(t *testing.T) {
		r := startRig(t, dir, nil)
		r.publish(t, whole, readings(few))
		r.publish(t, part, readings(many))
		d := persistence.DeviceRows{Device: inShardNought("zz")}
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range 20_000 {
			d.Rows = append(d.Rows, persistence.Row{Time: start + int64(i)*1000, Sequence: 1, WriteTime: 1, Values: []float64{rnd.NormFloat64()}})
		}
		if err := r.archive.Append(t.Context(), &persistence.Batch{Devices: []persistence.DeviceRows{d}}); err != nil {
			t.Fatal(err)
		}
	})
	damageFirstBlock(t, filepath.Join(dir, "archive"))
	r := startRig(t, dir, nil)
	read := func(id messages.DeviceID, from int64) ([]messages.Sample, error) {
		return r.member.Readings(t.Context(), id, from, start+int64(many)*120_000, 0)
	}
	if found, err := read(whole, start); !errors.Is(err, persistence.ErrCorrupt) && !errors.Is(err, actors.ErrStarting) {
		t.Fatalf("the damage is not met: %d readings, %v", len(found), err)
	}
	first := start + (many-window)*120_000
	for _, want := range []struct {
		id   messages.DeviceID
		from int64
		n    int
	}{{whole, start, few}, {part, first, window}} {
		testenv.Eventually(t, 60*time.Second, func() error {
			found, err := read(want.id, want.from)
			if err == nil && len(found) != want.n {
				err = fmt.Errorf("%d readings, want %d", len(found), want.n)
			}
			for i := range found {
				at := (want.from-start)/120_000 + int64(i)
				if s := &found[i]; err == nil && (s.Time != start+at*120_000 || s.Values[0] != float64(at) || s.Note != fmt.Sprint(at)) {
					err = fmt.Errorf("reading %d: %+v", at, s)
				}
			}
			return err
		})
	}
	if _, err := read(part, first-120_000); !errors.Is(err, persistence.ErrCorrupt) {
		t.Errorf("what was lost is not told: %v", err)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		if s := r.member.Status(t.Context())[0].Stats; s.ChunksRepaired != 1 || s.ChunksLost != 1 {
			return fmt.Errorf("%d repaired, %d lost; want 1 and 1", s.ChunksRepaired, s.ChunksLost)
		}
		return nil
	})
}
