package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/stream"
)

// The types in this file connect what one package offers with what another asks for.

// feedLog is the stream as shards see it.
type feedLog struct{ *stream.Log }

func (l feedLog) Open(ctx context.Context, shard messages.Shard, from uint64) (actors.Feed, error) {
	feed, err := l.Log.Open(ctx, shard, from)
	if err != nil {
		return nil, err
	}
	return feed, nil
}

// fleet answers the HTTP face's questions from the member's actors and the archive.
type fleet struct {
	member   *actors.Member
	streams  *stream.Streams
	registry persistence.Registry
	classes  persistence.Classes
}

// outward turns an error of the actors into one that the HTTP face knows.
func outward(err error) error {
	switch {
	case errors.Is(err, actors.ErrPartial):
		return fmt.Errorf("%w: %v", api.ErrPartial, err)
	case errors.Is(err, persistence.ErrNotFound):
		return fmt.Errorf("%w: %v", api.ErrNotFound, err)
	case errors.Is(err, actors.ErrStarting), errors.Is(err, actors.ErrNotOwner), errors.Is(err, actors.ErrUnreached):
		return fmt.Errorf("%w: %v", api.ErrUnavailable, err)
	}
	return err
}

func (f *fleet) Sites(ctx context.Context) ([]string, error) {
	names, err := f.member.Sites(ctx)
	if err != nil {
		return nil, outward(err)
	}
	entries, err := f.registry.List(ctx, stream.KindCredentials)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		names = append(names, e.Key)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (f *fleet) Devices(ctx context.Context, site string, q api.DeviceQuery) ([]messages.DeviceRow, bool, error) {
	var seen int64
	var after string
	if q.After != "" {
		var err error
		if seen, after, err = api.ParseCursor(q.After, q.Sort); err != nil {
			return nil, false, err
		}
	}
	if q.Sort != "lastSeen" {
		rows, more, err := f.member.Devices(ctx, site, after, q.Contains, q.Status, q.Limit)
		return rows, more, outward(err)
	}
	rows, _, err := f.member.Devices(ctx, site, "", q.Contains, q.Status, math.MaxInt32)
	if err != nil {
		return nil, false, outward(err)
	}
	slices.SortFunc(rows, newestSeen)
	if q.After != "" {
		last := messages.DeviceRow{Device: messages.DeviceID{Site: site, Device: after}, LastSeen: seen}
		rows = slices.DeleteFunc(rows, func(r messages.DeviceRow) bool { return newestSeen(r, last) <= 0 })
	}
	return rows[:min(len(rows), q.Limit)], len(rows) > q.Limit, nil
}

func newestSeen(a, b messages.DeviceRow) int {
	switch {
	case a.LastSeen > b.LastSeen:
		return -1
	case a.LastSeen < b.LastSeen:
		return 1
	}
	return strings.Compare(a.Device.Device, b.Device.Device)
}

func (f *fleet) State(ctx context.Context, id messages.DeviceID) (messages.State, error) {
	s, err := f.member.State(ctx, id)
	return s, outward(err)
}

func (f *fleet) Newest(ctx context.Context, id messages.DeviceID) (messages.Newest, error) {
	n, err := f.member.Newest(ctx, id)
	return n, outward(err)
}

func (f *fleet) Window(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	s, err := f.member.Window(ctx, id, from, to, limit)
	return s, outward(err)
}

func (f *fleet) Readings(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	return f.member.Readings(ctx, id, from, to, limit)
}

func (f *fleet) Widths(ctx context.Context, site string) ([]messages.DeviceWidth, error) {
	w, err := f.member.Widths(ctx, site)
	return w, outward(err)
}

func (f *fleet) Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error {
	return f.member.Scan(ctx, id, from, to, fn)
}

func (f *fleet) Rollups(ctx context.Context, id messages.DeviceID, step messages.Step, from, to int64, limit int) ([]messages.Rollup, error) {
	r, err := f.member.Rollups(ctx, id, step, from, to, limit)
	return r, outward(err)
}

func (f *fleet) Control(ctx context.Context, id messages.DeviceID, c messages.Control) error {
	if err := f.checkClass(c); err != nil {
		return err
	}
	return f.streams.Control(ctx, id, messages.AppendControl(nil, c))
}

func (f *fleet) SiteControl(ctx context.Context, site string, c messages.Control) error {
	if err := f.checkClass(c); err != nil {
		return err
	}
	return f.streams.SiteControl(ctx, site, messages.AppendControl(nil, c))
}

// checkClass refuses settings that name a retention class which is not configured. Devices that have one from
// before it was taken out of the configuration are of the default class.
func (f *fleet) checkClass(c messages.Control) error {
	if c.Settings == nil {
		return nil
	}
	return f.classes.Check(c.Settings.Retention)
}

func (f *fleet) SiteSettings(ctx context.Context, site string) (messages.SiteSettings, error) {
	s, err := f.member.SiteSettings(ctx, site)
	return s, outward(err)
}

func (f *fleet) Audit(ctx context.Context, q messages.AuditQuery) ([]messages.ProducerAccount, *messages.ProducerRun, error) {
	page, next, err := f.member.Audit(ctx, q)
	return page, next, outward(err)
}

func (f *fleet) Recount(ctx context.Context, site string, from, to int64, told func(messages.DeviceID, messages.Recount) error, shardDone func(int) error) error {
	return f.member.Recount(ctx, site, from, to, told, shardDone)
}

// ingest takes readings from HTTP to the stream.
type ingest struct {
	*stream.Ingest
	streams *stream.Streams
}

func (i ingest) Publish(ctx context.Context, site string, devices []api.DeviceReadings, how api.How) error {
	if disk := i.streams.Disk(); disk.Refusing || disk.Off {
		return api.ErrNoRoom
	}
	list := make([]stream.DeviceReadings, len(devices))
	for n, d := range devices {
		list[n] = stream.DeviceReadings(d)
	}
	err := i.Ingest.Publish(ctx, site, list, stream.How(how))
	if errors.Is(err, stream.ErrOverloaded) {
		return fmt.Errorf("%w: %v", api.ErrOverloaded, err)
	}
	return err
}

// rejects shows the stream of rejects to the HTTP face.
type rejects struct{ streams *stream.Streams }

func (r rejects) List(ctx context.Context, q api.RejectQuery) (api.RejectList, error) {
	list, err := r.streams.Rejects(ctx, stream.RejectQuery(q))
	return api.RejectList(list), err
}

func (r rejects) Get(ctx context.Context, id uint64) (messages.KeptReject, error) {
	kept, err := r.streams.RejectByID(ctx, id)
	return kept, outward(err)
}

func (r rejects) Retry(ctx context.Context, id uint64, repaired []byte, contentType string, force bool) (messages.RejectRetry, bool, error) {
	done, again, err := r.streams.RetryReject(ctx, id, repaired, contentType, force)
	switch {
	case errors.Is(err, stream.ErrBusy):
		err = fmt.Errorf("%w: %v", api.ErrRetryBusy, err)
	case errors.Is(err, stream.ErrUnsure):
		err = fmt.Errorf("%w: %v", api.ErrRetryUnsure, err)
	case errors.Is(err, stream.ErrOverloaded):
		err = fmt.Errorf("%w: %v", api.ErrOverloaded, err)
	}
	return done, again, outward(err)
}

// operator shows and changes the limits.
type operator struct {
	limits    *stream.Limits
	member    *actors.Member
	publisher *stream.Publisher
	name      string // of this member
}

func (o operator) Limits(context.Context) (api.LimitsState, error) {
	state := api.LimitsState{InFlight: int64(o.member.InFlight()), Sites: []api.SiteUnstored{}}
	state.Own, state.Limits, state.Revision = o.limits.Get()
	state.InFlightLimit = state.Limits.Pulled(o.name)
	unstored := o.publisher.Unstored()
	for _, site := range slices.Sorted(maps.Keys(unstored)) {
		state.Sites = append(state.Sites, api.SiteUnstored{Site: site, Limit: state.Limits.Unstored(site), Unstored: unstored[site]})
	}
	return state, nil
}

func (o operator) SetLimits(ctx context.Context, l messages.Limits, revision uint64) error {
	if revision == 0 {
		if err := o.limits.Load(ctx); err != nil {
			return err
		}
		_, _, revision = o.limits.Get()
	}
	return o.limits.Set(ctx, l, revision)
}

// queries answers requests on NATS with what HTTP answers to the same question.
type queries struct {
	handler http.Handler
	fleet   api.Fleet
	layout  stream.Layout
	granted func(site string) int64
	stored  func(ctx context.Context, site, producer string, run uint64) ([]actors.StoredNews, error)
}

func (q *queries) Answer(ctx context.Context, what string, id messages.DeviceID, request []byte) ([]byte, error) {
	device := "/api/v1/sites/" + id.Site + "/devices/" + id.Device
	switch what {
	case stream.QueryShards:
		return json.Marshal(q.layout)
	case stream.QueryStored:
		run, err := stream.ParseStoredRequest(request)
		if err != nil {
			return nil, err
		}
		news, err := q.stored(ctx, id.Site, id.Device, run)
		if err != nil {
			return nil, err
		}
		list := make([]stream.Stored, len(news))
		for i, n := range news {
			list[i] = stream.Stored(n)
		}
		return json.Marshal(list)
	case stream.QueryLimits:
		return json.Marshal(map[string]int64{"unstored": q.granted(id.Site)})
	case stream.QueryState:
		return q.get(ctx, device)
	case stream.QueryLatest:
		if data, err := api.LatestJSON(ctx, q.fleet, id); err == nil {
			return data, nil
		}
		return q.get(ctx, device+"/latest") // which knows how to say what is wrong
	case stream.QueryWindow:
		return q.ask(ctx, device+"/window", request)
	case stream.QueryRollups:
		return q.ask(ctx, device+"/rollups", request)
	case stream.QueryDevices:
		return q.ask(ctx, "/api/v1/sites/"+id.Site+"/devices", request)
	}
	return nil, fmt.Errorf("%w: no such question: %s", messages.ErrInvalid, what)
}

// ask asks the HTTP face with the request's JSON object as URL parameters.
func (q *queries) ask(ctx context.Context, path string, request []byte) ([]byte, error) {
	if len(bytes.TrimSpace(request)) == 0 {
		return q.get(ctx, path)
	}
	var fields map[string]any
	if err := json.Unmarshal(request, &fields); err != nil {
		return nil, fmt.Errorf(`%w: the request is not a JSON object like {"limit":10}: %v`, messages.ErrInvalid, err)
	}
	values := url.Values{}
	for name, v := range fields {
		if n, ok := v.(float64); ok {
			values.Set(name, strconv.FormatFloat(n, 'f', -1, 64))
		} else {
			values.Set(name, fmt.Sprint(v))
		}
	}
	return q.get(ctx, path+"?"+values.Encode())
}

func (q *queries) get(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", messages.ErrInvalid, err)
	}
	w := answer{status: http.StatusOK, header: http.Header{}}
	q.handler.ServeHTTP(&w, r)
	var problem struct{ Title, Detail string }
	if w.status < 300 {
		return w.body.Bytes(), nil
	}
	if err := json.Unmarshal(w.body.Bytes(), &problem); err != nil {
		problem.Detail = http.StatusText(w.status)
	}
	switch w.status {
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s", persistence.ErrNotFound, problem.Detail)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return nil, fmt.Errorf("%w: %s", messages.ErrInvalid, problem.Detail)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: %s", stream.ErrOverloaded, problem.Detail)
	}
	return nil, errors.New(problem.Detail)
}

// answer keeps an HTTP answer in memory.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
