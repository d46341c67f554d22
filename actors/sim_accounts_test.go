package actors

import (
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"
)

// checkAccounts compares what checkpoint and archive know together of each run with what was sent.
func (w *world) checkAccounts(m *model) {
	k := w.host.core.saved
	parts := map[producerKey][]liveAccount{}
	for _, one := range w.archive.accounts {
		a, err := readAccount(&one)
		if err != nil {
			w.t.Fatal(err)
		}
		parts[a.Key] = append(parts[a.Key], liveAccount{stored: a, retired: one.Sequence})
	}
	for _, r := range k.Retiring {
		parts[r.Key] = append(parts[r.Key], liveAccount{stored: r.account, retired: r.Sequence})
	}
	for key, a := range k.ProducersStored.of {
		parts[key] = append(parts[key], liveAccount{stored: a})
	}
	known := slices.SortedFunc(maps.Keys(parts), compareKeys)
	if diff := cmp.Diff(slices.SortedFunc(maps.Keys(m.sent), compareKeys), known); diff != "" {
		w.t.Errorf("seed %d: accounts of runs (-sent +known):\n%s", w.seed, diff)
	}
	for key, sent := range m.sent {
		if len(parts[key]) == 0 {
			continue
		}
		got := shardAccount(0, parts[key])
		want := got
		want.Stored, want.Readings, want.Duplicates = uint64(len(sent.sequences)), sent.readings, sent.repeated
		want.Received = want.Stored + want.Duplicates
		want.Highest = slices.Max(slices.Collect(maps.Keys(sent.sequences)))
		want.Through, want.Gaps = 0, nil
		for s := uint64(1); s <= want.Highest; s++ {
			n := len(want.Gaps)
			switch {
			case sent.sequences[s] && n == 0:
				want.Through = s
			case sent.sequences[s]:
			case n > 0 && want.Gaps[n-1][1] == s-1:
				want.Gaps[n-1][1] = s
			default:
				want.Gaps = append(want.Gaps, [2]uint64{s, s})
			}
		}
		want.Missing = want.Highest - want.Stored
		if got.Retired && m.sent[producerKey{key.Site, key.Producer, key.Run + 1}] == nil {
			w.t.Errorf("seed %d: the shard has let go of %s, which no other run follows", w.seed, key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.t.Errorf("seed %d: account of %s (-model +shard):\n%s", w.seed, key, diff)
		}
	}
	if len(k.ProducersStored.of) != len(w.host.core.producers.of) {
		w.t.Errorf("seed %d: the checkpoint has %d accounts and memory %d", w.seed, len(k.ProducersStored.of), len(w.host.core.producers.of))
	}
}
