package simulate

import (
	"context"
	"fmt"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/messages"
)

// Publisher takes batches to the stream.
type Publisher interface {
	// Publish must not keep blocks, nor anything in them, after the return.
	Publish(ctx context.Context, site string, shard messages.Shard, blocks []messages.Block) error
	// Flush returns when everything published is acknowledged.
	Flush(ctx context.Context) error
}

// Publish publishes all that the fleet has to say, at a pace, and returns when it is acknowledged.
// progress is called after each batch with the number of its readings; nil = nobody wants to know.
func (f *Fleet) Publish(ctx context.Context, shards int, p *pace.Pace, to Publisher, progress func(readings int)) error {
	err := f.Batches(ctx, shards, func(b *Batch) error {
		if err := p.Wait(ctx, b.Due); err != nil {
			return err
		}
		if b.Barrier {
			if err := to.Flush(ctx); err != nil {
				return err
			}
		}
		if err := to.Publish(ctx, f.options.Site, b.Shard, b.Blocks); err != nil {
			return fmt.Errorf("publish to shard %d: %w", b.Shard, err)
		}
		p.Sent(b.Readings)
		if progress != nil {
			progress(b.Readings)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return to.Flush(ctx)
}
