package cassandra

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// Layout Chunks. A row of the table chunks holds readings of one device and bucket (docs/chunks.md);
// there may be several, and together they are what the device has there: of one event time the reading
// with the highest stream sequence counts, wherever it is.
//
// So that small flushes do not stay small rows, a row is written again, larger, under the same key, as
// long as it is small. What makes that safe:
//   - a key is a random number that only the archive that drew it ever writes under, so neither an
//     older owner nor the next one can put less in its place;
//   - a row is written again only after it was stored, with all that it had and a higher write time, so
//     whichever version a server has holds all that was called stored under this key;
//   - what cannot be added that way (an older write time, another bucket, a write that failed) goes
//     under a key of its own. That costs space, never a reading.
const (
	// growRows and growBytes end a chunk's growth. At 100 readings the row and the chunk's head cost less
	// than a byte a reading; more makes a reading be written more often: n/2 times for n flushes.
	growRows  = 100
	growBytes = 4 << 10
	// growBy is the most readings that a chunk grows by. What comes in larger pieces, under a flood, is
	// cheaper as chunks of its own: a tenth of the CPU for half a byte a reading.
	growBy = 40
	// maxChunkBytes bounds a chunk of several readings, so that a page and a batch are bounded.
	maxChunkBytes = 32 << 10
	// chunkOverhead is what a chunk is taken to need beside its bytes, in a batch and, open, in memory: key,
	// names, and a place in the map.
	chunkOverhead = 200
)

// growing is a chunk that was stored and may grow.
type growing struct {
	bucket    int64
	part      int64
	writeTime int64 // of the version that is stored
	seconds   int   // its TTL
	rows      int
	added     int // by the last version
	data      []byte
}

// grownChunk is one on its way.
type grownChunk struct {
	device messages.DeviceID
	chunk  growing
}

// openChunks are a shard's growing chunks, at most one of a device. Who makes a new version of one takes
// it out and puts it back when that is stored; meanwhile others begin another chunk.
type openChunks struct {
	mu    sync.Mutex
	of    map[messages.DeviceID]growing
	bytes int
}

func (o *openChunks) take(id messages.DeviceID) (growing, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.of[id]
	if ok {
		delete(o.of, id)
		o.bytes -= len(c.data) + chunkOverhead
	}
	return c, ok
}

// put keeps a chunk, of two of one device that of the later bucket. Beyond limit bytes any others are forgotten.
func (o *openChunks) put(id messages.DeviceID, c growing, limit int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = make(map[messages.DeviceID]growing)
	}
	if other, ok := o.of[id]; ok {
		if other.bucket > c.bucket {
			return
		}
		o.bytes -= len(other.data) + chunkOverhead
	}
	o.of[id] = c
	o.bytes += len(c.data) + chunkOverhead
	for other, dropped := range o.of {
		if o.bytes <= limit {
			break
		}
		delete(o.of, other)
		o.bytes -= len(dropped.data) + chunkOverhead
	}
}

// keepOpen remembers the chunks of a request that was written.
func (a *Archive) keepOpen(r *request) {
	for i := range r.grown {
		c := &r.grown[i].chunk
		if c.rows < growRows && c.added <= growBy && len(c.data) < growBytes {
			a.open[r.shard].put(r.grown[i].device, *c, a.options.OpenChunks/a.options.Shards)
		}
	}
}

// forget has the device's next readings begin another chunk.
func (a *Archive) forget(shard int16, id messages.DeviceID) {
	if a.options.Layout == Chunks {
		a.open[shard].take(id)
	}
}

// packer makes chunks. It keeps its memory; not for concurrent use.
type packer struct {
	fresh, grown chunk.Encoder // the rows at hand; those with what their chunk held before
	scratch      []byte
}

var packers = sync.Pool{New: func() any {
	return &packer{fresh: chunk.Encoder{Version: chunk.Version2}, grown: chunk.Encoder{Version: chunk.Version2}}
}}

func (p *packer) release() {
	p.fresh.Block.Reset()
	p.grown.Block.Reset()
	packers.Put(p)
}

// addChunks adds the device's readings as chunks, one or more for each bucket.
func (g *grouping) addChunks(i int, d *persistence.DeviceRows, retention time.Duration) {
	if len(d.Rows) == 0 {
		return
	}
	p := packers.Get().(*packer)
	defer p.release()
	for j := range d.Rows {
		p.fresh.Block.Add(&d.Rows[j])
	}
	p.fresh.Block.Normalize()
	open, growable := g.archive.open[g.shard].take(d.Device)
	length := g.archive.bucketLength(readings)
	b := &p.fresh.Block
	for from := 0; from < b.Len(); {
		bucket, to := bucketOf(b.Time(from), length), from+1
		for to < b.Len() && bucketOf(b.Time(to), length) == bucket {
			to++
		}
		c := growing{bucket: bucket, part: rand.Int64()}
		c.writeTime, c.seconds = newest(d.Rows, b.Time(from), b.Time(to-1), retention)
		if growable && open.bucket == bucket && p.grow(&c, &open, from, to) {
			growable = false
			g.addChunk(i, d.Device, c)
		} else {
			g.pack(p, i, d.Device, c, from, to)
		}
		from = to
	}
	if growable { // nothing was added to it
		g.archive.open[g.shard].put(d.Device, open, g.archive.options.OpenChunks/g.archive.options.Shards)
	}
}

// newest returns the highest write time and the longest TTL of the rows between two event times.
func newest(rows []persistence.Row, low, high int64, retention time.Duration) (writeTime int64, seconds int) {
	for i := range rows {
		if r := &rows[i]; r.Time >= low && r.Time <= high {
			writeTime = max(writeTime, r.WriteTime)
			left, _ := ttl(retention, r.Time, r.WriteTime) // checked before
			seconds = max(seconds, left)                   // without a retention all are 0
		}
	}
	return writeTime, seconds
}

// grow makes c, which brings rows [from, to) of the fresh ones, the next version of open. It returns
// false when that may not be.
func (p *packer) grow(c, open *growing, from, to int) bool {
	if c.writeTime <= open.writeTime || to-from > growBy {
		return false
	}
	b := &p.grown.Block
	b.Reset()
	if b.Decode(open.data) != nil {
		return false
	}
	var row persistence.Row
	for i := from; i < to; i++ {
		p.fresh.Block.Row(i, &row)
		b.Add(&row)
	}
	b.Normalize()
	p.scratch = p.grown.AppendFrames(p.scratch[:0], 0, b.Len())
	if len(p.scratch) > maxChunkBytes {
		return false
	}
	c.part, c.seconds = open.part, longer(c.seconds, open.seconds)
	c.rows, c.added, c.data = b.Len(), to-from, slices.Clone(p.scratch)
	return true
}

// longer returns the longer of two TTLs, of which 0 is for ever.
func longer(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// pack adds rows [from, to) of the fresh ones as new chunks like c: as many as keep each within maxChunkBytes.
func (g *grouping) pack(p *packer, i int, id messages.DeviceID, c growing, from, to int) {
	p.scratch = p.fresh.AppendFrames(p.scratch[:0], from, to)
	if len(p.scratch) > maxChunkBytes && to-from > 1 {
		middle := from + (to-from)/2
		g.pack(p, i, id, c, from, middle)
		c.part = rand.Int64()
		g.pack(p, i, id, c, middle, to)
		return
	}
	c.rows, c.added, c.data = to-from, to-from, slices.Clone(p.scratch)
	g.addChunk(i, id, c)
}

func (g *grouping) addChunk(i int, id messages.DeviceID, c growing) {
	group := g.archive.group(id)
	to := g.to(partition{readings, g.shard, group, c.bucket}, i, 0, c.writeTime, chunkOverhead+len(c.data))
	to.rows[len(to.rows)-1].at = int32(len(to.grown))
	to.grown = append(to.grown, grownChunk{id, c})
}
