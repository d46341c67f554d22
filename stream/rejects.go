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
)

// Headers of a reject.
const (
	headerReason   = "Wellhead-Reason"
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
	results := make(chan error, len(rejects))
	sent := 0
	var first error
	for i := range rejects {
		m := rejectMessage(&rejects[i])
		m.done = func(err error) { results <- err }
		if err := o.streams.out.send(ctx, m); err != nil {
			first = fmt.Errorf("keep a reject: %w", err)
			break
		}
		sent++
	}
	for range sent {
		select {
		case err := <-results:
			if err != nil && !errors.Is(err, errWrongSequence) && first == nil {
				first = fmt.Errorf("keep a reject: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("keep a reject: %w", ctx.Err())
		}
	}
	return first
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

// KeptReject is a reject with its place in the stream of rejects.
type KeptReject struct {
	messages.Reject
	Position uint64 // to go on after it
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

// Rejects lists at most limit rejects after a position, 0 = from the oldest; of one site, or of all
// with what no shard takes.
func (s *Streams) Rejects(ctx context.Context, site string, after uint64, limit int) ([]KeptReject, error) {
	filter := ">"
	if site != "" {
		if err := messages.CheckName("site", site); err != nil {
			return nil, err
		}
		filter = "rejects." + site + ".>"
	}
	stream, err := s.js.Stream(ctx, rejectsStream)
	if err != nil {
		return nil, fmt.Errorf("list rejects: %w", err)
	}
	var out []KeptReject
	for len(out) < limit {
		raw, err := stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list rejects after %d: %w", after, err)
		}
		after = raw.Sequence
		out = append(out, keptReject(raw))
	}
	return out, nil
}

// keptReject decodes a reject. What came without our headers is what no shard takes.
func keptReject(raw *jetstream.RawStreamMsg) KeptReject {
	h := raw.Header
	r := KeptReject{Position: raw.Sequence}
	r.Data, r.Type = raw.Data, headerValue(h.Get(contentType))
	if h.Get(headerReason) == "" {
		r.Subject, r.Arrival, r.Index = raw.Subject, raw.Time.UnixMilli(), -1
		r.Reason = "no shard takes this subject: readings.{site}.{device}, or batches.{site}.{shard} with a shard that this cluster has"
		return r
	}
	// Written by rejectMessage: the numbers can be read.
	shard, _ := strconv.ParseUint(h.Get(headerShard), 10, 16)
	r.Shard = messages.Shard(shard)
	r.Sequence, _ = strconv.ParseUint(h.Get(headerSequence), 10, 64)
	r.Index, _ = strconv.Atoi(h.Get(headerIndex))
	r.Arrival, _ = strconv.ParseInt(h.Get(headerArrival), 10, 64)
	r.Subject, r.Reason = headerValue(h.Get(headerOrigin)), headerValue(h.Get(headerReason))
	r.Device = messages.DeviceID{Site: headerValue(h.Get(headerSite)), Device: headerValue(h.Get(headerDevice))}
	return r
}
