package api

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
)

const (
	// partReadings and partBytes are the readings, and about the memory, from which a part is published
	// and the next begun.
	partReadings = 10_000
	partBytes    = 2 << 20
	// maxLines is how many readings one request may bring as line protocol: so many can be known again,
	// in the memory of publishedBytes each.
	maxLines = 1_000_000
	// publishedBytes is about what it takes to know a published reading again; bytes.
	publishedBytes = 32
	// pieceTimeout is how long a client may take to send the next piece of a body.
	pieceTimeout = 30 * time.Second
	// holdStep is how much of the budget for bodies is taken at a time; bytes.
	holdStep = 256 << 10
	// valuesAtOnce is how many values are allocated at a time.
	valuesAtOnce = 8192
)

// linesIntake gathers a body of line protocol into readings, and publishes them part by part, so that
// a long body is never whole in memory. Lines of one device and time make one reading. What is
// published cannot be added to: a later line of the same reading is refused.
type linesIntake struct {
	*intake
	server    *server
	ctx       context.Context // of the part under way; ends when one failed
	site      string
	parts     *errgroup.Group // at most one is under way
	part      *linesPart      // at hand
	seed      maphash.Seed
	published map[uint64]struct{} // identities of the readings of earlier parts
	held      *holding            // of the budget, for published
}

// place is where in a part a reading is.
type place struct{ device, reading int32 }

// linesPart is what is published at once.
type linesPart struct {
	devices []DeviceReadings
	at      map[string]int32 // index in devices
	seen    map[uint64]place // by identity
	bytes   int64            // about what it holds
	held    *holding         // of the budget
	values  []float64
}

func newLinesPart(held *holding) *linesPart {
	return &linesPart{at: make(map[string]int32), seen: make(map[uint64]place), held: held}
}

// takeLines takes a body of line protocol. With an error it is not known what was taken: the same can
// be sent again.
func (s *server) takeLines(w http.ResponseWriter, r *http.Request, in *intake, site string, body io.Reader) error {
	unit := r.URL.Query().Get("precision")
	p, ok := precisions[unit]
	if !ok {
		return badRequest("precision=%s is not known. Use ns, us, ms or s.", unit)
	}
	group, groupCtx := errgroup.WithContext(r.Context())
	group.SetLimit(1) // so the parts stay in order: one is acknowledged while the next is decoded
	l := &linesIntake{
		intake: in, server: s, ctx: groupCtx, site: site, parts: group,
		part: newLinesPart(s.bodies.hold(site)), held: s.bodies.hold(site), seed: maphash.MakeSeed(), published: make(map[uint64]struct{}),
	}
	d := newLineDecoder(&patientBody{body, http.NewResponseController(w)}, p, in.arrival, s.channels.of(site))
	err := l.run(d)
	if err == nil {
		err = l.flush()
	}
	if failed := group.Wait(); failed != nil { // it may be why reading on ended
		err = failed
	}
	if err == nil && in.how.Stored && in.accepted > 0 {
		err = s.waitStored(r.Context(), site)
	}
	l.held.end()
	l.part.held.end()
	in.ignoredTags = d.ignoredTags()
	return err
}

func (l *linesIntake) run(d *lineDecoder) error {
	buffers := l.server.bodies.hold(l.site) // the decoder's
	defer buffers.end()
	if err := l.server.takeBody(l.ctx, buffers, holdStep, l.how.Refuse); err != nil {
		return err
	}
	for {
		ok, bad := d.next()
		if !ok {
			break
		}
		if bad == nil && len(d.unnamed) > 0 {
			names, err := l.server.addNames(l.ctx, l.site, d.nameless())
			if err != nil {
				return err
			}
			bad = d.named(names)
		}
		if bad == nil {
			var err error
			if bad, err = l.enter(d); err != nil {
				return err
			}
		}
		if bad != nil {
			l.refuse(refusal{Line: d.line, Device: string(d.device), Reason: reason(bad)})
		}
	}
	switch err := d.reader.err; err {
	case nil:
	case errEntry:
		l.refuse(refusal{Line: d.reader.entry, Reason: err.Error()})
	default:
		return badRequest("The body ended too soon or is damaged at line %d: %v. Some of the lines before it may have been taken. Send all again: each reading is stored once.", d.reader.line, err)
	}
	if l.accepted == 0 && l.refusedCount == 0 {
		return badRequest("There is no line in the body. Send one such as: pump-1 c0=1.5,c2=3 1767323045678000000")
	}
	return nil
}

// addNames gives channels to fields that come for the first time.
func (s *server) addNames(ctx context.Context, site string, names []string) (*channelNames, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
	defer cancel()
	list, err := s.channels.add(ctx, site, names)
	if err != nil {
		return nil, s.failure(ctx, "keep the names of new channels", err)
	}
	return list, nil
}

// patientBody gives a body for as long as it takes, while each piece of it comes in time.
type patientBody struct {
	body    io.Reader
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(pieceTimeout)) // not every connection has deadlines
	return b.body.Read(p)
}

// enter takes the decoder's entry into the part at hand. bad says why it cannot be taken.
func (l *linesIntake) enter(d *lineDecoder) (bad, err error) {
	r := d.reading()
	if bad := messages.CheckReading(r); bad != nil {
		return bad, nil
	}
	if why := l.untimely(r.Time); why != "" {
		return errors.New(why + "; is the precision right?"), nil
	}
	id := l.identity(d.device, r.Time)
	if at, ok := l.part.seen[id]; ok {
		return l.merge(at, r, d.device), nil
	}
	if _, ok := l.published[id]; ok {
		return fmt.Errorf("a line of this device and time stands about %d readings before it: put such lines next to each other", partReadings), nil
	}
	if l.accepted == maxLines {
		return nil, newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("More than %d readings, at line %d. Send them in several requests; "+
			"some of the lines before it were taken, and sending them again does no harm.", maxLines, d.line))
	}
	if len(l.part.seen) >= partReadings || l.part.bytes >= partBytes {
		if err := l.flush(); err != nil {
			return nil, err
		}
	}
	p := l.part
	at, ok := p.at[string(d.device)]
	if !ok {
		at = int32(len(p.devices))
		name := string(d.device)
		p.at[name] = at
		p.devices = append(p.devices, DeviceReadings{Device: name})
		p.bytes += 160
	}
	device := &p.devices[at]
	p.seen[id] = place{at, int32(len(device.Readings))}
	values := p.take(len(r.Values))
	copy(values, r.Values)
	r.Values = values
	device.Readings = append(device.Readings, r)
	p.bytes += int64(128 + 8*len(values) + len(r.Note))
	l.accepted++
	l.oldest = min(l.oldest, r.Time)
	return nil, l.hold()
}

// identity is a hash of what a reading is known by. Two different ones of a request have the same once
// in about 10^19 / readings²: then the later line is refused, and says so.
func (l *linesIntake) identity(device []byte, t int64) uint64 {
	const spread = 0x9e3779b97f4a7c15 // 2^64 / golden ratio: close times end up far apart
	h := maphash.Bytes(l.seed, device) + uint64(t)*spread
	h ^= h >> 32
	h *= spread
	return h ^ h>>29
}

// hold takes from the budget what the part at hand and the identities need.
func (l *linesIntake) hold() error {
	for _, n := range []struct {
		held *holding
		need int64
	}{{l.part.held, l.part.bytes}, {l.held, int64(len(l.published)) * publishedBytes}} {
		if n.need > n.held.bytes && !n.held.take(holdStep) {
			return tooBusy()
		}
	}
	return nil
}

// take returns room for n values.
func (p *linesPart) take(n int) []float64 {
	if len(p.values)+n > cap(p.values) {
		p.values = make([]float64, 0, valuesAtOnce)
	}
	from := len(p.values)
	p.values = p.values[:from+n]
	return p.values[from : from+n : from+n]
}

// merge adds a line to a reading that another line began.
func (l *linesIntake) merge(at place, r messages.Reading, name []byte) error {
	device := &l.part.devices[at.device]
	have := &device.Readings[at.reading]
	if device.Device != string(name) || have.Time != r.Time {
		return errors.New("it cannot be told from another line of this request: send it in another one")
	}
	for i, v := range r.Values {
		if i < len(have.Values) && !math.IsNaN(v) && !math.IsNaN(have.Values[i]) && v != have.Values[i] {
			return fmt.Errorf("channel %d has another value in an earlier line of this device and time (cut to the millisecond): "+
				"name what sent them by a tag device, for other tags do not tell readings apart", i)
		}
	}
	if r.Note != "" && have.Note != "" && r.Note != have.Note {
		return errors.New("an earlier line of this device and time has another text: a reading has one note")
	}
	if len(r.Values) > len(have.Values) {
		wider := l.part.take(len(r.Values))
		for i := copy(wider, have.Values); i < len(wider); i++ {
			wider[i] = messages.Omitted()
		}
		l.part.bytes += int64(8 * len(wider))
		have.Values = wider
	}
	for i, v := range r.Values {
		if !math.IsNaN(v) {
			have.Values[i] = v
		}
	}
	if r.Note != "" {
		l.part.bytes += int64(len(r.Note))
		have.Note = r.Note
	}
	return nil
}

// flush publishes the part at hand and begins the next. It waits until the part before is acknowledged.
func (l *linesIntake) flush() error {
	if err := l.ctx.Err(); err != nil {
		return err // what failed is told by the group
	}
	p := l.part
	if len(p.seen) == 0 {
		return nil
	}
	for id := range p.seen {
		l.published[id] = struct{}{}
	}
	p.seen, l.part = nil, newLinesPart(l.server.bodies.hold(l.site))
	l.arrival = time.Now().UnixMilli() // a long body's next part comes later
	l.parts.Go(func() error {
		defer p.held.end()
		return l.server.publish(l.ctx, l.site, p.devices, How{Refuse: l.how.Refuse})
	})
	return nil
}
