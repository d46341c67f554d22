package actors

import (
	"fmt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// reserveAhead is how far beyond `stored` a start lets messages be applied before the shard has to start
// anew. After a stream went back, new sequences begin beyond everything reserved, so they are higher
// than any that was used. 2^36 messages are 79 days at 10 000 a second in one shard; 2^27 such starts fit
// below the highest sequence.
const reserveAhead = 1 << 36

// Witness is what the archive keeps of a shard's newest start. The checkpoint lives beside the stream
// and may be lost or put back with it; then the witness tells.
type Witness struct {
	Epoch       messages.Epoch `json:"epoch"`
	Reserved    uint64         `json:"reserved"`
	Deleted     uint64         `json:"deleted,omitempty"`     // highest sequence of a deletion since
	DeletedMark int64          `json:"deletedMark,omitempty"` // arrival (ns) of that command
}

// Found is what a shard finds when it starts.
type Found struct {
	Now        int64       // ms; used only when the stream went back
	Claim      uint64      // revision of the lease's claim
	Checkpoint *Checkpoint // nil = none
	Stream     messages.StreamState
	Landmark   int64              // arrival (ns) of the stream's message at the checkpoint's Snapshotted, 0 = no such message
	StoredMark int64              // the same at its Stored
	Fence      messages.Epoch     // 0 when the snapshot store is not there
	Marker     persistence.Marker // zero when there is none
	Witness    *Witness           // nil = the archive has none
	Deleted    int64              // arrival (ns) of the stream's message at the witness's Deleted, 0 = no such message
	Snapshots  bool               // the snapshot store answers
}

// Plan is how the shard goes on from what it found.
type Plan struct {
	Checkpoint  Checkpoint // to be saved first, with the new epoch: it fences the former owner
	StreamLimit uint64     // most bytes of the stream, 0 = none
	From        uint64     // stream sequence (the stream's own) of the first message to read
	WentBack    string     // not empty: the stream went back, and how that was seen
	Hole        uint64     // messages that were purged without a checkpoint that says so
	Rebuild     bool       // all older snapshots are void: states come from the archive
	Starts      starts     // whether lives before ended early, and messages that are not applied any more
}

// PlanStart decides how a shard starts. It is pure. The laws it keeps: docs/architecture.md, "Start of a shard".
func PlanStart(f Found) Plan {
	var p Plan
	if w := f.Witness; w != nil && (f.Checkpoint == nil || f.Checkpoint.Epoch < w.Epoch) {
		f.Checkpoint = forgotten(f)
		p.WentBack = fmt.Sprintf("the archive knows of epoch %d, and the checkpoint, which lives beside the stream, does not", w.Epoch)
	}
	if k := f.Checkpoint; k != nil && p.WentBack == "" && f.Marker.Generation == k.Generation && f.Marker.Snapshotted > k.Stored {
		p.WentBack = fmt.Sprintf("snapshots cover %d messages, and the checkpoint, which lives beside the stream, knows of %d", f.Marker.Snapshotted, k.Stored)
	}
	if f.Checkpoint == nil {
		p.Checkpoint = freshCheckpoint(f)
		p.Hole = p.Checkpoint.Snapshotted
		p.Rebuild = true
	} else {
		p.Checkpoint = *f.Checkpoint
		p.Checkpoint.ProducersStored = f.Checkpoint.ProducersStored.clone()
		p.Checkpoint.ProducersSnapshotted = f.Checkpoint.ProducersSnapshotted.clone()
		if p.WentBack == "" {
			p.WentBack = wentBack(f)
		}
		if p.WentBack != "" {
			p.beginAgain(f)
		} else if first := f.Stream.First + p.Checkpoint.Offset; first > p.Checkpoint.Snapshotted+1 && f.Stream.First > 0 {
			p.Hole = first - p.Checkpoint.Snapshotted - 1
		}
		if !p.Rebuild && snapshotsWentBack(f) {
			p.Checkpoint.Generation++
			p.Rebuild = true
		}
	}
	c := &p.Checkpoint
	c.Epoch = max(messages.Epoch(f.Claim), c.Epoch, f.Fence) + 1
	c.Generation = max(c.Generation, f.Marker.Generation)
	if p.Rebuild && c.Generation == f.Marker.Generation {
		c.Generation++
	}
	c.Reserved = c.Stored + reserveAhead
	p.StreamLimit = f.Stream.Limit
	p.From = c.Snapshotted - c.Offset + 1
	return p
}

// forgotten is the checkpoint of a shard whose own one is lost, or from before its newest start.
func forgotten(f Found) *Checkpoint {
	var k Checkpoint
	if f.Checkpoint != nil {
		k = *f.Checkpoint
	}
	k.Epoch = f.Witness.Epoch
	k.Generation = max(k.Generation, f.Marker.Generation)
	k.Reserved = max(k.Reserved, f.Witness.Reserved)
	return &k
}

// freshCheckpoint begins where the stream begins. Messages that are gone from it were stored before
// they were purged, so states are rebuilt from the archive as of there.
func freshCheckpoint(f Found) Checkpoint {
	c := Checkpoint{
		Created:    f.Stream.Created,
		Generation: max(f.Marker.Generation, uint64(f.Fence), f.Claim),
	}
	if f.Stream.First > 1 {
		c.Stored, c.Snapshotted = f.Stream.First-1, f.Stream.First-1
	}
	return c
}

// wentBack says how the stream shows that it is not the one the checkpoint speaks of, or "".
func wentBack(f Found) string {
	c := f.Checkpoint
	switch {
	case !f.Stream.Created.Equal(c.Created):
		return fmt.Sprintf("the stream was created at %s and the checkpoint knows one created at %s",
			f.Stream.Created.UTC().Format("2006-01-02T15:04:05.000Z"), c.Created.UTC().Format("2006-01-02T15:04:05.000Z"))
	case f.Stream.Last+c.Offset < c.Stored:
		return fmt.Sprintf("the stream ends at %d and %d was stored from it", f.Stream.Last, c.Stored-c.Offset)
	case f.Witness != nil && f.Stream.Last+c.Offset < f.Witness.Deleted:
		return fmt.Sprintf("the stream ends at %d and the archive knows of a deletion at %d", f.Stream.Last, f.Witness.Deleted-c.Offset)
	case f.Witness != nil && f.Deleted != 0 && f.Deleted != f.Witness.DeletedMark:
		return fmt.Sprintf("message %d of the stream is not the deletion that the archive knows of", f.Witness.Deleted-c.Offset)
	case c.Landmark != 0 && f.Landmark != 0 && f.Landmark != c.Landmark:
		return fmt.Sprintf("message %d of the stream is not the one that was stored under that number", c.Snapshotted-c.Offset)
	case c.StoredMark != 0 && f.StoredMark != 0 && f.StoredMark != c.StoredMark:
		return fmt.Sprintf("message %d of the stream is not the one that was stored under that number", c.Stored-c.Offset)
	}
	return ""
}

// beginAgain takes all that is in a stream that went back as new, above every sequence ever used.
// What the archive holds is a fact up to there; snapshots may be older than it, so they are void.
func (p *Plan) beginAgain(f Found) {
	c := &p.Checkpoint
	base := max(c.Reserved, c.Stored)
	c.Created = f.Stream.Created
	c.Offset = base
	if f.Stream.First > 1 {
		c.Stored = base + f.Stream.First - 1
	} else {
		c.Stored = base
	}
	c.Snapshotted = c.Stored
	c.Reserved = 0
	c.Landmark, c.StoredMark = 0, 0
	// Rows that were written after the checkpoint have a write time that nobody kept, up to their
	// arrival. What comes now must be later than they are.
	c.WriteTimeStored = max(c.WriteTimeStored, (f.Now+clockMargin)*1000)
	c.WriteTimeSnapshotted = c.WriteTimeStored
	c.ProducersSnapshotted = c.ProducersStored.clone()
	c.Generation++
	p.Rebuild = true
}

// clockMargin is how far the stream's clock may have been ahead of ours, ms.
const clockMargin = 60_000

// snapshotsWentBack tells whether the snapshot store has lost something that the checkpoint counts on.
func snapshotsWentBack(f Found) bool {
	if !f.Snapshots {
		return true
	}
	c := f.Checkpoint
	return f.Marker.Generation != c.Generation || f.Marker.Snapshotted < c.Snapshotted
}
