package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/wellhead/wellhead/messages"
)

// ErrNoMember means that no member has that name.
var ErrNoMember = errors.New("no such member")

// SetDrained takes all shards from the member of that name, or lets it have some again. It holds over
// restarts of the member.
func (m *Membership) SetDrained(ctx context.Context, name string, drained bool) error {
	if drained && !m.knows(name) {
		return fmt.Errorf("%w: %q", ErrNoMember, name)
	}
	if err := m.order(ctx, drainPrefix+name, "yes", drained); err != nil {
		return fmt.Errorf("drain %s: %w", name, err)
	}
	return nil
}

// Pin moves a shard to the member of that name and keeps it there as long as that member takes shards and the
// balance allows; with an empty name it goes by the balance alone again.
func (m *Membership) Pin(ctx context.Context, shard messages.Shard, name string) error {
	if int(shard) >= m.o.Shards {
		return fmt.Errorf("%w: there is no shard %d; they go from 0 to %d", ErrInvalid, shard, m.o.Shards-1)
	}
	if name != "" && !m.knows(name) {
		return fmt.Errorf("%w: %q", ErrNoMember, name)
	}
	if err := m.order(ctx, pinPrefix+strconv.Itoa(int(shard)), name, name != ""); err != nil {
		return fmt.Errorf("move shard %d: %w", shard, err)
	}
	return nil
}

func (m *Membership) knows(name string) bool {
	return slices.ContainsFunc(m.View().Members, func(s Seen) bool { return s.Name == name })
}

// order sets a key without an end, or removes it.
func (m *Membership) order(ctx context.Context, key, value string, there bool) error {
	entries, err := m.o.Members.All(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == key })
	var revision uint64
	if i >= 0 {
		revision = entries[i].Revision
	}
	switch {
	case there:
		_, err = m.o.Members.Save(ctx, key, []byte(value), revision, 0)
	case i >= 0:
		err = m.o.Members.Delete(ctx, key, revision)
	}
	return err
}
