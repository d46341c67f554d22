package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestDiskFull fills the member's disk, first nearly, then to the last byte, under load, and makes room
// again. Publishers are refused with a clear reason, the member stays up and answers, it recovers by
// itself, and nothing that was acknowledged is lost.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, 768<<20)
	config := settingsFile(t, "shards: 4\nstream.max-bytes: 16MiB\nwork:\n  snapshot-within: 5s\n")
	m := startMember(t, filepath.Join(disk, "data"), "--config", config)
	load := m.loads("disk", 200, outageSeconds(t, 12), 3000)

	m.wantPosted("before", http.StatusOK)
	ballast := newBallast(t, filepath.Join(disk, "ballast"))
	ballast.leave(3)
	m.wantNotReady("disk")
	problem := m.wantPosted("nearly-full", http.StatusInsufficientStorage)
	if !strings.Contains(problem, "disk") {
		t.Errorf("the problem document does not speak of the disk: %s", problem)
	}
	m.wantRequestRefused()

	stop := ballast.fill() // and takes all that becomes free
	pause(t, outage(t, 8*time.Second))
	m.wantAlive()
	m.wantWindow("disk")
	m.wantNotReady("disk")
	m.wantPosted("full", http.StatusInsufficientStorage)
	stop()

	ballast.remove()
	m.wantReady(60 * time.Second)
	m.wantPosted("after", http.StatusOK)
	load.wantStored()
	m.wantReadings("post", "before", 1)
	m.wantReadings("post", "after", 1)
	m.wantReadings("post", "full", 0)
}

// TestDiskFullAtOnce fills the disk to the last byte from one moment to the next, under load, so that
// stream and stores meet writes that fail. The member recovers by itself; the second time it is killed
// while the disk is full, and started when there is room. What was acknowledged is stored.
func TestDiskFullAtOnce(t *testing.T) {
	disk := smallDisk(t, 768<<20)
	config := settingsFile(t, "shards: 4\nstream.max-bytes: 16MiB\nwork:\n  snapshot-within: 5s\n")
	m := startMember(t, filepath.Join(disk, "data"), "--config", config)
	for _, kill := range []bool{false, true} {
		load := m.loads(fmt.Sprintf("kill-%v", kill), 200, outageSeconds(t, 6), 3000)
		pause(t, time.Second)
		ballast := newBallast(t, filepath.Join(disk, "ballast"))
		stop := ballast.fill()
		pause(t, outage(t, 3*time.Second))
		m.wantAlive()
		m.wantNotReady("disk")
		if kill {
			m.kill()
		}
		stop()
		ballast.remove()
		if kill {
			m.start()
		}
		m.wantReady(60 * time.Second)
		load.wantStored()
	}
}

// smallDisk mounts a file system of this size in memory. It skips where that is not allowed.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: a small disk cannot be mounted: %v; run as root", err)
	}
	t.Cleanup(func() {
		testenv.Eventually(t, 20*time.Second, func() error { return syscall.Unmount(dir, 0) })
	})
	return dir
}

// ballast is a file that takes away a disk's room.
type ballast struct {
	t    *testing.T
	file *os.File
}

func newBallast(t *testing.T, path string) *ballast {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b := &ballast{t, f}
	t.Cleanup(func() { b.file.Close() })
	return b
}

// space returns free and all bytes of the disk.
func (b *ballast) space() (free, total int64) {
	b.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(b.file.Fd()), &st); err != nil {
		b.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize
}

// leave fills the disk until this share is free, in percent.
func (b *ballast) leave(percent int64) {
	b.t.Helper()
	free, total := b.space()
	if err := b.grow(free - total*percent/100); err != nil {
		b.t.Fatal(err)
	}
}

func (b *ballast) grow(n int64) error {
	_, err := io.CopyN(b.file, zeros{}, max(n, 0))
	return err
}

// fill takes what is free, again and again, until the returned function is called.
func (b *ballast) fill() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		block := make([]byte, 4<<10)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			for {
				if _, err := b.file.Write(block); err != nil {
					break
				}
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (b *ballast) remove() {
	b.t.Helper()
	if err := errors.Join(b.file.Truncate(0), os.Remove(b.file.Name())); err != nil {
		b.t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// wantPosted posts one reading of a device of site post until the answer has this status, and returns
// the answer.
func (m *member) wantPosted(device string, status int) string {
	m.t.Helper()
	var text string
	testenv.Eventually(m.t, 20*time.Second, func() error {
		body := fmt.Sprintf(`{"device":%q,"time":"2026-03-01T00:00:00Z","values":[1]}`, device)
		resp, err := http.Post(m.http+"/api/v1/sites/post/readings", "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if text = string(data); resp.StatusCode != status {
			return fmt.Errorf("post: %s: %s; want %d", resp.Status, text, status)
		}
		if kind := resp.Header.Get("Content-Type"); status >= 300 && kind != "application/problem+json" {
			return fmt.Errorf("post: Content-Type %s, want a problem document", kind)
		}
		return nil
	})
	return text
}

// wantRequestRefused publishes a reading as a NATS request and wants the answer to be an error.
func (m *member) wantRequestRefused() {
	m.t.Helper()
	nc := m.mayConnect()
	testenv.Eventually(m.t, 10*time.Second, func() error {
		msg, err := nc.Request("readings.post.by-request", []byte(`{"time":"2026-03-01T00:00:00Z","values":[1]}`), 2*time.Second)
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		if err != nil {
			return err
		}
		var answer struct{ Error *struct{ Description string } }
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return err
		}
		if answer.Error == nil {
			return fmt.Errorf("the request was acknowledged: %s", bytes.TrimSpace(msg.Data))
		}
		return nil
	})
}
