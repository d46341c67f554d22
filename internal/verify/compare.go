package verify

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// comparison compares one device after another. It is used by one goroutine.
type comparison struct {
	run   *run
	pages pages
}

// device compares one device.
func (c *comparison) device(ctx context.Context, d Device) (Report, error) {
	report := Report{Devices: 1, Sent: d.Sent, Duplicate: d.Duplicate}
	o := &c.run.options
	id := messages.DeviceID{Site: o.Site, Device: d.Name}
	if err := c.readings(ctx, d, id, &report); err != nil {
		return report, err
	}
	if o.Rollups {
		report.Rollups = &Checks{}
		if err := c.rollups(ctx, d, id, &report); err != nil {
			return report, err
		}
	}
	if o.Window > 0 {
		report.Windows = &Checks{}
		if err := c.window(ctx, d, id, &report); err != nil {
			return report, err
		}
	}
	if d.Err != nil {
		return report, d.Err()
	}
	return report, nil
}

// readings walks what was sent and what is stored side by side, by event time.
func (c *comparison) readings(ctx context.Context, d Device, id messages.DeviceID, report *Report) error {
	p := &c.pages
	p.client, p.path = c.run.options.Client, devicePath(id)+"/readings"
	p.first, p.last, p.cursor, p.ended, p.plain = d.First, d.Last, "", d.Sent == 0, false
	p.page, p.at = p.page[:0], 0
	got, err := p.next(ctx)
	if err != nil {
		return err
	}
	before := int64(math.MinInt64)
	advance := func() bool {
		report.Stored++
		if report.Stored%pageSize == 0 {
			c.run.progress(pageSize)
		}
		if got.Time <= before {
			report.Unexpected++
			report.name(fmt.Sprintf("unexpected: %s at %s comes again, or out of order", id, clock(got.Time)))
		}
		before = got.Time
		got, err = p.next(ctx)
		return err == nil
	}
	for want := range d.Readings {
		for got != nil && got.Time < want.Time {
			report.Unexpected++
			report.name(fmt.Sprintf("unexpected: %s at %s has %s", id, clock(got.Time), describe(got)))
			if !advance() {
				return err
			}
		}
		if got == nil || got.Time > want.Time {
			report.Missing++
			report.name(fmt.Sprintf("missing: %s at %s, sent %s", id, clock(want.Time), describe(&want)))
			continue
		}
		report.Checked++
		if !same(&want, got) {
			report.Different++
			report.name(fmt.Sprintf("different: %s at %s, sent %s, stored %s", id, clock(want.Time), describe(&want), describe(got)))
		}
		if !advance() {
			return err
		}
	}
	for got != nil {
		report.Unexpected++
		report.name(fmt.Sprintf("unexpected: %s at %s has %s", id, clock(got.Time), describe(got)))
		if !advance() {
			return err
		}
	}
	c.run.progress(report.Stored % pageSize)
	return nil
}

// same compares by bits. Omitted values at the end are the same as none.
func same(a, b *messages.Reading) bool {
	if a.Time != b.Time || a.Note != b.Note {
		return false
	}
	long, short := a.Values, b.Values
	if len(long) < len(short) {
		long, short = short, long
	}
	for i, v := range short {
		if math.Float64bits(v) != math.Float64bits(long[i]) && (v == v || long[i] == long[i]) {
			return false
		}
	}
	for _, v := range long[len(short):] {
		if v == v {
			return false
		}
	}
	return bytes.Equal(trimGood(a.Quality), trimGood(b.Quality))
}

// trimGood leaves out the good values at the end, which need not be told.
func trimGood(quality []uint8) []uint8 { return bytes.TrimRight(quality, "\x00") }

// describe writes a reading's values and note as JSON would.
func describe(r *messages.Reading) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range r.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		if v != v {
			b.WriteString("null")
		} else {
			b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	b.WriteByte(']')
	if r.Note != "" {
		b.WriteByte(' ')
		b.WriteString(strconv.Quote(r.Note))
	}
	return b.String()
}

// clock writes an event time as answers do.
func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// window compares the device's window with its newest readings.
func (c *comparison) window(ctx context.Context, d Device, id messages.DeviceID, report *Report) error {
	o := &c.run.options
	var answer struct {
		Readings []jsonReading `json:"readings"`
	}
	query := url.Values{"from": {"0001-01-01T00:00:00Z"}, "limit": {strconv.Itoa(pageSize)}}
	err := o.Client.Get(ctx, devicePath(id)+"/window", query, &answer)
	if err != nil && !IsNotFound(err) {
		return err
	}
	want := newest(d, o.Window)
	report.Windows.Checked++
	equal := len(want) == len(answer.Readings)
	detail := fmt.Sprintf("%d readings, where the newest %d were expected", len(answer.Readings), len(want))
	for i := 0; equal && i < len(want); i++ {
		if got := answer.Readings[i].reading(); !same(&want[i], &got) {
			equal = false
			detail = fmt.Sprintf("%s with %s, where %s with %s was expected", clock(got.Time), describe(&got), clock(want[i].Time), describe(&want[i]))
		}
	}
	if !equal {
		report.Windows.Wrong++
		report.name(fmt.Sprintf("window: %s has %s", id, detail))
	}
	return nil
}

// newest returns the device's newest n readings, oldest first.
func newest(d Device, n int) []messages.Reading {
	ring := make([]messages.Reading, 0, n)
	at := 0
	for r := range d.Readings {
		r.Values = slices.Clone(r.Values)
		if len(ring) < n {
			ring = append(ring, r)
			continue
		}
		ring[at] = r
		at = (at + 1) % n
	}
	return append(ring[at:len(ring):len(ring)], ring[:at]...)
}
