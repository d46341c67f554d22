package messages

import (
	"errors"
	"strings"
	"testing"
)

func TestRejectKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := range RejectKind(RejectKinds) {
		got, ok := ParseRejectKind(k.String())
		if !ok || got != k || k.String() == "" || seen[k.String()] {
			t.Errorf("kind %d: %q comes back as %d, %v", k, k, got, ok)
		}
		seen[k.String()] = true
	}
	if k, ok := ParseRejectKind("nonsense"); ok || k != RejectOther {
		t.Errorf("an unknown word: got %v, %v", k, ok)
	}
}

func TestRejectRetry(t *testing.T) {
	const shards = 64
	id := DeviceID{Site: "demo", Device: "pump-1"} // shard 58
	block := []Block{{Device: "pump-1", Readings: []Reading{{Time: 1000, Values: []float64{1}}}}}
	counted := string(AppendBatch(nil, &Batch{Producer: "p", Run: 1, Sequence: 1, Blocks: block}))
	plain := string(AppendBatch(nil, &Batch{Blocks: block}))
	infinite := strings.Replace(counted, "\x3f", "\x7f", 1) // a value that is refused
	const arrival = 1767225600000
	for name, c := range map[string]struct {
		r        Reject
		repaired string
		subject  string // empty = refused
		data     string // empty = the original's, or the repaired
		reason   string
	}{
		"undecodable, as it was":            {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Data: []byte("{")}, subject: "shard.58.demo.pump-1"},
		"undecodable, repaired":             {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Data: []byte("{")}, repaired: `{"time":1,"values":[1]}`, subject: "shard.58.demo.pump-1"},
		"repaired and still wrong":          {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Data: []byte("{")}, repaired: `{"values":[`, reason: "repaired"},
		"repaired and a reading is refused": {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Data: []byte("{")}, repaired: `[{"time":1,"values":[1]},{"time":2}]`, reason: "reading 1"},
		"a time is given to what has none":  {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Arrival: arrival, Data: []byte("{")}, repaired: `{"values":[1]}`, subject: "shard.58.demo.pump-1", data: `{"time":"2026-01-01T00:00:00.000Z","values":[1]}`},
		"a time is left as it is":           {r: Reject{Subject: "shard.58.demo.pump-1", Index: 0, Device: id, Arrival: arrival, Data: []byte(`{"time":5,"values":[1]}`)}, subject: "shard.58.demo.pump-1"},
		"a reading in the wrong shard":      {r: Reject{Shard: 3, Subject: "shard.3.demo", Index: 7, Device: id, Data: []byte(`{"time":5,"values":[1]}`)}, subject: "shard.58.demo.pump-1"},
		"one that the archive refused":      {r: Reject{Subject: "shard.58.demo.pump-1", Index: RowIndex(5), Device: id, Data: []byte(`{"time":5,"values":[1]}`)}, subject: "shard.58.demo.pump-1"},
		"a whole batch":                     {r: Reject{Subject: "shard.58.demo", Index: -1, Data: []byte(counted)}, subject: "shard.58.demo"},
		"a reading of a counted batch":      {r: Reject{Subject: "shard.58.demo", Index: RefusedIndex(RefusedReading{}), Data: []byte(infinite)}, reason: "not applied twice"},
		"repaired with the producer":        {r: Reject{Subject: "shard.58.demo", Index: RefusedIndex(RefusedReading{}), Data: []byte(infinite)}, repaired: counted, reason: "not applied twice"},
		"repaired without the producer":     {r: Reject{Subject: "shard.58.demo", Index: RefusedIndex(RefusedReading{}), Data: []byte(infinite)}, repaired: plain, subject: "shard.58.demo"},
		"a command":                         {r: Reject{Subject: "shard.58.demo.pump-1.control", Index: -1, Data: []byte(`{"delete":{}}`)}, subject: "shard.58.demo.pump-1.control"},
		"a command, wrongly repaired":       {r: Reject{Subject: "shard.58.demo.pump-1.control", Index: -1, Data: []byte(`{}`)}, repaired: `{"delete":{},"trim":{}}`, reason: "exactly one"},
		"what no shard takes":               {r: Reject{Kind: RejectStray, Subject: "readings.demo", Index: -1, Data: []byte(`{}`)}, reason: "no shard takes"},
		"nothing":                           {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1}, reason: "empty"},
		"too much":                          {r: Reject{Subject: "shard.58.demo.pump-1", Index: -1, Data: []byte("{")}, repaired: strings.Repeat(" ", MaxMessage+1), reason: "at most"},
		"a subject that says nothing":       {r: Reject{Subject: "shard.x", Index: -1, Data: []byte("{")}, reason: "origin"},
	} {
		t.Run(name, func(t *testing.T) {
			var repaired []byte
			want := string(c.r.Data)
			if c.repaired != "" {
				repaired, want = []byte(c.repaired), c.repaired
			}
			if c.data != "" {
				want = c.data
			}
			subject, data, _, err := c.r.Retry(shards, repaired, "")
			if c.subject == "" {
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("got %v, want one that is invalid and speaks of %q", err, c.reason)
				}
				return
			}
			if err != nil || subject != c.subject || string(data) != want {
				t.Errorf("got %s %q, %v; want %s %q", subject, data, err, c.subject, want)
			}
		})
	}
}
