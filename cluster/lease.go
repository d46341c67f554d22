// Package cluster says which members there are, which shard each of them should own, and which it does
// own: the lease on the shard. A lease tells who works; that an owner from before can do no harm is
// proven at the stores, by epoch and compare-and-set.
package cluster

import (
	"encoding/json"
	"fmt"

	"github.com/wellhead/wellhead/messages"
)

// Lease is a member's right to a shard, as the key-value store keeps it under LeaseKey. It has no
// time-to-live: it holds until another member claims the shard by compare-and-set, which is safe at any time.
// The revision of a claim is part of the shard's epoch.
type Lease struct {
	Member  string `json:"member"`            // the owner's id; empty = released, nobody owns the shard
	Address string `json:"address,omitempty"` // where the owner's actors are reached, host:port; may be empty with one member
	// Of a released one:
	Paused  int64  `json:"paused,omitempty"`  // Unix ms when its owner stopped pulling
	Applied uint64 `json:"applied,omitempty"` // logical sequence that its devices have reached, when not all of that is snapshotted
}

// LeaseKey is the key of a shard's lease.
func LeaseKey(shard messages.Shard) string { return fmt.Sprintf("shard.%d", shard) }

// Encode returns the lease as the store keeps it.
func (l Lease) Encode() ([]byte, error) {
	data, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode lease: %w", err)
	}
	return data, nil
}

// DecodeLease reads what Encode wrote.
func DecodeLease(data []byte) (Lease, error) {
	var l Lease
	if err := json.Unmarshal(data, &l); err != nil {
		return Lease{}, fmt.Errorf("decode lease: %w", err)
	}
	return l, nil
}
