package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wellhead/wellhead/messages"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// quietLogger shows warnings only when a test is run with -v.
func quietLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprintf(os.Stderr, "    %s", p)
	}
	return len(p), nil
}

// startServer starts an embedded server on dir with a client listener.
func startServer(t testing.TB, dir string, change func(*ServerOptions)) *Server {
	t.Helper()
	o := ServerOptions{DataDir: dir, Client: "127.0.0.1:0", Shards: 8, Logger: quietLogger(t)}
	if change != nil {
		change(&o)
	}
	s, err := StartServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// openStreams opens the streams of an embedded server with as many shards as it has.
func openStreams(t testing.TB, server *Server, change func(*Options)) *Streams {
	t.Helper()
	o := Options{Server: server, Shards: server.options.Shards, MaxBytes: 64 << 20, Logger: quietLogger(t)}
	if change != nil {
		change(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// eventually polls until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shortly bounds one step of a test.
func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// put publishes numbered messages to a shard and waits for their acknowledgements.
func put(t testing.TB, s *Streams, shard messages.Shard, from, to int) {
	t.Helper()
	nc := s.main.nc
	for i := from; i <= to; i++ {
		answer, err := nc.RequestWithContext(shortly(t), messages.BatchSubject("site", shard), []byte(strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := judge(answer); string(answer.Data[:10]) != `{"stream":` {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// take pulls until n messages have come, and checks that they carry from, from+1, …
func take(t testing.TB, f *Feed, from, n int) []messages.Message {
	t.Helper()
	var out []messages.Message
	for len(out) < n {
		got, err := f.Pull(shortly(t), MinPull)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(out), err)
		}
		for _, m := range got {
			if want := strconv.Itoa(from + len(out)); string(m.Data) != want {
				t.Fatalf("message %d: got %q, want %q", m.Sequence, m.Data, want)
			}
			out = append(out, m)
		}
	}
	if len(out) > n {
		t.Fatalf("got %d messages, want %d", len(out), n)
	}
	return out
}

func TestFeedContiguousFromN(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	put(t, s, 3, 1, 50)
	f, err := s.Log().Open(t.Context(), 3, 11)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := time.Now()
	got := take(t, f, 11, 40)
	if got[0].Sequence != 11 || got[0].Subject != "shard.3.site" {
		t.Errorf("first message: got %d %s, want 11 shard.3.site", got[0].Sequence, got[0].Subject)
	}
	if age := before.Sub(time.Unix(0, got[39].Arrival)); age < 0 || age > time.Minute {
		t.Errorf("arrival is %v ago", age)
	}
	put(t, s, 3, 51, 60)
	take(t, f, 51, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Pull(ctx, MinPull); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pull at the end: got %v, want deadline exceeded", err)
	}
}

func TestRestartKeepsMessages(t *testing.T) {
	dir := t.TempDir()
	server := startServer(t, dir, nil)
	s := openStreams(t, server, nil)
	put(t, s, 0, 1, 20)
	before, err := s.Log().State(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	server.Shutdown()
	s = openStreams(t, startServer(t, dir, nil), nil)
	after, err := s.Log().State(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("state after restart: got %+v, want %+v", after, before)
	}
	f, err := s.Log().Open(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	take(t, f, 1, 20)
}

func TestPurgeIsGuarded(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	log := s.Log()
	put(t, s, 1, 1, 10)
	state, err := log.State(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	first := func() uint64 {
		t.Helper()
		state, err := log.State(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return state.First
	}
	steps := []struct {
		upTo    uint64
		created time.Time
		want    uint64 // first sequence afterwards
	}{
		{5, state.Created.Add(time.Second), 1},
		{0, state.Created, 1},
		{5, state.Created, 6},
		{3, state.Created, 6},
		{1000, state.Created, 11},
	}
	for _, step := range steps {
		if err := log.Purge(t.Context(), 1, step.upTo, step.created); err != nil {
			t.Fatal(err)
		}
		if got := first(); got != step.want {
			t.Errorf("after purge up to %d: first is %d, want %d", step.upTo, got, step.want)
		}
	}
	put(t, s, 1, 11, 11)
	state, err = log.State(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if state.Last != 11 {
		t.Errorf("last sequence after a purge beyond the end: got %d, want 11", state.Last)
	}
}

func TestConnectionCut(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, nil)
	f, err := s.Log().Open(t.Context(), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const cuts = 6
	var enough atomic.Bool // cuts are over: the publisher may end
	total := make(chan int, 1)
	go func() {
		nc, err := server.Connect()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		n := 0
		for !enough.Load() {
			n++
			if _, err := nc.Request(messages.BatchSubject("site", 2), []byte(strconv.Itoa(n)), 20*time.Second); err != nil {
				t.Error(err)
				break
			}
		}
		total <- n
	}()
	want := -1 // how many were sent, once known
	seen := uint64(0)
	for next, cut := 1, 0; want < 0 || next <= want; {
		got, err := f.Pull(shortly(t), MinPull)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			if want := strconv.Itoa(next); string(m.Data) != want {
				t.Fatalf("got %q, want %q", m.Data, want)
			}
			next++
		}
		if now := s.Counters().FeedsReopened.Load(); want >= 0 || next < 100*cut || cut > 0 && now == seen {
			continue
		} else if cut == cuts {
			enough.Store(true)
			want = <-total
		} else if id, err := f.link.nc.GetClientID(); err == nil && server.nats.DisconnectClientByID(id) == nil {
			seen = now
			cut++
		}
	}
}

func TestManyStreamsAreCreatedFast(t *testing.T) {
	dir := t.TempDir()
	for _, what := range []string{"first start", "second start"} {
		started := time.Now()
		server := startServer(t, dir, func(o *ServerOptions) { o.Shards = 64 })
		ready := time.Now()
		s := openStreams(t, server, nil)
		t.Logf("%s: server %v, 64 streams and buckets %v", what, ready.Sub(started), time.Since(ready))
		s.Close()
		server.Shutdown()
	}
	server := startServer(t, dir, func(o *ServerOptions) { o.Shards = 32 })
	if s, err := Open(t.Context(), Options{Server: server, Shards: 32, Logger: quietLogger(t)}); err == nil {
		s.Close()
		t.Error("opened with another number of shards without an error")
	}
}

// TestOneServerAnswersDirectly: where no copy can be behind, reads do not take the way through the server's API.
func TestOneServerAnswersDirectly(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	list := s.js.ListStreams(shortly(t))
	n := 0
	for info := range list.Info() {
		n++
		if !info.Config.AllowDirect {
			t.Errorf("stream %s is not answered directly", info.Config.Name)
		}
	}
	if err := list.Err(); err != nil || n != 8+2+len(allBuckets) {
		t.Errorf("%d streams, %v", n, err)
	}
}

func TestWrongListenAddress(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	taken := server.ClientURL()[len("nats://"):]
	for _, address := range []string{taken, "127.0.0.1:x", "nohost", "127.0.0.1:70000"} {
		s, err := StartServer(t.Context(), ServerOptions{DataDir: t.TempDir(), Client: address, Logger: quietLogger(t)})
		if err == nil {
			s.Shutdown()
			t.Errorf("address %q: no error", address)
		} else {
			t.Logf("%v", err)
		}
	}
	for address, want := range map[string]bool{
		"127.0.0.1:4222": true, "localhost:1": true, "[::1]:4222": true, "0.0.0.0:4222": false, ":4222": false, "10.0.0.1:4222": false,
	} {
		if got := CheckLoopback(address) == nil; got != want {
			t.Errorf("%s: loopback %v, want %v", address, got, want)
		}
	}
}

// A pull asks for little, and for as much as a largest message takes only where there is one.
func TestFeedOfLargeMessages(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	sizes := []int{10, messages.MaxMessage, 10, usualPull - 20, messages.MaxMessage, messages.MaxMessage - 1, usualPull, 10, 10}
	for _, size := range sizes {
		if _, err := s.main.nc.RequestWithContext(shortly(t), messages.BatchSubject("site", 3), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.Log().Open(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []int
	for pulls := 0; len(got) < len(sizes); pulls++ {
		list, err := f.Pull(shortly(t), MinPull)
		if err != nil || pulls > 2*len(sizes) {
			t.Fatalf("after %d messages in %d pulls: %v", len(got), pulls, err)
		}
		for _, m := range list {
			got = append(got, len(m.Data))
		}
	}
	if !slices.Equal(got, sizes) {
		t.Errorf("got messages of %v bytes, want %v", got, sizes)
	}
}

// TestFeedFillsItsRequest: of a request whose last message takes just the bytes that are left the server says nothing.
func TestFeedFillsItsRequest(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	send := func(size int) {
		t.Helper()
		if _, err := s.main.nc.RequestWithContext(shortly(t), messages.BatchSubject("site", 3), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *Feed {
		t.Helper()
		f, err := s.Log().Open(t.Context(), 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		return f
	}
	pull := func(f *Feed, want int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the feed finds a consumer that is gone after 11
		defer cancel()
		for n := 0; n < want; {
			got, err := f.Pull(ctx, MinPull)
			if err != nil {
				t.Fatalf("after %d of %d messages, %d bytes of the request left: %v", n, want, f.left, err)
			}
			n += len(got)
		}
	}
	const first = usualPull / 2
	send(first)
	probe := open()
	pull(probe, 1)
	around := usualPull - probe.left - first // what each of two messages has beside its data
	send(usualPull - first - 2*around)

	f := open()
	pull(f, 2)
	if f.left != 0 {
		t.Fatalf("%d bytes of the request are left, want none: the test is wrong", f.left)
	}
	send(10)
	pull(f, 1)
}
