package stream

import (
	"context"
	"fmt"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// batchBytes is the estimated size from which a batch is sent and the next begun.
const batchBytes = 256 << 10

// DeviceReadings are valid readings of one device.
type DeviceReadings struct {
	Device   string
	Readings []messages.Reading
}

// Ingest takes readings of many devices to the stream: it splits them into batches by shard.
type Ingest struct {
	publisher *Publisher
	shards    int
}

// NewIngest returns an Ingest that publishes through p to this number of shards.
func NewIngest(p *Publisher, shards int) *Ingest { return &Ingest{publisher: p, shards: shards} }

// piece is one batch of a Publish.
type piece struct {
	shard  messages.Shard
	blocks []messages.Block
}

// Publish returns when the stream has acknowledged all readings, or, with stored, when the archive has
// them. With a publisher that refuses it returns ErrOverloaded when a stream does not take a batch; the
// other batches may have been taken, and sending all again does no harm. When ctx ends the outcome is
// unknown.
func (i *Ingest) Publish(ctx context.Context, site string, devices []DeviceReadings, stored bool) error {
	if err := messages.CheckName("site", site); err != nil {
		return err
	}
	pieces, err := i.split(site, devices)
	if err != nil {
		return err
	}
	acked := make(chan error, len(pieces))
	want := map[counterKey][]uint64{}
	var first error
	sent := 0
	for _, p := range pieces {
		sequence, err := i.publisher.publish(ctx, site, p.shard, p.blocks, func(err error) { acked <- err })
		if err != nil {
			first = err
			break
		}
		sent++
		key := counterKey{site, p.shard}
		want[key] = append(want[key], sequence)
	}
	for range sent {
		select {
		case err := <-acked:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return fmt.Errorf("readings of site %s are not acknowledged yet, and still being sent: %w", site, ctx.Err())
		}
	}
	if first != nil {
		return fmt.Errorf("readings of site %s: %w", site, first)
	}
	if !stored {
		return nil
	}
	return i.publisher.await(ctx, want, func(c *counter, s uint64) bool { return c.stored.Has(s) })
}

// split sorts the readings into batches: one shard, at most MaxReadings readings and about batchBytes each.
func (i *Ingest) split(site string, devices []DeviceReadings) ([]piece, error) {
	var done []piece
	open := map[messages.Shard]*piece{}
	count := map[messages.Shard]int{}
	bytes := map[messages.Shard]int{}
	var order []messages.Shard
	for _, d := range devices {
		if err := messages.CheckName("device", d.Device); err != nil {
			return nil, err
		}
		shard := messages.ShardOf(messages.DeviceID{Site: site, Device: d.Device}, i.shards)
		for rest := d.Readings; len(rest) > 0; {
			p := open[shard]
			if p == nil {
				p = &piece{shard: shard}
				open[shard] = p
				if !slices.Contains(order, shard) {
					order = append(order, shard)
				}
			}
			n, size := 0, len(d.Device)+16
			for n < len(rest) && count[shard]+n < messages.MaxReadings && bytes[shard]+size < batchBytes {
				size += 16 + 10*len(rest[n].Values) + len(rest[n].Note)
				n++
			}
			if n > 0 {
				p.blocks = append(p.blocks, messages.Block{Device: d.Device, Readings: rest[:n:n]})
				count[shard] += n
				bytes[shard] += size
				rest = rest[n:]
			}
			if len(rest) > 0 { // full
				done = append(done, *p)
				delete(open, shard)
				count[shard], bytes[shard] = 0, 0
			}
		}
	}
	for _, shard := range order {
		if p := open[shard]; p != nil && len(p.blocks) > 0 {
			done = append(done, *p)
		}
	}
	return done, nil
}
