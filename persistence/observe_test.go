package persistence_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// brokenArchive answers with errors. The embedded nil interfaces give the methods that are not under test.
type brokenArchive struct{ persistence.Archive }

var errBroken = errors.New("broken")

func (brokenArchive) Append(context.Context, *persistence.Batch) error { return errBroken }
func (brokenArchive) Scan(_ context.Context, _ messages.Shard, _ messages.DeviceID, _ persistence.Range, fn func(*persistence.Row) bool) error {
	fn(&persistence.Row{})
	return nil
}

func (brokenArchive) Records(context.Context, messages.Shard, messages.DeviceID) ([]persistence.Record, error) {
	return []persistence.Record{{Sequence: 7}}, errBroken
}

type brokenSnapshots struct{ persistence.Snapshots }

func (brokenSnapshots) Fence(context.Context, messages.Shard) (messages.Epoch, error) {
	return 3, errBroken
}

func (brokenSnapshots) PutMarker(context.Context, messages.Shard, messages.Epoch, persistence.Marker, persistence.Marker) error {
	return nil
}

func TestObserved(t *testing.T) {
	var got []string
	observe := func(op string, d time.Duration, err error) {
		if d < 0 {
			t.Errorf("%s took %v", op, d)
		}
		if err != nil {
			op += " " + err.Error()
		}
		got = append(got, op)
	}
	ctx, rows := t.Context(), 0
	a := persistence.ObservedArchive(brokenArchive{}, observe)
	if err := a.Append(ctx, nil); err != errBroken {
		t.Errorf("append: got %v", err)
	}
	if err := a.Scan(ctx, 1, messages.DeviceID{}, persistence.Range{}, func(*persistence.Row) bool { rows++; return true }); err != nil || rows != 1 {
		t.Errorf("scan: got %d rows, error %v", rows, err)
	}
	if records, err := a.Records(ctx, 1, messages.DeviceID{}); err != errBroken || len(records) != 1 {
		t.Errorf("records: got %d, error %v", len(records), err)
	}
	s := persistence.ObservedSnapshots(brokenSnapshots{}, observe)
	if epoch, err := s.Fence(ctx, 1); epoch != 3 || err != errBroken {
		t.Errorf("fence: got %d, error %v", epoch, err)
	}
	if err := s.PutMarker(ctx, 1, 1, persistence.Marker{}, persistence.Marker{}); err != nil {
		t.Errorf("put marker: %v", err)
	}
	want := []string{"append broken", "scan", "records broken", "fence broken", "put_marker"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}
