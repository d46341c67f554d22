package actors

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// sequencesOf lists the sequences that an account has seen.
func sequencesOf(a *account) []uint64 {
	var out []uint64
	for _, s := range a.stretches() {
		for n := s.From; n <= s.To; n++ {
			out = append(out, n)
		}
	}
	return out
}

// Two accounts of one run put together know what a set of all sequences knows.
func TestAccountsTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[uint64]bool{}
		var parts [2]account
		total := uint64(0)
		for i := range parts {
			for _, sequence := range rapid.SliceOfN(rapid.Uint64Range(1, 40), 0, 40).Draw(t, fmt.Sprint("part", i)) {
				total++
				seen[sequence] = true
				if parts[i].has(sequence) {
					parts[i].Repeated++
				} else {
					parts[i].add(sequence)
				}
			}
		}
		got := parts[0].with(&parts[1])
		want := slices.Sorted(maps.Keys(seen))
		if diff := cmp.Diff(want, sequencesOf(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("sequences (-want +got):\n%s", diff)
		}
		if got.count() != uint64(len(want)) || got.Repeated != total-uint64(len(want)) {
			t.Fatalf("count %d, repeated %d; want %d of %d", got.count(), got.Repeated, len(want), total)
		}
		again := account{}
		for _, sequence := range want {
			again.add(sequence)
		}
		if diff := cmp.Diff(again.gaps(), got.gaps()); diff != "" || got.Through != again.Through || got.highest() != again.highest() {
			t.Fatalf("through %d, want %d; gaps (-want +got):\n%s", got.Through, again.Through, diff)
		}
	})
}

// A checkpoint with full tables must fit into one message, whatever producers do.
func TestAccountsAreBounded(t *testing.T) {
	var c core
	c.cfg = Config{}.WithDefaults()
	k := &c.current
	note := func(key producerKey, sequence, last uint64) {
		n := c.producers.note(key, key.Site, sequence, last, int64(last), c.cfg.Retire)
		c.retire(&pending{sequence: last, producer: n.key, retired: n.retired})
		k.ProducersStored.enter(k.ProducersStored.at(n.key), sequence, last, int64(last))
	}
	last := uint64(1 << 60)
	for run := range uint64(3000) { // many runs
		last++
		note(producerKey{"site-of-usual-length", fmt.Sprint("producer-", run), ^run}, 1, last)
	}
	for run := range uint64(4) { // and some with more gaps than can be remembered
		for i := range uint64(maxIntervals + 100) {
			last++
			note(producerKey{"site", "gaps", run}, 1<<62+2*i, last)
		}
	}
	if len(c.producers.of) != len(k.ProducersStored.of) || c.producers.weight != k.ProducersStored.weight {
		t.Errorf("memory has %d accounts of %d bytes, the checkpoint %d of %d", len(c.producers.of), c.producers.weight, len(k.ProducersStored.of), k.ProducersStored.weight)
	}
	retired := len(k.Retiring)
	if got := retired + len(k.ProducersStored.of); got != 3004 {
		t.Errorf("%d accounts are kept or retired, want all 3004", got)
	}
	k.Retiring = k.Retiring[:1]
	k.ProducersSnapshotted = k.ProducersStored.clone()
	data, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 900<<10 || len(data) < 100<<10 {
		t.Errorf("the checkpoint has %d bytes, want less than a message of 1 MiB, and much of it used", len(data))
	}
	back, err := DecodeCheckpoint(data)
	if err != nil {
		t.Fatal(err)
	}
	if back.ProducersStored.weight != k.ProducersStored.weight || len(back.Retiring) != 1 || back.Retiring[0].Key != k.Retiring[0].Key {
		t.Errorf("read back: %d bytes of accounts and %d retiring, want %d and 1", back.ProducersStored.weight, len(back.Retiring), k.ProducersStored.weight)
	}
}

// A run is retired when another one of its producer begins, or any one does, after enough silence.
func TestSilentRunsRetire(t *testing.T) {
	limits := Retirement{Followed: 100, Idle: 1000}
	var p producers
	last := uint64(0)
	note := func(producer string, run uint64, at int64) []producerKey {
		last++
		return p.note(producerKey{"s", producer, run}, "s", 1, last, at, limits).retired
	}
	want := func(got []producerKey, want ...producerKey) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("retired (-want +got):\n%s", diff)
		}
	}
	want(note("a", 1, 1))
	want(note("a", 2, 50)) // run 1 has just spoken
	want(note("b", 1, 200))
	want(note("b", 1, 5000)) // no run begins
	want(note("a", 3, 120), producerKey{"s", "a", 1})
	want(note("c", 1, 5100), producerKey{"s", "a", 2}, producerKey{"s", "a", 3})
	if len(p.of) != 2 {
		t.Errorf("%d runs are left, want b's and c's", len(p.of))
	}
}
