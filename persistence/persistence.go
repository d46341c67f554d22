// Package persistence says what Wellhead asks of its stores: Archive (the record of every reading),
// Snapshots (a shortcut for starting) and Registry (what people configure). The implementations live
// in the folders below; each passes the contract suite in contract/.
//
// Errors fall in three classes. ErrFenced: ownership is lost, stop. ErrRefused: this very input is
// refused for good, a retry cannot help. Any other error: surely not written or unknown, so write the
// same again; every write here is idempotent.
package persistence

import (
	"context"
	"errors"

	"github.com/wellhead/wellhead/messages"
)

var (
	// ErrFenced means that a newer owner has been here: stop writing.
	ErrFenced = errors.New("a newer owner holds this shard")
	// ErrRefused means that the store will never take this input.
	ErrRefused = errors.New("refused by the store")
	// ErrNotFound means that there is nothing under this name.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that a compare-and-set saw another revision.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnreachable means that the store gave no answer: it is away, cut off or overloaded. Ask again later.
	ErrUnreachable = errors.New("the store cannot be reached now")
	// ErrCorrupt means that what is stored is not what was written: a checksum or a form is wrong. Nothing
	// of it is given out, and trying again cannot help.
	ErrCorrupt = errors.New("corrupt")
)

// Row flags.
const (
	// FlagAssigned marks a reading whose event time was left out and taken from its arrival.
	FlagAssigned uint8 = 1 << 0
)

// Row is one accepted reading on its way to, or out of, the archive.
type Row struct {
	Time      int64     // event time, ms
	Sequence  uint64    // stream sequence it came with, > 0
	WriteTime int64     // microseconds; grows with Sequence within a shard; 0 when read back
	Values    []float64 // NaN = omitted
	Quality   []uint8   // nil = all good
	Note      string
	Flags     uint8
}

// RollupRow is one rollup on its way to, or out of, the archive. It replaces the stored one whole unless that has a higher Sequence.
type RollupRow struct {
	messages.Rollup
	Sequence  uint64 // of the newest message in it
	WriteTime int64  // of that message, microseconds; 0 when read back
}

// Record is something about a device (or, with an empty device name, a site) that its rows do not
// tell: that it exists, and what commands set. All records are kept, ordered by Sequence.
type Record struct {
	Sequence  uint64
	WriteTime int64
	Payload   []byte // the shard's business
}

// DeviceRows is what one Append brings for one device. Rows may be in any order; of equal times the higher Sequence wins.
type DeviceRows struct {
	Device  messages.DeviceID
	Rows    []Row
	Rollups []RollupRow
	Records []Record
	Class   string // retention class of the device now; empty = DefaultClass
	Err     error  // set by Append: nil = stored
}

// Batch is what one Append brings, all of one shard.
type Batch struct {
	Shard   messages.Shard
	Devices []DeviceRows
}

// AccountKey names what a producer has sent under one run.
type AccountKey struct {
	Site, Producer string
	Run            uint64
}

// Account is what a shard knew of a producer's run when it let go of it. A run that comes again later has
// another one, with another sequence.
type Account struct {
	AccountKey
	Sequence  uint64 // stream sequence of the message at which the shard let go of it
	WriteTime int64  // of that message, microseconds; 0 when read back
	Payload   []byte // the shard's business
}

// Range is a stretch of event times, both ends included. From > To: newest first.
type Range struct {
	From, To    int64
	Limit       int    // most rows, 0 = no limit
	MaxSequence uint64 // rows with a higher stream sequence are skipped, 0 = no limit

	// Damaged is told of each stretch that cannot be read, in the scan's order among the rows, and the
	// scan goes on behind it. nil: the first one ends the scan with an error that wraps ErrCorrupt.
	Damaged func(Damage)
}

// Damage is a stretch of a device's event times, both ends included, in which readings or rollups are
// stored that are not as they were written.
type Damage struct {
	From, To int64
	Err      error // what was found, and where
}

// Archive keeps every reading. All methods may be called by many goroutines at once. Writes are
// idempotent; of two rows of one device and event time the one with the higher stream sequence (in
// Cassandra: write time) stays, in whatever order they are written.
type Archive interface {
	// Append makes everything in b durable. It returns nil only when all of it is; otherwise the
	// devices that are not have Err set. Slices in b are not kept after the return.
	Append(ctx context.Context, b *Batch) error
	// Scan calls fn for each row of the device in the range, in order of event time, until fn returns
	// false. The row's slices are valid only during the call.
	Scan(ctx context.Context, shard messages.Shard, id messages.DeviceID, r Range, fn func(*Row) bool) error
	// Rollups is Scan for rollups of one step whose Start lies in the range.
	Rollups(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, r Range, fn func(*RollupRow) bool) error
	// Records returns a device's or (with an empty device name) a site's records, oldest first.
	Records(ctx context.Context, shard messages.Shard, id messages.DeviceID) ([]Record, error)
	// Devices calls fn for each name of the shard that has records (sites with an empty device name
	// among them), ordered by site and device, until fn returns false.
	Devices(ctx context.Context, shard messages.Shard, fn func(messages.DeviceID) bool) error
	// Delete removes rows, rollups and records of the device with a stream sequence (in Cassandra:
	// write time) up to the given one, also those that are written later with such a sequence.
	Delete(ctx context.Context, shard messages.Shard, id messages.DeviceID, sequence uint64, writeTime int64) error
	// SetAside looks for what cannot be read of a device's readings (step 0) or of its rollups of one step, whose
	// event times or starts lie in the range, and sets it aside: it is not looked at any more, and what is appended
	// to such a stretch, now or later, is found again. It returns all that is lost in the range, this and what was set
	// aside before; nothing when all can be read. sequence is the highest of any message whose rows the
	// archive may have. Nothing is deleted by it, and nothing that can be read is touched.
	SetAside(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, from, to int64, sequence uint64) ([]Loss, error)
	// Recovered says what is left of a loss after all else in it was appended again: the same From and Mark, an earlier
	// To (From - 1: nothing), or a lower sequence. Of a loss that is not known (any more) it says nothing.
	Recovered(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, left Loss) error
	// PutAccounts keeps accounts, each under its key and sequence; nil when all of them are durable. They
	// are no device's, so Delete does not touch them.
	PutAccounts(ctx context.Context, shard messages.Shard, accounts []Account) error
	// Accounts calls fn for each account of the shard from a key on (the zero key: all), ordered by site,
	// producer, run and sequence, until fn returns false. The payload is valid only during the call.
	Accounts(ctx context.Context, shard messages.Shard, from AccountKey, fn func(*Account) bool) error
	// Ping tells whether the archive can be reached.
	Ping(ctx context.Context) error
	Close() error
}

// Snapshot is a device's state as of one stream sequence.
type Snapshot struct {
	Device   messages.DeviceID
	Sequence uint64
	Data     []byte // the shard's business; versioned and checksummed by it
}

// Marker says how far a generation's snapshots reach. It changes with every Put, so that a store that
// went back to any earlier state is found out by the next one.
type Marker struct {
	Generation  uint64
	Snapshotted uint64 // every device's snapshot covers the stream up to here
	Puts        uint64 // how often it has changed
}

// MaxPut is the most snapshots of one Put.
const MaxPut = 256

// Snapshots keeps the newest snapshot of each device. It may lose everything or go back: the shard
// finds out by the marker. All methods may be called by many goroutines at once.
type Snapshots interface {
	// Fence returns the epoch that guards the shard, 0 = none.
	Fence(ctx context.Context, shard messages.Shard) (messages.Epoch, error)
	// RaiseFence sets the shard's fence to epoch; ErrFenced when it is higher already.
	RaiseFence(ctx context.Context, shard messages.Shard, epoch messages.Epoch) error
	// Put stores at most MaxPut snapshots under marker.Generation, each replacing that device's older
	// one, and replaces the marker old by marker, all in one step. Nothing is stored with ErrFenced,
	// when the fence is not exactly epoch, and with ErrConflict, when the stored marker is not old.
	// (Unlike with PutMarker a stored marker that is the new one already is a conflict: the caller
	// looks.)
	Put(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker Marker, s []Snapshot) error
	// Get returns the snapshots of those devices that have one in the generation, in any order.
	Get(ctx context.Context, shard messages.Shard, generation uint64, ids []messages.DeviceID) ([]Snapshot, error)
	// Scan calls fn for every snapshot of the generation until fn returns false. Data is valid only during the call.
	Scan(ctx context.Context, shard messages.Shard, generation uint64, fn func(Snapshot) bool) error
	// Remove deletes the snapshots of these devices; fenced like Put.
	Remove(ctx context.Context, shard messages.Shard, epoch messages.Epoch, generation uint64, ids []messages.DeviceID) error
	// Marker returns the shard's marker; the zero Marker when there is none.
	Marker(ctx context.Context, shard messages.Shard) (Marker, error)
	// PutMarker replaces old by marker in one step; fenced like Put; ErrConflict when the stored
	// marker is not old: the store went back, or lost it.
	PutMarker(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker Marker) error
	// Drop removes every snapshot of the shard whose generation is lower; fenced like Put.
	Drop(ctx context.Context, shard messages.Shard, epoch messages.Epoch, below uint64) error
	Ping(ctx context.Context) error
	Close() error
}

// Entry is one value of the registry.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Registry keeps what people configure, by kind ("sites", "settings", …) and key. A revision is an
// optimistic lock: Put with 0 creates, otherwise replaces that revision; ErrConflict when it is another.
type Registry interface {
	Get(ctx context.Context, kind, key string) (Entry, error)
	Put(ctx context.Context, kind, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, kind, key string, revision uint64) error
	List(ctx context.Context, kind string) ([]Entry, error)
}
