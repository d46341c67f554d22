package stream

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// reject keeps a reject and returns it with its ID.
func reject(t *testing.T, s *Streams, r messages.Reject) messages.KeptReject {
	t.Helper()
	if err := s.Outside("").Reject(shortly(t), []messages.Reject{r}); err != nil {
		t.Fatal(err)
	}
	list, err := s.Rejects(shortly(t), RejectQuery{Limit: 1000, Retried: true})
	if err != nil || len(list.Rejects) == 0 {
		t.Fatalf("got %d rejects, error %v", len(list.Rejects), err)
	}
	return list.Rejects[len(list.Rejects)-1]
}

// inShard reads what a shard's stream holds.
func inShard(t *testing.T, s *Streams, shard messages.Shard) []messages.Message {
	t.Helper()
	state, err := s.Log().State(shortly(t), shard)
	if err != nil {
		t.Fatal(err)
	}
	var out []messages.Message
	for n := state.First; n <= state.Last; n++ {
		m, err := s.Log().Get(shortly(t), shard, n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func TestRetryOnce(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	large := append([]byte(`{"note":"`), bytes.Repeat([]byte{0xff}, messages.MaxMessage-9)...)
	for name, data := range map[string][]byte{
		"text":    []byte(`{"values":[1,}`),
		"unicode": []byte(`{"note":"Größe ✓ 井"`),
		"binary":  {0, 1, 2, 0xff, '\r', '\n', 0},
		"1 MiB":   large,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(inShard(t, s, 3))
			r := reject(t, s, messages.Reject{
				Shard: 3, Sequence: 100 + uint64(before), Index: -1, Subject: "shard.3.site.dev", Arrival: 1, Kind: messages.RejectUndecodable, Reason: "no JSON", Data: data,
			})
			first, again, err := s.RetryReject(shortly(t), r.ID, nil, "", false)
			if err != nil || again || first.Sequence == 0 || first.Subject != "shard.3.site.dev" {
				t.Fatalf("got %+v, again %v, error %v", first, again, err)
			}
			second, again, err := s.RetryReject(shortly(t), r.ID, nil, "", false)
			if err != nil || !again {
				t.Fatalf("the second time: again %v, error %v; want true", again, err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("the second time it says something else:\n%s", diff)
			}
			got := inShard(t, s, 3)[before:]
			if len(got) != 1 || !bytes.Equal(got[0].Data, data) {
				t.Errorf("got %d messages, want one with the original payload", len(got))
			}
			list, err := s.Rejects(shortly(t), RejectQuery{Limit: 1000})
			if err != nil || len(list.Rejects) > 0 {
				t.Errorf("still listed: %+v, error %v", list.Rejects, err)
			}
			kept, err := s.RejectByID(shortly(t), r.ID)
			if err != nil || kept.Retried == nil || *kept.Retried != first {
				t.Errorf("got %+v, error %v", kept.Retried, err)
			}
		})
	}
	if _, _, err := s.RetryReject(shortly(t), 4711, nil, "", false); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// TestRetryBrokenOff begins retries that nobody finished, and wants the next to find out what became of them.
func TestRetryBrokenOff(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	subject := "shard.3.site.dev"
	begin := func(sequence uint64, age time.Duration) (messages.KeptReject, string) {
		t.Helper()
		r := reject(t, s, messages.Reject{Shard: 3, Sequence: sequence, Index: -1, Subject: subject, Reason: "r", Data: []byte("x")})
		_, key, err := s.reject(shortly(t), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		mark, revision, err := s.beginRetry(shortly(t), key, r.Subject, false, false)
		if err != nil {
			t.Fatal(err)
		}
		mark.At = mark.At.Add(-age)
		if err := s.saveRetry(shortly(t), key, mark, &revision); err != nil {
			t.Fatal(err)
		}
		return r, key
	}
	put(t, s, 3, 1, 5)

	r, _ := begin(1, 0)
	if list, err := s.Rejects(shortly(t), RejectQuery{Limit: 10}); err != nil || len(list.Rejects) != 1 || list.Rejects[0].Retried == nil {
		t.Errorf("one under way: got %+v, error %v; want it listed, with its mark", list.Rejects, err)
	}
	if _, _, err := s.RetryReject(shortly(t), r.ID, nil, "", false); !errors.Is(err, ErrBusy) {
		t.Errorf("one under way: got %v, want ErrBusy", err)
	}

	r, _ = begin(2, time.Minute) // never published
	if _, again, err := s.RetryReject(shortly(t), r.ID, nil, "", false); err != nil || again {
		t.Errorf("one that did not arrive: again %v, error %v; want it sent", again, err)
	}
	sent := len(inShard(t, s, 3))

	r, key := begin(3, time.Minute)
	sequence, err := s.publishRetry(shortly(t), key, r.Subject, "", r.Data)
	if err != nil {
		t.Fatal(err)
	}
	done, again, err := s.RetryReject(shortly(t), r.ID, nil, "", false)
	if err != nil || !again || done.Sequence != sequence {
		t.Errorf("one that arrived: got %+v, again %v, error %v; want it found at %d", done, again, err, sequence)
	}
	if n := len(inShard(t, s, 3)); n != sent+1 {
		t.Errorf("the stream has %d messages, want %d", n, sent+1)
	}

	for i, c := range []struct {
		subject string
		unsure  bool
	}{{"shard.3.site.dev", false}, {"shard.3.site.dev.control", true}} {
		subject = c.subject
		r, _ = begin(4+uint64(i), time.Minute)
		put(t, s, 3, 6, 9)
		stream, err := s.js.Stream(shortly(t), messages.StreamName(3))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(shortly(t), jetstream.WithPurgeKeep(1)); err != nil {
			t.Fatal(err)
		}
		_, again, err := s.RetryReject(shortly(t), r.ID, nil, "", false)
		if errors.Is(err, ErrUnsure) != c.unsure || !c.unsure && err != nil || again {
			t.Errorf("%s, whose place was purged: again %v, error %v", subject, again, err)
		}
		if _, again, err := s.RetryReject(shortly(t), r.ID, nil, "", true); err != nil || again == c.unsure {
			t.Errorf("%s, by force: again %v, error %v", subject, again, err)
		}
	}
}

func TestRejectsPages(t *testing.T) {
	s := openStreams(t, startServer(t, t.TempDir(), nil), nil)
	kinds := []messages.RejectKind{messages.RejectTime, messages.RejectPanic}
	for i := range 10 {
		site := []string{"a", "b"}[i/5]
		reject(t, s, messages.Reject{
			Shard: 1, Sequence: uint64(i + 1), Index: 0, Subject: "shard.1." + site + ".dev", Device: messages.DeviceID{Site: site, Device: "dev"},
			Kind: kinds[i%2], Reason: "reason " + strings.Repeat("x", i), Data: []byte("{}"),
		})
	}
	ids := func(q RejectQuery) (out []uint64) {
		t.Helper()
		for {
			list, err := s.Rejects(shortly(t), q)
			if err != nil || list.Newest != 10 {
				t.Fatalf("newest %d, error %v", list.Newest, err)
			}
			for _, r := range list.Rejects {
				out = append(out, r.ID)
			}
			if q.After = list.Next; q.After == 0 {
				return out
			}
		}
	}
	for name, c := range map[string]struct {
		q    RejectQuery
		want []uint64
	}{
		"all":        {RejectQuery{Limit: 3}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"of a site":  {RejectQuery{Site: "b", Limit: 2}, []uint64{6, 7, 8, 9, 10}},
		"by kind":    {RejectQuery{Reason: "panic", Limit: 1}, []uint64{2, 4, 6, 8, 10}},
		"by words":   {RejectQuery{Reason: "xxxxxxxx", Limit: 100}, []uint64{9, 10}},
		"of nothing": {RejectQuery{Reason: "no such thing", Limit: 100}, nil},
	} {
		if diff := cmp.Diff(c.want, ids(c.q)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestRejectsBounds fills rejects over their bounds, which may change from one start to the next: the
// oldest go, and are counted.
func TestRejectsBounds(t *testing.T) {
	server := startServer(t, t.TempDir(), nil)
	s := openStreams(t, server, func(o *Options) { o.RejectsBytes = 4 << 20 })
	for i := range 6 {
		reject(t, s, messages.Reject{Shard: 1, Sequence: uint64(i + 1), Subject: "shard.1.site.dev", Reason: "r", Data: make([]byte, 1<<20)})
	}
	list, err := s.Rejects(shortly(t), RejectQuery{Limit: 10})
	if err != nil || len(list.Rejects) != 3 || list.Rejects[0].ID != 4 || list.Kept != 3 || list.Lost != 3 {
		t.Errorf("got %d rejects, kept %d, lost %d, error %v; want the newest 3 of 6", len(list.Rejects), list.Kept, list.Lost, err)
	}
	if _, _, err := s.RetryReject(shortly(t), 1, nil, "", false); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a lost one: got %v, want not found", err)
	}
	s.Close()
	bounds := func(change func(*Options)) (int64, time.Duration, time.Duration) {
		t.Helper()
		s := openStreams(t, server, change)
		defer s.Close()
		stream, err := s.js.Stream(shortly(t), rejectsStream)
		if err != nil {
			t.Fatal(err)
		}
		marks, err := s.js.Stream(shortly(t), "KV_"+bucketPrefix+bucketRetries)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config.MaxBytes, stream.CachedInfo().Config.MaxAge, marks.CachedInfo().Config.MaxAge
	}
	for _, c := range []struct {
		change     func(*Options)
		size       int64
		age, marks time.Duration
	}{
		{nil, 4 << 20, keepAside, keepAside},
		{func(o *Options) { o.RejectsAge = time.Hour }, 4 << 20, time.Hour, time.Hour},
		{func(o *Options) { o.RejectsAge, o.RejectsBytes = -1, 5<<20 }, 5 << 20, 0, 0},
		{func(o *Options) { o.RejectsAge = 2 * time.Hour }, 5 << 20, 2 * time.Hour, 2 * time.Hour},
	} {
		if size, age, marks := bounds(c.change); size != c.size || age != c.age || marks != c.marks {
			t.Errorf("got %d bytes, %v, marks %v; want %d, %v, %v", size, age, marks, c.size, c.age, c.marks)
		}
	}
}
