package apitest

import (
	"context"
	"fmt"
	"sync"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/messages"
)

// Rejects implements api.Rejects. All methods may be called by many goroutines.
type Rejects struct {
	mu   sync.Mutex
	list []messages.KeptReject // ID = place, from 1

	// Fail, when it is set, is what every call answers.
	Fail error
	// Sent are the payloads that were retried; nil for an original.
	Sent [][]byte
	// Types are their content types.
	Types []string
}

// Add keeps a reject.
func (r *Rejects) Add(rejects ...messages.Reject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reject := range rejects {
		r.list = append(r.list, messages.KeptReject{Reject: reject, ID: uint64(len(r.list)) + 1})
	}
}

// List implements api.Rejects.
func (r *Rejects) List(_ context.Context, q api.RejectQuery) (api.RejectList, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := api.RejectList{Newest: uint64(len(r.list)), Kept: uint64(len(r.list))}
	for _, k := range r.list {
		if k.ID <= q.After || !k.Matches(q.Reason) || q.Site != "" && k.Device.Site != q.Site || k.Retried != nil && !q.Retried {
			continue
		}
		if len(out.Rejects) == q.Limit {
			out.Next = out.Rejects[q.Limit-1].ID
			break
		}
		out.Rejects = append(out.Rejects, k)
	}
	return out, r.Fail
}

// Get implements api.Rejects.
func (r *Rejects) Get(_ context.Context, id uint64) (messages.KeptReject, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Fail != nil {
		return messages.KeptReject{}, r.Fail
	}
	if id < 1 || id > uint64(len(r.list)) {
		return messages.KeptReject{}, fmt.Errorf("reject %d: %w", id, api.ErrNotFound)
	}
	return r.list[id-1], nil
}

// Retry implements api.Rejects.
func (r *Rejects) Retry(ctx context.Context, id uint64, repaired []byte, contentType string, _ bool) (messages.RejectRetry, bool, error) {
	k, err := r.Get(ctx, id)
	if err != nil || k.Retried != nil {
		if k.Retried != nil {
			return *k.Retried, true, nil
		}
		return messages.RejectRetry{}, false, err
	}
	subject, _, _, err := k.Retry(64, repaired, contentType)
	if err != nil {
		return messages.RejectRetry{}, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Sent, r.Types = append(r.Sent, repaired), append(r.Types, contentType)
	done := messages.RejectRetry{At: k.Arrival, Subject: subject, Sequence: uint64(len(r.Sent)), Repaired: repaired != nil}
	r.list[id-1].Retried = &done
	return done, false, nil
}
