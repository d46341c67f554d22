package api

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzSplitArray compares with the standard library wherever that understands the whole.
func FuzzSplitArray(f *testing.F) {
	for _, seed := range []string{`[]`, `[1]`, ` [ {"a":[1,{}]} , "],\"" ,null ]`, `["\\",{"}":"]"}]`, `[,]`, `[1,]`, `[[1,2],[3]]`, `["\u005d"]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.TrimSpace(data)
		if len(data) == 0 || data[0] != '[' {
			return
		}
		got, err := splitArray(data)
		var want []json.RawMessage
		if json.Unmarshal(data, &want) != nil {
			return
		}
		if err != nil {
			t.Fatalf("%s: got %v, want %d elements", data, err, len(want))
		}
		if len(got) != len(want) {
			t.Fatalf("%s: got %d elements, want %d", data, len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], bytes.TrimSpace(want[i])) {
				t.Errorf("%s: element %d: got %s, want %s", data, i, got[i], want[i])
			}
		}
	})
}

func TestOutboxIsBounded(t *testing.T) {
	q := &outbox{limit: 100, more: make(chan struct{}, 1)}
	for i := range 10 {
		q.add("reading", bytes.Repeat([]byte{byte('0' + i)}, 20), 0)
	}
	if q.bytes > q.limit {
		t.Errorf("holds %d bytes, at most %d are allowed", q.bytes, q.limit)
	}
	take := func() string { b, _ := q.take(nil); return string(b) }
	got := take()
	want := "event: lost\ndata: {\"lost\":8}\n\n" +
		"event: reading\ndata: 88888888888888888888\n\n" + "event: reading\ndata: 99999999999999999999\n\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	q.add("reading", make([]byte, 200), 3) // larger than all that fits
	if got, want := take(), "event: lost\ndata: {\"lost\":4}\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	q.add("reading", []byte("a\nb"), 0)
	if got, want := take(), "event: reading\ndata: a\ndata: b\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
