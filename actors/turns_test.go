package actors

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// heard is an invoker that notes what it is given, and fails on "boom" as proto.actor's does: it suspends the mailbox.
type heard struct {
	box    *turns
	inside bool
	said   []string
	during func(message any)
}

func (h *heard) note(what string, message any) {
	if h.inside {
		h.said = append(h.said, "overlapping")
	}
	h.inside = true
	defer func() { h.inside = false }()
	h.said = append(h.said, fmt.Sprintf("%s %v", what, message))
	if h.during != nil {
		h.during(message)
	}
	if message == "boom" {
		panic(message)
	}
}

func (h *heard) InvokeUserMessage(message any)   { h.note("user", message) }
func (h *heard) InvokeSystemMessage(message any) { h.note("system", message) }

func (h *heard) EscalateFailure(reason, message any) {
	h.said = append(h.said, fmt.Sprintf("failed %v", message))
	h.box.PostSystemMessage(&actor.SuspendMailbox{})
}

func newHeard() *heard {
	h := &heard{box: &turns{}}
	h.box.RegisterHandlers(h, nil)
	return h
}

// A message is handled before the post returns; while the actor has a turn or is suspended it waits, and those of the
// system come first.
func TestTurns(t *testing.T) {
	h := newHeard()
	want := func(what ...string) {
		t.Helper()
		if !slices.Equal(h.said, what) {
			t.Fatalf("said %q, want %q", h.said, what)
		}
		h.said = nil
	}
	h.box.PostUserMessage(1)
	want("user 1")
	h.during = func(message any) {
		if message == 2 {
			h.box.PostUserMessage(3)
			h.box.PostSystemMessage("stop")
		}
	}
	h.box.PostUserMessage(2)
	want("user 2", "system stop", "user 3")

	h.box.PostUserMessage("boom")
	want("user boom", "failed boom")
	h.box.PostUserMessage(4)
	h.box.PostUserMessage(5)
	if n := h.box.UserMessageCount(); n != 2 {
		t.Errorf("%d messages wait, want 2", n)
	}
	h.box.PostSystemMessage("restart")
	want("system restart")
	h.box.PostSystemMessage(&actor.ResumeMailbox{})
	want("user 4", "user 5")
	h.box.PostUserMessage(6)
	want("user 6")
}

// Several goroutines post at once, and often: turns never overlap, and no message is left behind when the last of them
// finds the turn taken. The race detector sees the rest.
func TestTurnsOfMany(t *testing.T) {
	const rounds, posters, each = 20_000, 3, 2
	for range rounds {
		h := newHeard()
		var group sync.WaitGroup
		for p := range posters {
			group.Go(func() {
				for range each {
					h.box.PostUserMessage(p)
				}
				h.box.PostSystemMessage(p)
			})
		}
		group.Wait()
		if len(h.said) != posters*(each+1) || slices.Contains(h.said, "overlapping") {
			t.Fatalf("%d messages were handled of %d, or some at the same time: %q", len(h.said), posters*(each+1), h.said)
		}
	}
}
