package telemetry

import (
	"bufio"
	"context"
	"io"
	"os"
	"reflect"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A heap of gigabytes on pages of 4 KiB costs a fault for each of them while it grows, and afterwards a walk through
// the page tables for nearly each device that is touched: a million devices take in 1.3 to 1.4 times as much on huge
// pages (docs/benchmarks.md). Below largeHeap they gained nothing that was measurable, and would only round
// up what the process takes. Garbage does not count: what a flood of 100 000 devices leaves is more than what lives, and
// putting its pages together took a quarter of the member's CPU.
const (
	largeHeap      = 2 << 30 // bytes that live
	hugePagesEvery = time.Second
	betweenPages   = time.Millisecond // nothing else of the process gets memory while a page is put together
	hugePage       = 2 << 20          // bytes, on amd64 and arm64
)

// hugePagesEnabled says who gets huge pages: always, madvise (who asks) or never.
const hugePagesEnabled = "/sys/kernel/mm/transparent_hugepage/enabled"

// UseHugePages puts the heap on huge pages once more than 2 GiB live in it, and later what has been added to it. It
// returns when ctx is done, or at once where there are none or nobody is to have any. Call it once in a process.
func UseHugePages(ctx context.Context) {
	if enabled, err := os.ReadFile(hugePagesEnabled); err != nil || strings.Contains(string(enabled), "[never]") {
		return
	}
	tick := time.NewTicker(hugePagesEvery)
	defer tick.Stop()
	done := make(map[uintptr]uintptr) // by start of an area: its size
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if heapLives() < largeHeap {
			continue
		}
		for _, a := range heapAreas() {
			if done[a.start] < a.size {
				a.use(ctx, done[a.start])
				done[a.start] = a.size
			}
		}
	}
}

// use puts what is in the area on huge pages, but for the part at its beginning that is. What the system does not put
// together stays as it is: it is not in use, no piece of that size is free, or the kernel is older than 6.1.
//
// What the runtime gives back and takes again later comes on small pages, as ever. Had the area been marked (MADV_HUGEPAGE) it
// would come as whole huge ones: a million devices took 1 GiB more then.
func (a area) use(ctx context.Context, from uintptr) {
	at := (a.start + from + hugePage - 1) &^ (hugePage - 1)
	for ; at+hugePage <= a.start+a.size && ctx.Err() == nil; at += hugePage {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, hugePage, unix.MADV_COLLAPSE)
		time.Sleep(betweenPages)
	}
}

// heapLives returns the bytes that the last collection found in use.
func heapLives() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// area is a stretch of addresses.
type area struct{ start, size uintptr }

// heapAreas returns where the heap is; nil when the system does not tell.
func heapAreas() []area {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer maps.Close()
	return areasNear(maps, reflect.ValueOf(new([64]byte)).Pointer())
}

// hintBits: the runtime grows the heap upwards from one address, and only from another, at least 2⁴⁰ bytes
// away, when something is in the way (runtime/malloc.go, arenaHints).
const hintBits = 40

// areasNear returns the anonymous memory that may be written in what /proc/self/maps says (proc_pid_maps(5)), as far as
// it is in the same stretch of 2⁴⁰ addresses as one of the heap.
func areasNear(maps io.Reader, heap uintptr) (areas []area) {
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[1] != "rw-p" || fields[4] != "0" {
			continue
		}
		low, high, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(low, 16, 64)
		end, err2 := strconv.ParseUint(high, 16, 64)
		if err == nil && err2 == nil && start>>hintBits == uint64(heap)>>hintBits {
			areas = append(areas, area{uintptr(start), uintptr(end - start)})
		}
	}
	return areas
}
