package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Log is what a shard sees of its stream. What a server does not answer within 5 s (purges: as ctx allows) fails then: a
// question that it got while it lost the stream's lead is never answered.
type Log struct {
	streams *Streams
}

// Log gives access to the shards' streams.
func (s *Streams) Log() *Log { return &Log{streams: s} }

// State describes the shard's stream now.
func (l *Log) State(ctx context.Context, shard messages.Shard) (messages.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	name := messages.StreamName(shard)
	stream, err := l.streams.js.Stream(ctx, name)
	if err != nil {
		return messages.StreamState{}, fmt.Errorf("state of stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	state := messages.StreamState{
		Created: info.Created,
		First:   info.State.FirstSeq,
		Last:    info.State.LastSeq,
		Bytes:   info.State.Bytes,
		Limit:   uint64(max(info.Config.MaxBytes, 0)),
	}
	if info.State.Msgs == 0 {
		state.First = state.Last + 1
	}
	return state, nil
}

// Ends returns the last sequence of each shard's stream, in one question.
func (l *Log) Ends(ctx context.Context) (map[messages.Shard]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	out := make(map[messages.Shard]uint64, l.streams.options.Shards)
	byName := make(map[string]messages.Shard, l.streams.options.Shards)
	for n := range l.streams.options.Shards {
		byName[messages.StreamName(messages.Shard(n))] = messages.Shard(n)
	}
	list := l.streams.js.ListStreams(ctx)
	for info := range list.Info() {
		if shard, ok := byName[info.Config.Name]; ok {
			out[shard] = info.State.LastSeq
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look at the ends of the shards' streams: %w", err)
	}
	return out, nil
}

// Get returns one message; persistence.ErrNotFound when the stream does not hold it.
func (l *Log) Get(ctx context.Context, shard messages.Shard, sequence uint64) (messages.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	name := messages.StreamName(shard)
	stream, err := l.streams.js.Stream(ctx, name)
	if err != nil {
		return messages.Message{}, fmt.Errorf("message %d of stream %s: %w", sequence, name, err)
	}
	raw, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = persistence.ErrNotFound
	}
	if err != nil {
		return messages.Message{}, fmt.Errorf("message %d of stream %s: %w", sequence, name, err)
	}
	return messages.Message{
		Sequence: raw.Sequence,
		Arrival:  raw.Time.UnixNano(),
		Subject:  raw.Subject,
		Type:     raw.Header.Get(contentType),
		Data:     raw.Data,
	}, nil
}

// Purge removes messages up to and including upTo. It does nothing when the stream's creation time is
// not created, and never asks for more than the stream's last sequence: a purge beyond the end would
// empty the stream and lift its sequences (measured).
func (l *Log) Purge(ctx context.Context, shard messages.Shard, upTo uint64, created time.Time) error {
	name := messages.StreamName(shard)
	stream, err := l.streams.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("purge stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	upTo = min(upTo, info.State.LastSeq)
	if !info.Created.Equal(created) || upTo == 0 || upTo < info.State.FirstSeq {
		return nil
	}
	// removes what is below this sequence
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(upTo+1)); err != nil {
		return fmt.Errorf("purge stream %s up to %d: %w", name, upTo, err)
	}
	return nil
}

// Open returns a feed whose first message is the oldest with Sequence >= from. It is used by one goroutine.
func (l *Log) Open(ctx context.Context, shard messages.Shard, from uint64) (*Feed, error) {
	if int(shard) >= l.streams.options.Shards {
		return nil, fmt.Errorf("open feed: shard %d of %d: %w", shard, l.streams.options.Shards, messages.ErrInvalid)
	}
	link := l.streams.feeds[int(shard)/shardsPerConnection]
	f := newFeed(l.streams, link, messages.StreamName(shard), max(from, 1))
	if err := f.open(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("open feed of stream %s from %d: %w", f.stream, from, err)
	}
	return f, nil
}

// Fullest returns how full the fullest shard's stream is, from 0 to 1.
func (s *Streams) Fullest(ctx context.Context) (float64, error) {
	if s.options.Server != nil {
		return float64(s.options.Server.fullest(s.options.Shards)) / 100, nil
	}
	most := 0.0
	list := s.js.ListStreams(ctx, jetstream.WithStreamListSubject("shard.>"))
	for info := range list.Info() {
		if info.Config.MaxBytes > 0 && info.Config.Metadata[metaMaxBytes] != "" {
			most = max(most, float64(info.State.Bytes)/float64(info.Config.MaxBytes))
		}
	}
	if err := list.Err(); err != nil {
		return 0, fmt.Errorf("see how full the shards' streams are: %w", err)
	}
	return most, nil
}
