// Package apitest is a small fleet in memory that stands behind the HTTP face in its own tests and in
// the page's. It keeps the rules of api's interfaces in the plainest way and is no part of the product.
package apitest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/messages"
)

// windowCount is how many readings a device's window holds.
const windowCount = 60

// Fleet implements api.Fleet, api.Ingest, api.Live and api.Health. All methods may be called by many goroutines.
type Fleet struct {
	mu        sync.Mutex
	devices   map[messages.DeviceID]*device
	settings  map[string]messages.Settings // of sites
	listeners map[*listener]bool
	sequence  uint64
	received  uint64

	// Fail, when it is set, is what every call answers.
	Fail error
	// NotReady is what Ready answers.
	NotReady []string
	// Controls are the commands that came; to a whole site: without a device.
	Controls []Control
	// Differ says that the shards do not hold the same settings of a site.
	Differ bool
	// Accounts is what Audit answers, in the order of site, producer and run.
	Accounts []messages.ProducerAccount
	// Stored counts the calls that waited for the archive.
	Stored int
	// How is what the last Publish was asked for.
	How api.How
}

// Control is a command that came.
type Control struct {
	Device  messages.DeviceID
	Command messages.Control
}

type device struct {
	first, last int64
	counts      messages.Counts
	samples     []messages.Sample // by event time
}

type listener struct {
	site, device string
	fn           func(subject string, data []byte, lost int)
	mu           sync.Mutex // around fn
}

// New returns an empty fleet.
func New() *Fleet {
	return &Fleet{
		devices: make(map[messages.DeviceID]*device), settings: make(map[string]messages.Settings), listeners: make(map[*listener]bool),
	}
}

// Sites implements api.Fleet.
func (f *Fleet) Sites(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for id := range f.devices {
		if !slices.Contains(out, id.Site) {
			out = append(out, id.Site)
		}
	}
	slices.Sort(out)
	return out, f.Fail
}

func (d *device) status(now int64) messages.Status {
	if now-d.last > 5000 {
		return messages.StatusOffline
	}
	return messages.StatusOnline
}

// Devices implements api.Fleet.
func (f *Fleet) Devices(_ context.Context, site string, q api.DeviceQuery) ([]messages.DeviceRow, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Fail != nil {
		return nil, false, f.Fail
	}
	seen, after, err := api.ParseCursor(q.After, q.Sort)
	if err != nil {
		return nil, false, err
	}
	var rows []messages.DeviceRow
	now := time.Now().UnixMilli()
	for id, d := range f.devices {
		newest := d.samples[len(d.samples)-1]
		row := messages.DeviceRow{Device: id, Status: d.status(now), LastSeen: d.last, Newest: newest.Time, Values: newest.Values, Counts: d.counts}
		if id.Site != site || !strings.Contains(id.Device, q.Contains) || (q.Status != "" && q.Status != row.Status) {
			continue
		}
		beyond := id.Device > after
		if q.Sort == "lastSeen" && after != "" {
			beyond = d.last < seen || (d.last == seen && id.Device > after)
		}
		if beyond {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b messages.DeviceRow) int {
		if q.Sort == "lastSeen" && a.LastSeen != b.LastSeen {
			return int(b.LastSeen - a.LastSeen)
		}
		return strings.Compare(a.Device.Device, b.Device.Device)
	})
	if len(rows) > q.Limit {
		return rows[:q.Limit], true, nil
	}
	return rows, false, nil
}

func (f *Fleet) device(id messages.DeviceID) (*device, error) {
	if f.Fail != nil {
		return nil, f.Fail
	}
	if d := f.devices[id]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("%s: %w", id, api.ErrNotFound)
}

// State implements api.Fleet.
func (f *Fleet) State(_ context.Context, id messages.DeviceID) (messages.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.device(id)
	if err != nil {
		return messages.State{}, err
	}
	latest := d.samples[len(d.samples)-1]
	st := messages.State{
		Device: id, Shard: messages.ShardOf(id, 64), Sequence: f.sequence, Status: d.status(time.Now().UnixMilli()),
		FirstSeen: d.first, LastSeen: d.last, Newest: latest.Time, HasReading: true, Latest: latest,
		InWindow: min(len(d.samples), windowCount), Counts: d.counts, Settings: messages.Settings{WindowCount: windowCount},
	}
	for range latest.Values {
		st.Statistics = append(st.Statistics, messages.Summary{})
	}
	hour := rollups(d.samples, messages.Hour)
	st.Hour = &hour[len(hour)-1]
	return st, nil
}

// Newest implements api.Fleet.
func (f *Fleet) Newest(ctx context.Context, id messages.DeviceID) (messages.Newest, error) {
	s, err := f.State(ctx, id)
	return messages.Newest{Status: s.Status, LastSeen: s.LastSeen, HasReading: s.HasReading, Reading: s.Latest, Partial: s.Partial}, err
}

// pick chooses samples the way the interfaces say.
func pick(samples []messages.Sample, from, to int64, limit int) []messages.Sample {
	out := slices.Clone(samples)
	if from > to {
		slices.Reverse(out)
	}
	low, high := min(from, to), max(from, to)
	out = slices.DeleteFunc(out, func(s messages.Sample) bool { return s.Time < low || s.Time > high })
	return out[:min(len(out), limit)]
}

// Window implements api.Fleet.
func (f *Fleet) Window(_ context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.device(id)
	if err != nil {
		return nil, err
	}
	return pick(d.samples[max(0, len(d.samples)-windowCount):], from, to, limit), nil
}

// Readings implements api.Fleet.
func (f *Fleet) Readings(_ context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.device(id)
	if err != nil {
		return nil, err
	}
	return pick(d.samples, from, to, limit), nil
}

// Widths implements api.Fleet.
func (f *Fleet) Widths(_ context.Context, site string) ([]messages.DeviceWidth, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []messages.DeviceWidth
	for id, d := range f.devices {
		if id.Site == site {
			out = append(out, messages.DeviceWidth{Device: id.Device, Channels: len(d.samples[len(d.samples)-1].Values)})
		}
	}
	slices.SortFunc(out, func(a, b messages.DeviceWidth) int { return strings.Compare(a.Device, b.Device) })
	return out, f.Fail
}

// Scan implements api.Fleet. What it hands out is overwritten after each call, as an archive's would be.
func (f *Fleet) Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error {
	samples, err := f.Readings(ctx, id, from, to, math.MaxInt32)
	if err != nil {
		return err
	}
	for _, s := range samples {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.Values, s.Quality = slices.Clone(s.Values), slices.Clone(s.Quality)
		more := fn(&s)
		for i := range s.Values {
			s.Values[i] = -777
		}
		clear(s.Quality)
		if !more {
			return nil
		}
	}
	return nil
}

func rollups(samples []messages.Sample, step messages.Step) []messages.Rollup {
	var out []messages.Rollup
	for _, s := range samples {
		start := step.Start(s.Time)
		if len(out) == 0 || out[len(out)-1].Start != start {
			out = append(out, messages.Rollup{Start: start, Step: step})
		}
		r := &out[len(out)-1]
		r.Count++
		for i, v := range s.Values {
			if i == len(r.Channels) {
				r.Channels = append(r.Channels, messages.ChannelRollup{})
			}
			c := &r.Channels[i]
			if math.IsNaN(v) {
				continue
			}
			if c.Count++; c.Count == 1 {
				c.First, c.Min, c.Max = v, v, v
			}
			c.Min, c.Max, c.Sum, c.Last = min(c.Min, v), max(c.Max, v), c.Sum+v, v
		}
	}
	return out
}

// Rollups implements api.Fleet.
func (f *Fleet) Rollups(_ context.Context, id messages.DeviceID, step messages.Step, from, to int64, limit int) ([]messages.Rollup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.device(id)
	if err != nil {
		return nil, err
	}
	out := rollups(d.samples, step)
	if from > to {
		slices.Reverse(out)
	}
	out = slices.DeleteFunc(out, func(r messages.Rollup) bool { return r.Start < min(from, to) || r.Start > max(from, to) })
	return out[:min(len(out), limit)], nil
}

// Control implements api.Fleet: it only notes the command.
func (f *Fleet) Control(_ context.Context, id messages.DeviceID, c messages.Control) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Controls = append(f.Controls, Control{id, c})
	return f.Fail
}

// SiteControl implements api.Fleet: it notes the command, and the settings for SiteSettings.
func (f *Fleet) SiteControl(_ context.Context, site string, c messages.Control) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Controls = append(f.Controls, Control{messages.DeviceID{Site: site}, c})
	if f.Fail == nil && c.Settings != nil {
		f.settings[site] = *c.Settings
	}
	return f.Fail
}

// SiteSettings implements api.Fleet.
func (f *Fleet) SiteSettings(_ context.Context, site string) (messages.SiteSettings, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.settings[site]
	return messages.SiteSettings{Own: own, Merged: own.Over(messages.Settings{WindowCount: windowCount}), Everywhere: !f.Differ}, f.Fail
}

// Audit implements api.Fleet: it pages through f.Accounts, which must be sorted.
func (f *Fleet) Audit(_ context.Context, q messages.AuditQuery) ([]messages.ProducerAccount, *messages.ProducerRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var page []messages.ProducerAccount
	looked := 0
	for i, a := range f.Accounts {
		key, after := fmt.Sprint(a.Site, " ", a.Producer, " ", runText(a.Run)), fmt.Sprint(q.After.Site, " ", q.After.Producer, " ", runText(q.After.Run))
		if q.Site != "" && a.Site != q.Site || q.Producer != "" && a.Producer != q.Producer || q.After.Site != "" && key <= after {
			continue
		}
		if q.Wants(&f.Accounts[i]) {
			page = append(page, a)
		}
		if looked++; looked == q.Limit && i+1 < len(f.Accounts) {
			return page, &f.Accounts[i].ProducerRun, f.Fail
		}
	}
	return page, nil, f.Fail
}

func runText(run uint64) string { return fmt.Sprintf("%016x", run) }

// Recount implements api.Fleet, on one shard.
func (f *Fleet) Recount(ctx context.Context, site string, from, to int64, told func(messages.DeviceID, messages.Recount) error, shardDone func(int) error) error {
	sites, err := f.Sites(ctx)
	if err != nil {
		return err
	}
	for _, name := range sites {
		if site != "" && name != site {
			continue
		}
		devices, _ := f.Widths(ctx, name)
		for _, d := range devices {
			id := messages.DeviceID{Site: name, Device: d.Device}
			var sum messages.Recount
			err := f.Scan(ctx, id, from, to, func(s *messages.Sample) bool { sum.Count(s.Time, s.Values); return true })
			if err == nil && sum.Readings > 0 {
				err = told(id, sum)
			}
			if err != nil {
				return err
			}
		}
	}
	return shardDone(1)
}

// Publish implements api.Ingest.
func (f *Fleet) Publish(ctx context.Context, site string, in []api.DeviceReadings, how api.How) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Fail != nil {
		return f.Fail
	}
	f.How = how
	if how.Stored {
		f.Stored++
	}
	now := time.Now().UnixMilli()
	for _, dr := range in {
		id := messages.DeviceID{Site: site, Device: dr.Device}
		d := f.devices[id]
		if d == nil {
			d = &device{first: now}
			f.devices[id] = d
		}
		d.last = now
		f.sequence++
		var said []messages.Sample
		for _, r := range dr.Readings {
			if r.Time == messages.NoTime {
				r.Time = now
			}
			said = append(said, d.add(messages.Sample{Reading: r, Sequence: f.sequence}))
			f.received++
		}
		f.say(id, said)
	}
	return ctx.Err()
}

// WaitStored implements api.Ingest.
func (f *Fleet) WaitStored(ctx context.Context, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Stored++
	return cmp.Or(f.Fail, ctx.Err())
}

func (d *device) add(s messages.Sample) messages.Sample {
	d.counts.Received++
	i, found := slices.BinarySearchFunc(d.samples, s.Time, func(e messages.Sample, t int64) int { return int(e.Time - t) })
	switch {
	case found:
		d.counts.Duplicate++
		d.samples[i] = s
	case i < len(d.samples):
		d.counts.Late++
		d.samples = slices.Insert(d.samples, i, s)
	default:
		d.counts.InOrder++
		d.samples = append(d.samples, s)
	}
	return s
}

// say tells the listeners. The caller holds f.mu.
func (f *Fleet) say(id messages.DeviceID, said []messages.Sample) {
	rows := make([]json.RawMessage, len(said))
	for i := range said {
		rows[i] = messages.AppendSampleJSON(nil, said[i])
	}
	data, err := json.Marshal(map[string]any{"site": id.Site, "device": id.Device, "readings": rows})
	if err != nil {
		panic(err)
	}
	for l := range f.listeners {
		if (l.site == "" || l.site == id.Site) && (l.device == "" || l.device == id.Device) {
			l.say(messages.EventSubject(id, "reading"), data, 0)
		}
	}
}

func (l *listener) say(subject string, data []byte, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fn(subject, data, lost)
}

// Lose tells every listener that it missed n events.
func (f *Fleet) Lose(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.listeners {
		l.say("", nil, n)
	}
}

// Listeners returns how many listen.
func (f *Fleet) Listeners() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.listeners)
}

// Events implements api.Live.
func (f *Fleet) Events(ctx context.Context, site, device string, fn func(string, []byte, int)) error {
	l := &listener{site: site, device: device, fn: fn}
	f.mu.Lock()
	f.listeners[l] = true
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	delete(f.listeners, l)
	f.mu.Unlock()
	return ctx.Err()
}

// Ready implements api.Health.
func (f *Fleet) Ready(context.Context) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.NotReady
}

// Totals fits api.Options.Totals.
func (f *Fleet) Totals(context.Context) (api.Totals, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := api.Totals{Devices: len(f.devices), Readings: f.received}
	sites := map[string]bool{}
	for id, d := range f.devices {
		sites[id.Site] = true
		if d.status(time.Now().UnixMilli()) == messages.StatusOnline {
			t.Online++
		}
	}
	t.Sites = len(sites)
	return t, nil
}

// Set changes what the fleet answers, while it is in use.
func (f *Fleet) Set(change func(*Fleet)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}
