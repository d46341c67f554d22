package stream

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

func testRegistry(t *testing.T, r persistence.Registry) {
	ctx := shortly(t)
	if _, err := r.Get(ctx, "sites", "a"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("get what is not there: got %v", err)
	}
	first, err := r.Put(ctx, "sites", "a", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(ctx, "sites", "a", []byte("2"), 0); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("create what is there: got %v, want conflict", err)
	}
	second, err := r.Put(ctx, "sites", "a", []byte("2"), first)
	if err != nil || second <= first {
		t.Fatalf("replace: revision %d after %d, %v", second, first, err)
	}
	if _, err := r.Put(ctx, "sites", "a", []byte("3"), first); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("replace an old revision: got %v, want conflict", err)
	}
	for _, key := range []string{"a/b", "x.y", "", "ä =*>", "="} {
		if _, err := r.Put(ctx, "sites", key, []byte(key), 0); err != nil {
			t.Fatalf("key %q: %v", key, err)
		}
		got, err := r.Get(ctx, "sites", key)
		if err != nil || got.Key != key || string(got.Value) != key {
			t.Errorf("key %q: got %+v, %v", key, got, err)
		}
	}
	if _, err := r.Put(ctx, "site", "other", nil, 0); err != nil { // a kind that is the beginning of another
		t.Fatal(err)
	}
	list, err := r.List(ctx, "sites")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range list {
		keys = append(keys, e.Key)
	}
	if diff := cmp.Diff([]string{"", "=", "a", "a/b", "x.y", "ä =*>"}, keys); diff != "" {
		t.Error(diff)
	}
	if err := r.Delete(ctx, "sites", "a", first); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("delete an old revision: got %v, want conflict", err)
	}
	if err := r.Delete(ctx, "sites", "a", second); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "sites", "a", second); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("delete twice: got %v, want not found", err)
	}
	if _, err := r.Put(ctx, "sites", "a", []byte("4"), 0); err != nil {
		t.Errorf("create after delete: %v", err)
	}
	if _, err := r.Put(ctx, "Sites", "a", nil, 0); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("bad kind: got %v, want invalid", err)
	}
	if empty, err := r.List(ctx, "users"); err != nil || len(empty) != 0 {
		t.Errorf("list of nothing: %v, %v", empty, err)
	}
}

func TestRegistryKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := string(rapid.SliceOf(rapid.Byte()).Draw(t, "key"))
		name, err := registryKey("kind", want)
		if err != nil {
			t.Fatal(err)
		}
		kind, key, err := splitRegistryKey(name)
		if err != nil || kind != "kind" || key != want {
			t.Fatalf("%q as %q: got %q %q %v", want, name, kind, key, err)
		}
	})
}

func TestCells(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	c, err := s.Cells(BucketLeases)
	if err != nil {
		t.Fatal(err)
	}
	ctx := shortly(t)
	if _, _, err := c.Load(ctx, "shard/1"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("load what is not there: got %v", err)
	}
	first, err := c.Save(ctx, "shard/1", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(ctx, "shard/1", []byte("x"), 0); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("create twice: got %v, want conflict", err)
	}
	second, err := c.Save(ctx, "shard/1", []byte("2"), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(ctx, "shard/1", []byte("x"), first); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("save over an old revision: got %v, want conflict", err)
	}
	data, revision, err := c.Load(ctx, "shard/1")
	if err != nil || string(data) != "2" || revision != second {
		t.Errorf("got %q at %d, %v, want 2 at %d", data, revision, err, second)
	}
	if err := c.Delete(ctx, "shard/1", second); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(ctx, "shard/1", []byte("3"), 0); err != nil {
		t.Errorf("create after delete: %v", err)
	}
	if _, err := s.Cells("nothing"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("no such bucket: got %v", err)
	}
}
