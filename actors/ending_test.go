package actors_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// dataOfALife names the folder of a life that TestOneLife is to live; without it that test does nothing.
const dataOfALife = "WELLHEAD_TEST_LIFE"

const (
	lifeDevices  = 12
	lifeReadings = 20
	lifeStart    = int64(1_767_225_600_000)
)

// TestMessageThatEndsTheProcess has readings in the stream of which one ends the process that applies
// it, by SIGKILL, as a fatal error would. The member is started again and again, like a service. The
// guilty reading goes to rejects, and all others are stored.
func TestMessageThatEndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	publishLife(t, dir)
	life := func() (string, error) {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOneLife$", "-test.timeout=60s", "-test.v")
		c.Env = append(os.Environ(), dataOfALife+"="+dir)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	lives := 1
	out, err := life()
	for ; err != nil; out, err = life() {
		var ended *exec.ExitError
		if !errors.As(err, &ended) || !ended.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("life %d: %v\n%s", lives, err, out)
		}
		if lives++; lives > 10 {
			t.Fatalf("the reading still ends the process in its life %d", lives)
		}
	}
	t.Logf("found after %d lives", lives-1)
	if lives < 4 {
		t.Errorf("it took %d lives to find the reading; want more, or a life that ended by chance would convict one", lives-1)
	}
	// A replay must not bring it again.
	if out, err := life(); err != nil {
		t.Errorf("one more life: %v\n%s", err, out)
	}
}

// publishLife puts the readings into the stream while no member runs.
func publishLife(t *testing.T, dir string) {
	t.Helper()
	server, streams := startStreams(t, dir)
	defer server.Shutdown()
	defer streams.Close()
	client, err := streams.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	publisher, err := client.NewPublisher(stream.PublisherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	for i := range lifeReadings {
		for d := range lifeDevices {
			r := messages.Reading{Time: lifeStart + int64(i)*1000, Values: []float64{float64(i)}}
			if d == 5 && i == 12 {
				r.Note = "the end"
			}
			id := messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", d)}
			if err := publisher.PublishReading(t.Context(), id, messages.AppendReadingJSON(nil, r)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestOneLife is one life of the member in TestMessageThatEndsTheProcess: it ends well when all is stored.
func TestOneLife(t *testing.T) {
	dir := os.Getenv(dataOfALife)
	if dir == "" {
		t.Skip("only TestMessageThatEndsTheProcess runs this, in a process of its own")
	}
	r := startRig(t, dir, func(a *actors.Arrived) {
		if a.Reading.Note == "the end" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it comes
		}
	})
	for d := range lifeDevices {
		id := messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", d)}
		want := lifeReadings
		if d == 5 {
			want--
		}
		testenv.Eventually(t, 40*time.Second, func() error {
			stored, err := r.member.Readings(t.Context(), id, lifeStart, lifeStart+3_600_000, 0)
			if err != nil {
				return err
			}
			window, err := r.member.Window(t.Context(), id, lifeStart, lifeStart+3_600_000, 0)
			if err != nil {
				return err
			}
			if len(stored) != want || len(window) != want {
				return fmt.Errorf("%s has %d readings stored and %d in its window, want %d", id, len(stored), len(window), want)
			}
			return nil
		})
	}
	list, err := r.streams.Rejects(t.Context(), stream.RejectQuery{Site: "site", Limit: 10})
	rejects := list.Rejects
	if err != nil {
		t.Fatal(err)
	}
	if len(rejects) != 1 || !strings.Contains(string(rejects[0].Data), "the end") || !strings.Contains(rejects[0].Reason, "process ended") {
		data, _ := json.Marshal(rejects)
		t.Errorf("rejects: got %s, want exactly the reading that ends the process", data)
	}
}
