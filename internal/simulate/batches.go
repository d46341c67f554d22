package simulate

import (
	"context"

	"github.com/wellhead/wellhead/messages"
)

// Batch is readings of one shard in the order in which they are published.
type Batch struct {
	Shard    messages.Shard
	Blocks   []messages.Block
	Readings int
	// Due is the event time at which real devices would have sent it; batches of one interval are
	// spread over it.
	Due int64
	// Barrier: everything before must be acknowledged before this batch is sent. It may correct a
	// reading of an earlier batch, and a batch that is sent again may overtake others.
	Barrier bool
}

// barrierEvery is how many readings are sent, at full speed, between two barriers: about a tenth of a
// second of work, against some milliseconds that a barrier takes.
const barrierEvery = 50_000

// waiting is a reading that is sent later than its own step.
type waiting struct {
	position int32 // of the device in its group
	step     int32
	repeat   bool
}

// correction is a reading that is sent again with other values, after a barrier.
type correction struct {
	position int32
	step     int32
	due      int32 // not before this step
	barriers int   // how many there were when the reading was sent first
}

// ring holds what waits, by the step it is due at.
const ringSize = 16

// group is devices of one shard that share batches.
type group struct {
	shard   messages.Shard
	devices []int32
	names   []string
	gather  int // intervals whose readings are batched together
	most    int // readings in a batch
	ring    [ringSize][]waiting
	held    []correction
}

// Batches calls fn for each batch in publish order: by step, and within it by shard. Corrections wait for
// a barrier: at every step that needs one, and with Gather about every 50 000 readings. The batch and all in it are valid only during the
// call. It ends with the first error of fn, or with that of ctx.
func (f *Fleet) Batches(ctx context.Context, shards int, fn func(*Batch) error) error {
	groups := f.groups(shards)
	gather := 1
	for i := range groups {
		gather = max(gather, groups[i].gather)
	}
	b := builder{fleet: f, fn: fn}
	for first := 0; first < f.options.Readings+maxBehind || b.holding > 0; first += gather {
		if b.holding > 0 && (b.since >= barrierEvery || !f.options.Gather || first >= f.options.Readings+maxBehind) {
			b.batch.Barrier = true
			b.barriers++
			b.since = 0
		}
		for i := range groups {
			if err := ctx.Err(); err != nil {
				return err
			}
			g := &groups[i]
			spread := f.interval * int64(gather) * int64(i) / int64(len(groups))
			for step := first; step < first+gather; step += g.gather {
				b.begin(g, f.time(step)+spread)
				for s := step; s < min(step+g.gather, first+gather); s++ {
					if err := b.step(s); err != nil {
						return err
					}
				}
				if err := b.emit(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gatherApart is how many intervals of a shard are cut into batches of Batch readings where its devices, divided evenly, would
// leave the batches less than nine tenths full.
const gatherApart = 8

// groups puts each shard's devices into groups of at most Batch devices of about the same size, or into one whose
// batches are cut where they are full.
func (f *Fleet) groups(shards int) []group {
	byShard := make([][]int32, shards)
	for i := range f.options.Devices {
		s := messages.ShardOf(messages.DeviceID{Site: f.options.Site, Device: deviceName(i)}, shards)
		byShard[s] = append(byShard[s], int32(i))
	}
	var groups []group
	for s, devices := range byShard {
		parts := (len(devices) + f.options.Batch - 1) / f.options.Batch
		cut := f.options.Gather && parts > 1 && 10*len(devices) < 9*parts*f.options.Batch
		if cut {
			parts = 1
		}
		for p := range parts {
			// What is late may come on top.
			g := group{shard: messages.Shard(s), gather: 1, most: messages.MaxReadings}
			g.devices = devices[len(devices)*p/parts : len(devices)*(p+1)/parts]
			for _, d := range g.devices {
				g.names = append(g.names, deviceName(int(d)))
			}
			switch {
			case f.options.Batch == 1:
				g.most = 1 // devices that send each reading by itself
			case cut:
				g.gather, g.most = gatherApart, f.options.Batch
			case f.options.Gather:
				g.gather = max(1, f.options.Batch/len(g.devices))
			}
			groups = append(groups, g)
		}
	}
	return groups
}

// builder fills one batch after another, in the same memory.
type builder struct {
	fleet  *Fleet
	fn     func(*Batch) error
	group  *group
	batch  Batch
	blocks []messages.Block // by position in the group; may be empty
	values []float64

	holding  int // corrections in all groups
	barriers int // so far
	since    int // readings sent since the last one
}

func (b *builder) begin(g *group, due int64) {
	b.group = g
	b.batch.Shard, b.batch.Due = g.shard, due
	for len(b.blocks) < len(g.devices) {
		b.blocks = append(b.blocks, messages.Block{})
	}
	for i, name := range g.names {
		b.blocks[i].Device = name
	}
}

// step adds what the group sends at one step: the readings of this step that are not late, then what
// has waited for it.
func (b *builder) step(step int) error {
	g, f := b.group, b.fleet
	if step < f.options.Readings {
		t := f.time(step)
		for i, device := range g.devices {
			a := f.fate(f.hash(int(device), t))
			if a.delay > 0 {
				due := (step + a.delay) % ringSize
				g.ring[due] = append(g.ring[due], waiting{position: int32(i), step: int32(step)})
				continue
			}
			if err := b.send(i, step, false); err != nil {
				return err
			}
			b.again(i, step, step, a)
		}
	}
	slot := &g.ring[step%ringSize]
	for _, w := range *slot {
		if err := b.send(int(w.position), int(w.step), false); err != nil {
			return err
		}
		if !w.repeat {
			a := f.fate(f.hash(int(g.devices[w.position]), f.time(int(w.step))))
			b.again(int(w.position), int(w.step), step, a)
		}
	}
	*slot = (*slot)[:0]
	kept := g.held[:0]
	for _, c := range g.held {
		if int(c.due) > step || c.barriers == b.barriers {
			kept = append(kept, c)
			continue
		}
		b.holding--
		if err := b.send(int(c.position), int(c.step), true); err != nil {
			return err
		}
	}
	g.held = kept
	return nil
}

// again arranges that a reading sent now is sent once more, if that is its fate.
func (b *builder) again(position, step, now int, a fate) {
	if a.again == 0 {
		return
	}
	if a.corrected {
		b.group.held = append(b.group.held, correction{int32(position), int32(step), int32(now + a.again), b.barriers})
		b.holding++
		return
	}
	slot := &b.group.ring[(now+a.again)%ringSize]
	*slot = append(*slot, waiting{position: int32(position), step: int32(step), repeat: true})
}

// send puts one reading into the batch, and the batch out when it is full.
func (b *builder) send(position, step int, corrected bool) error {
	block := &b.blocks[position]
	n := len(block.Readings)
	if n < cap(block.Readings) {
		block.Readings = block.Readings[:n+1]
	} else {
		block.Readings = append(block.Readings, messages.Reading{})
	}
	device := int(b.group.devices[position])
	b.values = b.fleet.read(&block.Readings[n], device, step, corrected, b.values)
	b.batch.Readings++
	if b.batch.Readings == b.group.most {
		return b.emit()
	}
	return nil
}

// emit hands the batch on and empties it.
func (b *builder) emit() error {
	if b.batch.Readings == 0 {
		return nil
	}
	b.batch.Blocks = b.batch.Blocks[:0]
	for _, block := range b.blocks[:len(b.group.devices)] {
		if len(block.Readings) > 0 {
			b.batch.Blocks = append(b.batch.Blocks, block)
		}
	}
	err := b.fn(&b.batch)
	for i := range b.blocks {
		b.blocks[i].Readings = b.blocks[i].Readings[:0]
	}
	b.values = b.values[:0]
	b.since += b.batch.Readings
	b.batch.Readings, b.batch.Barrier = 0, false
	return err
}
