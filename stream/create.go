package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
)

// Names of the streams and buckets beside the shards' streams.
const (
	rejectsStream = "REJECTS"
	eventsStream  = "EVENTS"
	bucketPrefix  = "wellhead-"
)

// The buckets that Open creates.
const (
	BucketCheckpoints = "checkpoints"
	BucketLeases      = "leases"
	BucketStarts      = "starts"
	BucketMembers     = "members"
	bucketRegistry    = "registry"
	bucketRetries     = "retries"
)

const (
	// maxShards keeps one stream for each shard affordable.
	maxShards = 1024
	// createAtOnce bounds how many streams are being created at the same time.
	createAtOnce = 16
	// strayShards is up to where shard numbers that this cluster does not have are caught as rejects:
	// a client that counts with another number of shards.
	strayShards = 256
	// dedupeWindow is how long EVENTS knows a message id. A repeat comes after a restart of the shard.
	dedupeWindow = 10 * time.Minute
	// maxRejects bounds rejects by count: each has a subject of its own, about 150 B of memory.
	maxRejects = 1_000_000
	keepAside  = 30 * 24 * time.Hour

	metaShards   = "wellhead-shards"
	metaMaxBytes = "wellhead-max-bytes"
)

// createAll finds what there is in one request, checks it, and creates the rest in parallel.
func (s *Streams) createAll(ctx context.Context) error {
	have := map[string]*jetstream.StreamInfo{}
	list := s.js.ListStreams(ctx)
	for info := range list.Info() {
		have[info.Config.Name] = info
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	if err := s.checkShards(have); err != nil {
		return err
	}
	size, err := s.defaultMaxBytes(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(createAtOnce)
	for n := range s.options.Shards {
		config := s.shardStream(messages.Shard(n), size)
		info := have[config.Name]
		if info == nil {
			group.Go(func() error { return s.createStream(ctx, config) })
			continue
		}
		group.Go(func() error {
			if squeezed(info.Config) {
				return s.release(ctx, info.Config)
			}
			return s.copies(ctx, info.Config)
		})
	}
	for _, config := range s.sideStreams() {
		info := have[config.Name]
		group.Go(func() error {
			if info == nil {
				return s.createStream(ctx, config)
			}
			return s.copies(ctx, info.Config)
		})
	}
	stores := make([]jetstream.KeyValue, len(allBuckets))
	for i, name := range allBuckets {
		group.Go(func() (err error) {
			stores[i], err = s.createBucket(ctx, name, have[bucketStream(name)] != nil)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range allBuckets {
		s.buckets[name] = stores[i]
	}
	return nil
}

var allBuckets = []string{BucketCheckpoints, BucketLeases, BucketStarts, BucketMembers, bucketRegistry, bucketRetries}

// checkShards refuses to work on data that was created with another number of shards.
func (s *Streams) checkShards(have map[string]*jetstream.StreamInfo) error {
	want := strconv.Itoa(s.options.Shards)
	for name, info := range have {
		if got := info.Config.Metadata[metaShards]; got != "" && got != want {
			return fmt.Errorf("stream %s was created for %s shards, not %s: the number of shards is fixed when the data is created, "+
				"so set shards to %s or use another data folder", name, got, want, got)
		}
	}
	return nil
}

// defaultMaxBytes is the size of a new shard's stream.
func (s *Streams) defaultMaxBytes(ctx context.Context) (int64, error) {
	if s.options.MaxBytes > 0 {
		return max(s.options.MaxBytes, minStreamBytes), nil
	}
	size := int64(256 << 20)
	if s.options.FreeSpace != nil {
		free, _, err := s.options.FreeSpace()
		if err != nil {
			return 0, fmt.Errorf("free disk space: %w", err)
		}
		size = int64(free / 10 * 4 / uint64(s.options.Shards))
	}
	account, err := s.js.AccountInfo(ctx)
	if err != nil {
		return 0, fmt.Errorf("jetstream of the account: %w", err)
	}
	if limit := account.Limits.MaxStore; limit > 0 {
		size = min(size, (limit-int64(account.ReservedStore))/10*4/int64(s.options.Shards))
	}
	return max(size, minStreamBytes), nil
}

// sideBytes is the size of rejects and of events: a shard's share, within bounds.
func (s *Streams) sideBytes() int64 {
	size := int64(256 << 20)
	if s.options.FreeSpace != nil {
		if free, _, err := s.options.FreeSpace(); err == nil {
			size = int64(free / 50)
		}
	}
	return min(max(size, minStreamBytes), 1<<30)
}

func (s *Streams) shardStream(shard messages.Shard, size int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        messages.StreamName(shard),
		Description: "readings and commands of one shard, until they are stored",
		Subjects:    []string{"shard." + strconv.Itoa(int(shard)) + ".>"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    size,
		MaxMsgSize:  messages.MaxMessage + maxHeader/2,
		Storage:     jetstream.FileStorage,
		Replicas:    s.options.Replicas,
		Duplicates:  time.Second,
		AllowDirect: s.direct(),
		DenyDelete:  true,
		Metadata: map[string]string{
			metaShards:   strconv.Itoa(s.options.Shards),
			metaMaxBytes: strconv.FormatInt(size, 10),
		},
	}
}

func (s *Streams) sideStreams() []jetstream.StreamConfig {
	// What no mapping took, and shards that this cluster does not have.
	subjects := []string{"rejects.>", "readings.>", "batches.>", "control.>"}
	for n := s.options.Shards; n < strayShards; n++ {
		subjects = append(subjects, "shard."+strconv.Itoa(n)+".>")
	}
	rejects := jetstream.StreamConfig{
		Name:        rejectsStream,
		Description: "what could not be decoded or applied, with the reason",
		Subjects:    subjects,
		Discard:     jetstream.DiscardOld,
		MaxBytes:    cmp.Or(s.options.RejectsBytes, s.sideBytes()),
		MaxMsgs:     maxRejects,
		MaxAge:      max(s.options.RejectsAge, 0),
		Storage:     jetstream.FileStorage,
		Replicas:    s.options.Replicas,
		Duplicates:  time.Second,
		AllowDirect: true,
	}
	events := jetstream.StreamConfig{
		Name:        eventsStream,
		Description: "what devices said of themselves: online, offline, alarm",
		Subjects:    []string{"events.*.*.online", "events.*.*.offline", "events.*.*.alarm"},
		Discard:     jetstream.DiscardOld,
		MaxBytes:    s.sideBytes(),
		MaxAge:      keepAside,
		Storage:     jetstream.FileStorage,
		Replicas:    s.options.Replicas,
		Duplicates:  dedupeWindow,
		AllowDirect: true,
	}
	return []jetstream.StreamConfig{rejects, events}
}

func (s *Streams) createStream(ctx context.Context, config jetstream.StreamConfig) error {
	_, err := s.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil // another member was faster
	}
	if err != nil {
		return s.explainCreate(fmt.Sprintf("stream %s of %d bytes", config.Name, config.MaxBytes), err)
	}
	return nil
}

// direct tells whether any copy may answer what a stream holds. Where there may be, or may have been, several only the
// leader may: one that is behind, or that is to go, would say that a message or a checkpoint is not there.
func (s *Streams) direct() bool { return s.main.nc.ConnectedClusterName() == "" }

// copies gives a stream as many copies as are configured now, the matching way to answer, and its bounds.
func (s *Streams) copies(ctx context.Context, config jetstream.StreamConfig) error {
	// Rejects and events are read by people: a copy that is behind does no harm.
	direct := s.direct() || config.Name == rejectsStream || config.Name == eventsStream
	size, age := s.bounds(config)
	if config.Replicas == s.options.Replicas && config.AllowDirect == direct && config.MaxBytes == size && config.MaxAge == age {
		return nil
	}
	config.Replicas, config.AllowDirect, config.MaxBytes, config.MaxAge = s.options.Replicas, direct, size, age
	if _, err := s.js.UpdateStream(ctx, config); err != nil {
		return s.explainCreate(fmt.Sprintf("%d copies of stream %s", config.Replicas, config.Name), err)
	}
	return nil
}

// bounds are a stream's size and age as they are configured now: those of rejects, and of the marks of
// their retries, may change; all others stay.
func (s *Streams) bounds(config jetstream.StreamConfig) (size int64, age time.Duration) {
	switch config.Name {
	case rejectsStream:
		return cmp.Or(s.options.RejectsBytes, config.MaxBytes), max(s.options.RejectsAge, 0)
	case bucketStream(bucketRetries):
		return config.MaxBytes, max(s.options.RejectsAge, 0)
	}
	return config.MaxBytes, config.MaxAge
}

// bucketStream is the name of the stream that keeps a bucket.
func bucketStream(bucket string) string { return "KV_" + bucketPrefix + bucket }

func (s *Streams) createBucket(ctx context.Context, name string, exists bool) (jetstream.KeyValue, error) {
	if !exists {
		_, err := s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:   bucketPrefix + name,
			History:  1,
			Storage:  jetstream.FileStorage,
			Replicas: s.options.Replicas,
			// without it a key cannot be created with a time-to-live
			LimitMarkerTTL: time.Hour,
		})
		if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			return nil, s.explainCreate("bucket "+name, err)
		}
	}
	stream, err := s.js.Stream(ctx, bucketStream(name))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	if err := s.copies(ctx, stream.CachedInfo().Config); err != nil {
		return nil, err
	}
	kv, err := s.js.KeyValue(ctx, bucketPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return kv, nil
}
