package main

import (
	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/persistence"
)

// wiring is what a test makes of a member's parts, to hold them, to have them fail, or to take a fence away. The
// zero wiring leaves all as it is. The program itself has no other.
type wiring struct {
	archive     func(persistence.Archive) persistence.Archive
	snapshots   func(persistence.Snapshots) persistence.Snapshots
	checkpoints func(actors.Cells) actors.Cells
	members     func(cluster.Store) cluster.Store
	leases      func(cluster.Store) cluster.Store // as the membership sees them
	shared      func(*actors.Shared)
	clock       cluster.Clock // of this member
}

// through hands a part in by way of what a test makes of it, if anything.
func through[Part any](wrap func(Part) Part, part Part) Part {
	if wrap == nil {
		return part
	}
	return wrap(part)
}

// now is the member's clock as its actors read it; nil = the machine's.
func (w *wiring) now() func() int64 {
	if w.clock == nil {
		return nil
	}
	return func() int64 { return w.clock.Now().UnixMilli() }
}
