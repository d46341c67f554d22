package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// deviceInput names a device. The library does not look into embedded types that are not exported, so
// the inputs below repeat its fields.
type deviceInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
}

func deviceID(site, device string) (messages.DeviceID, error) {
	if err := checkSite(site); err != nil {
		return messages.DeviceID{}, err
	}
	return messages.DeviceID{Site: site, Device: device}, checkDevice(device)
}

func checkDevice(name string) error {
	if err := messages.CheckName("device", name); err != nil {
		return badRequest("%s", sentence(reason(err)))
	}
	return nil
}

func checkSite(name string) error {
	if err := messages.CheckName("site", name); err != nil {
		return badRequest("%s", sentence(reason(err)))
	}
	return nil
}

// parseSpan reads a stretch of event times. Both left out: everything, newest first.
func parseSpan(fromText, toText string) (from, to int64, err error) {
	if fromText == "" && toText == "" {
		return Latest, Earliest, nil
	}
	from, to = Earliest, Latest
	if fromText != "" {
		if from, err = messages.ParseTime(fromText); err != nil {
			return 0, 0, badRequest("from=%s: %s.", fromText, reason(err))
		}
	}
	if toText != "" {
		if to, err = messages.ParseTime(toText); err != nil {
			return 0, 0, badRequest("to=%s: %s.", toText, reason(err))
		}
	}
	return from, to, nil
}

// body wraps an answer the way huma wants it.
type body[T any] struct{ Body T }

// ask registers a question: an operation with a deadline whose errors become problem documents. what
// completes "could not …".
func ask[I, O any](s *server, op huma.Operation, what string, fn func(context.Context, *I) (O, error)) {
	op.Method = http.MethodGet
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*body[O], error) {
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		out, err := fn(ctx, in)
		if err != nil {
			return nil, s.failure(ctx, what, err)
		}
		return &body[O]{out}, nil
	})
}

type sitesAnswer struct {
	Sites []string `json:"sites"`
}

type devicesInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Query  string `query:"query" maxLength:"64" doc:"Part of the device's name."`
	Status string `query:"status" enum:"unknown,online,offline" doc:"Only devices with this status."`
	Sort   string `query:"sort" enum:"name,lastSeen" default:"name" doc:"lastSeen: newest first."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" doc:"Of the page before."`
}

type devicesAnswer struct {
	Devices []deviceRow `json:"devices"`
	Cursor  string      `json:"cursor,omitempty" doc:"For the next page; left out on the last."`
}

type latestAnswer struct {
	Site     string          `json:"site"`
	Device   string          `json:"device"`
	Status   messages.Status `json:"status" enum:"unknown,online,offline"`
	LastSeen *instant        `json:"lastSeen,omitempty"`
	Reading  *reading        `json:"reading" doc:"The reading with the newest event time; null when there is none."`
	Partial  bool            `json:"partial,omitempty" doc:"The device could not be asked in time, so this is what the archive has: it may lack the newest readings."`
}

type windowInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	From   string `query:"from" doc:"Event time, RFC 3339 or Unix milliseconds. Later than to: newest first. Left out: the beginning; with to left out as well: newest first." example:"2026-01-02T03:04:05Z"`
	To     string `query:"to" doc:"Event time, RFC 3339 or Unix milliseconds, included. Left out: no end."`
	Limit  int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
}

type windowAnswer struct {
	Readings []reading `json:"readings"`
	Partial  bool      `json:"partial,omitempty" doc:"The device could not be asked in time, so this is what the archive has: it may lack the newest readings."`
}

type rollupsInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	From   string `query:"from" doc:"Event time, RFC 3339 or Unix milliseconds. Later than to: newest first. Left out: the beginning; with to left out as well: newest first." example:"2026-01-02T03:04:05Z"`
	To     string `query:"to" doc:"Event time, RFC 3339 or Unix milliseconds, included. Left out: no end."`
	Step   string `query:"step" enum:"1m,1h,1d" default:"1m" doc:"Length of each rollup; 1d is a day of UTC."`
	Limit  int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	Cursor string `query:"cursor" doc:"Of the page before; it holds what is left of from and to."`
}

type rollupsAnswer struct {
	Rollups []*rollup `json:"rollups"`
	Cursor  string    `json:"cursor,omitempty" doc:"For the next page; left out on the last."`
	Partial bool      `json:"partial,omitempty" doc:"The device could not be asked in time, so this is what the archive has: it may lack the newest readings."`
}

type operationsAnswer struct {
	Operations []Operation `json:"operations"`
}

const devicePath = base + "/sites/{site}/devices/{device}"

// addQuestions registers what only asks.
func (s *server) addQuestions() {
	ask(s, huma.Operation{OperationID: "listSites", Path: base + "/sites", Summary: "Sites that ever sent or have a credential", Tags: []string{"devices"}},
		"list the sites", func(ctx context.Context, _ *struct{}) (sitesAnswer, error) {
			sites, err := s.Fleet.Sites(ctx)
			if sites == nil {
				sites = []string{}
			}
			return sitesAnswer{sites}, err
		})
	ask(s, huma.Operation{OperationID: "listDevices", Path: base + "/sites/{site}/devices", Summary: "Devices of a site with their newest values", Tags: []string{"devices"}},
		"list the devices", s.devices)
	ask(s, huma.Operation{OperationID: "getDevice", Path: devicePath, Summary: "State of a device", Tags: []string{"devices"}},
		"ask the device", func(ctx context.Context, in *deviceInput) (*state, error) {
			st, err := s.state(ctx, in.Site, in.Device)
			if err != nil {
				return nil, err
			}
			return newState(st), nil
		})
	ask(s, huma.Operation{OperationID: "getLatest", Path: devicePath + "/latest", Summary: "The newest reading of a device", Tags: []string{"readings"}},
		"ask the device", s.latest)
	ask(s, huma.Operation{OperationID: "getWindow", Path: devicePath + "/window", Summary: "Readings that the device holds in memory", Tags: []string{"readings"}},
		"ask the device", s.window)
	ask(s, huma.Operation{
		OperationID: "getRollups", Path: devicePath + "/rollups", Summary: "Minutes, hours or days of a device", Tags: []string{"readings"},
		Description: "Count, min, max, sum, first and last of each channel, also of what is still running. Rollups are chosen by their start. " +
			"Days are made of hours as they are asked for; a day's sum is that of its hours' sums, each rounded once.",
	},
		"read the rollups", s.rollups)
	ask(s, huma.Operation{OperationID: "listOperations", Path: base + "/operations", Summary: "Durations of each store operation", Tags: []string{"member"}},
		"list the operations", func(context.Context, *struct{}) (operationsAnswer, error) {
			out := operationsAnswer{[]Operation{}}
			if s.Operations != nil {
				out.Operations = append(out.Operations, s.Operations()...)
			}
			return out, nil
		})
	if s.Cluster != nil {
		ask(s, huma.Operation{OperationID: "getCluster", Path: base + "/cluster", Summary: "The members and which shards each owns", Tags: []string{"member"}},
			"read the cluster", func(ctx context.Context, _ *struct{}) (Cluster, error) { return s.Cluster(ctx) })
	}
	if s.Totals != nil {
		ask(s, huma.Operation{OperationID: "getTotals", Path: base + "/totals", Summary: "Counters of the whole fleet", Tags: []string{"member"}},
			"count", func(ctx context.Context, _ *struct{}) (Totals, error) { return s.Totals(ctx) })
	}
}

func (s *server) devices(ctx context.Context, in *devicesInput) (devicesAnswer, error) {
	out := devicesAnswer{Devices: []deviceRow{}}
	if err := checkSite(in.Site); err != nil {
		return out, err
	}
	if _, _, err := ParseCursor(in.Cursor, in.Sort); err != nil {
		return out, err
	}
	rows, more, err := s.Fleet.Devices(ctx, in.Site, DeviceQuery{
		Contains: in.Query, Status: messages.Status(in.Status), Sort: in.Sort, After: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return out, err
	}
	for i := range rows {
		out.Devices = append(out.Devices, newDeviceRow(&rows[i]))
	}
	if more && len(rows) > 0 {
		out.Cursor = Cursor(rows[len(rows)-1], in.Sort)
	}
	return out, nil
}

func (s *server) state(ctx context.Context, site, device string) (messages.State, error) {
	id, err := deviceID(site, device)
	if err != nil {
		return messages.State{}, err
	}
	return s.Fleet.State(ctx, id)
}

func (s *server) latest(ctx context.Context, in *deviceInput) (latestAnswer, error) {
	id, err := deviceID(in.Site, in.Device)
	if err != nil {
		return latestAnswer{}, err
	}
	n, err := s.Fleet.Newest(ctx, id)
	if err != nil {
		return latestAnswer{}, err
	}
	out := latestAnswer{Site: in.Site, Device: in.Device, Status: n.Status, LastSeen: maybe(n.LastSeen), Partial: n.Partial}
	if n.HasReading {
		out.Reading = &reading{n.Reading}
	}
	return out, nil
}

// LatestJSON answers for a device what GET …/latest answers, byte by byte, for those who do not ask over HTTP.
func LatestJSON(ctx context.Context, f Fleet, id messages.DeviceID) ([]byte, error) {
	n, err := f.Newest(ctx, id)
	if err != nil {
		return nil, err
	}
	dst := messages.AppendText(append(make([]byte, 0, 256), `{"site":`...), id.Site)
	dst = messages.AppendText(append(dst, `,"device":`...), id.Device)
	dst = messages.AppendText(append(dst, `,"status":`...), string(n.Status))
	if n.LastSeen != 0 {
		dst = append(messages.AppendTime(append(dst, `,"lastSeen":"`...), n.LastSeen), '"')
	}
	if dst = append(dst, `,"reading":`...); n.HasReading {
		dst = messages.AppendSampleJSON(dst, n.Reading)
	} else {
		dst = append(dst, "null"...)
	}
	if n.Partial {
		dst = append(dst, `,"partial":true`...)
	}
	return append(dst, "}\n"...), nil
}

func (s *server) window(ctx context.Context, in *windowInput) (windowAnswer, error) {
	out := windowAnswer{Readings: []reading{}}
	id, err := deviceID(in.Site, in.Device)
	if err != nil {
		return out, err
	}
	from, to, err := parseSpan(in.From, in.To)
	if err != nil {
		return out, err
	}
	samples, err := s.Fleet.Window(ctx, id, from, to, in.Limit)
	if out.Partial = errors.Is(err, ErrPartial); err != nil && !out.Partial {
		return out, err
	}
	out.Readings = readings(samples)
	return out, nil
}

func (s *server) rollups(ctx context.Context, in *rollupsInput) (rollupsAnswer, error) {
	out := rollupsAnswer{Rollups: []*rollup{}}
	id, err := deviceID(in.Site, in.Device)
	if err != nil {
		return out, err
	}
	from, to, err := parseSpan(in.From, in.To)
	if err == nil && in.Cursor != "" {
		from, to, err = parseSpanCursor(in.Cursor)
	}
	if err != nil {
		return out, err
	}
	step, err := messages.ParseStep(in.Step)
	if err != nil {
		return out, err
	}
	rows, err := s.Fleet.Rollups(ctx, id, step, from, to, in.Limit+1) // one more tells whether there is a next page
	if out.Partial = errors.Is(err, ErrPartial); err != nil && !out.Partial {
		return out, err
	}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		out.Cursor = nextSpan(from, to, rows[in.Limit-1].Start)
	}
	for i := range rows {
		out.Rollups = append(out.Rollups, newRollup(&rows[i]))
	}
	return out, nil
}

// nextSpan is the cursor after the time last; empty when nothing can follow.
func nextSpan(from, to, last int64) string {
	if from > to {
		if last <= to {
			return ""
		}
		return spanCursor(last-1, to)
	}
	if last >= to {
		return ""
	}
	return spanCursor(last+1, to)
}
