package api

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
)

// The open ends of a question about time: year 1 and the end of year 9999, the ends of what RFC 3339 can say.
const (
	Earliest int64 = -62_135_596_800_000
	Latest   int64 = 253_402_300_799_999
)

// instant is a time in an answer: RFC 3339 with milliseconds, UTC. Ask for ones that may be missing
// as *instant.
type instant int64

func (t instant) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 26), '"')
	b = messages.AppendTime(b, int64(t))
	return append(b, '"'), nil
}

// Schema documents instant.
func (instant) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-01-02T03:04:05.678Z"}}
}

// maybe is nil for the zero time, which stands for never.
func maybe(ms int64) *instant {
	if ms == 0 {
		return nil
	}
	t := instant(ms)
	return &t
}

// number is a float in an answer; what JSON cannot say (an omitted value, a sum beyond the range) is null.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64), nil
}

// Schema documents number.
func (number) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Nullable: true}
}

// reading is one reading in an answer.
type reading struct{ messages.Sample }

func (r reading) MarshalJSON() ([]byte, error) {
	return messages.AppendSampleJSON(make([]byte, 0, 128), r.Sample), nil
}

// Schema documents reading.
func (reading) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:     huma.TypeObject,
		Required: []string{"time", "values", "note", "sequence"},
		Properties: map[string]*huma.Schema{
			"time":     {Type: huma.TypeString, Format: "date-time", Description: "Event time, UTC."},
			"values":   {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeNumber, Nullable: true}, Description: "By channel index; null = omitted."},
			"note":     {Type: huma.TypeString},
			"sequence": {Type: huma.TypeInteger, Description: "Stream sequence of the message it came with."},
		},
	}
}

func readings(s []messages.Sample) []reading {
	out := make([]reading, len(s))
	for i := range s {
		out[i] = reading{s[i]}
	}
	return out
}

type channelRollup struct {
	Count int64  `json:"count"`
	Min   number `json:"min"`
	Max   number `json:"max"`
	Sum   number `json:"sum"`
	First number `json:"first"`
	Last  number `json:"last"`
}

type rollup struct {
	Start    instant         `json:"start" doc:"Start of the minute, hour or day."`
	Step     string          `json:"step" enum:"1m,1h,1d"`
	Count    int64           `json:"count" doc:"Readings in it."`
	Channels []channelRollup `json:"channels" doc:"By channel index. A channel without a value has count 0 and nulls."`
}

func newRollup(r *messages.Rollup) *rollup {
	if r == nil {
		return nil
	}
	out := &rollup{Start: instant(r.Start), Step: messages.StepName(r.Step), Count: r.Count, Channels: make([]channelRollup, len(r.Channels))}
	for i, c := range r.Channels {
		if c.Count == 0 {
			none := number(math.NaN())
			out.Channels[i] = channelRollup{0, none, none, none, none, none}
			continue
		}
		out.Channels[i] = channelRollup{c.Count, number(c.Min), number(c.Max), number(c.Sum), number(c.First), number(c.Last)}
	}
	return out
}

type summary struct {
	Count  int    `json:"count"`
	Min    number `json:"min"`
	Max    number `json:"max"`
	Mean   number `json:"mean"`
	Stddev number `json:"stddev" doc:"Of the population; 0 for one value."`
}

type state struct {
	Site       string            `json:"site"`
	Device     string            `json:"device"`
	Shard      messages.Shard    `json:"shard"`
	Sequence   uint64            `json:"sequence" doc:"Highest stream sequence in this state."`
	Status     messages.Status   `json:"status" enum:"unknown,online,offline"`
	FirstSeen  *instant          `json:"firstSeen,omitempty" doc:"Arrival of the first message."`
	LastSeen   *instant          `json:"lastSeen,omitempty" doc:"Arrival of the newest message."`
	Newest     *instant          `json:"newest,omitempty" doc:"Newest event time."`
	InWindow   int               `json:"inWindow" doc:"Readings in the window."`
	Counts     messages.Counts   `json:"counts"`
	Settings   messages.Settings `json:"settings" doc:"In force: the device's own over the site's over the fleet's. Times in milliseconds."`
	Own        messages.Settings `json:"own" doc:"The device's own."`
	Minute     *rollup           `json:"minute,omitempty" doc:"The running minute."`
	Hour       *rollup           `json:"hour,omitempty" doc:"The running hour."`
	Latest     *reading          `json:"latest,omitempty" doc:"The reading with the newest event time."`
	Statistics []summary         `json:"statistics" doc:"Over the window, by channel."`
	Partial    bool              `json:"partial,omitempty" doc:"The device could not be asked in time: only its settings (the fleet's) and its newest stored reading are known."`
}

func newState(st messages.State) *state {
	out := &state{
		Site: st.Device.Site, Device: st.Device.Device, Shard: st.Shard, Sequence: st.Sequence, Status: st.Status,
		FirstSeen: maybe(st.FirstSeen), LastSeen: maybe(st.LastSeen), InWindow: st.InWindow, Counts: st.Counts, Partial: st.Partial,
		Settings: st.Settings, Own: st.Own, Minute: newRollup(st.Minute), Hour: newRollup(st.Hour),
		Statistics: make([]summary, len(st.Statistics)),
	}
	if st.HasReading {
		newest := instant(st.Newest)
		out.Newest, out.Latest = &newest, &reading{st.Latest}
	}
	for i, m := range st.Statistics {
		if m.Count == 0 {
			none := number(math.NaN())
			out.Statistics[i] = summary{0, none, none, none, none}
			continue
		}
		out.Statistics[i] = summary{m.Count, number(m.Min), number(m.Max), number(m.Mean), number(m.Stddev)}
	}
	return out
}

type deviceRow struct {
	Device   string          `json:"device"`
	Status   messages.Status `json:"status" enum:"unknown,online,offline"`
	LastSeen *instant        `json:"lastSeen,omitempty" doc:"Arrival of the newest message."`
	Newest   *instant        `json:"newest,omitempty" doc:"Newest event time."`
	Values   []number        `json:"values" doc:"Of the newest reading, by channel index; null = omitted."`
	Counts   messages.Counts `json:"counts"`
}

func newDeviceRow(r *messages.DeviceRow) deviceRow {
	out := deviceRow{
		Device: r.Device.Device, Status: r.Status, LastSeen: maybe(r.LastSeen), Newest: maybe(r.Newest),
		Values: make([]number, len(r.Values)), Counts: r.Counts,
	}
	for i, v := range r.Values {
		out.Values[i] = number(v)
	}
	return out
}

// Cursor says where the page that ends with row ends, in that order of the list: DeviceQuery.After of the next page.
func Cursor(row messages.DeviceRow, sort string) string {
	text := "n:" + row.Device.Device
	if sort == "lastSeen" {
		text = "s:" + strconv.FormatInt(row.LastSeen, 10) + ":" + row.Device.Device
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// ParseCursor takes a Cursor apart. lastSeen is 0 unless sort is "lastSeen". An empty cursor gives zeros.
func ParseCursor(cursor, sort string) (lastSeen int64, device string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	kind, rest, found := strings.Cut(string(text), ":")
	if err != nil || !found || (kind == "s") != (sort == "lastSeen") {
		return 0, "", badCursor()
	}
	if kind == "s" {
		var at string
		at, rest, _ = strings.Cut(rest, ":")
		if lastSeen, err = strconv.ParseInt(at, 10, 64); err != nil {
			return 0, "", badCursor()
		}
	}
	if messages.CheckName("device", rest) != nil {
		return 0, "", badCursor()
	}
	return lastSeen, rest, nil
}

// A span's cursor holds what is left of it.
func spanCursor(from, to int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d:%d", from, to))
}

func parseSpanCursor(cursor string) (from, to int64, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, 0, badCursor()
	}
	a, b, _ := strings.Cut(string(text), ":")
	from, err1 := strconv.ParseInt(a, 10, 64)
	to, err2 := strconv.ParseInt(b, 10, 64)
	if err1 != nil || err2 != nil {
		return 0, 0, badCursor()
	}
	return from, to, nil
}

func badCursor() error {
	return fmt.Errorf("%w: the cursor is damaged: give back, unchanged, the cursor of the page before, with the same sort, or leave it out to begin again", messages.ErrInvalid)
}
