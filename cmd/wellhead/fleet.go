package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/stream"
)

// The types in this file connect what one package offers with what another asks for.

// feedLog is the stream as shards see it.
type feedLog struct{ *stream.Log }

func (l feedLog) Open(ctx context.Context, shard messages.Shard, from uint64) (actors.Feed, error) {
	feed, err := l.Log.Open(ctx, shard, from)
	if err != nil {
		return nil, err
	}
	return feed, nil
}

// fleet answers the HTTP face's questions from the member's actors and the archive.
type fleet struct {
	member   *actors.Member
	streams  *stream.Streams
	registry persistence.Registry
}

// outward turns an error of the actors into one that the HTTP face knows.
func outward(err error) error {
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		return fmt.Errorf("%w: %v", api.ErrNotFound, err)
	case errors.Is(err, actors.ErrStarting):
		return fmt.Errorf("%w: %v", api.ErrUnavailable, err)
	}
	return err
}

func (f *fleet) Sites(ctx context.Context) ([]string, error) {
	names, err := f.member.Sites(ctx)
	if err != nil {
		return nil, outward(err)
	}
	entries, err := f.registry.List(ctx, "credentials")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		names = append(names, e.Key)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (f *fleet) Devices(ctx context.Context, site string, q api.DeviceQuery) ([]messages.DeviceRow, bool, error) {
	if q.Sort != "lastSeen" {
		rows, more, err := f.member.Devices(ctx, site, q.After, q.Contains, q.Status, q.Limit)
		return rows, more, outward(err)
	}
	rows, _, err := f.member.Devices(ctx, site, "", q.Contains, q.Status, 1<<30)
	if err != nil {
		return nil, false, outward(err)
	}
	slices.SortFunc(rows, newestSeen)
	if q.After != "" {
		at := slices.IndexFunc(rows, func(r messages.DeviceRow) bool { return r.Device.Device == q.After })
		rows = rows[at+1:]
	}
	return rows[:min(len(rows), q.Limit)], len(rows) > q.Limit, nil
}

func newestSeen(a, b messages.DeviceRow) int {
	switch {
	case a.LastSeen > b.LastSeen:
		return -1
	case a.LastSeen < b.LastSeen:
		return 1
	}
	return strings.Compare(a.Device.Device, b.Device.Device)
}

func (f *fleet) State(ctx context.Context, id messages.DeviceID) (messages.State, error) {
	s, err := f.member.State(ctx, id)
	return s, outward(err)
}

func (f *fleet) Window(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	s, err := f.member.Window(ctx, id, from, to, limit)
	return s, outward(err)
}

func (f *fleet) Readings(ctx context.Context, id messages.DeviceID, from, to int64, limit int) ([]messages.Sample, error) {
	return f.member.Readings(ctx, id, from, to, limit)
}

func (f *fleet) Rollups(ctx context.Context, id messages.DeviceID, step messages.Step, from, to int64, limit int) ([]messages.Rollup, error) {
	r, err := f.member.Rollups(ctx, id, step, from, to, limit)
	return r, outward(err)
}

func (f *fleet) Control(ctx context.Context, id messages.DeviceID, c messages.Control) error {
	return f.streams.Control(ctx, id, c)
}
