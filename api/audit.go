package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wellhead/wellhead/messages"
)

// shownGaps is how many gaps of one shard are listed; all are counted.
const shownGaps = 16

type producersInput struct {
	Site     string `query:"site" doc:"Only this site." example:"demo"`
	Producer string `query:"producer" doc:"Only this producer; needs site."`
	Since    string `query:"since" doc:"Only runs whose newest batch arrived then or later, RFC 3339 or Unix milliseconds."`
	Open     bool   `query:"open" doc:"Only runs with gaps."`
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Most runs looked at. With since or open a page may be shorter and still have a cursor."`
	Cursor   string `query:"cursor" doc:"Of the page before."`
}

type producersAnswer struct {
	Producers []producerRun `json:"producers"`
	Cursor    string        `json:"cursor,omitempty" doc:"For the next page; left out on the last."`
}

type producerRun struct {
	Site       string         `json:"site"`
	Producer   string         `json:"producer"`
	Run        string         `json:"run" doc:"16 hexadecimal digits." example:"00f3a94b11c2d7e5"`
	Received   uint64         `json:"received" doc:"Batches that came, repeated ones too."`
	Stored     uint64         `json:"stored" doc:"Different batches that are in the archive."`
	Readings   uint64         `json:"readings" doc:"Readings in those."`
	Duplicates uint64         `json:"duplicates" doc:"Batches that came again."`
	Missing    uint64         `json:"missing" doc:"Sequences below the highest that are not stored."`
	OpenGaps   int            `json:"openGaps" doc:"Stretches of those."`
	First      instant        `json:"first" doc:"Arrival of the first batch."`
	Last       instant        `json:"last" doc:"Arrival of the newest batch."`
	Retired    bool           `json:"retired" doc:"No shard holds the run any more; the archive keeps its account."`
	Shards     []shardAccount `json:"shards"`
}

type shardAccount struct {
	Shard       messages.Shard `json:"shard"`
	Received    uint64         `json:"received"`
	Stored      uint64         `json:"stored"`
	Readings    uint64         `json:"readings"`
	Duplicates  uint64         `json:"duplicates"`
	Unaccounted uint64         `json:"unaccounted,omitempty" doc:"Batches stored without a place to remember their sequences: some of what is missing."`
	Through     uint64         `json:"through" doc:"Highest sequence with all before it stored."`
	Highest     uint64         `json:"highest" doc:"Highest sequence stored."`
	Missing     uint64         `json:"missing"`
	OpenGaps    int            `json:"openGaps"`
	Gaps        [][2]uint64    `json:"gaps" doc:"The first 16, both ends included."`
	Retired     bool           `json:"retired"`
}

func newProducerRun(a *messages.ProducerAccount) producerRun {
	out := producerRun{Site: a.Site, Producer: a.Producer, Run: runName(a.Run), Retired: true, Shards: make([]shardAccount, len(a.Shards))}
	for i := range a.Shards {
		s := &a.Shards[i]
		out.Received += s.Received
		out.Stored += s.Stored
		out.Readings += s.Readings
		out.Duplicates += s.Duplicates
		out.Missing += s.Missing
		out.OpenGaps += len(s.Gaps)
		if i == 0 || instant(s.First) < out.First {
			out.First = instant(s.First)
		}
		out.Last = max(out.Last, instant(s.Last))
		out.Retired = out.Retired && s.Retired
		out.Shards[i] = shardAccount{
			Shard: s.Shard, Received: s.Received, Stored: s.Stored, Readings: s.Readings, Duplicates: s.Duplicates,
			Unaccounted: s.Unaccounted, Through: s.Through, Highest: s.Highest, Missing: s.Missing,
			OpenGaps: len(s.Gaps), Gaps: append([][2]uint64{}, s.Gaps[:min(len(s.Gaps), shownGaps)]...), Retired: s.Retired,
		}
	}
	return out
}

func runName(run uint64) string { return fmt.Sprintf("%016x", run) }

func runCursor(r *messages.ProducerRun) string {
	if r == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(r.Site + "/" + r.Producer + "/" + runName(r.Run)))
}

func parseRunCursor(cursor string) (r messages.ProducerRun, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	parts := strings.Split(string(text), "/")
	if err != nil || len(parts) != 3 {
		return r, badCursor()
	}
	run, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil {
		return r, badCursor()
	}
	return messages.ProducerRun{Site: parts[0], Producer: parts[1], Run: run}, nil
}

type recountInput struct {
	Site    string `query:"site" doc:"Only this site." example:"demo"`
	From    string `query:"from" required:"true" doc:"Event time, RFC 3339 or Unix milliseconds." example:"2026-01-02T03:00:00Z"`
	To      string `query:"to" required:"true" doc:"Event time, RFC 3339 or Unix milliseconds, included."`
	Devices bool   `query:"devices" doc:"A line for each device too."`
}

// addAudit registers the proof of what was received and stored.
func (s *server) addAudit() {
	ask(s, huma.Operation{
		OperationID: "listProducers", Path: base + "/audit/producers", Summary: "What became of the batches of each producer and run", Tags: []string{"audit"},
		Description: "Sorted by site, producer and run; runs that have ended are there as well. A batch counts as stored when the archive has it.",
	}, "list the accounts of producers", s.auditProducers)
	huma.Register(s.api, huma.Operation{
		OperationID: "recount", Method: http.MethodGet, Path: base + "/audit/readings",
		Summary: "Count the readings of a period in the archive", Tags: []string{"audit"},
		Description: "Scans all devices and answers line by line, as NDJSON: `{\"progress\":…}` about each second; with devices=true a line for " +
			"each device that has readings, in no order; a line for each site; and at last `{\"end\":true,…}` with the sums: without it the count is not whole.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The count.",
			Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, s.recount)
}

func (s *server) auditProducers(ctx context.Context, in *producersInput) (producersAnswer, error) {
	out := producersAnswer{Producers: []producerRun{}}
	q := messages.AuditQuery{Site: in.Site, Producer: in.Producer, Open: in.Open, Limit: in.Limit}
	if in.Site != "" {
		if err := checkSite(in.Site); err != nil {
			return out, err
		}
	}
	if in.Producer != "" {
		if in.Site == "" {
			return out, badRequest("producer=%s needs a site: producers of different sites may have one name.", in.Producer)
		}
		if err := messages.CheckName("producer", in.Producer); err != nil {
			return out, err
		}
	}
	var err error
	if in.Since != "" {
		if q.Since, err = messages.ParseTime(in.Since); err != nil {
			return out, badRequest("since=%s: %s.", in.Since, reason(err))
		}
	}
	if in.Cursor != "" {
		if q.After, err = parseRunCursor(in.Cursor); err != nil {
			return out, err
		}
	}
	page, next, err := s.Fleet.Audit(ctx, q)
	if err != nil {
		return out, err
	}
	for i := range page {
		out.Producers = append(out.Producers, newProducerRun(&page[i]))
	}
	out.Cursor = runCursor(next)
	return out, nil
}

// counted is one line of a recount.
type counted struct {
	Progress *recountProgress `json:"progress,omitempty"`
	Site     string           `json:"site,omitempty"`
	Device   string           `json:"device,omitempty"`
	End      bool             `json:"end,omitempty"`
	Error    string           `json:"error,omitempty"`
	Devices  uint64           `json:"devices,omitempty"` // of a site, or of all
	*recountSums
}

type recountSums struct {
	Readings uint64   `json:"readings"`
	Values   uint64   `json:"values"`
	Omitted  uint64   `json:"omitted"`
	First    *instant `json:"first,omitempty"`
	Last     *instant `json:"last,omitempty"`
}

type recountProgress struct {
	Shards   int    `json:"shards"` // done
	Readings uint64 `json:"readings"`
}

func sumsOf(r messages.Recount) *recountSums {
	out := &recountSums{Readings: r.Readings, Values: r.Values, Omitted: r.Omitted}
	if r.Readings > 0 {
		first, last := instant(r.First), instant(r.Last)
		out.First, out.Last = &first, &last
	}
	return out
}

// recount checks what was asked for and starts the answer. A count takes the place of an export.
func (s *server) recount(_ context.Context, in *recountInput) (*huma.StreamResponse, error) {
	if in.Site != "" {
		if err := checkSite(in.Site); err != nil {
			return nil, err
		}
	}
	from, to, err := parseSpan(in.From, in.To)
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, badRequest("from=%s is later than to=%s.", in.From, in.To)
	}
	if s.exports.Add(1) > int64(s.Limits.Exports) {
		s.exports.Add(-1)
		return nil, later(http.StatusTooManyRequests, fmt.Sprintf("%d exports and counts are under way already. Wait until one has ended, or raise limits.exports.", s.Limits.Exports))
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer s.exports.Add(-1)
		r, w := humago.Unwrap(hc)
		c := &counting{site: in.Site, from: from, to: to, devices: in.Devices, sites: map[string]*siteCount{}, w: w, control: http.NewResponseController(w)}
		s.sendCount(r, c)
	}}, nil
}

// counting is one recount under way: its lines, and the sums of all sites.
type counting struct {
	site     string
	from, to int64
	devices  bool

	w       http.ResponseWriter
	control *http.ResponseController
	out     []byte
	done    int // shards
	all     siteCount
	sites   map[string]*siteCount
}

type siteCount struct {
	messages.Recount
	devices uint64
}

// deviceCount is what the archive has of one device, or, without a device, that shards are done.
type deviceCount struct {
	id   messages.DeviceID
	sum  messages.Recount
	done int
}

func (s *server) sendCount(r *http.Request, c *counting) {
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Export)
	defer cancel()
	_ = c.control.SetReadDeadline(time.Time{}) // the server's would end the connection
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.Header().Set("X-Accel-Buffering", "no")
	err := s.count(ctx, cancel, c)
	if err == nil || r.Context().Err() != nil {
		return
	}
	s.log.Warn("count of the archive broken off", "error", err)
	c.line(counted{Error: exportReason(err)})
	_ = c.send()
	panic(http.ErrAbortHandler)
}

// count writes all lines. One goroutine asks the archive; this one writes, and never waits for it longer than a second.
func (s *server) count(ctx context.Context, cancel context.CancelFunc, c *counting) error {
	found := make(chan deviceCount, 256)
	ended := make(chan error, 1)
	put := func(d deviceCount) error {
		select {
		case found <- d:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		ended <- s.Fleet.Recount(ctx, c.site, c.from, c.to,
			func(id messages.DeviceID, sum messages.Recount) error { return put(deviceCount{id: id, sum: sum}) },
			func(done int) error { return put(deviceCount{done: done}) })
		close(found)
	}()
	err := c.take(found)
	cancelled := err != nil
	if cancelled {
		cancel()
		for range found { // until Recount has ended
		}
	}
	if asked := <-ended; !cancelled {
		err = asked
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.sites)) {
		c.line(counted{Site: name, Devices: c.sites[name].devices, recountSums: sumsOf(c.sites[name].Recount)})
	}
	c.line(counted{End: true, Devices: c.all.devices, recountSums: sumsOf(c.all.Recount)})
	return c.send()
}

// take adds up what is found until there is no more.
func (c *counting) take(found <-chan deviceCount) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case d, more := <-found:
			if !more {
				return nil
			}
			c.add(d)
		case <-tick.C:
			c.line(counted{Progress: &recountProgress{c.done, c.all.Readings}})
			if err := c.send(); err != nil {
				return err
			}
		}
		if len(c.out) >= sendAt {
			if err := c.send(); err != nil {
				return err
			}
		}
	}
}

func (c *counting) add(d deviceCount) {
	if d.id.Device == "" {
		c.done = d.done
		return
	}
	site := c.sites[d.id.Site]
	if site == nil {
		site = &siteCount{}
		c.sites[d.id.Site] = site
	}
	for _, s := range []*siteCount{site, &c.all} {
		s.devices++
		s.Add(d.sum)
	}
	if c.devices {
		c.line(counted{Site: d.id.Site, Device: d.id.Device, recountSums: sumsOf(d.sum)})
	}
}

func (c *counting) line(l counted) {
	data, err := json.Marshal(l)
	if err != nil { // only types of this package come here
		panic(err)
	}
	c.out = append(append(c.out, data...), '\n')
}

func (c *counting) send() error {
	out := c.out
	c.out = c.out[:0]
	return send(c.w, c.control, out)
}
