// Package pebble keeps the archive and the snapshots in files of this machine, in two Pebble databases.
//
// It guarantees that what Append, Delete, RaiseFence and PutMarker have said nil to is synced to disk;
// that a chunk or a rollup that fails its checksum is an error that names it, and is never served; that
// a full disk is waited for (disk.go), with writes refused and reads served meanwhile; and that a store
// whose disk fails a write otherwise goes on serving reads and refuses all later writes until it
// is opened anew. It does not replicate: a lost disk is a lost archive.
//
// Read chunk.go for the format of readings, keys.go for the keys, merge.go for how chunks grow.
package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence"
)

// layoutVersion is raised when older programs could not read what newer ones write. Since 2 the archive has chunks of
// version 3.
const layoutVersion = 2

// closeDeadline bounds Close: a database whose disk failed may hold its locks for ever. A full one is
// not waited for as long: it may stay full for days.
const closeDeadline, closeFull = 30 * time.Second, 2 * time.Second

var errClosed = errors.New("store is closed")

// store is what both databases have in common: the database, its committer, its end.
type store struct {
	dir   string
	disk  *disk
	db    *pebble.DB
	log   *slog.Logger
	queue *committer

	stalls           atomic.Int64
	backgroundErrors atomic.Int64
	lastBackground   atomic.Pointer[backgroundError]

	mu     sync.Mutex
	closed bool
	users  sync.WaitGroup // calls inside; Add only under mu
}

type backgroundError struct {
	at  time.Time
	err error
}

// openStore opens a database and checks that its layout is ours. shards is 0 where it does not matter.
func openStore(dir string, o Options, merger *pebble.Merger, shards int) (*store, error) {
	s := &store{dir: dir, disk: newDisk(dir, o), log: o.Log}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	db, err := openDatabase(dir, o.database(s, cache, merger))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w (is another process using it?)", dir, err)
	}
	if err := checkVersion(db, shards); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), db.Close())
	}
	s.db = db
	s.disk.opened.Store(true)
	s.queue = newCommitter(db, o.QueueBytes, o.MaxSyncDelay)
	return s, nil
}

// openDatabase is pebble.Open with its panics as errors.
func openDatabase(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return pebble.Open(dir, o)
}

// checkVersion compares the version key with ours, and writes it into a new database.
func checkVersion(db *pebble.DB, shards int) error {
	want := binary.BigEndian.AppendUint32([]byte{layoutVersion}, uint32(shards))
	got, closer, err := db.Get([]byte{kindVersion})
	if errors.Is(err, pebble.ErrNotFound) {
		return db.Set([]byte{kindVersion}, want, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("read the layout's version: %w", err)
	}
	defer closer.Close()
	if len(got) != len(want) {
		return fmt.Errorf("the layout's version is damaged: %x", got)
	}
	if err := (persistence.Schema{Found: true, Data: int(got[0]), Program: layoutVersion}).Check(); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(got[1:]); int(n) != shards {
		return fmt.Errorf("the data was created with %d shards, the configuration says %d: set shards to %d", n, shards, n)
	}
	return nil
}

// enter says that a call is inside until leave. Close waits for it.
func (s *store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.users.Add(1)
	return nil
}

func (s *store) leave() { s.users.Done() }

// mayWrite returns why nothing can be written now.
func (s *store) mayWrite() error {
	if err := s.queue.failure(); err != nil {
		return err
	}
	return s.disk.room()
}

// Ping returns an error when the store has stopped writing, has no room, or cannot flush.
func (s *store) Ping(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.mayWrite(); err != nil {
		return err
	}
	if last := s.lastBackground.Load(); last != nil && time.Since(last.at) < time.Minute {
		return fmt.Errorf("store in %s could not flush or compact: %w", s.dir, last.err)
	}
	return nil
}

// Close waits for the calls that are inside, commits what they have queued and closes the files. After
// closeDeadline (on a full disk closeFull) it gives up with an error; what was answered is safe all the same. A second Close does
// nothing.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("%v", r)
			}
		}()
		s.users.Wait()
		s.queue.close()
		done <- s.db.Close()
	}()
	deadline := closeDeadline
	if s.disk.waiting.Load() > 0 {
		deadline = closeFull
	}
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case err := <-done:
		if failed := s.queue.failure(); failed != nil || err != nil {
			return fmt.Errorf("close %s: %w", s.dir, errors.Join(failed, err))
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("close %s: calls or the disk did not come to an end within %v; its files stay open until the process ends", s.dir, deadline)
	}
}

// Metrics is a store's condition at one moment.
type Metrics struct {
	DiskBytes        uint64        // all files, also those about to be deleted
	CompactionDebt   uint64        // bytes that compactions still have to work off
	MemtableBytes    uint64        // in memory, not yet flushed
	CacheBytes       int64         // of the block cache
	CacheHits        int64         // since the start
	CacheMisses      int64         // since the start
	Stalls           int64         // times that writes were made to wait
	BackgroundErrors int64         // failed flushes and compactions, corrupt files
	Commits          int64         // batches written
	Syncs            int64         // of the log; each covers one or more commits
	SyncTime         time.Duration // spent in them
}

// Metrics returns the store's condition; zero after Close.
func (s *store) Metrics() Metrics {
	if s.enter(context.Background()) != nil {
		return Metrics{}
	}
	defer s.leave()
	m := s.db.Metrics()
	return Metrics{
		DiskBytes: m.DiskSpaceUsage(), CompactionDebt: m.Compact.EstimatedDebt, MemtableBytes: m.MemTable.Size,
		CacheBytes: m.BlockCache.Size, CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses,
		Stalls: s.stalls.Load(), BackgroundErrors: s.backgroundErrors.Load(),
		Commits: s.queue.commits.Load(), Syncs: s.queue.syncs.Load(), SyncTime: time.Duration(s.queue.syncTime.Load()),
	}
}
