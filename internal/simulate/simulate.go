// Package simulate makes the readings of a fleet that does not exist.
//
// Every reading is a pure function of seed, device and event time, and so is whether it is sent late or
// again: nothing has to be remembered to check what was sent. All arithmetic that decides a value is in
// integers, so the same flags give the same bits on every machine.
//
// What it makes: channel 0 is a sine; the others wander (sums of sines with noise); all have a
// resolution of 0.01. Some readings are sent after later ones (out of order), some are sent again, half
// of those with corrected values (of several sent with one event time the last counts), some values are
// omitted, and about one reading in a thousand has a note.
//
// A Fleet is not changed after New and may be used by many goroutines at once.
package simulate

//go:generate go run ./cmd/examples ../../examples/data

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// MaxDevices is the most devices of one simulated fleet: what the six digits of their names hold, and one more.
const MaxDevices = 1_000_000

// Options say what a fleet is. Two fleets with the same options make the same readings in the same order.
type Options struct {
	Site       string
	Devices    int           // 1 to MaxDevices
	Interval   time.Duration // between two readings of a device: whole milliseconds, at least one
	Channels   int           // 1 to messages.MaxChannels
	Seed       uint64
	Start      time.Time // event time of each device's first reading, to the millisecond
	Readings   int       // of each device, not counting those sent again
	OutOfOrder float64   // share of readings that are sent 1-8 intervals late, 0 to 1
	Duplicates float64   // share of readings that are sent again 1-8 intervals later, 0 to 1
	Omitted    float64   // share of omitted values, 0 to 1
	Batch      int       // readings in one batch, 1 to 500; one late or repeated reading may come on top
	// Gather fills batches: where a shard has fewer devices than Batch, several intervals go into one
	// batch; where it has a few more, batches go on with the next interval. Without it a batch is at most one interval of
	// the shard's devices, as real devices send.
	Gather bool
}

// Fleet makes readings. The zero Fleet is not usable; see New.
type Fleet struct {
	options    Options
	interval   int64
	start      int64
	keys       []uint64 // by device: what its hashes begin with
	channels   []channel
	outOfOrder uint64
	duplicates uint64
	omitted    uint64
}

// New checks the options and prepares the fleet: about 100 bytes a device with 4 channels.
func New(o Options) (*Fleet, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	f := &Fleet{
		options:    o,
		interval:   o.Interval.Milliseconds(),
		start:      o.Start.UnixMilli(),
		keys:       make([]uint64, o.Devices),
		channels:   make([]channel, o.Devices*o.Channels),
		outOfOrder: threshold(o.OutOfOrder),
		duplicates: threshold(o.Duplicates),
		omitted:    threshold(o.Omitted),
	}
	for i := range f.keys {
		f.keys[i] = mix(o.Seed + mix(uint64(i)+1))
		for c := range o.Channels {
			f.channels[i*o.Channels+c] = newChannel(mix(f.keys[i]^uint64(c+1)<<56), c)
		}
	}
	return f, nil
}

func (o Options) check() error {
	if err := messages.CheckName("site", o.Site); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	switch {
	case o.Devices < 1 || o.Devices > MaxDevices:
		return fmt.Errorf("devices: %d is not from 1 to %d", o.Devices, MaxDevices)
	case o.Channels < 1 || o.Channels > messages.MaxChannels:
		return fmt.Errorf("channels: %d is not from 1 to %d", o.Channels, messages.MaxChannels)
	case o.Interval < time.Millisecond || o.Interval%time.Millisecond != 0:
		return fmt.Errorf("interval: %v is not a positive number of whole milliseconds", o.Interval)
	case o.Readings < 1 || o.Readings > math.MaxInt32-maxBehind:
		return fmt.Errorf("readings: %d is not from 1 to %d", o.Readings, math.MaxInt32-maxBehind)
	case o.Batch < 1 || o.Batch > messages.MaxReadings/2:
		return fmt.Errorf("batch: %d is not from 1 to %d", o.Batch, messages.MaxReadings/2)
	case o.Start.Nanosecond()%int(time.Millisecond) != 0:
		return fmt.Errorf("start: %v is finer than a millisecond", o.Start)
	}
	for _, share := range []struct {
		name  string
		value float64
	}{{"out-of-order", o.OutOfOrder}, {"duplicates", o.Duplicates}, {"omitted", o.Omitted}} {
		if !(share.value >= 0 && share.value <= 1) {
			return fmt.Errorf("%s: %v is not a share from 0 to 1", share.name, share.value)
		}
	}
	return nil
}

// Options returns what New was given.
func (f *Fleet) Options() Options { return f.options }

// Device returns the name of device i, counted from 0: dev-000001 is the first.
func (f *Fleet) Device(i int) string { return deviceName(i) }

func deviceName(i int) string {
	digits := strconv.Itoa(i + 1)
	return "dev-000000"[:max(4, 10-len(digits))] + digits
}

// Distinct is the number of distinct (device, event time) of the whole fleet.
func (f *Fleet) Distinct() int64 { return int64(f.options.Devices) * int64(f.options.Readings) }

// First and Last are the event times of every device's first and last reading.
func (f *Fleet) First() int64 { return f.start }

// Last is the event time of every device's last reading.
func (f *Fleet) Last() int64 { return f.time(f.options.Readings - 1) }

func (f *Fleet) time(step int) int64 { return f.start + int64(step)*f.interval }
