package actors

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/wellhead/wellhead/messages"
)

// The files in testdata were written by version 1 of each format and are never made anew: what they say
// must be read as it was meant, whatever version is written today.

func TestSnapshotOfVersion1IsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/snapshot-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	d, err := DecodeSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	id := messages.DeviceID{Site: "first", Device: "pump"}
	want := messages.DeviceRow{
		Device: id, Status: messages.StatusOnline, LastSeen: 9000, Newest: 3000, Values: []float64{3},
		Counts: messages.Counts{Received: 3, InOrder: 3},
	}
	if diff := cmp.Diff(want, d.Row()); diff != "" || d.Sequence() != 5 {
		t.Errorf("sequence %d, want 5; row (-want +got):\n%s", d.Sequence(), diff)
	}
	if own := (messages.Settings{Channels: []messages.Channel{{Name: "p", Unit: "bar"}}}); d.Own() == nil || !d.Own().Equal(own) {
		t.Errorf("own settings %+v, want %+v", d.Own(), own)
	}
	if open, _ := d.OpenRollups(); d.window.count != 3 || len(open) != 2 || open[0].Count != 3 {
		t.Errorf("%d readings in the window, open rollups %+v; want 3, and a minute and an hour of 3", d.window.count, open)
	}
}

func TestCheckpointOfVersion1IsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/checkpoint-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	want := &Checkpoint{
		Epoch: 3, Generation: 2, Stored: 20, Snapshotted: 15, Reserved: 120, Created: time.Unix(1_767_312_000, 0).UTC(), Offset: 4, Landmark: 7,
		StoredMark: 8, WriteTimeStored: 1_767_312_000_000_000, WriteTimeSnapshotted: 1_767_311_999_000_000,
		Counts: messages.Counts{Received: 40, InOrder: 38, Late: 1, Refused: 1}, Rejected: 1, Repeated: 2,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(producers{})); diff != "" {
		t.Errorf("checkpoint (-want +got):\n%s", diff)
	}
}
