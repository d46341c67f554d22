package cassandra

import (
	"context"
	"encoding/binary"
	"math"
	"strings"
	"sync"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// A row of readings has 13 values. The driver boxes each, looks at its type by reflection and makes a slice
// of it, and looks up the statement of each row: that was half of what a member spent on a row (measured:
// 14 µs and 1.4 KB of garbage). So the values of a request are encoded here, into memory that is used again,
// and a request of maxBatchRows readings is one prepared statement.

// fullReadings inserts maxBatchRows readings of one partition.
var fullReadings = cqlBeginBatch + strings.Repeat(cqlInsertReading+"; ", maxBatchRows) + cqlApplyBatch

// value is one encoded value. It implements gocql.Marshaler.
type value []byte

func (v *value) MarshalCQL(gocql.TypeInfo) ([]byte, error) { return *v, nil }

// values are those of the statements of one request, in their order. Not for several goroutines at once.
type values struct {
	args  []any   // pointers into cells, as the driver takes them
	cells []value // never grows: args point into it
	bytes []byte  // what cells point to; of several such the last
}

const (
	// valuesArgs and valuesCells are enough for any request: a rollup has 17 values, of which 4 are the same in
	// all of a request. valuesBytes are enough for readings of some channels; beyond them there is more than one
	// piece, and those are not used again.
	valuesArgs  = 17 * maxBatchRows
	valuesCells = 4 + 13*maxBatchRows
	valuesBytes = 24 << 10
)

var valuesPool = sync.Pool{New: func() any {
	return &values{args: make([]any, 0, valuesArgs), cells: make([]value, 0, valuesCells), bytes: make([]byte, 0, valuesBytes)}
}}

// recycle keeps the memory for another request. Nothing of v may be used afterwards.
func (v *values) recycle() {
	if cap(v.bytes) > maxBatchBytes {
		return
	}
	clear(v.args)
	clear(v.cells)
	v.args, v.cells, v.bytes = v.args[:0], v.cells[:0], v.bytes[:0]
	valuesPool.Put(v)
}

// room returns n bytes, which are the next value.
func (v *values) room(n int) []byte {
	if cap(v.bytes)-len(v.bytes) < n {
		v.bytes = make([]byte, 0, max(n, valuesBytes)) // values before it keep the memory that they are in
	}
	from := len(v.bytes)
	v.bytes = v.bytes[:from+n]
	b := v.bytes[from : from+n : from+n]
	v.cells = append(v.cells, b)
	v.args = append(v.args, &v.cells[len(v.cells)-1])
	return b
}

func (v *values) tinyint(x int8)   { v.room(1)[0] = byte(x) }
func (v *values) smallint(x int16) { binary.BigEndian.PutUint16(v.room(2), uint16(x)) }
func (v *values) int(x int)        { binary.BigEndian.PutUint32(v.room(4), uint32(int32(x))) }
func (v *values) bigint(x int64)   { binary.BigEndian.PutUint64(v.room(8), uint64(x)) }
func (v *values) text(x string)    { copy(v.room(len(x)), x) }
func (v *values) blob(x []byte)    { copy(v.room(len(x)), x) } // of nil too: never a null

func (v *values) doubles(x []float64) {
	v.list(len(x), func(i int) uint64 { return math.Float64bits(x[i]) })
}

// list binds a list of n doubles or bigints by their bits: on the wire its length, then each with its own (8); all
// big-endian. No values are an empty list, never a null.
func (v *values) list(n int, bits func(i int) uint64) {
	b := v.room(4 + doubleOnWire*n)
	binary.BigEndian.PutUint32(b, uint32(n))
	for i := range n {
		at := b[4+doubleOnWire*i:]
		binary.BigEndian.PutUint32(at, 8)
		binary.BigEndian.PutUint64(at[4:], bits(i))
	}
}

// reading binds what cqlInsertReading takes after the columns of the partition, as the following do for theirs.
func (v *values) reading(id messages.DeviceID, r *persistence.Row, seconds int) {
	v.text(id.Site)
	v.text(id.Device)
	v.bigint(r.Time)
	v.doubles(r.Values)
	v.blob(r.Quality)
	v.text(r.Note)
	v.bigint(int64(r.Sequence))
	v.tinyint(int8(r.Flags))
	v.bigint(r.WriteTime)
	v.int(seconds)
}

func (v *values) chunk(id messages.DeviceID, c *growing) {
	v.text(id.Site)
	v.text(id.Device)
	v.bigint(c.part)
	v.blob(c.data)
	v.bigint(c.writeTime)
	v.int(c.seconds)
}

func (v *values) rollup(id messages.DeviceID, r *persistence.RollupRow, seconds int) {
	v.text(id.Site)
	v.text(id.Device)
	v.bigint(r.Start)
	v.bigint(r.Count)
	c := r.Channels
	v.list(len(c), func(i int) uint64 { return uint64(c[i].Count) })
	v.list(len(c), func(i int) uint64 { return math.Float64bits(c[i].Min) })
	v.list(len(c), func(i int) uint64 { return math.Float64bits(c[i].Max) })
	v.list(len(c), func(i int) uint64 { return math.Float64bits(c[i].Sum) })
	v.list(len(c), func(i int) uint64 { return math.Float64bits(c[i].First) })
	v.list(len(c), func(i int) uint64 { return math.Float64bits(c[i].Last) })
	v.bigint(int64(r.Sequence))
	v.bigint(r.WriteTime)
	v.int(seconds)
}

func (v *values) record(id messages.DeviceID, r *persistence.Record) {
	v.text(id.Site)
	v.text(id.Device)
	v.bigint(int64(r.Sequence))
	v.blob(r.Payload)
	v.bigint(r.WriteTime)
}

// recorded binds what cqlInsertDevice takes.
func (v *values) recorded(id messages.DeviceID, r *persistence.Record) {
	v.text(id.Site)
	v.text(id.Device)
	v.bigint(int64(r.Sequence))
	v.bigint(r.WriteTime)
}

// partition binds the partition's columns, with which all statements begin, and returns how many there are.
func (v *values) partition(p partition) int {
	v.smallint(p.shard)
	v.smallint(p.group)
	switch p.step {
	case records, devices:
		return 2
	case readings:
		v.bigint(p.bucket)
		return 3
	default:
		v.int(int(p.step))
		v.bigint(p.bucket)
		return 4
	}
}

// write encodes a request and executes it.
func (a *Archive) write(ctx context.Context, b *persistence.Batch, r *request) error {
	v := valuesPool.Get().(*values)
	defer v.recycle()
	statement := a.encode(v, b, r)
	if statement == cqlInsertReading && len(r.rows) == maxBatchRows {
		return a.session.Query(fullReadings, v.args...).RoutingKey(routingKey(r.partition)).WithContext(ctx).Exec()
	}
	batch := a.session.NewBatch(gocql.UnloggedBatch)
	batch.Entries = make([]gocql.BatchEntry, len(r.rows))
	each := len(v.args) / len(r.rows)
	for i := range batch.Entries {
		batch.Entries[i] = gocql.BatchEntry{Stmt: statement, Args: v.args[i*each : (i+1)*each]}
	}
	return a.session.ExecuteBatch(batch.WithContext(ctx))
}

// encode binds the values of all rows of a request, the same number of each, and returns their statement.
func (a *Archive) encode(v *values, b *persistence.Batch, r *request) (statement string) {
	columns := 0
	for _, at := range r.rows {
		if columns == 0 {
			columns = v.partition(r.partition)
		} else {
			v.args = append(v.args, v.args[:columns]...) // encoded once
		}
		d := &b.Devices[at.device]
		switch kept := a.options.Classes.Of(d.Class); {
		case r.step == records:
			statement = cqlInsertRecord
			v.record(d.Device, &d.Records[at.at])
		case r.step == devices:
			statement = cqlInsertDevice
			v.recorded(d.Device, &d.Records[at.at])
		case r.step == readings && a.options.Layout == Chunks:
			statement = cqlInsertChunk
			v.chunk(d.Device, &r.grown[at.at].chunk)
		case r.step == readings:
			statement = cqlInsertReading
			row := &d.Rows[at.at]
			seconds, _ := ttl(kept.Readings, row.Time, row.WriteTime) // checked before
			v.reading(d.Device, row, seconds)
		default:
			statement = cqlInsertRollup
			row := &d.Rollups[at.at]
			seconds, ok := ttl(kept.Rollups, row.Start+int64(row.Step), row.WriteTime)
			if !ok {
				seconds = 1 // its last reading was just not too old
			}
			v.rollup(d.Device, row, seconds)
		}
	}
	return statement
}

// routingKey is the key of a partition of readings, by which the driver finds the servers that have it: of each
// column its length, its value and a zero.
func routingKey(p partition) []byte {
	b := make([]byte, 0, 24)
	for _, column := range []struct {
		size  uint16
		value int64
	}{{2, int64(p.shard)}, {2, int64(p.group)}, {8, p.bucket}} {
		b = binary.BigEndian.AppendUint16(b, column.size)
		for shift := 8 * (int(column.size) - 1); shift >= 0; shift -= 8 {
			b = append(b, byte(column.value>>shift))
		}
		b = append(b, 0)
	}
	return b
}
