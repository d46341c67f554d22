package pebble

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// smallMem is a file system in memory that can be full, or say that it nearly is.
type smallMem struct {
	vfs.FS
	full atomic.Bool
	free atomic.Uint64 // percent, of 1000 MiB
}

func newSmallMem() (*smallMem, vfs.FS) {
	mem := vfs.NewMem()
	s := &smallMem{}
	s.free.Store(50)
	s.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpLink, errorfs.OpRename,
			errorfs.OpMkdirAll, errorfs.OpFileWrite, errorfs.OpFileWriteAt:
			if s.full.Load() {
				return syscall.ENOSPC
			}
		}
		return nil
	}))
	return s, mem
}

func (s *smallMem) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: s.free.Load() * 10 << 20, TotalBytes: 1000 << 20}, nil
}

// appendUntil appends rows of device 0 from n on until one fails, at most count, and returns the next n.
func appendUntil(t *testing.T, a *Archive, n, count int) (int, error) {
	t.Helper()
	for end := n + count; n < end; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := appendOne(ctx, a, 0, n)
		cancel()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// TestDiskFull fills the disk at whatever pebble is doing: log, tables and manifest of a database with
// tiny memtables. No append is called stored that is not, reads go on, and with room all goes on.
func TestDiskFull(t *testing.T) {
	disk, mem := newSmallMem()
	a, err := OpenArchive("archive", Options{fs: disk, Log: quiet, MemtableBytes: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for round := range 8 {
		if next, err = appendUntil(t, a, next, 100+37*round); err != nil {
			t.Fatal(err)
		}
		disk.full.Store(true)
		stored := next
		if next, err = appendUntil(t, a, next, 2000); err == nil {
			t.Fatal("appends are stored on a full disk")
		}
		if got := len(sequences(t, a, 0)); got < stored-1 {
			t.Errorf("round %d: reads %d rows on the full disk, %d were stored", round, got, stored-1)
		}
		if err := a.Ping(t.Context()); !errors.Is(err, errNoRoom) {
			t.Errorf("round %d: ping: got %v, want that there is no room", round, err)
		}
		disk.full.Store(false)
		eventuallyWrites(t, a, next)
	}
	if got, want := len(sequences(t, a, 0)), next; got != want {
		t.Errorf("reads %d rows, want %d", got, want)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	again := openArchive(t, "archive", Options{fs: mem})
	if got, want := len(sequences(t, again, 0)), next; got != want {
		t.Errorf("after a new start: %d rows, want %d", got, want)
	}
}

// eventuallyWrites waits until row n is stored.
func eventuallyWrites(t *testing.T, a *Archive, n int) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if _, err = appendUntil(t, a, n, 1); err == nil {
			return
		}
	}
	t.Fatalf("the archive does not write again: %v", err)
}

// TestReserve refuses writes below the reserve, before anything fails, and takes them again above it.
func TestReserve(t *testing.T) {
	disk, _ := newSmallMem()
	a := openArchive(t, "archive", Options{fs: disk, Log: quiet, ReservePercent: 10})
	if err := appendOne(t.Context(), a, 0, 1); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		free uint64
		room bool
	}{{10, true}, {9, false}, {10, false}, {11, true}, {10, true}} {
		disk.free.Store(step.free)
		a.disk.mu.Lock()
		a.disk.looked = time.Time{}
		a.disk.mu.Unlock()
		err := appendOne(t.Context(), a, 0, 2)
		if step.room != (err == nil) {
			t.Errorf("%d %% free: append: got %v, want room: %v", step.free, err, step.room)
		}
		if err != nil && !strings.Contains(err.Error(), "of 1000 MiB are free") {
			t.Errorf("the error does not tell what is free: %v", err)
		}
	}
	if got := len(sequences(t, a, 0)); got != 2 {
		t.Errorf("reads %d rows, want 2", got)
	}
}

// TestStartOnFullDisk fails and says why, and does no harm.
func TestStartOnFullDisk(t *testing.T) {
	disk, mem := newSmallMem()
	a, err := OpenArchive("archive", Options{fs: disk, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(appendOne(t.Context(), a, 0, 1), a.Close()); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	if _, err := OpenArchive("archive", Options{fs: disk, Log: quiet}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("open on a full disk: got %v", err)
	}
	again := openArchive(t, "archive", Options{fs: mem})
	if got := len(sequences(t, again, 0)); got != 1 {
		t.Errorf("reads %d rows, want 1", got)
	}
}
