// Package api is Wellhead's HTTP face: readings in, questions, live events, health and metrics.
package api

import (
	"context"
	"errors"

	"github.com/wellhead/wellhead/messages"
)

var (
	// ErrNotFound means that no such device or site is known.
	ErrNotFound = errors.New("not found")
	// ErrOverloaded means: not now, try again later (429 or 503 with Retry-After).
	ErrOverloaded = errors.New("overloaded")
	// ErrNoRoom means that the member's disk is nearly full: nothing is taken until there is room (507).
	ErrNoRoom = errors.New("no room on the disk")
	// ErrPartial comes with an answer that the archive gave, because the device could not be asked in time.
	ErrPartial = errors.New("from the archive only")
	// ErrUnavailable means that the shard cannot answer now: it is starting or moving (503).
	ErrUnavailable = errors.New("unavailable")
)

// Fleet is what the HTTP face asks of the actors. All methods may be called by many goroutines and end with ctx.
type Fleet interface {
	// Sites lists the sites that ever sent or have a credential, sorted.
	Sites(ctx context.Context) ([]string, error)
	// Devices lists a site's devices from the shards' column tables, by device name after `after`.
	Devices(ctx context.Context, site string, q DeviceQuery) (rows []messages.DeviceRow, more bool, err error)
	// Widths names all devices of a site, sorted, with how many values the newest readings of each have. It wakes no actor.
	Widths(ctx context.Context, site string) ([]messages.DeviceWidth, error)
	// State asks the device's actor. ErrNotFound when the device never sent.
	State(ctx context.Context, id messages.DeviceID) (messages.State, error)
	// Newest is of State what most ask.
	Newest(ctx context.Context, id messages.DeviceID) (messages.Newest, error)
	// Window asks the device's actor for its readings between two event times, both ends included; from > to: newest first.
	// With ErrPartial they are the archive's.
	Window(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error)
	// Readings scans the archive; the same order rule.
	Readings(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error)
	// Scan is Readings one by one, until fn returns false; the reading's slices are valid only during the call.
	Scan(ctx context.Context, id messages.DeviceID, from, to int64, fn func(*messages.Sample) bool) error
	// Rollups answers from the archive and, for what is still open, from the device's actor; with ErrPartial
	// without the latter.
	Rollups(ctx context.Context, id messages.DeviceID, step messages.Step, from, to int64, limit int) ([]messages.Rollup, error)
	// Control puts a command into the device's shard's order; nil when the stream has acknowledged it.
	Control(ctx context.Context, id messages.DeviceID, c messages.Control) error
	// SiteControl puts a command to all devices of a site, those to come as well, into the order of every
	// shard; nil when all their streams have acknowledged it. After an error some may have it.
	SiteControl(ctx context.Context, site string, c messages.Control) error
	// SiteSettings asks the shards for a site's settings. A site that is not known has none of its own.
	SiteSettings(ctx context.Context, site string) (messages.SiteSettings, error)
	// Audit returns accounts of producers' runs in the order of site, producer and run: a page, and, if there
	// may be more, the last run that was looked at.
	Audit(ctx context.Context, q messages.AuditQuery) (page []messages.ProducerAccount, next *messages.ProducerRun, err error)
	// Recount counts the archive's readings between two event times, both included: of a site, or of all if it is
	// empty. It calls told with each device that has some and shardDone after each shard, one call at a time. An
	// error of theirs ends it. What it calls may not be called any more when it has returned.
	Recount(ctx context.Context, site string, from, to int64, told func(messages.DeviceID, messages.Recount) error, shardDone func(done int) error) error
}

// DeviceQuery chooses devices of a site.
type DeviceQuery struct {
	Contains string          // part of the name, empty = all
	Status   messages.Status // empty = all
	Sort     string          // "name" (default), "lastSeen" (newest first)
	After    string          // cursor: the last row of the page before, as Cursor made it
	Limit    int             // 1-1000, default 100
}

// Ingest takes readings from HTTP to the stream.
type Ingest interface {
	// Publish returns when the stream has acknowledged all readings, or, with Stored, when the archive
	// has them. All are of one site. It splits them into batches by shard. ErrOverloaded when the site has too
	// much that is not stored or a stream is full: at once with Refuse, else when ctx ends. ErrNoRoom when
	// the disk is nearly full.
	Publish(ctx context.Context, site string, devices []DeviceReadings, how How) error
	// WaitStored returns when the archive has everything of the site that Publish has returned for.
	WaitStored(ctx context.Context, site string) error
}

// How says what a Publish waits for.
type How struct {
	Stored bool // until the archive has all, not only the stream
	Refuse bool // nothing: ErrOverloaded at once when there is no room now
}

// DeviceReadings are valid readings of one device.
type DeviceReadings struct {
	Device   string
	Readings []messages.Reading
}

// Live hands on events of devices as the actors publish them.
type Live interface {
	// Events calls fn, from one goroutine, for each event of the site (and device, if not empty) until
	// ctx ends. A listener that falls behind by more than its buffer loses the oldest events and is
	// told how many by lost. subject is events.{site}.{device}.{kind}.
	Events(ctx context.Context, site, device string, fn func(subject string, data []byte, lost int)) error
}

// Health tells what /readyz says.
type Health interface {
	// Ready returns nil, or what is not ready, in one sentence for each part.
	Ready(ctx context.Context) []string
}
