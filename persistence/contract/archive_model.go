package contract

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// model is the dumb second archive: it keeps all that was ever written to a device, and what it
// answers is worked out anew at each question.
type model struct {
	written []persistence.Row
	deleted uint64
}

func (m *model) scan(r persistence.Range) []persistence.Row {
	best := make(map[int64]persistence.Row)
	for _, row := range m.written {
		if old, held := best[row.Time]; !held || row.Sequence >= old.Sequence {
			best[row.Time] = row
		}
	}
	low, high := min(r.From, r.To), max(r.From, r.To)
	var out []persistence.Row
	for _, row := range best {
		if row.Time >= low && row.Time <= high && row.Sequence > m.deleted && (r.MaxSequence == 0 || row.Sequence <= r.MaxSequence) {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(x, y persistence.Row) int { return cmp.Compare(x.Time, y.Time) })
	if r.From > r.To {
		slices.Reverse(out)
	}
	if r.Limit > 0 && len(out) > r.Limit {
		out = out[:r.Limit]
	}
	return out
}

// testModel does random appends, replays and deletes to two devices and compares every kind of scan.
// A row's content follows from its sequence and time, as it does when a stream is replayed.
func testModel(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		ids := []messages.DeviceID{{Site: site, Device: fmt.Sprint("r", run)}, {Site: site, Device: fmt.Sprint("r", run, "-b")}}
		models := make([]model, len(ids))
		times := rapid.OneOf(rapid.Int64Range(base-5, base+5), rapid.SampledFrom([]int64{base - hour, base + hour, base + hour - 1, base + 30*hour, -1, 0}))
		sequences := rapid.Uint64Range(1, 20)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var devices []persistence.DeviceRows
				for i, id := range ids {
					n := rapid.IntRange(0, 6).Draw(t, "rows")
					if n == 0 {
						continue
					}
					d := persistence.DeviceRows{Device: id}
					for range n {
						d.Rows = append(d.Rows, drawnRow(times.Draw(t, "time"), sequences.Draw(t, "sequence")))
					}
					models[i].written = append(models[i].written, d.Rows...)
					devices = append(devices, d)
				}
				a.appendAll(ctx, t, devices)
			},
			"delete": func(t *rapid.T) {
				i, sequence := rapid.IntRange(0, len(ids)-1).Draw(t, "device"), rapid.Uint64Range(1, 12).Draw(t, "sequence")
				if err := a.Delete(ctx, a.shard, ids[i], sequence, writeTime(sequence)); err != nil {
					t.Fatalf("delete: %v", err)
				}
				models[i].deleted = max(models[i].deleted, sequence)
			},
			"scan": func(t *rapid.T) {
				i := rapid.IntRange(0, len(ids)-1).Draw(t, "device")
				r := persistence.Range{From: times.Draw(t, "from"), To: times.Draw(t, "to"), Limit: rapid.IntRange(0, 4).Draw(t, "limit"), MaxSequence: rapid.Uint64Range(0, 20).Draw(t, "max")}
				a.wantRows(ctx, t, ids[i], r, models[i].scan(r))
			},
		})
		for i, id := range ids {
			a.wantBoth(ctx, t, id, models[i].scan(everything))
		}
	})
}

// drawnRow is the row that a stream brings at this sequence for this time.
func drawnRow(at int64, sequence uint64) persistence.Row {
	row := reading(at, sequence)
	n := sequence * uint64(at&0xff+7)
	for i := range n % 5 {
		switch v := (n >> i) % 6; v {
		case 0:
			row.Values = append(row.Values, math.NaN())
		case 1:
			row.Values = append(row.Values, math.Sqrt(float64(n)))
		default:
			row.Values = append(row.Values, float64(n)/100)
		}
	}
	if n%3 == 0 {
		row.Note = fmt.Sprint("note ", n%4)
	}
	if n%7 == 0 {
		row.Quality = []uint8{uint8(n)}
	}
	row.Flags = uint8(n % 2)
	return row
}
