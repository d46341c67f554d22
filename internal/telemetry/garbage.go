package telemetry

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A member collects garbage as often as costs little. Windows are most of what lives in it and hold no
// pointers, so at the rates of a fleet that reports every few seconds collecting at 10 % of garbage takes
// less than 2 % of the machine; under a flood it would take a fifth, and then more garbage is let lie.
const (
	leastGarbage = 10  // percent of what lives
	mostGarbage  = 100 // percent of what lives; with 200 neither a flood nor what waits beside it gains (measured)
	startGarbage = 25  // percent of what lives

	// leastRoom is what garbage may take whatever lives; bytes. A small heap would be collected many times a
	// second, and what waits for an answer meanwhile waits for that too.
	leastRoom = 32 << 20
	// leastHeap is the size up to which a heap is not collected at all, bytes: the memory of a small member stays as it is
	// while what lives comes and goes.
	leastHeap = 80 << 20
	// mostRoom is the most that it may take, bytes, or mostShare of what lives, or what machineShare of the machine's
	// memory leaves it, if that is more. Under a flood half of a small heap is buffers of the stream's blocks, which cost
	// nothing to collect and should not make room for as much garbage on a small machine; a million devices
	// spent 39 % of their CPU collecting at 256 MiB, and a third at a fifth of what lives (measured).
	mostRoom     = 256 << 20
	mostShare    = 0.2
	machineShare = 0.25

	// garbageShare is how much of the machine's CPU collecting may take, and busyShare where the process uses more than
	// busyFrom of it. Then it is not for what collecting costs but for what waits meanwhile: it has a quarter of the
	// machine while it goes on, at 3 % an eighth of the time. Beside 440 000 readings a second p99 of events is 132 ms
	// so, and of questions 27 ms; 64 and 10 ms where there is hardly any collecting (measured).
	garbageShare = 0.03
	busyShare    = 0.005
	busyFrom     = 0.5

	garbageEvery = time.Second

	// While collecting is cheap, memory that is free but still the process's is given back to the system this
	// often: the runtime by itself keeps a tenth of the heap, which a fleet that grew does not use again.
	giveBackEvery = 10 * time.Second
	giveBackFrom  = 128 << 20 // bytes of heap, in use or free: a smaller one keeps what it has
)

// TuneGarbage sets how much garbage is gathered before it is collected, in percent of what lives, so that
// collecting takes 3 % of the machine's CPU, half a percent when the process uses more than half of it, and the
// percentage stays within 10 and 100. A heap below 80 MiB is not collected; beyond 256 MiB, or a fifth of what lives,
// garbage only takes what is left of a quarter of the machine's memory. It returns when ctx is done and leaves the
// percentage as it is then. Call it once in a process.
//
// At 10 % it also gives free memory of a heap of more than 128 MiB back to the system, which is one more collection
// every 10 s.
func TuneGarbage(ctx context.Context) {
	machine := float64(machineMemory())
	percent, inForce := float64(startGarbage), setGarbage(startGarbage, 0, machine)
	debug.SetGCPercent(inForce)
	tick := time.NewTicker(garbageEvery)
	defer tick.Stop()
	last, gaveBack := readCollector(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := readCollector()
		if percent == leastGarbage && now.heap > giveBackFrom && time.Since(gaveBack) >= giveBackEvery {
			debug.FreeOSMemory()
			gaveBack = time.Now()
			now = readCollector()
		}
		if now.total <= last.total { // the runtime counts at the end of a collection: there was none
			continue
		}
		next := nextGarbage(percent, now.since(last))
		if set := setGarbage(next, now.lives, machine); set != inForce {
			debug.SetGCPercent(set)
			inForce = set
		}
		percent, last = next, now
	}
}

// nextGarbage returns the percentage that follows on one with which the machine was used so: twice the
// garbage costs half as much. It rises slowly, so that a burst is over before it counts.
func nextGarbage(percent float64, u usage) float64 {
	may := garbageShare
	if u.busy > busyFrom {
		may = busyShare
	}
	next := min(percent*u.collecting/may, percent*1.25)
	return min(max(next, leastGarbage), mostGarbage)
}

// setGarbage returns the percentage that keeps garbage within its least and its most room, too. machine is the memory
// that there is, bytes, 0 = not known.
func setGarbage(percent, lives, machine float64) int {
	most := max(mostShare, max(mostRoom, machineShare*machine-lives)/max(lives, 1)) * 100
	least := max(leastRoom, leastHeap-lives) / max(lives, leastHeap/10) * 100
	return int(math.Round(max(min(percent, most), least)))
}

// usage is shares of the machine's CPU.
type usage struct {
	collecting float64
	busy       float64 // what the process used, collecting too
}

// collector is CPU time, in seconds of all processors together. What collects on a processor that nobody
// else wants is not counted.
type collector struct {
	collecting, idle, total float64

	lives float64 // bytes that the last collection found in use
	heap  float64 // bytes that the heap has of the system: in use, and free
}

// since returns how the machine was used since an earlier look; a collection lies between the two.
func (c collector) since(last collector) usage {
	total := c.total - last.total
	return usage{collecting: (c.collecting - last.collecting) / total, busy: 1 - (c.idle-last.idle)/total}
}

func readCollector() collector {
	samples := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	seconds := func(i int) float64 { return samples[i].Value.Float64() }
	bytes := func(i int) float64 { return float64(samples[i].Value.Uint64()) }
	return collector{
		collecting: seconds(0) - seconds(1), idle: seconds(2) + seconds(1), total: seconds(3),
		lives: bytes(4), heap: bytes(5) + bytes(6) + bytes(7),
	}
}
