package actors

import (
	"context"
	"errors"
	"fmt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Backlog says what waits in the stream of a shard that nobody runs, by its checkpoint: how many messages up
// to the stream's last sequence, end, are not stored, and when (ms) the oldest of them arrived, 0 = there is none.
func (m *Member) Backlog(ctx context.Context, shard messages.Shard, end uint64) (lag uint64, oldest int64, err error) {
	var stored uint64 // the stream's own sequence
	data, _, err := m.parts.Checkpoints.Load(ctx, shardKey(shard))
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case err != nil:
		return 0, 0, fmt.Errorf("load the checkpoint of shard %d: %w", shard, err)
	default:
		k, err := DecodeCheckpoint(data)
		if err != nil {
			return 0, 0, err
		}
		stored = k.Stored - k.Offset
	}
	if end <= stored {
		return 0, 0, nil
	}
	msg, err := m.parts.Log.Get(ctx, shard, stored+1)
	switch {
	case errors.Is(err, persistence.ErrNotFound): // the start will find a hole
	case err != nil:
		return 0, 0, fmt.Errorf("look at the oldest message of shard %d: %w", shard, err)
	default:
		oldest = millis(msg.Arrival)
	}
	return end - stored, oldest, nil
}
