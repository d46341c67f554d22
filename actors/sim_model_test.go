package actors

import (
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// publish puts something random into the stream.
func (w *world) publish() {
	arrival := w.now*1_000_000 + int64(w.rnd.IntN(1_000_000))
	device := w.names[w.rnd.IntN(len(w.names))]
	id := messages.DeviceID{Site: "site", Device: device}
	subject := messages.ShardReadingsSubject(0, id)
	var data []byte
	switch n := w.rnd.IntN(100); {
	case n < 45:
		data = []byte(`[`)
		for i := range 1 + w.rnd.IntN(4) {
			if i > 0 {
				data = append(data, ',')
			}
			data = messages.AppendReadingJSON(data, w.reading(device))
		}
		data = append(data, ']')
	case n < 55:
		data = []byte(fmt.Sprintf(`{"values":[%d]}`, w.rnd.IntN(50))) // time assigned
	case n < 85:
		subject, data = messages.ShardBatchSubject(0, "site"), w.batch()
	case n < 88:
		data = []byte(`{"values":[1,}`)
	case n < 91:
		r := w.unsure(device)
		r.Note = "boom"
		if w.seed%5 == 0 && w.rnd.IntN(4) == 0 {
			r.Note = []string{"kill", "poison"}[w.rnd.IntN(2)]
		}
		data = messages.AppendReadingJSON(nil, r)
	case n < 95:
		subject, data = messages.ShardControlSubject(0, id), w.control(device)
	case n < 97:
		subject = messages.SiteControlSubject(0, "site")
		data = w.siteControl()
	default:
		r := w.unsure(device)
		r.Time = w.now + 10_000_000 // too far ahead
		data = messages.AppendReadingJSON(nil, r)
	}
	w.stream.publish(arrival, subject, data)
	w.sent = append(w.sent, w.stream.msgs[len(w.stream.msgs)-1])
}

// reading makes a reading that will be stored.
func (w *world) reading(device string) messages.Reading {
	r := w.unsure(device)
	if w.certain != nil {
		w.certain[fmt.Sprintf("%s %d", device, r.Time)] = true
	}
	return r
}

// unsure makes a reading near now, or long ago.
func (w *world) unsure(device string) messages.Reading {
	t := w.now - int64(w.rnd.IntN(3000))
	switch w.rnd.IntN(20) {
	case 0:
		t = w.now - int64(w.rnd.IntN(600_000))
	case 1:
		t = w.now - int64(w.rnd.IntN(20_000_000))
	}
	t -= t % 50 // so that times repeat
	r := messages.Reading{Time: t}
	for range 1 + w.rnd.IntN(3) {
		v := math.Round(w.rnd.NormFloat64()*1000) / 100
		if w.rnd.IntN(8) == 0 {
			v = math.NaN()
		}
		r.Values = append(r.Values, v)
	}
	r.Values = append(r.Values, float64(w.rnd.IntN(10)))
	if w.rnd.IntN(10) == 0 {
		r.Note = "note"
	}
	return r
}

// batch makes a producer's batch: the next one, one that was sent already, or one after a gap.
func (w *world) batch() []byte {
	producer := fmt.Sprintf("p%d", w.rnd.IntN(2))
	if w.rnd.IntN(30) == 0 { // the one before is retired, and never comes again
		w.runs[producer]++
		w.producers[producer] = 0
	}
	b := messages.Batch{Producer: producer, Run: w.runs[producer]}
	switch w.rnd.IntN(8) {
	case 0:
		b.Sequence = max(1, w.producers[producer]) // others than were sent under this number: they do not count
		w.producers[producer] = b.Sequence
		return w.blocks(b, b.Sequence%3+1, w.unsure)
	case 1:
		w.producers[producer] += 2
	default:
		w.producers[producer]++
	}
	b.Sequence = w.producers[producer]
	return w.blocks(b, b.Sequence%3+1, w.reading)
}

func (w *world) blocks(b messages.Batch, n uint64, reading func(string) messages.Reading) []byte {
	for range n {
		block := messages.Block{Device: w.names[w.rnd.IntN(len(w.names))]}
		for range 1 + w.rnd.IntN(3) {
			block.Readings = append(block.Readings, reading(block.Device))
		}
		b.Blocks = append(b.Blocks, block)
	}
	return messages.AppendBatch(nil, &b)
}

// siteControl changes the site's settings or, in some seeds, deletes all of it now and then.
func (w *world) siteControl() []byte {
	if w.seed%7 < 2 && w.rnd.IntN(3) == 0 {
		clear(w.certain)
		return messages.AppendControl(nil, messages.Control{Delete: true})
	}
	return messages.AppendControl(nil, messages.Control{Settings: &messages.Settings{WindowCount: 4 + w.rnd.IntN(10)}})
}

func (w *world) control(device string) []byte {
	var c messages.Control
	switch w.rnd.IntN(5) {
	case 0:
		c.Delete = w.seed%3 == 0
		if !c.Delete {
			c.Trim = &messages.Trim{}
			break
		}
		maps.DeleteFunc(w.certain, func(key string, _ bool) bool { return strings.HasPrefix(key, device+" ") })
	case 1:
		c.Trim = &messages.Trim{Before: w.now - int64(w.rnd.IntN(5000))}
	default:
		c.Settings = &messages.Settings{WindowCount: w.rnd.IntN(12)}
		if w.rnd.IntN(3) == 0 {
			c.Settings.WindowAge = int64(1000 + w.rnd.IntN(20_000))
		}
	}
	return messages.AppendControl(nil, c)
}

// model does at once and without faults what the shard does with all its stores.
type model struct {
	w       *world
	devices map[string]*modelDevice
	site    messages.Settings // merged
	sent    map[producerKey]*modelRun
	counts  messages.Counts
	rejects map[string]bool
	last    int64 // write time
}

// modelRun is what was sent under one run.
type modelRun struct {
	sequences          map[uint64]bool
	readings, repeated uint64
}

func (r *modelRun) repeats(b *messages.Batch) bool {
	if r.sequences[b.Sequence] {
		r.repeated++
		return true
	}
	r.sequences[b.Sequence] = true
	for _, block := range b.Blocks {
		r.readings += uint64(len(block.Readings))
	}
	return false
}

type modelDevice struct {
	device *Device
	rows   map[int64]persistence.Row
}

func newModel(w *world) *model {
	return &model{
		w: w, devices: map[string]*modelDevice{}, site: w.member.cfg.Fleet,
		sent: map[producerKey]*modelRun{}, rejects: map[string]bool{},
	}
}

func (m *model) device(name string) *modelDevice {
	d := m.devices[name]
	if d == nil {
		site := m.site
		d = &modelDevice{device: NewDevice(messages.DeviceID{Site: "site", Device: name}, &site), rows: map[int64]persistence.Row{}}
		m.devices[name] = d
	}
	return d
}

func (m *model) take(msg *messages.Message) {
	m.last = max(msg.Arrival/1000, m.last+1)
	subject, err := messages.ParseShardSubject(msg.Subject)
	if err != nil {
		m.w.t.Fatal(err)
	}
	switch subject.Kind {
	case messages.KindSiteControl:
		c, _ := messages.DecodeControl("", msg.Data)
		if c.Delete {
			m.deleteSite(msg, c)
			return
		}
		m.site = c.Settings.Over(m.w.member.cfg.Fleet)
		for _, d := range m.devices {
			site := m.site
			applySettings(d.device, msg.Sequence, &site)
		}
	case messages.KindControl:
		c, _ := messages.DecodeControl("", msg.Data)
		d, site := m.device(subject.Device), m.site
		d.device.ApplyControl(msg.Sequence, millis(msg.Arrival), m.last, c, &site)
		if c.Delete {
			clear(d.rows)
		}
	default:
		m.takeBatch(msg, subject)
	}
}

func (m *model) deleteSite(msg *messages.Message, c messages.Control) {
	m.site = m.w.member.cfg.Fleet
	for _, d := range m.devices {
		site := m.site
		d.device.ApplyControl(msg.Sequence, millis(msg.Arrival), m.last, c, &site)
		clear(d.rows)
	}
}

func (m *model) takeBatch(msg *messages.Message, subject messages.ShardSubject) {
	var dec messages.Decoder
	var b messages.Batch
	if err := dec.Message("", subject, msg.Data, &b); err != nil {
		m.rejects[fmt.Sprintf("%d--1", msg.Sequence)] = true
		return
	}
	if endsProcess(&b) {
		m.rejects[fmt.Sprintf("%d--1", msg.Sequence)] = true
		return
	}
	if b.Producer != "" {
		key := producerKey{"site", strings.Clone(b.Producer), b.Run}
		if m.sent[key] == nil {
			m.sent[key] = &modelRun{sequences: map[uint64]bool{}}
		}
		if m.sent[key].repeats(&b) {
			return
		}
	}
	// Readings of one device in one message go to it together.
	in := map[string][]Arrived{}
	var order []string
	index := int32(0)
	for _, block := range b.Blocks {
		for _, r := range block.Readings {
			a := Arrived{Sequence: msg.Sequence, Arrival: millis(msg.Arrival), WriteTime: m.last, Reading: r, Index: index}
			index++
			if strings.HasPrefix(r.Note, "boom") {
				m.counts.Received++
				m.counts.Refused++
				m.rejects[fmt.Sprintf("%d-%d", msg.Sequence, a.Index)] = true
				continue
			}
			if in[block.Device] == nil {
				order = append(order, strings.Clone(block.Device))
			}
			in[block.Device] = append(in[block.Device], a)
		}
	}
	for _, name := range order {
		d := m.device(name)
		var out Outcome
		arrived := in[name]
		d.device.Apply(arrived, &m.w.member.cfg.Limits, &out)
		for i := range arrived {
			a := &arrived[i]
			countDecision(&m.counts, a.Decision)
			if a.Decision == Refused {
				m.rejects[fmt.Sprintf("%d-%d", msg.Sequence, a.Index)] = true
			}
			if a.Written() {
				row := a.Row()
				row.WriteTime = 0
				d.rows[row.Time] = row
			}
		}
	}
}

// endsProcess tells whether the message goes to rejects because it ends the process.
func endsProcess(b *messages.Batch) bool {
	for _, block := range b.Blocks {
		for _, r := range block.Readings {
			if r.Note == "kill" || r.Note == "poison" {
				return true
			}
		}
	}
	return false
}

// rollup computes a bucket from all its rows.
func (d *modelDevice) rollup(step messages.Step, start int64) persistence.RollupRow {
	var rows []persistence.Row
	for t, r := range d.rows {
		if step.Start(t) == start {
			rows = append(rows, r)
		}
	}
	return RollupOf(step, start, rows)
}
