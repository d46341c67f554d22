package actors

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// What the owner of a shard can be asked.
const (
	askState    = "state"
	askNewest   = "newest"
	askWindow   = "window"
	askRollups  = "rollups"
	askDevices  = "devices"
	askWidths   = "widths"
	askSites    = "sites"
	askSettings = "settings"
	askStored   = "stored"
	askAudit    = "audit"
	askStats    = "stats"
	askRepair   = "repair"
)

// question is one question for one shard, as it travels to another member. Which fields it has depends on
// Kind; a member of another version leaves out what it does not know.
type question struct {
	Kind     string
	Shard    messages.Shard
	Device   messages.DeviceID // only its site, for what is asked of a site
	From, To int64
	Limit    int
	Step     messages.Step
	After    string
	Contains string
	Status   messages.Status
	Run      messages.ProducerRun
	Audit    messages.AuditQuery
}

const (
	// routePatience is how long a question waits for a shard that moves, or whose owner does not answer.
	routePatience = 5 * time.Second
	routeFirst    = 20 * time.Millisecond // before it is asked again; doubles …
	routeMost     = 250 * time.Millisecond
)

// routed asks the shard's owner: this member, by local, or another. While the shard moves, or its owner
// cannot be reached, it asks again, within routePatience. With no other members it asks once.
func routed[A any](ctx context.Context, m *Member, q question, local func(context.Context, *question) (A, error)) (A, error) {
	if m.options.Shared == nil {
		return local(ctx, &q)
	}
	within := routePatience
	if deadline, ok := ctx.Deadline(); ok { // what is left goes to the archive
		within = min(within, time.Until(deadline)/2)
	}
	patience, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for wait := routeFirst; ; wait = min(2*wait, routeMost) {
		answer, err := local(patience, &q)
		if errors.Is(err, ErrNotOwner) {
			answer, err = asked[A](patience, m, &q)
		}
		if err == nil || !passing(err) && patience.Err() == nil {
			return answer, err
		}
		select {
		case <-patience.Done():
			var none A
			if ctx.Err() != nil {
				return none, ctx.Err()
			}
			return none, fmt.Errorf("%w: shard %d did not answer within %v: %v", ErrStarting, q.Shard, within.Round(time.Millisecond), err)
		case <-time.After(wait):
		}
	}
}

// passing tells whether an error is one that goes by: the shard moves, or its owner was not reached.
func passing(err error) bool {
	return errors.Is(err, ErrNotOwner) || errors.Is(err, ErrStarting) || errors.Is(err, ErrUnreached)
}

// ErrUnreached means that the owner of a shard gave no answer.
var ErrUnreached = errors.New("the shard's owner does not answer")

// asked asks another member.
func asked[A any](ctx context.Context, m *Member, q *question) (A, error) {
	var answer A
	data, err := encode(q)
	if err != nil {
		return answer, err
	}
	if data, err = m.options.Shared.Peers.Ask(ctx, q.Shard, data); err != nil {
		return answer, err
	}
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the answer of shard %d's owner: %w", q.Shard, err)
	}
	return answer, nil
}

// gathered asks all shards the same; the answers are in their order.
func gathered[A any](ctx context.Context, m *Member, q question, local func(context.Context, *question) (A, error)) ([]A, error) {
	out := make([]A, m.cfg.Shards)
	err := m.eachShard(ctx, func(ctx context.Context, shard messages.Shard) (err error) {
		q := q
		q.Shard = shard
		out[shard], err = routed(ctx, m, q, local)
		return err
	})
	return out, err
}

// Answer answers another member's question for a shard of this one; ErrNotOwner when it is not ours.
func (m *Member) Answer(ctx context.Context, data []byte) ([]byte, error) {
	var q question
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&q); err != nil {
		return nil, fmt.Errorf("%w: read another member's question: %v", messages.ErrInvalid, err)
	}
	if int(q.Shard) >= m.cfg.Shards {
		return nil, fmt.Errorf("%w: there is no shard %d", messages.ErrInvalid, q.Shard)
	}
	switch q.Kind {
	case askState:
		return answered(ctx, &q, m.state)
	case askNewest:
		return answered(ctx, &q, m.newest)
	case askWindow:
		return answered(ctx, &q, m.window)
	case askRollups:
		return answered(ctx, &q, m.openRollups)
	case askDevices:
		return answered(ctx, &q, m.devices)
	case askWidths:
		return answered(ctx, &q, m.widths)
	case askSites:
		return answered(ctx, &q, m.sites)
	case askSettings:
		return answered(ctx, &q, m.siteSettings)
	case askStored:
		return answered(ctx, &q, m.storedOfShard)
	case askAudit:
		return answered(ctx, &q, m.auditShard)
	case askRepair:
		return answered(ctx, &q, m.repair)
	case askStats:
		return answered(ctx, &q, m.stats)
	}
	return nil, fmt.Errorf("%w: this member does not know the question %q; it is of another version", messages.ErrInvalid, q.Kind)
}

func answered[A any](ctx context.Context, q *question, local func(context.Context, *question) (A, error)) ([]byte, error) {
	answer, err := local(ctx, q)
	if err != nil {
		return nil, err
	}
	return encode(&answer)
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(v); err != nil {
		return nil, fmt.Errorf("encode for another member: %w", err)
	}
	return out.Bytes(), nil
}
