package pebble

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wellhead/wellhead/persistence"
)

// Options are for OpenArchive and OpenSnapshots. The zero value is good.
type Options struct {
	// Shards is the number of shards of the cluster's data. Default and meaning of 0: 64. The archive
	// keeps it from its creation on; opening it with another number is an error. Snapshots ignore it.
	Shards int
	// CacheBytes bounds the cache of uncompressed blocks. Default and meaning of 0: 64 MiB. When it is
	// full the least used blocks go.
	CacheBytes int64
	// MemtableBytes is the size of one memtable. Default and meaning of 0: 64 MiB for the archive, 16 MiB
	// for snapshots. When four are full and none could be flushed, writes wait.
	MemtableBytes int
	// QueueBytes bounds the appends that wait for their commit. Default and meaning of 0: 64 MiB. When
	// it is full, Append waits.
	QueueBytes int64
	// MaxSyncDelay is the longest time a commit waits for others before it is synced with them.
	// Default and meaning of 0: 50 ms. The wait is as long as the last sync took, so that a slow disk
	// is busy at most half of the time; a store that was idle syncs at once.
	MaxSyncDelay time.Duration
	// ReservePercent is the free share of the disk below which nothing is written: what is left is for
	// the stream's books and for pebble's own. Default and meaning of 0: 2; negative: no reserve. A write
	// is then refused with an error; it is taken again when 1 percent more is free.
	ReservePercent int
	// Classes are the retention classes: what is older than its device's class is not found any more, and
	// Expire removes it. nil = all is kept for ever. Snapshots ignore it.
	Classes persistence.Classes
	// Log gets warnings and errors, at level debug also what the database does. Default: slog.Default.
	Log *slog.Logger

	fs          vfs.FS                      // tests put faults in
	now         func() time.Time            // tests turn the clock
	compression *sstable.CompressionProfile // the benchmark compares
}

func (o Options) withDefaults(memtable int) Options {
	if o.Shards == 0 {
		o.Shards = 64
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemtableBytes == 0 {
		o.MemtableBytes = memtable
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.MaxSyncDelay == 0 {
		o.MaxSyncDelay = 50 * time.Millisecond
	}
	if o.ReservePercent == 0 {
		o.ReservePercent = 2
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.compression == nil {
		o.compression = sstable.ZstdCompression
	}
	return o
}

// database turns our options into pebble's.
func (o Options) database(s *store, cache *pebble.Cache, merger *pebble.Merger) *pebble.Options {
	p := &pebble.Options{
		FS:                          s.disk,
		Cache:                       cache,
		Logger:                      logger{o.Log},
		Merger:                      merger,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(o.MemtableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8, // with 2 compactions took a tenth more of an embedded member's CPU in a flood
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       10 * time.Second,
		EventListener:               s.listener(),
	}
	for i := range p.Levels {
		// Zstd takes a third off chunks of noisy sensors (2.8 against 4.2 B a reading, measured) and does
		// not show in the time of appends; tables of level 0 are written again within seconds.
		p.Levels[i].Compression = func() *sstable.CompressionProfile { return o.compression }
		if i == 0 {
			p.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
		}
		p.Levels[i].BlockSize = 32 << 10
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // only snapshots are looked up by key
	}
	return p
}

// listener hears what goes wrong in the background.
func (s *store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		// A flush or a compaction failed (disk full, corrupt table). Pebble tries again; until it succeeds
		// memtables fill up and then writes wait.
		BackgroundError: func(err error) {
			s.backgroundErrors.Add(1)
			s.lastBackground.Store(&backgroundError{time.Now(), err})
			s.log.Error("store cannot flush or compact", "dir", s.dir, "error", err)
		},
		// Without a handler pebble would end the process.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.backgroundErrors.Add(1)
			s.log.Error("store found a corrupt file", "dir", s.dir, "path", info.Path, "error", info.Details)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.stalls.Add(1)
			s.log.Warn("store makes writes wait", "dir", s.dir, "reason", info.Reason)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			s.log.Warn("disk is slow", "dir", s.dir, "operation", info.OpType.String(), "duration", info.Duration)
		},
	}
}

// logger hands pebble's messages to slog.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf must not return. In a commit, and while a store is opened, the panic is caught and becomes
// an error. In the background it ends the process, and it should: what is in memory is then no longer
// what is on disk, and a start recovers from the disk.
func (l logger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Error("pebble cannot go on", "text", text)
	panic(fatal(text))
}

// fatal is what pebble says when it cannot go on.
type fatal string

func (f fatal) Error() string { return string(f) }
