package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
	"github.com/wellhead/wellhead/stream"
)

// feedLog gives shards the stream's feeds.
type feedLog struct{ *stream.Log }

func (l feedLog) Open(ctx context.Context, shard messages.Shard, from uint64) (actors.Feed, error) {
	feed, err := l.Log.Open(ctx, shard, from)
	if err != nil {
		return nil, err
	}
	return feed, nil
}

// rig is a member on a real stream and real stores, four shards.
type rig struct {
	streams *stream.Streams
	member  *actors.Member
	archive persistence.Archive
}

// startStreams starts a server with four shards, whose data is in a folder.
func startStreams(t *testing.T, dir string) (*stream.Server, *stream.Streams) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := stream.StartServer(t.Context(), stream.ServerOptions{DataDir: filepath.Join(dir, "stream"), Shards: 4, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := stream.Open(t.Context(), stream.Options{Server: server, Shards: 4, Logger: log})
	if err != nil {
		server.Shutdown()
		t.Fatal(err)
	}
	return server, streams
}

// openStores opens an archive and snapshots in dir, which are closed at the test's end.
func openStores(t *testing.T, dir string) (*pebble.Archive, *pebble.Snapshots) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	archive, err := pebble.OpenArchive(filepath.Join(dir, "archive"), pebble.Options{Shards: 4, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { archive.Close() })
	snapshots, err := pebble.OpenSnapshots(filepath.Join(dir, "snapshots"), pebble.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { snapshots.Close() })
	return archive, snapshots
}

// partsOf returns the parts of one member, which publishes no events of readings.
func partsOf(t *testing.T, streams *stream.Streams, archive *pebble.Archive, snapshots *pebble.Snapshots) actors.Parts {
	t.Helper()
	cells := func(bucket string) *stream.Cells {
		c, err := streams.Cells(bucket)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return actors.Parts{
		Archive: archive, Snapshots: snapshots, Log: feedLog{streams.Log()},
		Checkpoints: cells(stream.BucketCheckpoints), Leases: cells(stream.BucketLeases), Starts: cells(stream.BucketStarts),
		Outside: streams.Outside(stream.EventsNone), Stored: func(string, string, actors.StoredNews) {},
	}
}

// startRig starts a rig whose data is in a folder; inspect and limits as in actors.Options.
func startRig(t *testing.T, dir string, inspect func(*actors.Arrived), limits ...actors.Limits) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, streams := startStreams(t, dir)
	t.Cleanup(server.Shutdown)
	t.Cleanup(streams.Close)
	archive, snapshots := openStores(t, dir)
	config := actors.Config{Shards: 4, FlushAge: 50, CheckpointEvery: 100}
	for _, l := range limits {
		config.Limits = l
	}
	m := actors.NewMember(actors.Options{
		Name: "rig", Logger: log, Inspect: inspect, Config: config, Parts: partsOf(t, streams, archive, snapshots),
	})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return &rig{streams: streams, member: m, archive: archive}
}

// publisherTo returns a publisher that is closed at the test's end.
func publisherTo(t *testing.T, streams *stream.Streams) *stream.Publisher {
	t.Helper()
	client, err := streams.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	publisher, err := client.NewPublisher(stream.PublisherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { publisher.Close() })
	return publisher
}

// TestDevicePanics makes one device panic on one reading. The others never notice, exactly that
// reading is in rejects, and the device has all its others. When the mistake is repaired, a retry of the
// reject brings the reading.
func TestDevicePanics(t *testing.T) {
	var repaired atomic.Bool
	r := startRig(t, t.TempDir(), func(a *actors.Arrived) {
		if !repaired.Load() && strings.HasPrefix(a.Reading.Note, "boom") {
			panic("boom")
		}
	})
	publisher := publisherTo(t, r.streams)
	const devices, readings = 20, 50
	start := time.Now().UnixMilli() - readings*1000
	for i := range readings {
		for d := range devices {
			id := messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", d)}
			reading := messages.Reading{Time: start + int64(i)*1000, Values: []float64{float64(i)}}
			if d == 7 && i == 25 {
				reading.Note = "boom"
			}
			if err := publisher.PublishReading(t.Context(), id, messages.AppendReadingJSON(nil, reading)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	has := func(id messages.DeviceID, want int) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			stored, err := r.member.Readings(t.Context(), id, start, start+readings*1000, 0)
			if err != nil {
				return err
			}
			window, err := r.member.Window(t.Context(), id, start, start+readings*1000, 0)
			if err != nil {
				return err
			}
			if len(stored) != want || len(window) != want {
				return fmt.Errorf("%s has %d readings stored and %d in its window, want %d", id, len(stored), len(window), want)
			}
			return nil
		})
	}
	for d := range devices {
		id := messages.DeviceID{Site: "site", Device: fmt.Sprintf("dev-%d", d)}
		want := readings
		if d == 7 {
			want--
		}
		has(id, want)
	}
	list, err := r.streams.Rejects(t.Context(), stream.RejectQuery{Site: "site", Limit: 10})
	rejects := list.Rejects
	if err != nil {
		t.Fatal(err)
	}
	if len(rejects) != 1 || rejects[0].Device.Device != "dev-7" || !strings.Contains(string(rejects[0].Data), "boom") || !strings.Contains(rejects[0].Reason, "failed") {
		t.Fatalf("rejects: got %+v, want exactly the reading that dev-7 failed on", rejects)
	}
	repaired.Store(true)
	for range 2 {
		if _, _, err := r.streams.RetryReject(t.Context(), rejects[0].ID, nil, "", false); err != nil {
			t.Fatal(err)
		}
	}
	has(rejects[0].Device, readings)
}
