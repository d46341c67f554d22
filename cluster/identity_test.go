package cluster

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
)

// find has a member look for the cluster in a bucket, and reads what the bucket has of the identity.
func find(t *testing.T, bucket *memory, o Options) (*Membership, Identity, error) {
	t.Helper()
	var never atomic.Bool
	o.Name, o.Shards, o.Members, o.Leases, o.Logger = "m", 8, handle{bucket, &never}, handle{newMemory(), &never}, slog.New(slog.DiscardHandler)
	m, err := Find(t.Context(), o)
	entries, readErr := o.Members.All(t.Context())
	if readErr != nil {
		t.Fatal(readErr)
	}
	var kept Identity
	for _, e := range entries {
		if e.Key == clusterKey {
			if err := json.Unmarshal(e.Value, &kept); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m, kept, err
}

// TestSecret: who can read the bucket, and does not know the cluster's secret, gets no key and is told what to do.
func TestSecret(t *testing.T) {
	const secret = "known to members"
	bucket := newMemory()
	first, kept, err := find(t, bucket, Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Cluster().tls(); err != nil {
		t.Errorf("the first member: %v", err)
	}
	if kept.Key != "" || kept.ID == "" {
		t.Errorf("the bucket has the key, or nothing: %+v", kept)
	}
	second, _, err := find(t, bucket, Options{Secret: secret, Cluster: kept.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Cluster().tls(); err != nil || second.Cluster().Key != first.Cluster().Key {
		t.Errorf("the second member: %v", err)
	}
	for want, o := range map[string]Options{
		"cluster token":          {},
		"the secret is not that": {Secret: "known to nobody!"},
		"belongs to cluster x":   {Secret: secret, Cluster: "x"},
	} {
		if _, _, err := find(t, bucket, o); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want a refusal with %q", o, err, want)
		}
	}
	open := newMemory()
	if _, kept, err := find(t, open, Options{}); err != nil || kept.Key == "" {
		t.Errorf("a cluster without a secret: %v", err)
	}
	if _, _, err := find(t, open, Options{Secret: secret}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "without a secret") {
		t.Errorf("a secret where there is none: got %v", err)
	}
}

// TestOtherProtocol: a version that cannot share shards with the others is refused.
func TestOtherProtocol(t *testing.T) {
	bucket := newMemory()
	_, kept, err := find(t, bucket, Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept.Protocol++
	data, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	var never atomic.Bool
	store := handle{bucket, &never}
	entries, err := store.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(t.Context(), clusterKey, data, entries[0].Revision, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := find(t, bucket, Options{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "speak protocol 2 and this version speaks 1") {
		t.Errorf("got %v, want a refusal that names both protocols", err)
	}
}
