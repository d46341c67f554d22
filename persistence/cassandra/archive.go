package cassandra

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/gocql/gocql"
	"golang.org/x/sync/semaphore"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Archive is the archive in one keyspace. It implements persistence.Archive.
type Archive struct {
	session *gocql.Session
	servers *serverList
	options Options
	writes  *semaphore.Weighted // one for each write request under way; who came first is served first
	known   bucketCache
	longest persistence.Age // of all classes
	open    []openChunks    // of each shard; none with layout Rows
}

var _ persistence.Archive = (*Archive)(nil)

// Open connects, creates the keyspace and the tables where they are missing, and checks that they are
// laid out as o says. It does not wait for servers that are down: call it again.
func Open(ctx context.Context, o Options) (*Archive, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("cassandra archive: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := createKeyspace(ctx, o); err != nil {
		return nil, err
	}
	var servers *serverList
	session, err := connect(ctx, o, func(c *gocql.ClusterConfig) {
		servers = &serverList{HostSelectionPolicy: c.PoolConfig.HostSelectionPolicy}
		c.Keyspace, c.PoolConfig.HostSelectionPolicy = o.Keyspace, servers
	})
	if err != nil {
		return nil, err
	}
	if err := createSchema(ctx, session, o); err != nil {
		session.Close()
		return nil, err
	}
	if err := checkCenters(session, o); err != nil {
		session.Close()
		return nil, fmt.Errorf("cassandra archive: %w", err)
	}
	warnOfLoss(ctx, session, o)
	a := &Archive{session: session, servers: servers, options: o, writes: semaphore.NewWeighted(int64(o.MaxInFlight)), longest: o.Classes.Longest()}
	if o.Layout == Chunks {
		a.open = make([]openChunks, o.Shards)
	}
	return a, nil
}

// statement returns that of the archive's layout.
func (a *Archive) statement(rows, chunks string) string {
	if a.options.Layout == Chunks {
		return chunks
	}
	return rows
}

// Ping reads one row at the archive's consistency.
func (a *Archive) Ping(ctx context.Context) error {
	var version int
	if err := a.session.Query(cqlPing).WithContext(ctx).Scan(&version); err != nil {
		return fmt.Errorf("cassandra does not answer: %w", err)
	}
	return nil
}

// Close ends all connections. Calls under way fail.
func (a *Archive) Close() error {
	a.session.Close()
	return nil
}

// group is the group of a device: by a hash that has nothing to do with the one that made its shard,
// or all devices of a shard could fall into one.
func (a *Archive) group(id messages.DeviceID) int16 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id.Site))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(id.Device))
	// FNV's low bits are weak: mix (the finaliser of splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int16((x ^ x>>31) % uint64(a.options.Groups))
}

// bucketLength returns the length of a partition in ms. Rollups are fewer but wider than readings: at
// an interval of 10 s and 4 channels the minutes of 4 hours or the hours of 2 days take what 1 to 5
// hours of readings do.
func (a *Archive) bucketLength(step messages.Step) int64 {
	length := a.options.Bucket.Milliseconds()
	switch {
	case step == readings:
		return length
	case step < messages.Hour:
		return max(4*length, int64(step))
	default:
		return max(48*length, int64(step))
	}
}

// bucketOf is floor(time / length), also before 1970.
func bucketOf(time, length int64) int64 {
	b := time / length
	if time%length < 0 {
		b--
	}
	return b
}

// partition is a partition of readings (step 0) or rollups.
type partition struct {
	step   messages.Step
	shard  int16
	group  int16
	bucket int64
}

// maxKnown bounds the memory of which buckets are listed: about 40 B each.
const maxKnown = 1 << 16

// bucketCache remembers which partitions are in the table buckets. When it is full it forgets all:
// they are then written once more.
type bucketCache struct {
	mu    sync.Mutex
	known map[partition]struct{}
}

func (c *bucketCache) has(p partition) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[p]
	return ok
}

func (c *bucketCache) add(p partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxKnown {
		c.known = make(map[partition]struct{})
	}
	c.known[p] = struct{}{}
}

// ttl returns the seconds that something of the given event time, with that write time (µs), is to
// be kept: the retention less its age on arrival, 0 = for ever. ok is false when it is too old.
func ttl(retention time.Duration, time, writeTime int64) (seconds int, ok bool) {
	if retention == 0 {
		return 0, true
	}
	left := retention.Milliseconds() - (writeTime/1000 - time)
	if left <= 0 {
		return 0, false
	}
	return int(min((left+999)/1000, maxTTL)), true
}

// checkShard: a shard beyond the layout is a mistake of the caller, not of the input.
func (a *Archive) checkShard(shard messages.Shard) error {
	if int(shard) >= a.options.Shards {
		return fmt.Errorf("shard %d: the archive has %d shards", shard, a.options.Shards)
	}
	return nil
}
