package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestUnansweredQuestionsEnd: what a server never answers ends by itself, so that a shard that starts asks again.
func TestUnansweredQuestionsEnd(t *testing.T) {
	t.Parallel()
	server := startOutside(t, ServerConfigOptions{}, nil)
	s := openOutside(t, server)
	cells, err := s.Cells(BucketLeases)
	if err != nil {
		t.Fatal(err)
	}
	revision, err := cells.Save(t.Context(), "shard.0", []byte("{}"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Resume(); err != nil {
			t.Error(err)
		}
	})

	questions := map[string]func(context.Context) error{
		"load": func(ctx context.Context) error {
			_, _, err := cells.Load(ctx, "shard.0")
			return err
		},
		"save": func(ctx context.Context) error {
			_, err := cells.Save(ctx, "shard.0", []byte("{}"), revision)
			return err
		},
		"create": func(ctx context.Context) error {
			_, err := cells.Save(ctx, "shard.1", []byte("{}"), 0)
			return err
		},
		"delete": func(ctx context.Context) error { return cells.Delete(ctx, "shard.0", revision) },
		"state": func(ctx context.Context) error {
			_, err := s.Log().State(ctx, 0)
			return err
		},
		"ends": func(ctx context.Context) error {
			_, err := s.Log().Ends(ctx)
			return err
		},
		"get": func(ctx context.Context) error {
			_, err := s.Log().Get(ctx, 0, 1)
			return err
		},
	}
	var all sync.WaitGroup
	for what, ask := range questions {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
				t.Errorf("%s: %v, want that it ends by a deadline of its own", what, err)
			}
		})
	}
	all.Wait()
}
