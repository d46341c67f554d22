package wirepb_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/messages/wirepb"
)

// same takes all NaN as one: they stand for omitted values.
var same = cmp.Options{cmpopts.EquateNaNs(), cmpopts.EquateEmpty()}

// TestForeignBatch: what a foreign client encodes with generated code, our decoder reads as meant.
func TestForeignBatch(t *testing.T) {
	data, err := proto.Marshal(&wirepb.Batch{
		Version: 1, Producer: "agent-1", Run: 0xfeedfacecafebeef, Sequence: 42, BaseTime: 1767323045000,
		Blocks: []*wirepb.Block{
			{
				Device: "pump-1", Time: 678, TimeDeltas: []int64{1000, -500},
				Values:   []float64{1.5, 0, 3, math.MaxFloat64, -0.25, 0},
				Presence: []byte{0b011101}, Notes: []*wirepb.Note{{Reading: 1, Text: "hi"}},
				Quality: []byte{0, 0, 7},
			},
			{Device: "pump-2", Values: []float64{7}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	omitted := messages.Omitted()
	want := messages.Batch{
		Producer: "agent-1", Run: 0xfeedfacecafebeef, Sequence: 42,
		Blocks: []messages.Block{
			{Device: "pump-1", Readings: []messages.Reading{
				{Time: 1767323045678, Values: []float64{1.5, omitted}},
				{Time: 1767323046678, Values: []float64{3, math.MaxFloat64}, Quality: []uint8{7, 0}, Note: "hi"},
				{Time: 1767323046178, Values: []float64{-0.25, omitted}},
			}},
			{Device: "pump-2", Readings: []messages.Reading{{Time: 1767323045000, Values: []float64{7}}}},
		},
	}
	var decoder messages.Decoder
	var got messages.Batch
	if err := decoder.Batch(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(trimmed(want), trimmed(got), same); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	if refused := decoder.Refused(); len(refused) > 0 {
		t.Errorf("refused: %+v", refused)
	}
}

// trimmed is b with its qualities cut behind the last that is not good: a shorter one says the same.
func trimmed(b messages.Batch) messages.Batch {
	for _, block := range b.Blocks {
		for i := range block.Readings {
			q := block.Readings[i].Quality
			for len(q) > 0 && q[len(q)-1] == 0 {
				q = q[:len(q)-1]
			}
			block.Readings[i].Quality = q
		}
	}
	return b
}

// TestOurBatch: what we encode, generated code reads, loses nothing of, and what it makes of it again
// is the same batch to us.
func TestOurBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyBatch(t)
		var foreign wirepb.Batch
		if err := proto.Unmarshal(messages.AppendBatch(nil, &want), &foreign); err != nil {
			t.Fatal(err)
		}
		if n := len(foreign.ProtoReflect().GetUnknown()); n > 0 {
			t.Fatalf("%d bytes in fields that the schema does not have", n)
		}
		if foreign.Producer != want.Producer || foreign.Run != want.Run || foreign.Sequence != want.Sequence {
			t.Fatalf("producer: got %v", &foreign)
		}
		data, err := proto.Marshal(&foreign)
		if err != nil {
			t.Fatal(err)
		}
		var decoder messages.Decoder
		var got messages.Batch
		if err := decoder.Batch(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(trimmed(want), trimmed(got), same); diff != "" {
			t.Fatalf("batch (-want +got):\n%s", diff)
		}
		var again wirepb.Batch
		if err := proto.Unmarshal(messages.AppendBatch(nil, &got), &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&foreign, &again, protocmp.Transform(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("encoded again (-first +second):\n%s", diff)
		}
	})
}

// TestOurControl: the same for commands.
func TestOurControl(t *testing.T) {
	var foreign wirepb.Control
	data := messages.AppendControl(nil, messages.Control{By: "ann", Settings: &messages.Settings{
		WindowCount: 120, WindowAge: 60_000, ExpectedInterval: 1000, OfflineAfter: 5000,
		Channels: []messages.Channel{{Name: "pressure", Unit: "bar"}, {Name: "state"}},
	}})
	if err := proto.Unmarshal(data, &foreign); err != nil {
		t.Fatal(err)
	}
	foreign.Version = 0 // 0 means 1
	want := &wirepb.Control{By: "ann", Command: &wirepb.Control_Settings{Settings: &wirepb.Settings{
		WindowCount: 120, WindowAgeMs: 60_000, ExpectedIntervalMs: 1000, OfflineAfterMs: 5000,
		Channels: []*wirepb.Channel{{Name: "pressure", Unit: "bar"}, {Name: "state"}},
	}}}
	if diff := cmp.Diff(want, &foreign, protocmp.Transform()); diff != "" {
		t.Errorf("control (-want +got):\n%s", diff)
	}
}

func anyBatch(t *rapid.T) messages.Batch {
	b := messages.Batch{
		Producer: "agent-1", Run: rapid.Uint64Range(1, math.MaxUint64).Draw(t, "run"),
		Sequence: rapid.Uint64Range(1, 1<<40).Draw(t, "sequence"),
	}
	value := rapid.OneOf(rapid.Float64Range(-1e300, 1e300), rapid.Just(messages.Omitted()), rapid.Just(0.0))
	for i := range rapid.IntRange(1, 3).Draw(t, "devices") {
		block := messages.Block{Device: string(rune('a' + i))}
		channels := rapid.IntRange(1, 5).Draw(t, "channels")
		for range rapid.IntRange(1, 5).Draw(t, "readings") {
			block.Readings = append(block.Readings, messages.Reading{
				Time:   rapid.Int64Range(0, 4102444800000).Draw(t, "time"),
				Values: rapid.SliceOfN(value, channels, channels).Draw(t, "values"),
				Note:   rapid.StringMatching(`[a-zäö ]{0,8}`).Draw(t, "note"),
			})
		}
		b.Blocks = append(b.Blocks, block)
	}
	return b
}
