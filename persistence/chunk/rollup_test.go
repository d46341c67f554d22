package chunk

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

func encodeRollup(r persistence.RollupRow) []byte {
	var e Encoder
	return e.AppendRollup(nil, &r)
}

func TestRollupRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := persistence.RollupRow{Sequence: rapid.Uint64().Draw(t, "sequence")}
		want.Count = rapid.Int64().Draw(t, "count")
		v := values()
		for range rapid.IntRange(0, 64).Draw(t, "channels") {
			c := messages.ChannelRollup{Count: rapid.Int64().Draw(t, "count")}
			if rapid.Bool().Draw(t, "has values") {
				c.Min, c.Max, c.Sum, c.First, c.Last = v.Draw(t, "min"), v.Draw(t, "max"), v.Draw(t, "sum"), v.Draw(t, "first"), v.Draw(t, "last")
			}
			want.Channels = append(want.Channels, c)
		}
		got := persistence.RollupRow{Rollup: messages.Rollup{Channels: make([]messages.ChannelRollup, 3)}} // memory of an earlier one
		if err := DecodeRollup(encodeRollup(want), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameRows); diff != "" {
			t.Fatalf("rollup (-want +got):\n%s", diff)
		}
	})
}

func TestMergeRollups(t *testing.T) {
	at := func(sequence uint64, count int64) []byte {
		return encodeRollup(persistence.RollupRow{Sequence: sequence, Rollup: messages.Rollup{Count: count}})
	}
	for name, values := range map[string][][]byte{
		"up":   {at(1, 1), at(300, 7)},
		"down": {at(300, 7), at(1, 1)},
		"the same sequence: the later one replaces": {at(300, 1), at(300, 7)},
	} {
		if got := MergeRollups(values); !bytes.Equal(got, at(300, 7)) {
			t.Errorf("%s: got %x", name, got)
		}
	}
	broken := at(5, 5)
	broken[len(broken)-1] ^= 1
	var r persistence.RollupRow
	if err := DecodeRollup(MergeRollups([][]byte{at(300, 7), broken}), &r); !errors.Is(err, ErrRollup) {
		t.Errorf("a corrupt one is the newest: got error %v", err)
	}
	if got := MergeRollups([][]byte{at(300, 7), broken, at(4, 7)}); !bytes.Equal(got, at(4, 7)) {
		t.Errorf("written again after a corrupt one: got %x", got)
	}
}

func FuzzRollup(f *testing.F) {
	r := persistence.RollupRow{Sequence: 5, Rollup: messages.Rollup{Count: 3, Channels: []messages.ChannelRollup{{Count: 3, Min: 1.5, Max: 2, Sum: 5.25, First: 2, Last: math.Pi}, {}}}}
	f.Add(encodeRollup(r)[5:])
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, again persistence.RollupRow
		if err := decodeRollupBody(body, &got); err != nil {
			return
		}
		if err := DecodeRollup(encodeRollup(got), &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again, sameRows); diff != "" {
			t.Fatalf("encoded again (-want +got):\n%s", diff)
		}
	})
}
