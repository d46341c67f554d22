package actors

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStartsFindTheMessage goes through the lives of a shard with a message that ends the process.
func TestStartsFindTheMessage(t *testing.T) {
	k := &Checkpoint{Stored: 100, Snapshotted: 90}
	const last, bad = 400, 250
	var s starts
	for life := 1; life < carefulFrom; life++ {
		if s = s.begun(k, last); s.Until != 0 {
			t.Fatalf("life %d is careful up to %d, want only from start %d on", life, s.Until, carefulFrom)
		}
	}
	s = s.begun(k, last)
	if s.Until != last || s.Suspect != 0 {
		t.Fatalf("start %d: got %+v, want care up to %d and no suspect", carefulFrom, s, last)
	}
	g := &caution{starts: s}
	if got := g.leave(bad); got != carefulInFlight-1 {
		t.Errorf("under way beside a message that is no suspect: got %d, want %d", got, carefulInFlight-1)
	}
	s.Oldest, s.Newest = bad-10, bad // several were under way
	s = s.begun(k, last)
	if s.Suspect != bad || s.Lives != 0 {
		t.Fatalf("after a death with several under way: got %+v, want suspects up to %d", s, bad)
	}
	g = &caution{starts: s}
	if got := g.leave(bad - 3); got != 0 {
		t.Errorf("under way beside a suspect: got %d, want 0", got)
	}
	for life := 1; life <= guiltyAfter; life++ {
		k.Stored = bad - 1 // those before it are stored by now
		s.Oldest, s.Newest = bad, bad
		s = s.begun(k, last)
		if got := len(s.Guilty) == 1; got != (life == guiltyAfter) {
			t.Fatalf("after %d lives that ended with it alone: guilty %v, want it after %d", life, s.Guilty, guiltyAfter)
		}
	}
	if diff := cmp.Diff([]uint64{bad}, s.Guilty); diff != "" {
		t.Errorf("guilty (-want +got):\n%s", diff)
	}
	k.Stored, k.Snapshotted = 300, 299 // no replay brings it any more
	if s = s.begun(k, last); len(s.Guilty) != 0 || s.Until != 0 {
		t.Errorf("after its snapshots: got %+v, want nothing guilty and no care", s)
	}
}

// TestStartsOtherDeathsInBetween: another message's death in between makes it innocent so far, and so
// does a store that fails while it is under way.
func TestStartsOtherDeathsInBetween(t *testing.T) {
	k := &Checkpoint{Stored: 10, Snapshotted: 10}
	s := starts{Stored: 10, Count: 5}
	for range 4 {
		for _, seq := range []uint64{20, 21} {
			s.Oldest, s.Newest = seq, seq
			if s = s.begun(k, 100); len(s.Guilty) > 0 || s.Lives != 1 {
				t.Fatalf("deaths at 20 and 21 in turn: got %+v, want nothing guilty", s)
			}
		}
	}
	g := &caution{cells: newSimCells(), starts: s}
	for range 5 {
		if err := g.note(t.Context(), 21); err != nil {
			t.Fatal(err)
		}
		if err := g.clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.starts = g.starts.begun(k, 100); len(g.starts.Guilty) > 0 {
			t.Fatalf("it only waited for a store: got %+v, want nothing guilty", g.starts)
		}
	}
}

// TestStartsThatEndWell: a shard that is handed over again and again, with nothing to do in between, needs no care.
func TestStartsThatEndWell(t *testing.T) {
	k := &Checkpoint{Stored: 10, Snapshotted: 10}
	cells := newSimCells()
	for life := range 3 * carefulFrom {
		g, err := loadStarts(t.Context(), cells, 0, k, 100)
		if err != nil {
			t.Fatal(err)
		}
		if g.starts.Until != 0 {
			t.Fatalf("life %d takes care: %+v", life, g.starts)
		}
		if err := g.ended(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
