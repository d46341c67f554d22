package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/persistence"
)

// Keys are the values of a bucket as a cluster's members see them: they may end, and they are listed and
// watched.
type Keys struct {
	*Cells
	js jetstream.JetStream
}

// Keys returns the values of a bucket: BucketMembers or BucketLeases.
func (s *Streams) Keys(bucket string) (*Keys, error) {
	cells, err := s.Cells(bucket)
	if err != nil {
		return nil, err
	}
	return &Keys{Cells: cells, js: s.js}, nil
}

// Save implements cluster.Store. The library's own updates cannot say how long a key lives, and would make
// it live for ever (measured), so a key with an end is published as the server keeps it.
func (k *Keys) Save(ctx context.Context, key string, data []byte, revision uint64, ttl time.Duration) (uint64, error) {
	if ttl == 0 {
		revision, err := k.Cells.Save(ctx, key, data, revision)
		return revision, keyError(err)
	}
	var err error
	if revision == 0 {
		revision, err = k.kv.Create(ctx, key, data, jetstream.KeyTTL(ttl))
	} else {
		m := &nats.Msg{Subject: "$KV." + k.kv.Bucket() + "." + key, Data: data, Header: nats.Header{}}
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
		var ack *jetstream.PubAck
		if ack, err = k.js.PublishMsg(ctx, m, jetstream.WithMsgTTL(ttl)); err == nil {
			revision = ack.Sequence
		}
	}
	if err != nil {
		return 0, fmt.Errorf("save %s of %s: %w", key, k.bucket, keyError(cellError(err)))
	}
	return revision, nil
}

// Delete implements cluster.Store.
func (k *Keys) Delete(ctx context.Context, key string, revision uint64) error {
	return keyError(k.Cells.Delete(ctx, key, revision))
}

// keyError has a conflict be cluster's too.
func keyError(err error) error {
	if errors.Is(err, persistence.ErrConflict) {
		return fmt.Errorf("%w (%w)", cluster.ErrConflict, err)
	}
	return err
}

// All implements cluster.Store.
func (k *Keys) All(ctx context.Context) ([]cluster.Entry, error) {
	watcher, err := k.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.bucket, err)
	}
	defer func() { _ = watcher.Stop() }() // ends by itself with the connection
	var out []cluster.Entry
	for {
		select {
		case update, ok := <-watcher.Updates():
			switch {
			case !ok:
				return nil, fmt.Errorf("list %s: %w", k.bucket, ErrClosed)
			case update == nil: // all that there was
				return out, nil
			}
			out = append(out, cluster.Entry{Key: update.Key(), Value: update.Value(), Revision: update.Revision()})
		case <-ctx.Done():
			return nil, fmt.Errorf("list %s: %w", k.bucket, ctx.Err())
		}
	}
}

// watchAgain is how long a watch that failed waits. Members read the bucket each second besides.
const watchAgain = time.Second

// Watch implements cluster.Store.
func (k *Keys) Watch(ctx context.Context, changed func(cluster.Entry)) {
	for ctx.Err() == nil {
		k.watch(ctx, changed)
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

func (k *Keys) watch(ctx context.Context, changed func(cluster.Entry)) {
	watcher, err := k.kv.WatchAll(ctx, jetstream.UpdatesOnly())
	if err != nil {
		return
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case update, ok := <-watcher.Updates():
			switch {
			case !ok:
				return
			case update == nil: // all that there was: nothing, here
				continue
			}
			entry := cluster.Entry{Key: update.Key(), Revision: update.Revision()}
			if update.Operation() == jetstream.KeyValuePut {
				entry.Value = update.Value()
			}
			changed(entry)
		case <-ctx.Done():
			return
		}
	}
}

var _ cluster.Store = (*Keys)(nil)
