package export

import (
	"fmt"
	"io"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/wellhead/wellhead/messages"
)

const (
	// rowGroupBytes is about what one row group takes before it is compressed, which bounds what the
	// library holds; readers take a row group at a time, so it should not be small either.
	rowGroupBytes = 32 << 20
	// mostInRowGroup bounds the rows of one row group whatever their size.
	mostInRowGroup = 1 << 19
	// pageBuffer is what a column gathers before it becomes a page.
	pageBuffer = 128 << 10
	// dictionaryBytes is the most of a dictionary; a column with more distinct notes is written plainly.
	dictionaryBytes = 1 << 20
)

// parquetSink writes Parquet, column by column. Columns:
//
//	site, device  text
//	time          timestamp in milliseconds, UTC
//	c0, c1, …     double; null = omitted
//	note          text, may be empty
//	sequence      int64, the stream sequence it came with
//	quality       text: numbers by channel, separated by spaces; null = all good
//
// and of rollups site, device, start, step, count and for each channel c0_count, c0_min, c0_max, c0_sum,
// c0_first, c0_last, null where the channel has no value.
type parquetSink struct {
	w       io.Writer
	header  messages.ExportHead
	writer  *parquet.GenericWriter[any]
	columns []*parquet.ColumnWriter
	cells   []parquet.Value // of one column
	text    []byte          // of quality in one column
	inGroup int
	most    int // rows of a row group
}

// schema makes the type that the library wants: a struct with a field for each column, in order.
func schema(h messages.ExportHead) *parquet.Schema {
	var fields []reflect.StructField
	add := func(name string, of any, options string) {
		fields = append(fields, reflect.StructField{
			Name: "F" + strconv.Itoa(len(fields)), Type: reflect.TypeOf(of),
			Tag: reflect.StructTag(fmt.Sprintf(`parquet:"%s%s"`, name, options)),
		})
	}
	add("site", "", ",dict")
	add("device", "", ",dict")
	if h.Step == 0 {
		add("time", int64(0), ",delta,timestamp(millisecond)")
		for i := range h.Channels {
			add("c"+strconv.Itoa(i), float64(0), ",optional")
		}
		add("note", "", ",dict")
		add("sequence", int64(0), ",delta")
		add("quality", "", ",optional,dict")
	} else {
		add("start", int64(0), ",delta,timestamp(millisecond)")
		add("step", "", ",dict")
		add("count", int64(0), ",delta")
		for i := range h.Channels {
			for k, name := range messages.RollupColumns {
				if name = fmt.Sprintf("c%d_%s", i, name); k == 0 {
					add(name, int64(0), ",delta")
				} else {
					add(name, float64(0), ",optional")
				}
			}
		}
	}
	return parquet.SchemaOf(reflect.New(reflect.StructOf(fields)).Interface())
}

func (s *parquetSink) head(h messages.ExportHead) error {
	s.header = h
	doubles := h.Channels
	if h.Step != 0 {
		doubles *= len(messages.RollupColumns)
	}
	s.most = min(mostInRowGroup, rowGroupBytes/(32+9*doubles))
	s.writer = parquet.NewGenericWriter[any](s.w, schema(h),
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.PageBufferSize(pageBuffer),
		parquet.DataPageStatistics(true),
		parquet.DictionaryMaxBytes(dictionaryBytes),
		parquet.CreatedBy("wellhead", "", ""),
		parquet.KeyValueMetadata("wellhead.site", h.Site),
	)
	s.columns = s.writer.ColumnWriters()
	return nil
}

// column writes one column of n rows; cell says what is in each.
func (s *parquetSink) column(index, n int, cell func(i int) parquet.Value) error {
	s.cells = s.cells[:0]
	for i := range n {
		s.cells = append(s.cells, cell(i))
	}
	_, err := s.columns[index].WriteRowValues(s.cells)
	return err
}

func (s *parquetSink) names(device string, n int) error {
	for i, name := range []string{s.header.Site, device} {
		v := parquet.ByteArrayValue([]byte(name)).Level(0, 0, i)
		if err := s.column(i, n, func(int) parquet.Value { return v }); err != nil {
			return err
		}
	}
	return nil
}

// nothing is a null in an optional column.
func nothing(column int) parquet.Value { return parquet.NullValue().Level(0, 0, column) }

func (s *parquetSink) readings(device string, rows []messages.Sample) error {
	for i := range rows {
		if err := messages.CheckWidth(device, rows[i].Time, len(rows[i].Values), s.header.Channels); err != nil {
			return err
		}
	}
	n := len(rows)
	if err := s.names(device, n); err != nil {
		return err
	}
	at := 2
	next := func(cell func(i int) parquet.Value) error {
		err := s.column(at, n, cell)
		at++
		return err
	}
	if err := next(func(i int) parquet.Value { return parquet.Int64Value(rows[i].Time) }); err != nil {
		return err
	}
	for c := range s.header.Channels {
		err := next(func(i int) parquet.Value {
			if c >= len(rows[i].Values) || rows[i].Values[c] != rows[i].Values[c] {
				return nothing(at)
			}
			return parquet.DoubleValue(rows[i].Values[c]).Level(0, 1, at)
		})
		if err != nil {
			return err
		}
	}
	if err := next(func(i int) parquet.Value { return parquet.ByteArrayValue([]byte(rows[i].Note)) }); err != nil {
		return err
	}
	if err := next(func(i int) parquet.Value { return parquet.Int64Value(int64(rows[i].Sequence)) }); err != nil {
		return err
	}
	s.text = s.text[:0]
	err := next(func(i int) parquet.Value {
		from := len(s.text)
		if s.text = messages.AppendQuality(s.text, rows[i].Quality); len(s.text) == from {
			return nothing(at)
		}
		return parquet.ByteArrayValue(s.text[from:]).Level(0, 1, at)
	})
	if err != nil {
		return err
	}
	return s.wrote(n)
}

func (s *parquetSink) rollups(device string, rows []messages.Rollup) error {
	for i := range rows {
		if err := messages.CheckWidth(device, rows[i].Start, len(rows[i].Channels), s.header.Channels); err != nil {
			return err
		}
	}
	n := len(rows)
	if err := s.names(device, n); err != nil {
		return err
	}
	step := parquet.ByteArrayValue([]byte(messages.StepName(s.header.Step)))
	for k, cell := range []func(i int) parquet.Value{
		func(i int) parquet.Value { return parquet.Int64Value(rows[i].Start) },
		func(int) parquet.Value { return step },
		func(i int) parquet.Value { return parquet.Int64Value(rows[i].Count) },
	} {
		if err := s.column(2+k, n, cell); err != nil {
			return err
		}
	}
	at := 5
	for c := range s.header.Channels {
		for k := range messages.RollupColumns {
			err := s.column(at, n, func(i int) parquet.Value { return rollupCell(&rows[i], c, k, at) })
			if err != nil {
				return err
			}
			at++
		}
	}
	return s.wrote(n)
}

// rollupCell is what a rollup says in one of messages.RollupColumns of a channel.
func rollupCell(r *messages.Rollup, channel, k, column int) parquet.Value {
	var c messages.ChannelRollup
	if channel < len(r.Channels) {
		c = r.Channels[channel]
	}
	if k == 0 {
		return parquet.Int64Value(c.Count)
	}
	if c.Count == 0 {
		return nothing(column)
	}
	return parquet.DoubleValue([...]float64{c.Min, c.Max, c.Sum, c.First, c.Last}[k-1]).Level(0, 1, column)
}

// wrote ends the row group when it is full.
func (s *parquetSink) wrote(n int) error {
	if s.inGroup += n; s.inGroup < s.most {
		return nil
	}
	s.inGroup = 0
	return s.writer.Flush()
}

func (s *parquetSink) close(messages.ExportEnd) error { return s.writer.Close() }
