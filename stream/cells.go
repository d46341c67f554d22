package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/persistence"
)

// Cells are small values under compare-and-set, in one bucket. A key has characters of
// [A-Za-z0-9/_=.-] and neither begins nor ends with a dot. What is not answered within 5 s fails then, whatever ctx allows:
// a question that a server got while it lost the bucket's lead is never answered. Of a Save nobody knows then whether it
// was done.
type Cells struct {
	bucket string
	kv     jetstream.KeyValue
}

// Cells returns the values of a bucket: BucketCheckpoints, BucketLeases or BucketStarts.
func (s *Streams) Cells(bucket string) (*Cells, error) {
	kv := s.buckets[bucket]
	if kv == nil {
		return nil, fmt.Errorf("bucket %q: %w", bucket, persistence.ErrNotFound)
	}
	return &Cells{bucket: bucket, kv: kv}, nil
}

// Load returns the value and its revision; persistence.ErrNotFound when there is none.
func (c *Cells) Load(ctx context.Context, key string) ([]byte, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	entry, err := c.kv.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("load %s of %s: %w", key, c.bucket, cellError(err))
	}
	return entry.Value(), entry.Revision(), nil
}

// Save replaces the value at that revision (0 = create) and returns the new revision;
// persistence.ErrConflict when it has another.
func (c *Cells) Save(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	var err error
	if revision == 0 {
		revision, err = c.kv.Create(ctx, key, data)
	} else {
		revision, err = c.kv.Update(ctx, key, data, revision)
	}
	if err != nil {
		return 0, fmt.Errorf("save %s of %s: %w", key, c.bucket, cellError(err))
	}
	return revision, nil
}

// Delete removes the value at that revision; persistence.ErrConflict when it has another.
func (c *Cells) Delete(ctx context.Context, key string, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if err := c.kv.Delete(ctx, key, jetstream.LastRevision(revision)); err != nil {
		return fmt.Errorf("delete %s of %s: %w", key, c.bucket, cellError(err))
	}
	return nil
}

// cellError translates the library's errors to ours.
func cellError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%w (%w)", persistence.ErrNotFound, err)
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("%w (%w)", persistence.ErrConflict, err)
	case errors.As(err, &api) && (api.ErrorCode == 10071 || api.ErrorCode == 10164):
		return fmt.Errorf("%w (%w)", persistence.ErrConflict, err)
	}
	return err
}
