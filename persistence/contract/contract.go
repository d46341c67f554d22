// Package contract holds what every Archive and every Snapshots must do, as tests that each
// implementation runs against its own store.
//
// The suites choose device names that no earlier run has used, so an archive may be the same server
// for all subtests and all runs. Snapshots have no such names: open must give a store that is empty
// at the first call, and may give the same one at the later calls of that run. All shards are below
// Shards. The suites close nothing: open registers the cleanup of what it opens.
package contract

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Shards is the number of shards that the store under test must have at least.
const Shards = 16

// deadline is for one subtest: far more than any healthy store needs.
const deadline = 2 * time.Minute

// base is the event time that most subtests count from: a full hour, so that buckets are predictable.
const base = int64(1_767_322_800_000) // 2026-01-02T03:00:00Z

const hour = int64(messages.Hour)

// writeTime is the write time that belongs to a stream sequence: it grows with it, as a shard's does.
func writeTime(sequence uint64) int64 { return base*1000 + int64(sequence)*10 }

// newSite returns a site name that no other run has used.
func newSite() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, by its documentation
	return "s" + hex.EncodeToString(b[:])
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// reading returns a row with one good value for each argument.
func reading(at int64, sequence uint64, values ...float64) persistence.Row {
	return persistence.Row{Time: at, Sequence: sequence, WriteTime: writeTime(sequence), Values: values}
}

// stored is a row in the form that rows are compared in: every bit of a value counts, except that
// all NaN are one; good quality may be said or left out.
type stored struct {
	Time     int64
	Sequence uint64
	Values   []uint64 // the bits
	Quality  []uint8
	Note     string
	Flags    uint8
}

func toStored(r *persistence.Row) stored {
	s := stored{Time: r.Time, Sequence: r.Sequence, Note: r.Note, Flags: r.Flags}
	for _, v := range r.Values {
		s.Values = append(s.Values, bits(v))
	}
	n := len(r.Quality)
	for n > 0 && r.Quality[n-1] == 0 {
		n--
	}
	if n > 0 {
		s.Quality = slices.Clone(r.Quality[:n])
	}
	return s
}

func bits(v float64) uint64 {
	if math.IsNaN(v) {
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(v)
}

func toStoredAll(rows []persistence.Row) []stored {
	var out []stored
	for i := range rows {
		out = append(out, toStored(&rows[i]))
	}
	return out
}

// archiveUnderTest bundles an archive with one shard and shortens the calls of the subtests.
type archiveUnderTest struct {
	persistence.Archive
	shard messages.Shard
}

// append stores one device's rows and fails the test when it cannot.
func (a archiveUnderTest) append(ctx context.Context, t failer, d persistence.DeviceRows) {
	t.Helper()
	a.appendAll(ctx, t, []persistence.DeviceRows{d})
}

func (a archiveUnderTest) appendAll(ctx context.Context, t failer, devices []persistence.DeviceRows) {
	t.Helper()
	b := persistence.Batch{Shard: a.shard, Devices: devices}
	if err := a.Append(ctx, &b); err != nil {
		t.Fatalf("append: %v", err)
	}
	for i := range b.Devices {
		if b.Devices[i].Err != nil {
			t.Fatalf("append returned nil, but device %v has error %v", b.Devices[i].Device, b.Devices[i].Err)
		}
	}
}

func (a archiveUnderTest) rows(ctx context.Context, t failer, id messages.DeviceID, r persistence.Range) []stored {
	t.Helper()
	var got []stored
	err := a.Scan(ctx, a.shard, id, r, func(row *persistence.Row) bool {
		got = append(got, toStored(row))
		return true
	})
	if err != nil {
		t.Fatalf("scan %v %+v: %v", id, r, err)
	}
	return got
}

func (a archiveUnderTest) wantRows(ctx context.Context, t failer, id messages.DeviceID, r persistence.Range, want []persistence.Row) {
	t.Helper()
	if diff := cmp.Diff(toStoredAll(want), a.rows(ctx, t, id, r)); diff != "" {
		t.Fatalf("scan %v %+v (-want +got):\n%s", id, r, diff)
	}
}

// wantBoth checks the rows between the ends of all time, oldest first as given and newest first.
func (a archiveUnderTest) wantBoth(ctx context.Context, t failer, id messages.DeviceID, want []persistence.Row) {
	t.Helper()
	a.wantRows(ctx, t, id, everything, want)
	reversed := slices.Clone(want)
	slices.Reverse(reversed)
	a.wantRows(ctx, t, id, everythingBack, reversed)
}

// A shard that starts asks for the newest rows of a device whose times it does not know, so the
// widest ranges must work.
var (
	everything     = persistence.Range{From: math.MinInt64, To: math.MaxInt64}
	everythingBack = persistence.Range{From: math.MaxInt64, To: math.MinInt64}
)
