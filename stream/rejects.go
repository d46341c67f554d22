package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Headers of a reject.
const (
	headerReason   = "Wellhead-Reason"
	headerKind     = "Wellhead-Kind"     // the reason in a word
	headerOrigin   = "Wellhead-Origin"   // subject it was published to, mapped
	headerSite     = "Wellhead-Site"     // may be missing
	headerDevice   = "Wellhead-Device"   // may be missing
	headerShard    = "Wellhead-Shard"    // number
	headerSequence = "Wellhead-Sequence" // stream sequence
	headerIndex    = "Wellhead-Index"    // reading in the message, -1 = all of it
	headerArrival  = "Wellhead-Arrival"  // Unix ms
)

// Reject keeps these in rejects; nil only when all are acknowledged there. A repeat with the same
// shard, sequence and index is kept once: its subject exists already.
func (o *Outside) Reject(ctx context.Context, rejects []messages.Reject) error {
	list := make([]outgoing, len(rejects))
	for i := range rejects {
		list[i] = rejectMessage(&rejects[i])
	}
	for _, err := range o.streams.out.deliverAll(ctx, list) {
		if err != nil && !errors.Is(err, errWrongSequence) {
			return fmt.Errorf("keep a reject: %w", err)
		}
	}
	return nil
}

// rejectMessage encodes a reject.
func rejectMessage(r *messages.Reject) outgoing {
	id := fmt.Sprintf("%d-%d-%d", r.Shard, r.Sequence, r.Index)
	site := r.Device.Site
	if messages.CheckName("site", site) != nil {
		site = "_"
	}
	h := nats.Header{
		jetstream.MsgIDHeader:               {id},
		jetstream.ExpectedLastSubjSeqHeader: {"0"},
		headerReason:                        {headerText(r.Reason)},
		headerKind:                          {r.Kind.String()},
		headerOrigin:                        {headerText(r.Subject)},
		headerShard:                         {strconv.Itoa(int(r.Shard))},
		headerSequence:                      {strconv.FormatUint(r.Sequence, 10)},
		headerIndex:                         {strconv.Itoa(r.Index)},
		headerArrival:                       {strconv.FormatInt(r.Arrival, 10)},
	}
	if r.Device.Site != "" {
		h[headerSite] = []string{headerText(r.Device.Site)}
	}
	if r.Device.Device != "" {
		h[headerDevice] = []string{headerText(r.Device.Device)}
	}
	if r.Type != "" {
		h[contentType] = []string{headerText(r.Type)}
	}
	return outgoing{
		subject: fmt.Sprintf("rejects.%s.%d.%d.%d", site, r.Shard, r.Sequence, r.Index),
		header:  h,
		data:    r.Data,
	}
}

// headerText makes any text fit into one header line: what does not is encoded. At most 1 KiB.
func headerText(s string) string {
	if len(s) > 1024 {
		s = s[:1024]
	}
	if strings.ContainsAny(s, "\r\n") || strings.TrimSpace(s) != s || strings.HasPrefix(s, "base64:") {
		return "base64:" + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return s
}

// headerValue is the inverse of headerText.
func headerValue(s string) string {
	if encoded, ok := strings.CutPrefix(s, "base64:"); ok {
		if b, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return string(b)
		}
	}
	return s
}

// RejectsState describes the stream of rejects.
type RejectsState struct {
	Kept, Bytes uint64
	Lost        uint64 // dropped since the stream was created, because of its bounds or by hand
}

// RejectsState tells how many rejects there are, and how many were lost.
func (s *Streams) RejectsState(ctx context.Context) (RejectsState, error) {
	stream, err := s.js.Stream(ctx, rejectsStream)
	if err != nil {
		return RejectsState{}, fmt.Errorf("state of rejects: %w", err)
	}
	state := stream.CachedInfo().State
	return RejectsState{Kept: state.Msgs, Bytes: state.Bytes, Lost: state.LastSeq - state.Msgs}, nil
}

// RejectQuery chooses rejects.
type RejectQuery struct {
	Site    string // empty = all, and what no shard takes
	Reason  string // the reason's kind, or words in it; empty = all
	Retried bool   // also those that were retried
	After   uint64 // only those with a higher ID
	Limit   int    // most rejects, from 1
}

// RejectList is a page of rejects.
type RejectList struct {
	Rejects []messages.KeptReject
	Next    uint64 // ID to go on after, 0 = these are all; a page may be short, or empty, and not be the last
	Newest  uint64 // highest ID given so far
	Kept    uint64 // all that there are
	Lost    uint64 // dropped since the stream was created
}

// lookedAt bounds how many rejects one call of Rejects looks at: reading them takes time.
const lookedAt = 5000

// Rejects lists rejects, oldest first.
func (s *Streams) Rejects(ctx context.Context, q RejectQuery) (list RejectList, err error) {
	filter := ">"
	if q.Site != "" {
		if err := messages.CheckName("site", q.Site); err != nil {
			return list, err
		}
		filter = "rejects." + q.Site + ".>"
	}
	stream, err := s.js.Stream(ctx, rejectsStream)
	if err != nil {
		return list, fmt.Errorf("list rejects: %w", err)
	}
	after, created := q.After, stream.CachedInfo().Created
	state := stream.CachedInfo().State
	list.Newest, list.Kept, list.Lost = state.LastSeq, state.Msgs, state.LastSeq-state.Msgs
	for range lookedAt {
		raw, err := stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("list rejects after %d: %w", after, err)
		}
		if len(list.Rejects) == q.Limit {
			list.Next = after
			return list, nil
		}
		after = raw.Sequence
		r := keptReject(raw)
		if !r.Matches(q.Reason) {
			continue
		}
		mark, _, err := s.retryMark(ctx, retryKey(created, r.ID))
		if err != nil {
			return list, err
		}
		// one that was broken off may not have arrived: it stays in sight
		if r.Retried = mark.told(); r.Retried == nil || r.Retried.Sequence == 0 || q.Retried {
			list.Rejects = append(list.Rejects, r)
		}
	}
	list.Next = after
	return list, nil
}

// RejectByID returns one reject; persistence.ErrNotFound when there is none, or no more.
func (s *Streams) RejectByID(ctx context.Context, id uint64) (messages.KeptReject, error) {
	r, key, err := s.reject(ctx, id)
	if err != nil {
		return r, err
	}
	mark, _, err := s.retryMark(ctx, key)
	r.Retried = mark.told()
	return r, err
}

// reject returns a reject and the key of its mark.
func (s *Streams) reject(ctx context.Context, id uint64) (messages.KeptReject, string, error) {
	if id == 0 {
		return messages.KeptReject{}, "", fmt.Errorf("reject 0: %w: they are counted from 1", persistence.ErrNotFound)
	}
	stream, err := s.js.Stream(ctx, rejectsStream)
	if err != nil {
		return messages.KeptReject{}, "", fmt.Errorf("reject %d: %w", id, err)
	}
	raw, err := stream.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = fmt.Errorf("%w (%w)", persistence.ErrNotFound, err)
	}
	if err != nil {
		return messages.KeptReject{}, "", fmt.Errorf("reject %d: %w", id, err)
	}
	return keptReject(raw), retryKey(stream.CachedInfo().Created, id), nil
}

// keptReject decodes a reject. What came without our headers is what no shard takes.
func keptReject(raw *jetstream.RawStreamMsg) messages.KeptReject {
	h := raw.Header
	r := messages.KeptReject{ID: raw.Sequence}
	r.Data, r.Type = raw.Data, headerValue(h.Get(contentType))
	if h.Get(headerReason) == "" {
		r.Subject, r.Arrival, r.Index, r.Kind = raw.Subject, raw.Time.UnixMilli(), -1, messages.RejectStray
		r.Reason = "no shard takes this subject: readings.{site}.{device}, or batches.{site}.{shard} with a shard that this cluster has"
		return r
	}
	// Written by rejectMessage: the numbers can be read.
	shard, _ := strconv.ParseUint(h.Get(headerShard), 10, 16)
	r.Shard = messages.Shard(shard)
	r.Sequence, _ = strconv.ParseUint(h.Get(headerSequence), 10, 64)
	r.Index, _ = strconv.Atoi(h.Get(headerIndex))
	r.Arrival, _ = strconv.ParseInt(h.Get(headerArrival), 10, 64)
	r.Kind, _ = messages.ParseRejectKind(h.Get(headerKind))
	r.Subject, r.Reason = headerValue(h.Get(headerOrigin)), headerValue(h.Get(headerReason))
	r.Device = messages.DeviceID{Site: headerValue(h.Get(headerSite)), Device: headerValue(h.Get(headerDevice))}
	return r
}
