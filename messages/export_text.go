package messages

import (
	"fmt"
	"strconv"
	"strings"
)

// ErrTooWide means that an export has too few columns for a reading.
var ErrTooWide = fmt.Errorf("%w: a reading with more values than the export has columns", ErrInvalid)

// CheckWidth returns an error that wraps ErrTooWide, and says how to go on, unless a reading or rollup of
// so many channels at a time (ms) has its place in an export with columns for the values of columns channels.
func CheckWidth(device string, time int64, channels, columns int) error {
	if channels <= columns {
		return nil
	}
	return fmt.Errorf("%w: %s at %s has %d values, and there are %d columns, as many as were asked for or as were needed when the export began: "+
		"export again without channels (--channels), or with channels=%d or more", ErrTooWide, device, FormatTime(time), channels, columns, channels)
}

// StepName is a step as people write it: 1m, 1h, 1d.
func StepName(s Step) string {
	switch s {
	case Hour:
		return "1h"
	case Day:
		return "1d"
	}
	return "1m"
}

// AppendQuality appends quality numbers by channel, separated by spaces; nothing when all are good.
func AppendQuality(dst []byte, quality []uint8) []byte {
	if someBad(quality) == nil {
		return dst
	}
	for i, q := range quality {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = strconv.AppendUint(dst, uint64(q), 10)
	}
	return dst
}

// RollupColumns are what a rollup says of each channel, in this order; CSV and Parquet name a column c0_min.
var RollupColumns = [...]string{"count", "min", "max", "sum", "first", "last"}

// ExportCSV is the form of RFC 4180 with one line for the columns' names and lines that end with \n:
//
//	site,device,time,c0,c1,…,note,sequence,quality
//	site,device,start,step,count,c0_count,c0_min,c0_max,c0_sum,c0_first,c0_last,c1_count,…
//
// An omitted value is empty. It has no end of its own. The zero value is ready.
type ExportCSV struct {
	head ExportHead
}

// AppendHead implements ExportForm.
func (f *ExportCSV) AppendHead(dst []byte, h ExportHead) []byte {
	f.head = h
	if h.Step == 0 {
		dst = append(dst, "site,device,time"...)
		for i := range h.Channels {
			dst = strconv.AppendInt(append(dst, ",c"...), int64(i), 10)
		}
		return append(dst, ",note,sequence,quality\n"...)
	}
	dst = append(dst, "site,device,start,step,count"...)
	for i := range h.Channels {
		for _, name := range RollupColumns {
			dst = strconv.AppendInt(append(dst, ",c"...), int64(i), 10)
			dst = append(append(dst, '_'), name...)
		}
	}
	return append(dst, '\n')
}

// AppendReadings implements ExportForm.
func (f *ExportCSV) AppendReadings(dst []byte, device string, rows []Sample) ([]byte, error) {
	for i := range rows {
		r := &rows[i]
		if err := CheckWidth(device, r.Time, len(r.Values), f.head.Channels); err != nil {
			return dst, err
		}
		dst = f.appendName(dst, device)
		dst = AppendTime(dst, r.Time)
		for _, v := range r.Values {
			dst = appendNumberCell(dst, v)
		}
		for range f.head.Channels - len(r.Values) {
			dst = append(dst, ',')
		}
		dst = appendCell(append(dst, ','), r.Note)
		dst = strconv.AppendUint(append(dst, ','), r.Sequence, 10)
		dst = append(AppendQuality(append(dst, ','), r.Quality), '\n')
	}
	return dst, nil
}

func (f *ExportCSV) appendName(dst []byte, device string) []byte {
	dst = append(append(dst, f.head.Site...), ',')
	return append(append(dst, device...), ',')
}

// appendNumberCell appends a comma and v; nothing after it for what is omitted, and for a sum beyond the range.
func appendNumberCell(dst []byte, v float64) []byte {
	dst = append(dst, ',')
	if v-v != 0 { // NaN or an infinity
		return dst
	}
	return AppendNumber(dst, v)
}

// appendCell appends text, in quotes when it needs them.
func appendCell(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, "\",\r\n") && !strings.HasPrefix(s, " ") && !strings.HasSuffix(s, " ") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for {
		before, after, found := strings.Cut(s, `"`)
		dst = append(dst, before...)
		if !found {
			return append(dst, '"')
		}
		dst, s = append(dst, '"', '"'), after
	}
}

// AppendRollups implements ExportForm.
func (f *ExportCSV) AppendRollups(dst []byte, device string, rows []Rollup) ([]byte, error) {
	for i := range rows {
		r := &rows[i]
		if err := CheckWidth(device, r.Start, len(r.Channels), f.head.Channels); err != nil {
			return dst, err
		}
		dst = AppendTime(f.appendName(dst, device), r.Start)
		dst = append(append(dst, ','), StepName(r.Step)...)
		dst = strconv.AppendInt(append(dst, ','), r.Count, 10)
		for c := range f.head.Channels {
			if c >= len(r.Channels) || r.Channels[c].Count == 0 {
				dst = append(dst, ",0,,,,,"...)
				continue
			}
			dst = strconv.AppendInt(append(dst, ','), r.Channels[c].Count, 10)
			for _, v := range r.Channels[c].numbers() {
				dst = appendNumberCell(dst, v)
			}
		}
		dst = append(dst, '\n')
	}
	return dst, nil
}

func (c *ChannelRollup) numbers() [5]float64 {
	return [...]float64{c.Min, c.Max, c.Sum, c.First, c.Last}
}

// AppendEnd implements ExportForm.
func (*ExportCSV) AppendEnd(dst []byte, _ ExportEnd) []byte { return dst }

// AppendError implements ExportForm.
func (*ExportCSV) AppendError(dst []byte, _ string) []byte { return dst }

// AppendAlive implements ExportForm.
func (*ExportCSV) AppendAlive(dst []byte) []byte { return dst }

// ExportNDJSON is one JSON object a line:
//
//	{"site":"…","device":"…","time":"…","values":[1.5,null],"note":"","sequence":7}
//	{"site":"…","device":"…","start":"…","step":"1m","count":60,"channels":[{"count":60,"min":…,"max":…,"sum":…,"first":…,"last":…}]}
//	{"end":true,"devices":2,"readings":120}
//
// The last line, with "rollups" for those, proves that nothing is missing; where something went wrong it
// is {"end":false,"error":"…"}. The zero value is ready.
type ExportNDJSON struct {
	// Bare leaves the last line out: for files that are whole by other means.
	Bare bool
	head ExportHead
}

// AppendHead implements ExportForm.
func (f *ExportNDJSON) AppendHead(dst []byte, h ExportHead) []byte {
	f.head = h
	return dst
}

func (f *ExportNDJSON) appendName(dst []byte, device string) []byte {
	dst = append(append(dst, `{"site":"`...), f.head.Site...)
	return append(append(append(dst, `","device":"`...), device...), `",`...)
}

// AppendReadings implements ExportForm.
func (f *ExportNDJSON) AppendReadings(dst []byte, device string, rows []Sample) ([]byte, error) {
	for i := range rows {
		dst = f.appendName(dst, device)
		at := len(dst) - 1
		dst = AppendSampleJSON(dst[:at], rows[i])
		dst[at] = ',' // in the place of the sample's brace
		dst = append(dst, '\n')
	}
	return dst, nil
}

// AppendRollups implements ExportForm.
func (f *ExportNDJSON) AppendRollups(dst []byte, device string, rows []Rollup) ([]byte, error) {
	for i := range rows {
		r := &rows[i]
		dst = append(f.appendName(dst, device), `"start":"`...)
		dst = append(append(AppendTime(dst, r.Start), `","step":"`...), StepName(r.Step)...)
		dst = strconv.AppendInt(append(dst, `","count":`...), r.Count, 10)
		dst = append(dst, `,"channels":[`...)
		for c := range r.Channels {
			if c > 0 {
				dst = append(dst, ',')
			}
			dst = appendChannelJSON(dst, &r.Channels[c])
		}
		dst = append(dst, "]}\n"...)
	}
	return dst, nil
}

func appendChannelJSON(dst []byte, c *ChannelRollup) []byte {
	dst = strconv.AppendInt(append(dst, `{"count":`...), c.Count, 10)
	for i, v := range c.numbers() {
		dst = append(append(append(dst, `,"`...), RollupColumns[i+1]...), `":`...)
		if c.Count == 0 {
			dst = append(dst, "null"...)
		} else {
			dst = AppendNumber(dst, v)
		}
	}
	return append(dst, '}')
}

// AppendEnd implements ExportForm.
func (f *ExportNDJSON) AppendEnd(dst []byte, e ExportEnd) []byte {
	if f.Bare {
		return dst
	}
	dst = strconv.AppendInt(append(dst, `{"end":true,"devices":`...), int64(e.Devices), 10)
	if f.head.Step == 0 {
		dst = append(dst, `,"readings":`...)
	} else {
		dst = append(dst, `,"rollups":`...)
	}
	return append(strconv.AppendInt(dst, e.Rows, 10), "}\n"...)
}

// AppendError implements ExportForm.
func (f *ExportNDJSON) AppendError(dst []byte, reason string) []byte {
	if f.Bare {
		return dst
	}
	return append(AppendText(append(dst, `{"end":false,"error":`...), reason), "}\n"...)
}

// AppendAlive implements ExportForm.
func (*ExportNDJSON) AppendAlive(dst []byte) []byte { return dst }
