package cassandra

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// maxBatchRows and maxBatchBytes bound one batch. 100 rows are where more gain little (measured);
	// Cassandra fails batches above 50 KiB by default, if they are of several partitions, which ours are not.
	maxBatchRows  = 100
	maxBatchBytes = 40 << 10
	// maxEntryBytes bounds one reading, rollup or record: far below the largest mutation (16 MiB).
	maxEntryBytes = 1 << 20
	// maxTime bounds event times, so that no sum of them overflows: 36 million years.
	maxTime = 1 << 60
)

// Besides the steps of rollups, what a request can be to.
const (
	readings messages.Step = 0
	records  messages.Step = -1
	devices  messages.Step = -2
)

// request is one batch inside one partition, all of one statement. Its values are encoded when its turn has
// come: before, what waits is no more than what the caller holds.
type request struct {
	partition
	rows      []place
	bytes     int
	writeTime int64        // of one of its rows: how long the bucket must be listed counts from it
	devices   []int        // whose rows it has: indexes, ascending
	grown     []grownChunk // of layout Chunks: what may grow on when it is written
	err       error
}

// place is where a row of a request is: in which of the batch's devices, and there which of its readings,
// rollups or records. With layout Chunks a reading's place is that of the chunk in the request's grown ones.
type place struct{ device, at int32 }

// Append writes everything in b, several requests at once, and checks each one's result. Of a device
// whose input is refused nothing or a part may have been written. See persistence.Archive.
func (a *Archive) Append(ctx context.Context, b *persistence.Batch) error {
	if err := a.append(ctx, b); err == nil {
		return nil
	}
	// Cassandra refuses a request as a whole: find whose fault it was.
	for i := range b.Devices {
		d := &b.Devices[i]
		if len(b.Devices) > 1 && errors.Is(d.Err, errInvalid) {
			alone := persistence.Batch{Shard: b.Shard, Devices: []persistence.DeviceRows{*d}}
			_ = a.append(ctx, &alone) // the error is in the device
			d.Err = alone.Devices[0].Err
		}
	}
	return failure(b)
}

// failure says what is not stored: nil, or an error that wraps one of the devices', not a refusal if there is another.
func failure(b *persistence.Batch) error {
	failed := 0
	var first error
	for i := range b.Devices {
		err := b.Devices[i].Err
		if err == nil {
			continue
		}
		failed++
		if first == nil || errors.Is(first, persistence.ErrRefused) {
			first = err
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("append to shard %d: %d of %d devices are not stored: %w", b.Shard, failed, len(b.Devices), first)
}

func (a *Archive) append(ctx context.Context, b *persistence.Batch) error {
	err := a.checkShard(b.Shard)
	if err == nil {
		err = ctx.Err()
	}
	for i := range b.Devices {
		b.Devices[i].Err = err
	}
	if err != nil {
		return err
	}
	g := grouping{archive: a, shard: int16(b.Shard), open: make(map[partition]*request)}
	for i := range b.Devices {
		d := &b.Devices[i]
		if d.Err = a.check(d); d.Err == nil {
			g.add(i, d)
		}
	}
	a.send(ctx, b, g.all)
	for _, r := range g.all {
		if r.err == nil {
			a.keepOpen(r)
			continue
		}
		for _, i := range r.devices {
			// What may succeed when tried again comes before what is refused.
			if d := &b.Devices[i]; d.Err == nil || errors.Is(d.Err, persistence.ErrRefused) {
				d.Err = r.err
			}
		}
	}
	return failure(b)
}

// check returns an error that wraps ErrRefused when anything of d can never be stored.
func (a *Archive) check(d *persistence.DeviceRows) error {
	refuse := func(what string, args ...any) error {
		return fmt.Errorf("%v: %s: %w", d.Device, fmt.Sprintf(what, args...), persistence.ErrRefused)
	}
	if d.Device.Site == "" {
		return refuse("a site without a name")
	}
	kept := a.options.Classes.Of(d.Class).Readings
	for i := range d.Rows {
		r := &d.Rows[i]
		if why := checkEntry(r.Time, r.Sequence, r.WriteTime, rowSize(r)); why != "" {
			return refuse("reading of %d ms: %s", r.Time, why)
		}
		if a.options.Layout == Chunks && max(len(r.Values), len(r.Quality)) > messages.MaxChannels {
			return refuse("reading of %d ms: %d values, %d qualities: at most %d", r.Time, len(r.Values), len(r.Quality), messages.MaxChannels)
		}
		if _, ok := ttl(kept, r.Time, r.WriteTime); !ok {
			return refuse("reading of %d ms is older than the retention of %v", r.Time, kept)
		}
	}
	for i := range d.Rollups {
		r := &d.Rollups[i]
		if why := checkEntry(r.Start, r.Sequence, r.WriteTime, rollupSize(r)); why != "" {
			return refuse("rollup of %d ms: %s", r.Start, why)
		}
		if r.Step <= 0 || r.Step > math.MaxInt32 {
			return refuse("rollup with a step of %d ms", r.Step)
		}
	}
	for i := range d.Records {
		r := &d.Records[i]
		if why := checkEntry(0, r.Sequence, r.WriteTime, len(r.Payload)); why != "" {
			return refuse("record: %s", why)
		}
	}
	return nil
}

// checkEntry returns what is wrong, "" for nothing.
func checkEntry(time int64, sequence uint64, writeTime int64, size int) string {
	switch {
	case time < -maxTime || time > maxTime:
		return "its time is out of range"
	case sequence == 0 || sequence > math.MaxInt64:
		return fmt.Sprintf("its stream sequence %d is out of range", sequence)
	case writeTime <= 0:
		return "it has no write time"
	case size > maxEntryBytes:
		return fmt.Sprintf("%d bytes are more than %d", size, maxEntryBytes)
	}
	return ""
}

func rowSize(r *persistence.Row) int {
	return 64 + 12*len(r.Values) + len(r.Quality) + len(r.Note)
}

func rollupSize(r *persistence.RollupRow) int { return 96 + 72*len(r.Channels) }

// grouping makes requests of what a batch brings.
type grouping struct {
	archive *Archive
	shard   int16
	open    map[partition]*request // not full yet
	all     []*request
}

func (g *grouping) add(i int, d *persistence.DeviceRows) {
	group := g.archive.group(d.Device)
	length := g.archive.bucketLength(readings)
	rows := d.Rows
	if g.archive.options.Layout == Chunks {
		g.addChunks(i, d, g.archive.options.Classes.Of(d.Class).Readings)
		rows = nil
	}
	for j := range rows {
		r := &rows[j]
		g.to(partition{readings, g.shard, group, bucketOf(r.Time, length)}, i, j, r.WriteTime, rowSize(r))
	}
	for j := range d.Rollups {
		r := &d.Rollups[j]
		g.to(partition{r.Step, g.shard, group, bucketOf(r.Start, g.archive.bucketLength(r.Step))}, i, j, r.WriteTime, rollupSize(r))
	}
	newest := 0
	for j := range d.Records {
		r := &d.Records[j]
		g.to(partition{records, g.shard, group, 0}, i, j, r.WriteTime, 64+len(r.Payload))
		if r.Sequence > d.Records[newest].Sequence {
			newest = j
		}
	}
	if len(d.Records) > 0 {
		g.to(partition{devices, g.shard, group, 0}, i, newest, d.Records[newest].WriteTime, 128)
	}
}

// to puts row j of device i, of size bytes, into a request for that partition, which it returns.
func (g *grouping) to(p partition, i, j int, writeTime int64, size int) *request {
	r := g.open[p]
	if r == nil || len(r.rows) >= maxBatchRows || r.bytes+size > maxBatchBytes {
		r = &request{partition: p, writeTime: writeTime}
		g.open[p] = r
		g.all = append(g.all, r)
	}
	r.rows = append(r.rows, place{int32(i), int32(j)})
	r.bytes += size
	if len(r.devices) == 0 || r.devices[len(r.devices)-1] != i {
		r.devices = append(r.devices, i)
	}
	return r
}

// send executes all requests, at most MaxInFlight of the whole archive at once, and sets their errors. Of
// several calls the one that came first gets its turns first, so that calls end one after the other: if all
// went on at the same pace, all would meet their deadlines with nothing done.
func (a *Archive) send(ctx context.Context, b *persistence.Batch, all []*request) {
	var wg sync.WaitGroup
	for len(all) > 0 {
		turns := min(len(all), a.options.MaxInFlight)
		if err := a.writes.Acquire(ctx, int64(turns)); err != nil {
			for _, r := range all {
				r.err = fmt.Errorf("wait to write: %w", err)
			}
			break
		}
		for i, r := range all[:turns] {
			execute := func() {
				defer a.writes.Release(1)
				r.err = a.execute(ctx, b, r)
			}
			if i == len(all)-1 {
				execute() // the last, or only, one needs no goroutine
			} else {
				wg.Go(execute)
			}
		}
		all = all[turns:]
	}
	wg.Wait()
}

func (a *Archive) execute(ctx context.Context, b *persistence.Batch, r *request) error {
	if r.step >= readings && !a.known.has(r.partition) {
		if err := a.listBucket(ctx, r); err != nil {
			return fmt.Errorf("list bucket %d: %w", r.bucket, err)
		}
		a.known.add(r.partition)
	}
	if err := a.write(ctx, b, r); err != nil {
		return fmt.Errorf("write %d rows: %w", len(r.rows), a.classify(ctx, err))
	}
	return nil
}

// listBucket writes that the bucket is there. It stays listed for a day longer than its last row.
func (a *Archive) listBucket(ctx context.Context, r *request) error {
	length, retention := a.bucketLength(r.step), a.longest.Readings // a bucket has devices of all classes
	if r.step != readings {
		retention = a.longest.Rollups
	}
	seconds := 0
	if retention > 0 {
		const day = 24 * 60 * 60
		left, _ := ttl(retention, (r.bucket+1)*length, r.writeTime)
		seconds = min(left+day, maxTTL)
	}
	return a.session.Query(cqlInsertBucket, r.shard, r.group, int(r.step), r.bucket, seconds).WithContext(ctx).Exec()
}

// errInvalid marks what Cassandra has refused. It counts as refused when the caller is told.
var errInvalid = fmt.Errorf("not valid for cassandra: %w", persistence.ErrRefused)

// classify puts an error of a write into its class. That a statement is invalid can be the fault of
// its values, and then it is refused for good; or the tables are gone, and then it is not: nothing may
// be dropped that a repaired archive would take.
func (a *Archive) classify(ctx context.Context, err error) error {
	if !isInvalid(err) {
		return err
	}
	for _, probe := range []*gocql.Query{
		a.session.Query(a.statement(cqlHasReadings, cqlHasChunks), int16(0), int16(0), int64(0), "", ""),
		a.session.Query(cqlHasRollups, int16(0), int16(0), int(messages.Hour), int64(0), "", ""),
		a.session.Query(cqlReadRecords, int16(0), int16(0), "", ""),
		a.session.Query(cqlReadDeleted, int16(0), int16(0), "", ""),
	} {
		if probe.WithContext(ctx).Iter().Close() != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errInvalid, err)
}

// columns are the columns of a rollup's channels, one value for each channel.
type columns struct {
	counts                          []int64
	mins, maxs, sums, firsts, lasts doubles
}

// channels puts the columns together again, into a buffer.
func (c *columns) channels(buffer []messages.ChannelRollup) ([]messages.ChannelRollup, error) {
	n := len(c.counts)
	for _, other := range []doubles{c.mins, c.maxs, c.sums, c.firsts, c.lasts} {
		if len(other) != n {
			return nil, fmt.Errorf("a rollup has %d channels in one column and %d in another", n, len(other))
		}
	}
	buffer = slices.Grow(buffer[:0], n)[:n]
	for i := range buffer {
		buffer[i] = messages.ChannelRollup{Count: c.counts[i], Min: c.mins[i], Max: c.maxs[i], Sum: c.sums[i], First: c.firsts[i], Last: c.lasts[i]}
	}
	return buffer, nil
}
