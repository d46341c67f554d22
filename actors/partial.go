package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// ErrPartial comes with an answer that the archive gave, because the device could not be asked in time.
var ErrPartial = errors.New("the device could not be asked: this is from the archive only")

// mayBePartial tells whether the archive is to answer for a device of another member, or of a shard that
// moves: its owner was not reached in time.
func (m *Member) mayBePartial(err error) bool {
	return m.options.Shared != nil && (errors.Is(err, ErrStarting) || errors.Is(err, ErrUnreached))
}

// partialState is a device's newest reading in the archive; with cause when it has none.
func (m *Member) partialState(ctx context.Context, q *question, cause error) (messages.State, error) {
	newest, err := m.Readings(ctx, q.Device, maxTime, minTime, 1)
	if err != nil || len(newest) == 0 {
		return messages.State{}, errors.Join(cause, err)
	}
	return messages.State{
		Device: q.Device, Shard: q.Shard, Sequence: newest[0].Sequence, Status: messages.StatusUnknown,
		HasReading: true, Newest: newest[0].Time, Latest: newest[0], Settings: m.cfg.Fleet, Partial: true,
	}, nil
}

// partialWindow is what the archive has of a window of the fleet's size.
func (m *Member) partialWindow(ctx context.Context, q *question, cause error) ([]messages.Sample, error) {
	newest, err := m.Readings(ctx, q.Device, maxTime, minTime, m.cfg.Fleet.WindowCount)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	from, to := min(q.From, q.To), max(q.From, q.To)
	newest = slices.DeleteFunc(newest, func(s messages.Sample) bool { return s.Time < from || s.Time > to })
	if q.From <= q.To {
		slices.Reverse(newest)
	}
	if q.Limit > 0 {
		newest = newest[:min(len(newest), q.Limit)]
	}
	return newest, fmt.Errorf("%w: %v", ErrPartial, cause)
}
