package cassandra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// now is the arrival time of the tests' readings: what has a TTL must not be expired.
func now() int64 { return time.Now().UnixMilli() }

func oneRow(device string, at int64) persistence.DeviceRows {
	return persistence.DeviceRows{
		Device: messages.DeviceID{Site: "s", Device: device},
		Rows:   []persistence.Row{{Time: at, Sequence: 7, WriteTime: now() * 1000, Values: []float64{1}}},
	}
}

func countRows(t *testing.T, a *Archive, device string) int {
	t.Helper()
	n := 0
	err := a.Scan(t.Context(), 1, messages.DeviceID{Site: "s", Device: device}, persistence.Range{From: -maxTime, To: maxTime}, func(*persistence.Row) bool { n++; return true })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpenChecksTheLayout(t *testing.T) {
	o := testOptions(t)
	open(t, o)
	open(t, o) // the same again
	for name, change := range map[string]func(*Options){
		"17 shards": func(o *Options) { o.Shards++ }, "4 groups": func(o *Options) { o.Groups++ }, "bucket 2h": func(o *Options) { o.Bucket = 2 * time.Hour },
	} {
		other := o
		change(&other)
		a, err := Open(t.Context(), other)
		if err == nil {
			a.Close()
			t.Fatalf("%s: opened", name)
		}
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "16 shards, 3 groups, bucket 1h0m0s") {
			t.Errorf("%s: the error does not say what is and what was wanted: %v", name, err)
		}
	}
}

func TestManyCreateTheSchemaAtOnce(t *testing.T) {
	o := testOptions(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			a, err := Open(ctx, o)
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Close()
			if err := a.Append(ctx, &persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("a", now())}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpenWithoutAServer(t *testing.T) {
	ports, err := testenv.FreePorts("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Hosts: []string{fmt.Sprint("127.0.0.1:", ports[0])}, Timeout: time.Second}); err == nil || !strings.Contains(err.Error(), "connect to cassandra at") {
		t.Errorf("Open = %v, want an error that says where", err)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	o := testOptions(t)
	before := goleak.IgnoreCurrent()
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Append(t.Context(), &persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("a", now())}}); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestRetention(t *testing.T) {
	o := testOptions(t)
	o.Retention, o.RollupRetention = 10*time.Hour, 100*time.Hour
	a, ctx := open(t, o), t.Context()
	arrival := now()
	hour := time.Hour.Milliseconds()
	young := oneRow("young", arrival-3*hour)
	young.Rollups = []persistence.RollupRow{
		{Rollup: messages.Rollup{Start: arrival - 4*hour, Step: messages.Hour}, Sequence: 7, WriteTime: arrival * 1000},
		{Rollup: messages.Rollup{Start: arrival - 400*hour, Step: messages.Hour}, Sequence: 7, WriteTime: arrival * 1000},
	}
	old := oneRow("old", arrival-11*hour)
	b := persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{old, young}}
	if err := a.Append(ctx, &b); !errors.Is(err, persistence.ErrRefused) {
		t.Errorf("append of a row beyond the retention: got %v, want ErrRefused", err)
	}
	if !errors.Is(b.Devices[0].Err, persistence.ErrRefused) || b.Devices[1].Err != nil {
		t.Errorf("errors of the old and the young row: %v; %v", b.Devices[0].Err, b.Devices[1].Err)
	}
	if got := countRows(t, a, "young"); got != 1 {
		t.Errorf("%d young rows, want 1", got)
	}
	group := a.group(young.Device)
	for what, q := range map[string]struct {
		statement string
		bucket    int64
		want      int // hours
	}{
		"reading": {`SELECT TTL(note) FROM readings WHERE shard = 1 AND grp = ? AND bucket = ?`, bucketOf(arrival-3*hour, hour), 7},
		"rollup":  {`SELECT TTL(count) FROM rollups WHERE shard = 1 AND grp = ? AND step = 3600000 AND bucket = ?`, bucketOf(arrival-4*hour, 48*hour), 97},
	} {
		var seconds int
		if err := a.session.Query(q.statement, group, q.bucket).WithContext(ctx).Scan(&seconds); err != nil {
			t.Fatal(what, err)
		}
		if want := q.want * 3600; seconds > want || seconds < want-120 {
			t.Errorf("TTL of the %s is %d s, want %d", what, seconds, want)
		}
	}
}

// A statement that Cassandra refuses is the fault of one device only.
func TestOneGuiltyDevice(t *testing.T) {
	o := testOptions(t)
	o.Groups = 1
	a := open(t, o)
	at := now()
	// A clustering key beyond 64 KiB; names are checked long before, so that is how to provoke it.
	b := persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("a", at), oneRow(strings.Repeat("x", 70_000), at), oneRow("b", at)}}
	if err := a.Append(t.Context(), &b); !errors.Is(err, persistence.ErrRefused) {
		t.Errorf("append: %v, want ErrRefused", err)
	}
	if b.Devices[0].Err != nil || b.Devices[2].Err != nil || !errors.Is(b.Devices[1].Err, persistence.ErrRefused) {
		t.Errorf("errors: %v; %.200v; %v, want only the second, refused", b.Devices[0].Err, b.Devices[1].Err, b.Devices[2].Err)
	}
	if countRows(t, a, "a") != 1 || countRows(t, a, "b") != 1 {
		t.Error("an innocent device's row is not stored")
	}
}

func TestRefusedBeforeSending(t *testing.T) {
	a := open(t, testOptions(t))
	for name, spoil := range map[string]func(*persistence.DeviceRows){
		"no site":       func(d *persistence.DeviceRows) { d.Device.Site = "" },
		"no sequence":   func(d *persistence.DeviceRows) { d.Rows[0].Sequence = 0 },
		"no write time": func(d *persistence.DeviceRows) { d.Rows[0].WriteTime = 0 },
		"far time":      func(d *persistence.DeviceRows) { d.Rows[0].Time = messages.NoTime },
		"big note":      func(d *persistence.DeviceRows) { d.Rows[0].Note = strings.Repeat("x", 2<<20) },
		"big record": func(d *persistence.DeviceRows) {
			d.Records = []persistence.Record{{Sequence: 1, WriteTime: 1, Payload: make([]byte, 2<<20)}}
		},
		"no step": func(d *persistence.DeviceRows) {
			d.Rollups = []persistence.RollupRow{{Sequence: 1, WriteTime: 1}}
		},
	} {
		d := oneRow("a", now())
		spoil(&d)
		b := persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{d, oneRow("b", now())}}
		if err := a.Append(t.Context(), &b); !errors.Is(err, persistence.ErrRefused) || !errors.Is(b.Devices[0].Err, persistence.ErrRefused) || b.Devices[1].Err != nil {
			t.Errorf("%s: %v; devices: %v; %v", name, err, b.Devices[0].Err, b.Devices[1].Err)
		}
	}
	b := persistence.Batch{Shard: 99, Devices: []persistence.DeviceRows{oneRow("a", now())}}
	if err := a.Append(t.Context(), &b); err == nil || errors.Is(err, persistence.ErrRefused) {
		t.Errorf("a shard beyond the layout: got %v, want an error of no class", err)
	}
}

// Tables that are gone are no reason to give rows up.
func TestMissingTableIsNotRefused(t *testing.T) {
	for layout, create := range map[string]string{Rows: cqlCreateReadings, Chunks: cqlCreateChunks} {
		t.Run(layout, func(t *testing.T) { testMissingTable(t, layout, create) })
	}
}

func testMissingTable(t *testing.T, layout, create string) {
	o := testOptions(t)
	o.Layout = layout
	a, ctx := open(t, o), t.Context()
	b := persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("a", now())}}
	if err := a.Append(ctx, &b); err != nil {
		t.Fatal(err)
	}
	if err := change(ctx, a.session, a.statement(`DROP TABLE readings`, `DROP TABLE chunks`)); err != nil {
		t.Fatal(err)
	}
	if err := a.Append(ctx, &b); err == nil || errors.Is(err, persistence.ErrRefused) {
		t.Errorf("append without the table: got %v, want an error that is tried again", err)
	}
	if err := change(ctx, a.session, fmt.Sprintf(create, 24)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 20*time.Second, func() error { return a.Append(ctx, &b) })
	if got := countRows(t, a, "a"); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
}

func TestNothingIsNull(t *testing.T) {
	a, ctx := open(t, testOptions(t)), t.Context()
	d := oneRow("a", 5)
	d.Rows[0].Values = nil
	d.Rollups = []persistence.RollupRow{{Rollup: messages.Rollup{Start: 0, Step: messages.Minute}, Sequence: 1, WriteTime: 1}}
	d.Records = []persistence.Record{{Sequence: 1, WriteTime: 1}}
	if err := a.Append(ctx, &persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{d}}); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`SELECT vals, quality, note, sequence, flags FROM readings`, `SELECT payload FROM records`,
		`SELECT count, counts, mins, maxs, sums, firsts, lasts, sequence FROM rollups`,
	} {
		iter := a.session.Query(statement).WithContext(ctx).Iter()
		raw := make([]rawColumn, len(iter.Columns()))
		into := make([]any, len(raw))
		for i := range raw {
			into[i] = &raw[i]
		}
		if !iter.Scan(into...) {
			t.Fatalf("%s: %v", statement, iter.Close())
		}
		for i, column := range iter.Columns() {
			if raw[i].null {
				t.Errorf("%s is null", column.Name)
			}
		}
		if err := iter.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWarnsOfLoss(t *testing.T) {
	var said strings.Builder
	o := testOptions(t)
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	a := open(t, o)
	var sync string
	if err := a.session.Query(cqlReadSync).WithContext(t.Context()).Scan(&sync); err != nil {
		t.Fatal(err)
	}
	if warned := strings.Contains(said.String(), "commitlog_sync: group"); warned != (sync == "periodic") {
		t.Errorf("commitlog_sync is %s; log: %q", sync, said.String())
	}
}

// What a delete hides must also go from the disk, in every bucket, and nothing else.
func TestDeleteFreesSpace(t *testing.T) {
	a, ctx := open(t, testOptions(t)), t.Context()
	const buckets = 30
	at := now()
	b := persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("gone", at), oneRow("stays", at)}}
	for i := range b.Devices {
		d := &b.Devices[i]
		for n := range int64(buckets - 1) {
			row := d.Rows[0]
			row.Time -= (n + 1) * int64(messages.Hour)
			d.Rows = append(d.Rows, row)
			d.Rollups = append(d.Rollups, persistence.RollupRow{
				Rollup: messages.Rollup{Start: messages.Hour.Start(at) - n*1000*int64(messages.Hour), Step: messages.Hour}, Sequence: 7, WriteTime: at * 1000,
			})
		}
	}
	if err := a.Append(ctx, &b); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, 1, messages.DeviceID{Site: "s", Device: "gone"}, 7, now()*1000); err != nil {
		t.Fatal(err)
	}
	for statement, want := range map[string]int{`SELECT device FROM readings`: buckets, `SELECT device FROM rollups`: buckets - 1} {
		left := map[string]int{}
		iter := a.session.Query(statement).WithContext(ctx).Iter()
		for device := ""; iter.Scan(&device); {
			left[device]++
		}
		if err := iter.Close(); err != nil {
			t.Fatal(err)
		}
		if left["gone"] != 0 || left["stays"] != want {
			t.Errorf("%s: %v, want %d of the device that stays", statement, left, want)
		}
	}
}

// The archive's server dies, freezes and comes back: nothing is refused, everything can be written again.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Cassandra twice: 25 s")
	}
	// Without commitlog_sync: group a kill loses what was acknowledged just before.
	server := testenv.OwnCassandra(t, testenv.CassandraOptions{HeapMB: 512, CommitlogSync: "group"})
	a, ctx := open(t, Options{Hosts: []string{server.Addr}, Keyspace: "outage", Timeout: 2 * time.Second}), t.Context()
	batch := func(device string) *persistence.Batch {
		return &persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow(device, now())}}
	}
	if err := a.Append(ctx, batch("before")); err != nil {
		t.Fatal(err)
	}
	outage := func(how string) {
		b := batch(how)
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		err := a.Append(limit, b)
		if err == nil || errors.Is(err, persistence.ErrRefused) || errors.Is(err, persistence.ErrFenced) || b.Devices[0].Err == nil {
			t.Errorf("%s: append got %v, want an error that is tried again", how, err)
		}
		if limit.Err() != nil {
			t.Errorf("%s: append had no deadline of its own", how)
		}
		if err := a.Ping(limit); err == nil {
			t.Errorf("%s: ping got no error", how)
		}
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	outage("paused")
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() error { return a.Append(ctx, batch("paused")) })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	outage("killed")
	restart, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := server.Start(restart); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() error { return a.Append(ctx, batch("killed")) })
	for _, device := range []string{"before", "paused", "killed"} {
		if got := countRows(t, a, device); got == 0 {
			t.Errorf("no row of %q", device)
		}
	}
}
