package persistence

import (
	"context"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// Observe is told of every finished call to a store: which operation, how long it took, how it ended.
// It is called by many goroutines at once and must not block.
type Observe func(op string, d time.Duration, err error)

// since tells o that op, begun at start, has ended with *err. It is deferred, so that what fn does
// in a scan counts as part of the scan.
func (o Observe) since(op string, start time.Time, err *error) { o(op, time.Since(start), *err) }

// ObservedArchive returns a with observe called after every operation but Close: "append", "scan",
// "rollups", "records", "devices", "delete", "set_aside", "recovered", "put_accounts", "accounts", "ping".
func ObservedArchive(a Archive, observe func(op string, d time.Duration, err error)) Archive {
	return observedArchive{a, observe}
}

type observedArchive struct {
	archive Archive
	observe Observe
}

func (o observedArchive) Append(ctx context.Context, b *Batch) (err error) {
	defer o.observe.since("append", time.Now(), &err)
	return o.archive.Append(ctx, b)
}

func (o observedArchive) Scan(ctx context.Context, shard messages.Shard, id messages.DeviceID, r Range, fn func(*Row) bool) (err error) {
	defer o.observe.since("scan", time.Now(), &err)
	return o.archive.Scan(ctx, shard, id, r, fn)
}

func (o observedArchive) Rollups(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, r Range, fn func(*RollupRow) bool) (err error) {
	defer o.observe.since("rollups", time.Now(), &err)
	return o.archive.Rollups(ctx, shard, id, step, r, fn)
}

func (o observedArchive) Records(ctx context.Context, shard messages.Shard, id messages.DeviceID) (records []Record, err error) {
	defer o.observe.since("records", time.Now(), &err)
	return o.archive.Records(ctx, shard, id)
}

func (o observedArchive) Devices(ctx context.Context, shard messages.Shard, fn func(messages.DeviceID) bool) (err error) {
	defer o.observe.since("devices", time.Now(), &err)
	return o.archive.Devices(ctx, shard, fn)
}

func (o observedArchive) Delete(ctx context.Context, shard messages.Shard, id messages.DeviceID, sequence uint64, writeTime int64) (err error) {
	defer o.observe.since("delete", time.Now(), &err)
	return o.archive.Delete(ctx, shard, id, sequence, writeTime)
}

func (o observedArchive) SetAside(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, from, to int64, sequence uint64) (lost []Loss, err error) {
	defer o.observe.since("set_aside", time.Now(), &err)
	return o.archive.SetAside(ctx, shard, id, step, from, to, sequence)
}

func (o observedArchive) Recovered(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, left Loss) (err error) {
	defer o.observe.since("recovered", time.Now(), &err)
	return o.archive.Recovered(ctx, shard, id, step, left)
}

func (o observedArchive) PutAccounts(ctx context.Context, shard messages.Shard, accounts []Account) (err error) {
	defer o.observe.since("put_accounts", time.Now(), &err)
	return o.archive.PutAccounts(ctx, shard, accounts)
}

func (o observedArchive) Accounts(ctx context.Context, shard messages.Shard, from AccountKey, fn func(*Account) bool) (err error) {
	defer o.observe.since("accounts", time.Now(), &err)
	return o.archive.Accounts(ctx, shard, from, fn)
}

func (o observedArchive) Ping(ctx context.Context) (err error) {
	defer o.observe.since("ping", time.Now(), &err)
	return o.archive.Ping(ctx)
}

func (o observedArchive) Close() error { return o.archive.Close() }

// ObservedSnapshots returns s with observe called after every operation but Close: "fence",
// "raise_fence", "put", "get", "scan", "remove", "marker", "put_marker", "drop", "ping".
func ObservedSnapshots(s Snapshots, observe func(op string, d time.Duration, err error)) Snapshots {
	return observedSnapshots{s, observe}
}

type observedSnapshots struct {
	snapshots Snapshots
	observe   Observe
}

func (o observedSnapshots) Fence(ctx context.Context, shard messages.Shard) (epoch messages.Epoch, err error) {
	defer o.observe.since("fence", time.Now(), &err)
	return o.snapshots.Fence(ctx, shard)
}

func (o observedSnapshots) RaiseFence(ctx context.Context, shard messages.Shard, epoch messages.Epoch) (err error) {
	defer o.observe.since("raise_fence", time.Now(), &err)
	return o.snapshots.RaiseFence(ctx, shard, epoch)
}

func (o observedSnapshots) Put(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker Marker, s []Snapshot) (err error) {
	defer o.observe.since("put", time.Now(), &err)
	return o.snapshots.Put(ctx, shard, epoch, old, marker, s)
}

func (o observedSnapshots) Get(ctx context.Context, shard messages.Shard, generation uint64, ids []messages.DeviceID) (found []Snapshot, err error) {
	defer o.observe.since("get", time.Now(), &err)
	return o.snapshots.Get(ctx, shard, generation, ids)
}

func (o observedSnapshots) Scan(ctx context.Context, shard messages.Shard, generation uint64, fn func(Snapshot) bool) (err error) {
	defer o.observe.since("scan", time.Now(), &err)
	return o.snapshots.Scan(ctx, shard, generation, fn)
}

func (o observedSnapshots) Remove(ctx context.Context, shard messages.Shard, epoch messages.Epoch, generation uint64, ids []messages.DeviceID) (err error) {
	defer o.observe.since("remove", time.Now(), &err)
	return o.snapshots.Remove(ctx, shard, epoch, generation, ids)
}

func (o observedSnapshots) Marker(ctx context.Context, shard messages.Shard) (marker Marker, err error) {
	defer o.observe.since("marker", time.Now(), &err)
	return o.snapshots.Marker(ctx, shard)
}

func (o observedSnapshots) PutMarker(ctx context.Context, shard messages.Shard, epoch messages.Epoch, old, marker Marker) (err error) {
	defer o.observe.since("put_marker", time.Now(), &err)
	return o.snapshots.PutMarker(ctx, shard, epoch, old, marker)
}

func (o observedSnapshots) Drop(ctx context.Context, shard messages.Shard, epoch messages.Epoch, below uint64) (err error) {
	defer o.observe.since("drop", time.Now(), &err)
	return o.snapshots.Drop(ctx, shard, epoch, below)
}

func (o observedSnapshots) Ping(ctx context.Context) (err error) {
	defer o.observe.since("ping", time.Now(), &err)
	return o.snapshots.Ping(ctx)
}

func (o observedSnapshots) Close() error { return o.snapshots.Close() }
