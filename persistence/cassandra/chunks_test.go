package cassandra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
	"github.com/wellhead/wellhead/persistence/contract"
)

func chunkOptions(t testing.TB) Options {
	o := testOptions(t)
	o.Layout = Chunks
	return o
}

// twoOwners has every third append made by another archive on the same tables, as an owner does that was
// paused and does not know yet that it has been replaced.
type twoOwners struct {
	*Archive
	other *Archive
	n     atomic.Int64
}

func (a *twoOwners) Append(ctx context.Context, b *persistence.Batch) error {
	if a.n.Add(1)%3 == 0 {
		return a.other.Append(ctx, b)
	}
	return a.Archive.Append(ctx, b)
}

func TestContractChunks(t *testing.T) {
	o := chunkOptions(t)
	a := &twoOwners{Archive: open(t, o), other: open(t, o)}
	contract.Archive(t, func(*testing.T) persistence.Archive { return a })
}

// at is a reading of device d of site s in shard 1; sequence and write time go with n.
func at(time int64, n int) persistence.Batch {
	return persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{{
		Device: messages.DeviceID{Site: "s", Device: "d"},
		Rows:   []persistence.Row{{Time: time, Sequence: uint64(n + 1), WriteTime: now()*1000 + int64(n), Values: []float64{float64(n) / 10}, Note: "n"}},
	}}}
}

func appendAll(t *testing.T, a *Archive, batches ...persistence.Batch) {
	t.Helper()
	for i := range batches {
		if err := a.Append(t.Context(), &batches[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func countChunks(t *testing.T, a *Archive) int {
	t.Helper()
	n, part := 0, int64(0)
	iter := a.session.Query(`SELECT part FROM chunks`).WithContext(t.Context()).Iter()
	for iter.Scan(&part) {
		n++
	}
	if err := iter.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Small flushes end in one row; what must not be added to it is stored beside it.
func TestChunksGrow(t *testing.T) {
	a := open(t, chunkOptions(t))
	hour := int64(messages.Hour)
	start := bucketOf(now(), hour)*hour - hour
	want := 0
	step := func(what string, rows, chunks int) {
		t.Helper()
		want += rows
		if got := countRows(t, a, "d"); got != want {
			t.Errorf("%s: %d readings, want %d", what, got, want)
		}
		if got := countChunks(t, a); got != chunks {
			t.Errorf("%s: %d chunks, want %d", what, got, chunks)
		}
	}
	n := 0
	for range growRows {
		appendAll(t, a, at(start+int64(n)*1000, n))
		n++
	}
	step("up to the limit", growRows, 1)
	appendAll(t, a, at(start+int64(n)*1000, n), at(start+1, n+1))
	n += 2
	step("above it", 2, 2)
	appendAll(t, a, at(start, n)) // a correction: the time is there already
	step("a correction", 0, 2)
	older := at(start+2, n)
	older.Devices[0].Rows[0].WriteTime -= 1e9
	appendAll(t, a, older)
	step("an older write time", 1, 3)
	appendAll(t, a, at(start+hour, n+1), at(start+hour+1, n+2))
	step("another bucket", 2, 4)
	appendAll(t, a, at(start+3, n+3))
	step("late, after the bucket changed", 1, 5)
	appendAll(t, a, at(start+hour+2, n+4))
	step("the newest bucket goes on", 1, 5)
}

// A version that was not stored is never built upon, and costs nothing that was.
func TestFailedVersion(t *testing.T) {
	a := open(t, chunkOptions(t))
	base := now()
	appendAll(t, a, at(base, 1), at(base+1, 2))
	before := a.open[1].of[messages.DeviceID{Site: "s", Device: "d"}]
	if err := a.writes.Acquire(t.Context(), int64(a.options.MaxInFlight)); err != nil { // no write gets through
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	failed := at(base+2, 3)
	if err := a.Append(ctx, &failed); err == nil || failed.Devices[0].Err == nil {
		t.Fatal("it was stored")
	}
	a.writes.Release(int64(a.options.MaxInFlight))
	if len(a.open[1].of) != 0 {
		t.Error("the chunk may still grow")
	}
	appendAll(t, a, failed, at(base+3, 4))
	if after := a.open[1].of[messages.DeviceID{Site: "s", Device: "d"}]; after.part == before.part || after.rows != 2 {
		t.Errorf("the new chunk has key %d and %d rows; the old one has %d", after.part, after.rows, before.part)
	}
	if got := countRows(t, a, "d"); got != 4 {
		t.Errorf("%d readings, want 4", got)
	}
}

func TestOpenChunksAreBounded(t *testing.T) {
	var o openChunks
	const limit = 10 * (chunkOverhead + 50)
	id := func(i int) messages.DeviceID { return messages.DeviceID{Site: "s", Device: fmt.Sprint(i)} }
	for i := range 1000 {
		o.put(id(i%300), growing{bucket: 5, data: make([]byte, 50)}, limit)
		if len(o.of) > 10 || o.bytes != len(o.of)*(chunkOverhead+50) {
			t.Fatalf("%d chunks, %d bytes", len(o.of), o.bytes)
		}
	}
	for i := range 300 {
		o.take(id(i))
	}
	if len(o.of) != 0 || o.bytes != 0 {
		t.Fatalf("all taken: %d chunks, %d bytes", len(o.of), o.bytes)
	}
	o.put(id(1), growing{bucket: 6, part: 6}, limit)
	o.put(id(1), growing{bucket: 5, part: 5}, limit)
	if c, ok := o.take(id(1)); !ok || c.part != 6 || o.bytes != 0 {
		t.Errorf("of two the one of the earlier bucket stays: %+v, %d bytes", c, o.bytes)
	}
}

// A damaged chunk is told of, with device and time, and nothing of it is given out.
func TestDamagedChunk(t *testing.T) {
	a, ctx := open(t, chunkOptions(t)), t.Context()
	const start = 1_767_322_800_000 // 2026-01-02T03:00:00Z
	appendAll(t, a, at(start, 1), at(start+1000, 2))
	var group int16
	var part int64
	var data []byte
	if err := a.session.Query(`SELECT grp, part, data FROM chunks`).WithContext(ctx).Scan(&group, &part, &data); err != nil {
		t.Fatal(err)
	}
	put := func(bucket int64, data []byte) {
		t.Helper()
		if err := a.session.Query(cqlInsertChunk, int16(1), group, bucket, "s", "d", part, data, now()*1000+1e6, 0).WithContext(ctx).Exec(); err != nil {
			t.Fatal(err)
		}
	}
	bucket := bucketOf(start, int64(messages.Hour))
	appendAll(t, a, at(start+int64(messages.Hour), 3))
	damaged := []byte(strings.Clone(string(data)))
	damaged[len(damaged)-1] ^= 4
	for name, spoil := range map[string]func(){
		"a bit turned": func() { put(bucket, damaged) },
		"cut short":    func() { put(bucket, data[:len(data)-1]) },
		"empty":        func() { put(bucket, []byte{}) },
		"of an earlier hour": func() {
			var e chunk.Encoder
			e.Block.Add(&persistence.Row{Time: start - 1, Sequence: 1})
			put(bucket, e.AppendFrames(nil, 0, 1))
		},
	} {
		spoil()
		err := a.Scan(ctx, 1, messages.DeviceID{Site: "s", Device: "d"}, persistence.Range{From: start, To: start + 5000}, func(r *persistence.Row) bool {
			t.Errorf("%s: got a reading of %d", name, r.Time)
			return true
		})
		if !errors.Is(err, chunk.ErrCorrupt) || !strings.Contains(err.Error(), "s/d") || !strings.Contains(err.Error(), "2026-01-02T03:00:00Z to 2026-01-02T04:00:00Z") {
			t.Errorf("%s: the error does not tell what and where: %v", name, err)
		}
		var damages []persistence.Damage
		past := persistence.Range{From: start + 2*int64(messages.Hour), To: start, Damaged: func(d persistence.Damage) { damages = append(damages, d) }}
		var rest []int64
		err = a.Scan(ctx, 1, messages.DeviceID{Site: "s", Device: "d"}, past, func(r *persistence.Row) bool { rest = append(rest, r.Time); return true })
		if err != nil || len(rest) != 1 || len(damages) != 1 || damages[0].From != start || damages[0].To != start+int64(messages.Hour)-1 || !errors.Is(damages[0].Err, persistence.ErrCorrupt) {
			t.Errorf("%s: past it: rows %v, damage %+v, %v", name, rest, damages, err)
		}
	}
	put(bucket, data)
	if got := countRows(t, a, "d"); got != 3 {
		t.Errorf("repaired: %d readings, want 3", got)
	}
}

// What is set aside of a damaged chunk stays damage but for what was recovered, as long as the chunk cannot be read.
func TestChunkSetAside(t *testing.T) {
	a, ctx := open(t, chunkOptions(t)), t.Context()
	const start, hour = 1_767_322_800_000, int64(messages.Hour) // 2026-01-02T03:00:00Z
	id := messages.DeviceID{Site: "s", Device: "d"}
	if lost, err := a.SetAside(ctx, 1, id, 0, start, start+hour, 9); err != nil || len(lost) != 0 {
		t.Fatalf("nothing is stored: %+v, %v", lost, err)
	}
	appendAll(t, a, at(start, 1), at(start+1000, 2), at(start+2000, 3))
	appendAll(t, a, at(start+hour, 4))
	var group int16
	var part int64
	var data []byte
	bucket := bucketOf(start, hour)
	if err := a.session.Query(`SELECT grp, part, data FROM chunks WHERE bucket = ? ALLOW FILTERING`, bucket).WithContext(ctx).Scan(&group, &part, &data); err != nil {
		t.Fatal(err)
	}
	written := now() * 1000
	put := func(data []byte) {
		t.Helper()
		written++
		if err := a.session.Query(cqlInsertChunk, int16(1), group, bucket, "s", "d", part, data, written+1e6, 0).WithContext(ctx).Exec(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, times []int64, damages ...[2]int64) {
		t.Helper()
		for _, r := range []persistence.Range{{From: start, To: start + 2*hour - 1}, {From: start + 2*hour - 1, To: start}} {
			var got []int64
			var found [][2]int64
			plain := a.Scan(ctx, 1, id, r, func(*persistence.Row) bool { return true })
			r.Damaged = func(d persistence.Damage) { found = append(found, [2]int64{d.From - start, d.To - start}) }
			if err := a.Scan(ctx, 1, id, r, func(row *persistence.Row) bool { got = append(got, row.Time-start); return true }); err != nil {
				t.Fatal(err)
			}
			if r.From > r.To {
				slices.Reverse(got)
			}
			if !slices.Equal(got, times) || !slices.Equal(found, damages) || errors.Is(plain, persistence.ErrCorrupt) != (len(damages) > 0) {
				t.Errorf("%s: readings at %v, damage %v, plain: %v", when, got, found, plain)
			}
		}
	}
	damaged := slices.Clone(data)
	damaged[len(damaged)-1] ^= 4
	put(damaged)
	want("damaged", []int64{hour}, [2]int64{0, hour - 1})
	var lost []persistence.Loss
	for range 2 {
		var err error
		if lost, err = a.SetAside(ctx, 1, id, 0, start, start+2*hour, 4); err != nil || len(lost) != 1 || lost[0].From != start || lost[0].To != start+hour-1 || lost[0].Sequence != 4 {
			t.Fatalf("losses %+v, %v", lost, err)
		}
	}
	want("set aside", []int64{hour}, [2]int64{0, hour - 1})
	appendAll(t, a, at(start+1000, 2), at(start+2000, 3), at(start+500, 7))
	want("a new reading", []int64{500, hour}, [2]int64{0, hour - 1})
	left := lost[0]
	left.To = start + 999
	if err := a.Recovered(ctx, 1, id, 0, left); err != nil {
		t.Fatal(err)
	}
	want("two of three recovered", []int64{500, 1000, 2000, hour}, [2]int64{0, 999})
	put(data)
	want("it can be read after all", []int64{0, 500, 1000, 2000, hour})
	put(damaged)
	left.To = left.From - 1
	if err := a.Recovered(ctx, 1, id, 0, left); err != nil {
		t.Fatal(err)
	}
	want("nothing is missing", []int64{500, 1000, 2000, hour})
	if lost, err := a.SetAside(ctx, 1, id, 0, start, start+2*hour, 9); err != nil || len(lost) != 0 {
		t.Errorf("losses %+v, %v", lost, err)
	}
	if err := a.Delete(ctx, 1, id, 7, now()*1000+1e9); err != nil {
		t.Fatal(err)
	}
	want("deleted", nil)
}

func TestLayoutsDoNotMix(t *testing.T) {
	for layout, other := range map[string]string{Rows: Chunks, Chunks: Rows} {
		o := testOptions(t)
		o.Layout = layout
		first := open(t, o)
		open(t, o) // the same again
		wrong := o
		wrong.Layout = other
		refused := func(when string) {
			t.Helper()
			a, err := Open(t.Context(), wrong)
			if err == nil {
				a.Close()
				t.Fatalf("%s: %s opened as %s", when, layout, other)
			}
			if !strings.Contains(err.Error(), "set layout to "+layout) || !strings.Contains(err.Error(), o.Keyspace) {
				t.Errorf("%s: the error does not say what to do: %v", when, err)
			}
		}
		refused("new")
		if layout == Rows { // as before there were chunks
			if err := change(t.Context(), first.session, `ALTER TABLE layout DROP readings`); err != nil {
				t.Fatal(err)
			}
			open(t, o)
			refused("old")
		}
	}
	if _, err := (Options{Hosts: []string{"h"}, Layout: "columns"}).complete(); err == nil || !strings.Contains(err.Error(), "rows or chunks") {
		t.Errorf("layout columns: %v", err)
	}
}

// A chunk lives as long as its newest reading; the readings' refusal by age is that of rows.
func TestChunksExpire(t *testing.T) {
	o := chunkOptions(t)
	o.Retention, o.Bucket = 10*time.Hour, 24*time.Hour
	a := open(t, o)
	day, hour := 24*int64(messages.Hour), int64(messages.Hour)
	start := bucketOf(now(), day) * day // event times of one bucket, and arrivals that go with them
	row := func(age int64, n int) persistence.Batch {
		b := at(start+hour, n)
		b.Devices[0].Rows[0].Time += int64(n)
		b.Devices[0].Rows[0].WriteTime = (start+hour+age)*1000 + int64(n)
		return b
	}
	ttlOf := func() (seconds int) {
		t.Helper()
		if err := a.session.Query(`SELECT TTL(data) FROM chunks`).WithContext(t.Context()).Scan(&seconds); err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	for n, step := range []struct {
		age  int64
		want int // hours
	}{{2 * hour, 8}, {3 * hour, 8}, {4 * hour, 8}} {
		appendAll(t, a, row(step.age, n))
		if got := ttlOf(); got > step.want*3600 || got < step.want*3600-60 {
			t.Errorf("step %d: TTL %d s, want about %d h", n, got, step.want)
		}
	}
	if got := countChunks(t, a); got != 1 {
		t.Errorf("%d chunks, want 1", got)
	}
	old := row(11*hour, 9)
	if err := a.Append(t.Context(), &old); !errors.Is(err, persistence.ErrRefused) {
		t.Errorf("older than the retention: got %v", err)
	}
}

func TestDeletedChunksAreGone(t *testing.T) {
	a := open(t, chunkOptions(t))
	base := now() - int64(messages.Hour)
	appendAll(t, a, at(base, 1), at(base-5*int64(messages.Hour), 2))
	id := messages.DeviceID{Site: "s", Device: "d"}
	if err := a.Delete(t.Context(), 1, id, 3, now()*1000+3); err != nil {
		t.Fatal(err)
	}
	if got := countChunks(t, a); got != 0 {
		t.Errorf("%d chunks are left", got)
	}
	appendAll(t, a, at(base+2, 7))
	if got := countRows(t, a, "d"); got != 1 {
		t.Errorf("%d readings after the delete, want the new one", got)
	}
}

// The reader in Python finds a device's partitions, and reads there what a scan reads.
func TestPythonReadsTheTables(t *testing.T) {
	python, err := filepath.Abs(filepath.Join("..", "..", ".cache", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if exec.CommandContext(t.Context(), python, "-c", "import cassandra").Run() != nil {
		testenv.Missing(t, "cassandra-driver for Python", "scripts/setup")
	}
	a, hour := open(t, chunkOptions(t)), int64(messages.Hour)
	start := bucketOf(now(), hour)*hour - 3*hour
	id := messages.DeviceID{Site: "north-7", Device: "well_12"}
	put := func(n int, times ...int64) {
		t.Helper()
		b := persistence.Batch{Devices: []persistence.DeviceRows{{Device: id}}}
		b.Shard = messages.ShardOf(id, a.options.Shards)
		for _, at := range times {
			b.Devices[0].Rows = append(b.Devices[0].Rows, persistence.Row{
				Time: at, Sequence: uint64(n), WriteTime: start*1000 + int64(n), Values: []float64{float64(n) / 100, float64(at) / 7}, Note: fmt.Sprint("é", n%3),
			})
		}
		if err := a.Append(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	shard := messages.ShardOf(id, a.options.Shards)
	put(1, start-hour, start)
	if err := a.Delete(t.Context(), shard, id, 1, start*1000+1); err != nil {
		t.Fatal(err)
	}
	put(1, start, start+1) // replayed: hidden
	for n := 2; n < 150; n++ {
		put(n, start+int64(n)*60_000, start+60_000) // and the same corrected each time
	}
	want := ""
	err = a.Scan(t.Context(), shard, id, persistence.Range{From: -maxTime, To: maxTime}, func(r *persistence.Row) bool {
		want += fmt.Sprintln(r.Time, r.Sequence, r.Values[0], r.Values[1], r.Note)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	reader := exec.CommandContext(t.Context(), python, filepath.Join("..", "..", "examples", "clients", "read_chunks.py"),
		"--host", a.options.Hosts[0], "--keyspace", a.options.Keyspace, id.Site, id.Device)
	var complaint strings.Builder
	reader.Stderr = &complaint
	out, err := reader.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	got := ""
	for line := range strings.Lines(string(out)) {
		var r struct {
			Time, Sequence int64
			Values         []float64
			Note           string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got += fmt.Sprintln(r.Time, r.Sequence, r.Values[0], r.Values[1], r.Note)
	}
	if diff := cmp.Diff(want, got); diff != "" || strings.Count(want, "\n") != 149 {
		t.Errorf("%d readings (-scan +python):\n%s", strings.Count(want, "\n"), diff)
	}
}

func TestRetentionContractChunks(t *testing.T) {
	o := chunkOptions(t)
	o.Classes = contract.Classes
	contract.Retention(t, func(t *testing.T) persistence.Archive { return open(t, o) })
}
