package pebble

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// spaceEvery is how long what is known of the disk's room is believed.
	spaceEvery = 250 * time.Millisecond
	// roomEvery is how often a write that found the disk full is tried again.
	roomEvery = 100 * time.Millisecond
	// roomMargin is how much more than the reserve must be free before writes are taken again, in percent.
	roomMargin = 1
)

// errNoRoom is in the error of every write that is refused for want of room. It was surely not written.
var errNoRoom = errors.New("no room on the disk")

// disk is the file system under a database. It keeps a full disk from being an error there: pebble ends
// the process when it cannot write its manifest, and cannot write again after its log could not be
// written. Here a write that finds no room waits until there is some, as on a slow disk. Before it comes
// to that, below the reserve, the store refuses writes (room).
//
// While a database is opened nothing waits: a start on a full disk fails and says why.
type disk struct {
	vfs.FS
	dir     string
	reserve uint64 // percent
	log     *slog.Logger

	opened  atomic.Bool
	waiting atomic.Int64 // writes that wait for room

	mu     sync.Mutex
	looked time.Time
	free   vfs.DiskUsage
	low    bool
}

func newDisk(dir string, o Options) *disk {
	return &disk{FS: o.fs, dir: dir, reserve: uint64(max(o.ReservePercent, 0)), log: o.Log}
}

// room returns why nothing may be written, nil if it may.
func (d *disk) room() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.looked) >= spaceEvery {
		d.looked = now
		d.look()
	}
	if !d.low && d.waiting.Load() == 0 {
		return nil
	}
	return fmt.Errorf("%w of %s: %d of %d MiB are free, and below %d %% nothing is written; it goes on by itself when there is room",
		errNoRoom, d.dir, d.free.AvailBytes>>20, d.free.TotalBytes>>20, d.reserve)
}

// look asks for the free space. The caller holds d.mu.
func (d *disk) look() {
	free, err := d.FS.GetDiskUsage(d.dir)
	if err != nil || free.TotalBytes == 0 { // not known
		d.low = false
		return
	}
	d.free = free
	limit := d.reserve
	if d.low {
		limit += roomMargin
	}
	low := free.AvailBytes*100 < free.TotalBytes*limit
	switch {
	case low && !d.low:
		d.log.Error("disk nearly full: the store takes no more writes", "dir", d.dir, "free_bytes", free.AvailBytes, "total_bytes", free.TotalBytes)
	case !low && d.low:
		d.log.Warn("disk has room: the store takes writes again", "dir", d.dir, "free_bytes", free.AvailBytes)
	}
	d.low = low
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// patiently calls write until there is room for it.
func (d *disk) patiently(write func() error) error {
	err := write()
	if !isFull(err) || !d.opened.Load() {
		return err
	}
	if d.waiting.Add(1) == 1 {
		d.log.Error("disk full: the store waits for room", "dir", d.dir)
	}
	for isFull(err) {
		time.Sleep(roomEvery)
		err = write()
	}
	if d.waiting.Add(-1) == 0 {
		d.log.Warn("disk has room: the store goes on", "dir", d.dir)
	}
	return err
}

// file opens a file to be written.
func (d *disk) file(open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := d.patiently(func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

// Create implements vfs.FS.
func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(func() (vfs.File, error) { return d.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.file(func() (vfs.File, error) { return d.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (d *disk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(func() (vfs.File, error) { return d.FS.ReuseForWrite(from, to, c) })
}

// Link implements vfs.FS.
func (d *disk) Link(from, to string) error {
	return d.patiently(func() error { return d.FS.Link(from, to) })
}

// Rename implements vfs.FS.
func (d *disk) Rename(from, to string) error {
	return d.patiently(func() error { return d.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.patiently(func() error { return d.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// diskFile is a file whose writes wait for room. A sync does not: after one that failed nobody knows
// what the disk has, and only a new start can find out.
type diskFile struct {
	vfs.File
	disk *disk
}

// Write implements io.Writer.
func (f *diskFile) Write(p []byte) (int, error) {
	written := 0
	err := f.disk.patiently(func() error {
		n, err := f.File.Write(p[written:])
		written += n
		if err == nil && written < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	return written, err
}

// WriteAt implements io.WriterAt.
func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	written := 0
	err := f.disk.patiently(func() error {
		n, err := f.File.WriteAt(p[written:], off+int64(written))
		written += n
		return err
	})
	return written, err
}
