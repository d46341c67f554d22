// Package messages holds what every part of Wellhead agrees on: the plain types (device, reading,
// shard, epoch), the subjects, and the codecs of what travels. It imports nothing of ours.
//
// Times are Unix milliseconds (int64, UTC) unless a name says otherwise.
package messages

import (
	"errors"
	"math"
	"time"
)

// Limits of one message. They are part of the wire contract, not configuration.
const (
	MaxMessage  = 1 << 20 // bytes of one message's payload
	MaxReadings = 1000    // readings in one message
	MaxChannels = 64      // values in one reading
	MaxNote     = 1024    // bytes of one note
	MaxName     = 64      // characters of a site, device or producer name
)

// NoTime stands for an event time that the sender left out: the arrival time takes its place.
const NoTime = math.MinInt64

// ErrInvalid is what every complaint about input wraps: a message that no retry can make good.
var ErrInvalid = errors.New("invalid")

// Shard is the number of a fixed slice of devices, 0 <= Shard < number of shards.
type Shard uint16

// Epoch is raised each time a shard gets an owner; a store refuses what carries a lower one than it has seen.
type Epoch uint64

// DeviceID names a device. Both names are 1-64 characters of [A-Za-z0-9_-] (see CheckName).
type DeviceID struct {
	Site   string
	Device string
}

func (id DeviceID) String() string { return id.Site + "/" + id.Device }

// Reading is one sample of one device.
type Reading struct {
	Time    int64     // event time, or NoTime
	Values  []float64 // by channel index; NaN = omitted; at most MaxChannels
	Quality []uint8   // by channel index, 0 = good; nil or shorter = good
	Note    string    // UTF-8, may be empty
}

// Message is one message of a shard's stream, as a feed hands it on. It must not be changed.
type Message struct {
	Sequence uint64 // stream sequence, > 0
	Arrival  int64  // arrival time: set by the stream, Unix nanoseconds
	Subject  string // the mapped subject: shard.{n}.…
	Type     string // Content-Type header, may be empty
	Data     []byte
}

// StreamState describes a shard's stream at one moment.
type StreamState struct {
	Created time.Time // tells a stream from one that was re-created
	First   uint64    // stream sequence of the oldest message; Last+1 when empty
	Last    uint64    // highest stream sequence ever given, 0 = none
	Bytes   uint64
	Limit   uint64 // max bytes, 0 = none
}

// Omitted is the value that stands for "no value" in memory: a NaN. No other NaN is accepted.
func Omitted() float64 { return math.NaN() }

// Control is a command in a shard's order. Exactly one of Settings, Trim and Delete is set.
type Control struct {
	By       string
	Settings *Settings
	Trim     *Trim
	Delete   bool
}

// Trim drops readings from a device's window whose event time is before Before; 0 = all.
type Trim struct {
	Before int64
}

// Batch is readings of many devices of one site and shard, with who published them.
type Batch struct {
	Producer string // empty: not accounted for
	Run      uint64
	Sequence uint64 // producer sequence, from 1
	Blocks   []Block
}

// Block is the readings of one device in a batch, in the order they were sent.
type Block struct {
	Device   string
	Readings []Reading
}
