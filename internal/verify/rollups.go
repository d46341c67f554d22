package verify

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// exactBits hold the sum of any number of float64 without rounding: from 2^-1074 to 2^1024, and room for carries.
const exactBits = 2200

// bucket is a rollup computed in the dumbest way: from all readings in order of event time, with sums that
// are never rounded before the end. It shares no code with the actors'.
type bucket struct {
	start    int64
	count    int64
	channels []total
}

type total struct {
	count                 int64
	min, max, first, last float64
	sum                   *big.Float
}

func (b *bucket) add(r *messages.Reading) {
	b.count++
	for len(b.channels) < len(r.Values) {
		b.channels = append(b.channels, total{sum: new(big.Float).SetPrec(exactBits)})
	}
	for i, v := range r.Values {
		if v != v {
			continue
		}
		c := &b.channels[i]
		if c.count == 0 {
			c.min, c.max, c.first = v, v, v
		}
		c.count++
		c.min, c.max, c.last = min(c.min, v), max(c.max, v), v
		c.sum.Add(c.sum, new(big.Float).SetPrec(53).SetFloat64(v))
	}
}

// jsonRollup is a rollup in an answer; null for what there is not.
type jsonRollup struct {
	Start    time.Time `json:"start"`
	Step     string    `json:"step"`
	Count    int64     `json:"count"`
	Channels []struct {
		Count                      int64
		Min, Max, Sum, First, Last *float64
	} `json:"channels"`
}

// rollups compares the minutes and hours of a device.
func (c *comparison) rollups(ctx context.Context, d Device, id messages.DeviceID, report *Report) error {
	for _, s := range []struct {
		step messages.Step
		name string
	}{{messages.Minute, "1m"}, {messages.Hour, "1h"}} {
		want := buckets(d, s.step)
		if err := c.rollupsOf(ctx, d, id, s.step, s.name, want, report); err != nil {
			return err
		}
	}
	return nil
}

func buckets(d Device, step messages.Step) []bucket {
	var list []bucket
	for r := range d.Readings {
		start := r.Time - (r.Time%int64(step)+int64(step))%int64(step)
		if len(list) == 0 || list[len(list)-1].start != start {
			list = append(list, bucket{start: start})
		}
		list[len(list)-1].add(&r)
	}
	return list
}

func (c *comparison) rollupsOf(ctx context.Context, d Device, id messages.DeviceID, step messages.Step, name string, want []bucket, report *Report) error {
	at := 0
	cursor := ""
	for {
		var answer struct {
			Rollups []jsonRollup `json:"rollups"`
			Cursor  string       `json:"cursor"`
		}
		query := span(d.First-int64(step)+1, d.Last, cursor, pageSize)
		query.Set("step", name)
		if err := c.run.options.Client.Get(ctx, devicePath(id)+"/rollups", query, &answer); err != nil && !IsNotFound(err) {
			return err
		}
		for i := range answer.Rollups {
			got := &answer.Rollups[i]
			start := got.Start.UnixMilli()
			for at < len(want) && want[at].start < start {
				c.wrongRollup(report, id, name, want[at].start, "is missing")
				at++
			}
			if at == len(want) || want[at].start > start {
				c.wrongRollup(report, id, name, start, "is there and should not be")
				continue
			}
			report.Rollups.Checked++
			if what := want[at].differs(got); what != "" {
				c.wrongRollup(report, id, name, start, what)
			}
			at++
		}
		if cursor = answer.Cursor; cursor == "" {
			break
		}
	}
	for ; at < len(want); at++ {
		c.wrongRollup(report, id, name, want[at].start, "is missing")
	}
	return nil
}

func (c *comparison) wrongRollup(report *Report, id messages.DeviceID, step string, start int64, what string) {
	report.Rollups.Wrong++
	report.name(fmt.Sprintf("rollup: %s of %s at %s %s", step, id, clock(start), what))
}

// differs says what is different, empty = nothing.
func (b *bucket) differs(got *jsonRollup) string {
	if got.Count != b.count {
		return fmt.Sprintf("counts %d readings, not %d", got.Count, b.count)
	}
	for i := range max(len(b.channels), len(got.Channels)) {
		var want total
		if i < len(b.channels) {
			want = b.channels[i]
		}
		if i >= len(got.Channels) {
			if want.count > 0 {
				return fmt.Sprintf("has no channel %d", i)
			}
			continue
		}
		g := &got.Channels[i]
		if g.Count != want.count {
			return fmt.Sprintf("counts %d values of channel %d, not %d", g.Count, i, want.count)
		}
		if want.count == 0 {
			continue
		}
		sum, _ := want.sum.Float64()
		for _, f := range []struct {
			name string
			got  *float64
			want float64
		}{{"min", g.Min, want.min}, {"max", g.Max, want.max}, {"sum", g.Sum, sum}, {"first", g.First, want.first}, {"last", g.Last, want.last}} {
			if f.got == nil && math.IsInf(f.want, 0) {
				continue // JSON cannot say it
			}
			// by value: a sum of zeros, and the lesser of two zeros, may have either sign
			if f.got == nil || *f.got != f.want {
				return fmt.Sprintf("has %s %v of channel %d, not %v", f.name, text(f.got), i, f.want)
			}
		}
	}
	return ""
}

func text(f *float64) any {
	if f == nil {
		return "null"
	}
	return *f
}
