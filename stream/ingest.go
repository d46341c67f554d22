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
	turns     turns
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
//
// A device's only reading may have no time (NoTime): its arrival time takes the place. It is no part of
// a batch, so it cannot be waited for with stored.
func (i *Ingest) Publish(ctx context.Context, site string, devices []DeviceReadings, stored bool) error {
	if err := messages.CheckName("site", site); err != nil {
		return err
	}
	timeless, devices, err := withoutTime(site, devices, stored)
	if err != nil {
		return err
	}
	pieces, err := i.split(site, devices)
	if err != nil {
		return err
	}
	want, err := i.publish(ctx, site, timeless, pieces)
	if err != nil || !stored {
		return err
	}
	return i.publisher.await(ctx, want, func(c *counter, s uint64) bool { return c.stored.Has(s) })
}

// publish sends all, as the site's turns come, waits for the acknowledgements, and returns the
// producer sequences of the pieces.
func (i *Ingest) publish(ctx context.Context, site string, timeless []DeviceReadings, pieces []piece) (map[counterKey][]uint64, error) {
	turns, err := i.turns.enter(site)
	if err != nil {
		return nil, fmt.Errorf("readings of site %s: too many requests are under way: %w", site, err)
	}
	defer i.turns.leave(site, turns)
	acked := make(chan error, len(pieces)+len(timeless))
	done := func(err error) {
		turns.Release(1)
		acked <- err
	}
	sent := 0
	send := func(publish func() error) error {
		if err := turns.Acquire(ctx, 1); err != nil {
			return err
		}
		if err := publish(); err != nil {
			turns.Release(1)
			return err
		}
		sent++
		return nil
	}
	first := i.sendAll(ctx, site, timeless, send, done)
	want := map[counterKey][]uint64{}
	for n := 0; n < len(pieces) && first == nil; n++ {
		p := pieces[n]
		first = send(func() error {
			sequence, err := i.publisher.publish(ctx, site, p.shard, p.blocks, done)
			if err == nil {
				key := counterKey{site, p.shard}
				want[key] = append(want[key], sequence)
			}
			return err
		})
	}
	for range sent {
		select {
		case err := <-acked:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("readings of site %s are not acknowledged yet, and still being sent: %w", site, ctx.Err())
		}
	}
	if first != nil {
		return nil, fmt.Errorf("readings of site %s: %w", site, first)
	}
	return want, nil
}

// sendAll sends readings without a time, each in a message of its own.
func (i *Ingest) sendAll(ctx context.Context, site string, timeless []DeviceReadings, send func(func() error) error, done func(error)) error {
	for _, d := range timeless {
		id := messages.DeviceID{Site: site, Device: d.Device}
		err := send(func() error {
			return i.publisher.publishReading(ctx, id, messages.AppendReadingJSON(nil, d.Readings[0]), done)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WaitStored returns when the archive has everything of a site that was published before.
func (i *Ingest) WaitStored(ctx context.Context, site string) error {
	if err := i.publisher.waitStoredOf(ctx, site); err != nil {
		return fmt.Errorf("readings of site %s: %w", site, err)
	}
	return nil
}

// withoutTime takes the devices apart whose only reading has no time.
func withoutTime(site string, devices []DeviceReadings, stored bool) (timeless, rest []DeviceReadings, err error) {
	for n, d := range devices {
		if !slices.ContainsFunc(d.Readings, func(r messages.Reading) bool { return r.Time == messages.NoTime }) {
			if timeless != nil {
				rest = append(rest, d)
			}
			continue
		}
		if err := messages.CheckName("device", d.Device); err != nil {
			return nil, nil, err
		}
		if len(d.Readings) > 1 || stored {
			return nil, nil, fmt.Errorf("readings of %s/%s: only a single reading that is not waited for until it is stored may have no time: %w",
				site, d.Device, messages.ErrInvalid)
		}
		if timeless == nil {
			rest = slices.Clone(devices[:n])
		}
		timeless = append(timeless, d)
	}
	if timeless == nil {
		return nil, devices, nil
	}
	return timeless, rest, nil
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
