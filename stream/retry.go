package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// retryWait bounds how long a retry waits for its acknowledgement.
	retryWait = 5 * time.Second
	// retryAlone is how long a retry that was begun is left alone: longer than it may take.
	retryAlone = retryWait + time.Second
	// retryLooks bounds how many messages are looked at for one that may have arrived.
	retryLooks = 10_000
)

var (
	// ErrBusy means that another retry of the same reject is under way.
	ErrBusy = errors.New("another retry of it is under way")
	// ErrUnsure means that nobody knows any more whether an earlier retry of a command arrived.
	ErrUnsure = errors.New("an earlier retry was broken off, and whether it arrived cannot be told any more")
)

// retryMark is what the bucket of retries keeps of one reject.
type retryMark struct {
	At       time.Time `json:"at"`
	Subject  string    `json:"subject"`
	After    uint64    `json:"after"`              // last stream sequence of the shard's stream before
	Stream   time.Time `json:"stream"`             // when that stream was created
	Sequence uint64    `json:"sequence,omitempty"` // what it got there; 0 = not known
	Repaired bool      `json:"repaired,omitempty"`
}

// told is the mark as answers give it; nil for nil.
func (m *retryMark) told() *messages.RejectRetry {
	if m == nil {
		return nil
	}
	return &messages.RejectRetry{At: m.At.UnixMilli(), Subject: m.Subject, Sequence: m.Sequence, Repaired: m.Repaired}
}

// retryKey names a reject in the bucket of retries, and is the message id of its retry. A stream of
// rejects that is created anew gives its IDs out again, so its creation is part of it.
func retryKey(created time.Time, id uint64) string {
	return strconv.FormatInt(created.UnixNano(), 36) + "." + strconv.FormatUint(id, 10)
}

// retryMark returns a reject's mark with its revision; nil and 0 when it was never retried.
func (s *Streams) retryMark(ctx context.Context, key string) (*retryMark, uint64, error) {
	entry, err := s.buckets[bucketRetries].Get(ctx, key)
	if err = cellError(err); errors.Is(err, persistence.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("look whether a reject was retried: %w", err)
	}
	var m retryMark
	if err := json.Unmarshal(entry.Value(), &m); err != nil {
		return nil, 0, fmt.Errorf("look whether a reject was retried: %w", err)
	}
	return &m, entry.Revision(), nil
}

// RetryReject publishes a reject again, where it came from and acknowledged: the original payload or, when
// it is not nil, the repaired one; and marks it as retried. One that was is not published again: it is
// told so. One that was broken off is looked for; if nobody can tell any more whether it arrived, readings
// are sent again, which then replace themselves, and a command only with force.
//
// Errors: persistence.ErrNotFound; messages.ErrInvalid; ErrBusy; ErrUnsure; ErrOverloaded: the stream does
// not take it now. After any other it is not known whether it arrived, and the next retry finds out.
func (s *Streams) RetryReject(ctx context.Context, id uint64, repaired []byte, contentType string, force bool) (done messages.RejectRetry, again bool, err error) {
	r, key, err := s.reject(ctx, id)
	if err != nil {
		return done, false, err
	}
	subject, data, newType, err := r.Retry(s.options.Shards, repaired, contentType)
	if err != nil {
		return done, false, err
	}
	mark, revision, err := s.beginRetry(ctx, key, subject, repaired != nil, force)
	if err != nil {
		return done, false, err
	}
	if mark.Sequence > 0 {
		return *mark.told(), true, nil
	}
	if mark.Sequence, err = s.publishRetry(ctx, key, subject, newType, data); err != nil {
		return done, false, fmt.Errorf("retry reject %d: %w", id, err)
	}
	if err := s.saveRetry(ctx, key, mark, &revision); err != nil {
		return done, false, fmt.Errorf("reject %d was retried, and cannot be marked so: %w", id, err)
	}
	return *mark.told(), false, nil
}

// beginRetry marks a retry as begun. A mark that has a sequence says that it was done before.
func (s *Streams) beginRetry(ctx context.Context, key, subject string, repaired, force bool) (*retryMark, uint64, error) {
	mark, revision, err := s.retryMark(ctx, key)
	if err != nil || mark != nil && mark.Sequence > 0 {
		return mark, revision, err
	}
	if mark != nil && time.Since(mark.At) < retryAlone {
		return nil, 0, ErrBusy
	}
	if mark != nil {
		mark.Sequence, err = s.findRetry(ctx, key, mark)
		if err == nil && mark.Sequence > 0 {
			return mark, revision, s.saveRetry(ctx, key, mark, &revision)
		}
		if err != nil && (!errors.Is(err, ErrUnsure) || !force && isCommand(subject)) {
			return nil, 0, err
		}
	}
	stream, err := s.streamOf(ctx, subject)
	if err != nil {
		return nil, 0, err
	}
	info := stream.CachedInfo()
	mark = &retryMark{At: time.Now().UTC(), Subject: subject, After: info.State.LastSeq, Stream: info.Created, Repaired: repaired}
	err = s.saveRetry(ctx, key, mark, &revision)
	if errors.Is(err, persistence.ErrConflict) {
		err = ErrBusy
	}
	return mark, revision, err
}

// isCommand tells readings from commands. Readings that come twice replace themselves; a command that
// comes twice may take away what came between.
func isCommand(subject string) bool {
	parsed, err := messages.ParseShardSubject(subject)
	return err != nil || parsed.Kind == messages.KindControl || parsed.Kind == messages.KindSiteControl
}

// saveRetry writes the mark over the one of that revision.
func (s *Streams) saveRetry(ctx context.Context, key string, mark *retryMark, revision *uint64) error {
	data, err := json.Marshal(mark)
	if err != nil {
		panic(err) // times, numbers and text
	}
	cells := Cells{bucket: bucketRetries, kv: s.buckets[bucketRetries]}
	*revision, err = cells.Save(ctx, key, data, *revision)
	return err
}

// streamOf returns the shard's stream that a mapped subject belongs to.
func (s *Streams) streamOf(ctx context.Context, subject string) (jetstream.Stream, error) {
	parsed, err := messages.ParseShardSubject(subject)
	if err != nil {
		return nil, err
	}
	stream, err := s.js.Stream(ctx, messages.StreamName(parsed.Shard))
	if err != nil {
		return nil, fmt.Errorf("stream of %s: %w", subject, err)
	}
	return stream, nil
}

// findRetry looks for a message that may have arrived; 0 when it certainly has not.
func (s *Streams) findRetry(ctx context.Context, key string, mark *retryMark) (uint64, error) {
	stream, err := s.streamOf(ctx, mark.Subject)
	if err != nil {
		return 0, err
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(mark.Stream) {
		return 0, ErrUnsure
	}
	for next, looks := mark.After+1, 0; ; looks++ {
		if looks == retryLooks {
			return 0, ErrUnsure
		}
		raw, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(mark.Subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("look for an earlier retry: %w", err)
		}
		if raw.Header.Get(jetstream.MsgIDHeader) == key {
			return raw.Sequence, nil
		}
		next = raw.Sequence + 1
	}
	if info.State.FirstSeq > mark.After+1 && info.State.LastSeq > mark.After {
		return 0, ErrUnsure // it may have been purged
	}
	return 0, nil
}

// publishRetry publishes once and returns the stream sequence that it was acknowledged with.
func (s *Streams) publishRetry(ctx context.Context, id, subject, contentTyp string, data []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, retryWait)
	defer cancel()
	header := nats.Header{jetstream.MsgIDHeader: {id}}
	if contentTyp != "" {
		header.Set(contentType, contentTyp)
	}
	answer, err := s.main.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: header, Data: data})
	if errors.Is(err, nats.ErrNoResponders) {
		return 0, fmt.Errorf("publish to %s: %w", subject, ErrOverloaded)
	}
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", subject, err)
	}
	var ack struct {
		Seq   uint64          `json:"seq"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err == nil && ack.Error == nil && ack.Seq > 0 {
		return ack.Seq, nil
	}
	verdict, err := judge(answer)
	if verdict == notTaken {
		err = ErrOverloaded
	}
	return 0, fmt.Errorf("publish to %s: %w", subject, err)
}
