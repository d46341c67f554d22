package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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

// piece is one message of a Publish: a batch, or a device's reading without a time.
type piece struct {
	shard  messages.Shard
	blocks []messages.Block

	device   string // empty = a batch
	timeless []byte
}

// How says what a Publish waits for.
type How struct {
	Stored bool // until the archive has all, not only the stream
	Refuse bool // ErrOverloaded at once when the site's window or a stream is full; else it waits for room
}

// Publish returns when the stream has acknowledged all readings, or, with Stored, when the archive has
// them. It returns ErrOverloaded when the site has too much that is not stored, or a stream takes nothing: at
// once with Refuse, else when ctx ends; some batches may have been taken, and sending all again does no harm.
// When ctx ends otherwise the outcome is unknown.
//
// A device's only reading may have no time (NoTime): its arrival time takes the place. It is no part of
// a batch, so it cannot be waited for with Stored.
func (i *Ingest) Publish(ctx context.Context, site string, devices []DeviceReadings, how How) error {
	if err := messages.CheckName("site", site); err != nil {
		return err
	}
	timeless, devices, err := withoutTime(site, devices, how.Stored)
	if err != nil {
		return err
	}
	pieces, err := i.split(site, devices)
	if err != nil {
		return err
	}
	for _, d := range timeless {
		pieces = append(pieces, piece{timeless: messages.AppendReadingJSON(nil, d.Readings[0]), device: d.Device})
	}
	want, err := i.publish(ctx, site, pieces, how.Refuse)
	if err != nil || !how.Stored {
		return err
	}
	return i.publisher.await(ctx, want, func(c *counter, s uint64) bool { return c.stored.Has(s) })
}

// publish sends all, as the site's turns come, waits for the acknowledgements, and returns the
// producer sequences of the pieces. Unless it shall refuse, what a full stream does not take is sent again:
// the publisher keeps nothing for it meanwhile, so other sites have its room.
func (i *Ingest) publish(ctx context.Context, site string, pieces []piece, refuse bool) (map[counterKey][]uint64, error) {
	turns, err := i.turns.enter(ctx, site, refuse)
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrOverloaded // nothing was sent
	}
	if err != nil {
		return nil, fmt.Errorf("readings of site %s: too many requests are under way: %w", site, err)
	}
	defer i.turns.leave(site, turns)
	want := map[counterKey][]uint64{}
	for pause := resendAtLeast; ; pause = min(2*pause, resendAtMost) {
		left, err := i.round(ctx, site, turns, pieces, want, refuse)
		if err != nil {
			return nil, fmt.Errorf("readings of site %s: %w", site, err)
		}
		if len(left) == 0 {
			return want, nil
		}
		overloaded := fmt.Errorf("readings of site %s: %w", site, ErrOverloaded)
		if refuse {
			return nil, overloaded
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, overloaded
		}
		pieces = left
	}
}

// outcome is what became of a piece.
type outcome struct {
	piece    *piece
	sequence uint64
	err      error
}

// round sends pieces once and returns those that a stream certainly has not taken. want gets the sequences of
// those that it has.
func (i *Ingest) round(ctx context.Context, site string, turns *siteTurns, pieces []piece, want map[counterKey][]uint64, refuse bool) ([]piece, error) {
	acked := make(chan outcome, len(pieces))
	var left []piece
	var first error
	sent := 0
	for n := range pieces {
		weight := i.turns.weight(site)
		err := turns.Acquire(ctx, weight)
		if err == nil {
			err = i.send(ctx, site, &pieces[n], refuse, func(o outcome) {
				turns.Release(weight)
				acked <- o
			})
			if err != nil {
				turns.Release(weight)
			}
		}
		if err != nil {
			if left = append(left, pieces[n:]...); !errors.Is(err, ErrOverloaded) && !errors.Is(err, context.DeadlineExceeded) {
				first = err
			}
			break
		}
		sent++
	}
	for range sent {
		select {
		case o := <-acked:
			switch {
			case errors.Is(o.err, ErrOverloaded):
				left = append(left, *o.piece)
			case o.err != nil:
				if first == nil {
					first = o.err
				}
			case o.piece.device == "":
				key := counterKey{site, o.piece.shard}
				want[key] = append(want[key], o.sequence)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("not acknowledged yet, and still being sent: %w", ctx.Err())
		}
	}
	return left, first
}

// send sends one piece, when the site's window has room for it. done is called once, unless an error is
// returned.
func (i *Ingest) send(ctx context.Context, site string, p *piece, refuse bool, done func(outcome)) error {
	if p.device != "" {
		id := messages.DeviceID{Site: site, Device: p.device}
		return i.publisher.publishReading(ctx, id, p.timeless, true, func(err error) { done(outcome{p, 0, err}) })
	}
	taken := guess(p.blocks)
	if err := i.publisher.admit(ctx, site, taken, refuse); err != nil {
		return err
	}
	return i.publisher.publishAdmitted(ctx, counterKey{site, p.shard}, p.blocks, taken, true,
		func(sequence uint64, err error) { done(outcome{p, sequence, err}) })
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
