package recording

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/messages"
)

// Publisher takes batches to the stream.
type Publisher interface {
	// Publish must not keep blocks, nor anything in them, after the return.
	Publish(ctx context.Context, site string, shard messages.Shard, blocks []messages.Block) error
	// Flush returns when everything published is acknowledged.
	Flush(ctx context.Context) error
}

// PlayOptions say how rows are published.
type PlayOptions struct {
	Site   string
	Shards int
	Batch  int // readings in a batch, 1 to messages.MaxReadings
	Pace   *pace.Pace
	// Progress is called after each batch with the number of its readings; nil = nobody wants to know.
	Progress func(readings int)
	// Devices, if not nil, is set to the number of devices met.
	Devices *int
}

// Play publishes rows in the order in which they come, gathered into batches by shard, and returns when
// they are acknowledged. Rows wait in a batch until it is full, or until the next row is not due yet.
//
// A row that goes back into event times whose batches are not acknowledged yet waits until they are: it
// may replace one of those readings, and a batch that is sent again may overtake others.
func Play(ctx context.Context, m *Merged, o PlayOptions, to Publisher) error {
	if o.Batch < 1 || o.Batch > messages.MaxReadings {
		return fmt.Errorf("batch: %d is not from 1 to %d", o.Batch, messages.MaxReadings)
	}
	p := player{options: o, to: to, shards: make([]gathering, o.Shards), barriers: 1, members: map[string]*member{}}
	for {
		row, due, err := m.Next()
		if err == io.EOF {
			return p.barrier(ctx)
		}
		if err != nil {
			// what came before the bad row is good
			if flushed := p.barrier(ctx); flushed != nil {
				return flushed
			}
			return err
		}
		if o.Pace.Left(due, time.Now()) >= time.Millisecond {
			if err := p.flush(ctx); err != nil {
				return err
			}
			if err := o.Pace.Wait(ctx, due); err != nil {
				return err
			}
		}
		if err := p.add(ctx, row); err != nil {
			return err
		}
		o.Pace.Sent(1)
	}
}

// member is where a device's readings are gathered.
type member struct {
	shard          messages.Shard
	block          int   // index in the gathering's blocks
	oldest, newest int64 // event times published in this interval between barriers
	barriers       int   // the interval's number; an older one: none is published in this one
}

// gathering is the batch of a shard that is not full yet. Memory is used again.
type gathering struct {
	blocks   []messages.Block // of every device of the shard so far; may be empty
	values   []float64
	readings int
	bytes    int // about what the message will have
}

// batchBytes is when a batch is full although it has room for more readings: with many channels or long
// notes, and far enough below messages.MaxMessage for one more reading.
const batchBytes = messages.MaxMessage / 2

type player struct {
	options PlayOptions
	to      Publisher
	shards  []gathering
	members map[string]*member
	// barriers is how many there were, from 1.
	barriers int
	out      []messages.Block
}

func (p *player) add(ctx context.Context, row *Row) error {
	m := p.members[row.Device]
	if m == nil {
		m = &member{}
		m.shard = messages.ShardOf(messages.DeviceID{Site: p.options.Site, Device: row.Device}, p.options.Shards)
		g := &p.shards[m.shard]
		m.block = len(g.blocks)
		g.blocks = append(g.blocks, messages.Block{Device: row.Device})
		p.members[row.Device] = m
		if p.options.Devices != nil {
			*p.options.Devices = len(p.members)
		}
	}
	if t := row.Reading.Time; m.barriers == p.barriers && t >= m.oldest && t <= m.newest {
		if err := p.barrier(ctx); err != nil {
			return err
		}
	}
	g := &p.shards[m.shard]
	from := len(g.values)
	g.values = append(g.values, row.Reading.Values...)
	r := row.Reading
	r.Values = g.values[from:len(g.values):len(g.values)]
	b := &g.blocks[m.block]
	b.Readings = append(b.Readings, r)
	g.readings++
	g.bytes += 16 + 8*len(r.Values) + len(r.Note)
	if g.readings >= p.options.Batch || g.bytes >= batchBytes {
		return p.publish(ctx, m.shard)
	}
	return nil
}

func (p *player) publish(ctx context.Context, shard messages.Shard) error {
	g := &p.shards[shard]
	if g.readings == 0 {
		return nil
	}
	p.out = p.out[:0]
	for _, b := range g.blocks {
		if len(b.Readings) > 0 {
			p.out = append(p.out, b)
		}
	}
	if err := p.to.Publish(ctx, p.options.Site, shard, p.out); err != nil {
		return fmt.Errorf("publish to shard %d: %w", shard, err)
	}
	if p.options.Progress != nil {
		p.options.Progress(g.readings)
	}
	for i := range g.blocks {
		p.members[g.blocks[i].Device].published(g.blocks[i].Readings, p.barriers)
		g.blocks[i].Readings = g.blocks[i].Readings[:0]
	}
	g.values, g.readings, g.bytes = g.values[:0], 0, 0
	return nil
}

// published notes the event times of readings that are not acknowledged.
func (m *member) published(readings []messages.Reading, barriers int) {
	for i := range readings {
		t := readings[i].Time
		if m.barriers != barriers {
			m.oldest, m.newest, m.barriers = t, t, barriers
		}
		m.oldest, m.newest = min(m.oldest, t), max(m.newest, t)
	}
}

// barrier publishes what is gathered and waits until everything is acknowledged.
func (p *player) barrier(ctx context.Context) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	p.barriers++
	return p.to.Flush(ctx)
}

// flush publishes what is gathered.
func (p *player) flush(ctx context.Context) error {
	for shard := range p.shards {
		if err := p.publish(ctx, messages.Shard(shard)); err != nil {
			return err
		}
	}
	return nil
}

// Span reads sources to their end and returns the oldest and newest event time; ok is false when there
// are no rows.
func Span(sources []*Source) (oldest, newest int64, ok bool, err error) {
	for _, s := range sources {
		for {
			row, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				s.Close()
				return 0, 0, false, err
			}
			t := row.Reading.Time
			if !ok {
				oldest, newest, ok = t, t, true
			}
			oldest, newest = min(oldest, t), max(newest, t)
		}
	}
	return oldest, newest, ok, nil
}
