package messages

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessage(t *testing.T) {
	batch := ShardSubject{Shard: 1, Site: "s", Kind: KindBatch}
	device := ShardSubject{Shard: 1, Site: "s", Device: "pump-1", Kind: KindReadings}
	block := func(name string) []Block {
		return []Block{{Device: name, Readings: []Reading{{Time: 5, Values: []float64{1}}}}}
	}
	named, unnamed := wire{}.bytes(6, one("pump-1", 5, 1)), wire{}.bytes(6, wire{}.varint(2, zigzag(5)).bytes(4, doubles(1)))
	ofSequence := func(n uint64) []byte { return wire{}.varint(4, n).bytes(6, one("pump-1", 5, 1)) }
	tests := map[string]struct {
		kind    string
		subject ShardSubject
		data    []byte
		want    []Block
		refused string
	}{
		"a batch":                        {"", batch, named, block("pump-1"), ""},
		"a batch in JSON":                {"", batch, []byte(`[{"device":"pump-1","time":5,"values":[1]}]`), block("pump-1"), ""},
		"protobuf with the same name":    {"", device, named, block("pump-1"), ""},
		"protobuf without a name":        {"", device, unnamed, block("pump-1"), ""},
		"protobuf with another name":     {"", device, wire{}.bytes(6, one("pump-2", 5, 1)), nil, `"pump-2", the subject names pump-1`},
		"a batch without a name":         {"", batch, unnamed, nil, "no name"},
		"JSON":                           {"", device, []byte(`{"time":5,"values":[1]}`), block("pump-1"), ""},
		"JSON by type":                   {"application/json; charset=utf-8", device, []byte(`{"time":5,"values":[1]}`), block("pump-1"), ""},
		"JSON of another type":           {"text/plain", device, []byte(`{"time":5,"values":[1]}`), block("pump-1"), ""},
		"JSON after white space":         {"", device, []byte("\n {\"time\":5,\"values\":[1]}"), block("pump-1"), ""},
		"protobuf by type":               {"application/x-protobuf", device, named, block("pump-1"), ""},
		"JSON that is refused":           {"", device, []byte(`[{"values":[1]}]`), nil, "no time"},
		"JSON without readings":          {"", device, []byte(`[]`), nil, ""},
		"protobuf that begins like text": {"", device, ofSequence('{'), block("pump-1"), ""},
		"protobuf that begins like more": {"", device, ofSequence('['), block("pump-1"), ""},
		"protobuf that begins like room": {"", device, ofSequence(' '), block("pump-1"), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			b := Batch{Producer: "left", Sequence: 7, Blocks: block("over")}
			if err := d.Message(test.kind, test.subject, test.data, &b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, b.Blocks, same); diff != "" || b.Producer != "" {
				t.Errorf("producer %q, blocks (-want +got):\n%s", b.Producer, diff)
			}
			switch refused := d.Refused(); {
			case test.refused == "" && len(refused) > 0, test.refused != "" && (len(refused) != 1 || !strings.Contains(refused[0].Reason, test.refused)):
				t.Errorf("refused = %v, want %q", refused, test.refused)
			}
		})
	}
}

func TestMessageIsRefused(t *testing.T) {
	device := ShardSubject{Site: "s", Device: "d", Kind: KindReadings}
	tests := map[string]struct {
		kind    string
		subject ShardSubject
		data    string
		want    string
	}{
		"empty":            {"", device, "", "empty"},
		"only white space": {"", device, " \n", "it ends"},
		"a command":        {"", ShardSubject{Site: "s", Device: "d", Kind: KindControl}, "{}", "command"},
		"protobuf as JSON": {TypeJSON, device, string(wire{}.bytes(6, one("d", 5, 1))), "byte 0"},
		"JSON as protobuf": {TypeProtobuf, device, `{"values":[1]}`, "not a Batch"},
		"too long":         {"", device, "[" + strings.Repeat(" ", MaxMessage) + "]", "1048576"},
		"plain text":       {"", device, "12.5", "nor JSON"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var b Batch
			err := d.Message(test.kind, test.subject, []byte(test.data), &b)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error = %v, want one about %q that wraps ErrInvalid", err, test.want)
			}
		})
	}
}

func TestRefusedIsOfTheLastMessage(t *testing.T) {
	var d Decoder
	var b Batch
	device := ShardSubject{Site: "s", Device: "d", Kind: KindReadings}
	if err := d.Message("", device, []byte(`{}`), &b); err != nil || len(d.Refused()) != 1 {
		t.Fatalf("refused %v, error %v, want one refused", d.Refused(), err)
	}
	for _, data := range []string{`{"values":[1]}`, `{`, string(wire{}.bytes(6, one("d", 5, 1)))} {
		_ = d.Message("", device, []byte(`{}`), &b)
		_ = d.Message("", device, []byte(data), &b)
		if len(d.Refused()) != 0 {
			t.Errorf("after %q refused is %v, want none", data, d.Refused())
		}
	}
}
