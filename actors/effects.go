package actors

import (
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// effects is all that a core asks of the world. No method waits. Each job is answered, sooner or
// later, by the method of core named in its comment; an answer that comes twice is ignored, and an
// error means "not done, or unknown", so the core asks again later with the same content.
type effects interface {
	// run hands o to the device's actor and tells whether it is done already; if not, core.ran is
	// called later, or core.failed when the device panicked.
	run(o *op) bool
	// install gives the entry's actor a device; it makes the actor when there is none.
	install(e *entry, d *Device)
	// stop ends the entry's actor.
	stop(e *entry)

	append(g *gather)            // core.appended
	reject(j *rejectJob)         // core.rejected
	announce(j *announceJob)     // core.announced
	load(j *loadJob)             // core.loaded
	recompute(j *recomputeJob)   // core.recomputed
	deleteDevice(j *deleteJob)   // core.deleted
	putSnapshots(j *snapshotJob) // core.snapshotsPut
	putMarker(j *markerJob)      // core.markerPut
	saveCheckpoint(j *saveJob)   // core.checkpointSaved
	retire(j *retireJob)         // core.retired
	repair(j *repairJob)         // core.repaired

	// purge removes messages from the stream, up to and including this stream sequence (its own).
	purge(upTo uint64)
	// release gives back credit: this many bytes of messages are done.
	release(bytes int)
	// charge takes credit that was not asked for: what messages take once they are decoded.
	charge(bytes int)
	// listening tells whether anybody wants reading events of the site.
	listening(site string) bool
	event(subject string, data []byte)
	// toldStored tells producers how far they are stored.
	toldStored(c *Checkpoint)
	// note reports something an operator should know.
	note(n Notice)
}

// Notice is something that an operator should know: it is logged and counted.
type Notice struct {
	Kind  NoticeKind
	Shard messages.Shard
	Text  string
	Count uint64
}

// NoticeKind is the label a Notice is counted under.
type NoticeKind string

// What can be noticed.
const (
	NoticeWentBack      NoticeKind = "stream_went_back"
	NoticeHole          NoticeKind = "hole"
	NoticeSnapshotsLost NoticeKind = "snapshots_lost"
	NoticePanic         NoticeKind = "device_panic"
	NoticeRetry         NoticeKind = "retry"
	NoticeWrongShard    NoticeKind = "wrong_shard"
	NoticeCareful       NoticeKind = "careful_start"
	NoticeGuilty        NoticeKind = "guilty_message"
	NoticeRepaired      NoticeKind = "repaired"
	NoticeLost          NoticeKind = "lost"
)

// retryable is the part of every job that can be asked for again.
type retryable struct {
	attempts int
	done     bool
}

// rejectJob keeps rejects, and closes the messages they come from.
type rejectJob struct {
	retryable
	rejects  []messages.Reject
	messages []int32
}

// announceJob publishes an online or offline event that is acknowledged.
type announceJob struct {
	retryable
	messages.Announcement
	message int32 // noMessage: it belongs to none
}

// loadJob asks for the states of cold devices.
type loadJob struct {
	retryable
	generation  uint64 // 0 = do not ask the snapshot store
	snapshotted uint64
	stored      uint64 // a snapshot beyond it is from another past
	wants       []loadWant
}

// loadWant is one device of a loadJob.
type loadWant struct {
	entry        *entry
	expected     uint64             // sequence its snapshot must have, 0 = any
	asOf         uint64             // without a snapshot: the archive's rows up to here
	settings     *messages.Settings // of the site's level
	settingsAt   uint64             // sequence of the command that set them
	settingsHold bool               // they are in force whatever the device's sequence: no replay is going on
	latest       int64              // no event time is later; used where what is later cannot be read
	upTo         uint64             // not 0: replay the stream for this device up to here (after a panic)
	guilty       []guilty           // readings to leave out of that replay
	producers    producers          // as of asOf, to tell batches that came again
	writeTime    int64              // as of asOf
	again        *replayed          // is told of the readings of that replay; nil = nobody wants them
}

// loadResult answers one loadWant.
type loadResult struct {
	device   *Device // nil: nothing is known of it
	snapshot uint64  // sequence of the snapshot it came from, 0 = from the archive
}

// guilty names a reading that a device panicked on.
type guilty struct {
	sequence uint64
	time     int64
}

// recomputeJob computes a rollup from the archive.
type recomputeJob struct {
	retryable
	bucket *dirtyBucket
}

// deleteJob removes a device's past from the archive.
type deleteJob struct {
	retryable
	entry     *entry
	sequence  uint64
	landmark  int64 // arrival of the command, ns
	writeTime int64
	message   int32
}

// snapshotJob stores captured states and moves the marker.
type snapshotJob struct {
	retryable
	old, marker persistence.Marker
	snapshots   []persistence.Snapshot
	entries     []*entry
	round       uint64
	bytes       int
}

// markerJob says that a round is complete.
type markerJob struct {
	retryable
	old, marker persistence.Marker
	round       uint64
}

// retireJob has the archive keep accounts that the shard has let go of.
type retireJob struct {
	retryable
	accounts []retiringAccount
}

// saveJob saves a checkpoint. The revision it replaces is the executor's to know.
type saveJob struct {
	retryable
	checkpoint Checkpoint
	data       []byte
}
