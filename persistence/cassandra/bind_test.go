package cassandra

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// encoded returns what the driver would send of these values.
func encoded(t *testing.T, args ...any) [][]byte {
	t.Helper()
	native := func(of gocql.Type) gocql.TypeInfo { return gocql.NewNativeType(4, of, "") }
	list := func(of gocql.Type) gocql.TypeInfo {
		return gocql.CollectionType{NativeType: gocql.NewNativeType(4, gocql.TypeList, ""), Elem: native(of)}
	}
	var all [][]byte
	for _, arg := range args {
		var info gocql.TypeInfo
		switch arg.(type) {
		case int8:
			info = native(gocql.TypeTinyInt)
		case int16:
			info = native(gocql.TypeSmallInt)
		case int:
			info = native(gocql.TypeInt)
		case int64:
			info = native(gocql.TypeBigInt)
		case string:
			info = native(gocql.TypeText)
		case []byte:
			info = native(gocql.TypeBlob)
		case []float64:
			info = list(gocql.TypeDouble)
		case []int64:
			info = list(gocql.TypeBigInt)
		default:
			t.Fatalf("no type for %T", arg)
		}
		b, err := gocql.Marshal(info, arg)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// What is bound is what the driver would make of the values, in the order of the statement's columns.
func TestEncode(t *testing.T) {
	const start = 1_767_322_800_000
	rows := &Archive{options: Options{Layout: Rows, Classes: persistence.Classes{}}}
	chunks := &Archive{options: Options{Layout: Chunks, Classes: persistence.Classes{}}}
	channel := messages.ChannelRollup{Count: 3, Min: -1, Max: math.MaxFloat64, Sum: 0.5, First: 1, Last: math.Copysign(0, -1)}
	b := &persistence.Batch{Shard: 7, Devices: []persistence.DeviceRows{{}, {
		Device: messages.DeviceID{Site: "s", Device: "d"},
		Rows: []persistence.Row{
			{Time: -5, Sequence: 9, WriteTime: 11, Values: []float64{1.5, math.NaN()}, Quality: []byte{0, 3}, Note: "héllo", Flags: 1},
			{Time: start, Sequence: math.MaxInt64, WriteTime: 12},
		},
		Rollups: []persistence.RollupRow{{Rollup: messages.Rollup{Step: messages.Minute, Start: start, Count: 4, Channels: []messages.ChannelRollup{channel, {}}}, Sequence: 9, WriteTime: 11}},
		Records: []persistence.Record{{Sequence: 2, WriteTime: 3}, {Sequence: 4, WriteTime: 5, Payload: []byte("x")}},
	}}}
	grown := []grownChunk{{}, {chunk: growing{part: -3, writeTime: 6, seconds: 60, data: []byte{1, 2}}}}
	for _, test := range []struct {
		name, statement string
		archive         *Archive
		request         request
		want            [][]byte
	}{
		{"readings", cqlInsertReading, rows, request{partition: partition{readings, 7, 2, -1}, rows: []place{{1, 0}, {1, 1}}}, encoded(t,
			int16(7), int16(2), int64(-1), "s", "d", int64(-5), []float64{1.5, math.NaN()}, []byte{0, 3}, "héllo", int64(9), int8(1), int64(11), 0,
			int16(7), int16(2), int64(-1), "s", "d", int64(start), []float64{}, []byte{}, "", int64(math.MaxInt64), int8(0), int64(12), 0)},
		{"a chunk", cqlInsertChunk, chunks, request{partition: partition{readings, 7, 2, 5}, rows: []place{{1, 1}}, grown: grown}, encoded(t,
			int16(7), int16(2), int64(5), "s", "d", int64(-3), []byte{1, 2}, int64(6), 60)},
		{"a rollup", cqlInsertRollup, rows, request{partition: partition{messages.Minute, 7, 2, 5}, rows: []place{{1, 0}}}, encoded(t,
			int16(7), int16(2), int(messages.Minute), int64(5), "s", "d", int64(start), int64(4), []int64{3, 0}, []float64{-1, 0}, []float64{math.MaxFloat64, 0},
			[]float64{0.5, 0}, []float64{1, 0}, []float64{math.Copysign(0, -1), 0}, int64(9), int64(11), 0)},
		{"records", cqlInsertRecord, rows, request{partition: partition{records, 7, 2, 0}, rows: []place{{1, 0}, {1, 1}}}, encoded(t,
			int16(7), int16(2), "s", "d", int64(2), []byte{}, int64(3),
			int16(7), int16(2), "s", "d", int64(4), []byte("x"), int64(5))},
		{"a device", cqlInsertDevice, rows, request{partition: partition{devices, 7, 2, 0}, rows: []place{{1, 1}}}, encoded(t,
			int16(7), int16(2), "s", "d", int64(4), int64(5))},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := valuesPool.Get().(*values)
			defer v.recycle()
			if statement := test.archive.encode(v, b, &test.request); statement != test.statement {
				t.Errorf("the statement is %s", statement)
			}
			var got [][]byte
			for i, arg := range v.args {
				b, err := gocql.Marshal(gocql.NewNativeType(4, gocql.TypeBlob, ""), arg)
				if err != nil || b == nil {
					t.Fatalf("value %d: %v, %v; want no error and no null", i, b, err)
				}
				got = append(got, b)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("other values than the driver's (-driver +ours):\n%s", diff)
			}
		})
	}
}

// Values keep what they are when there are more of them than one piece of memory takes.
func TestValuesBeyondOnePiece(t *testing.T) {
	v := valuesPool.Get().(*values)
	defer v.recycle()
	const n = 100
	note := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 400+i) }
	for i := range n {
		v.blob(note(i))
	}
	for i := range n {
		if got := *v.args[i].(*value); !bytes.Equal(got, note(i)) {
			t.Fatalf("value %d has %d bytes of %d, want %d", i, len(got), got[0], 400+i)
		}
	}
}

func TestRoutingKey(t *testing.T) {
	got := routingKey(partition{readings, 0x0102, -1, 0x03040506})
	if want := []byte{0, 2, 1, 2, 0, 0, 2, 255, 255, 0, 0, 8, 0, 0, 0, 0, 3, 4, 5, 6, 0}; !bytes.Equal(got, want) {
		t.Errorf("key %v, want %v", got, want)
	}
}

// A request of as many readings as one statement takes, and those of other sizes, are stored whole.
func TestFullRequests(t *testing.T) {
	for _, rows := range []int{1, maxBatchRows - 1, maxBatchRows, 5*maxBatchRows + 3} {
		a := open(t, testOptions(t))
		base := now()
		d := persistence.DeviceRows{Device: messages.DeviceID{Site: "s", Device: "d"}}
		for i := range rows {
			d.Rows = append(d.Rows, persistence.Row{
				Time: base + int64(i), Sequence: uint64(i + 1), WriteTime: base*1000 + int64(i), Values: []float64{float64(i)}, Note: fmt.Sprint(i),
			})
		}
		appendAll(t, a, persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{d}})
		var got []persistence.Row
		err := a.Scan(t.Context(), 1, d.Device, persistence.Range{From: base, To: base + time.Hour.Milliseconds()}, func(r *persistence.Row) bool {
			row := *r
			row.Values = append([]float64(nil), r.Values...)
			row.WriteTime = base*1000 + int64(len(got)) // not read back
			got = append(got, row)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.Rows, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Errorf("%d rows: (-sent +stored)\n%s", rows, diff)
		}
	}
}
