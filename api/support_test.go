package api_test

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wellhead/wellhead/messages"
)

// serve runs a server as it is, with its own time limits.
func serve(t *testing.T, server *http.Server) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(server.Handler)
	s.Config = server
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// readBatches takes an answer apart: batches with their lengths before them.
func readBatches(t *testing.T, data []byte, device string) (out []messages.Reading) {
	t.Helper()
	for len(data) > 0 {
		n, used := binary.Uvarint(data)
		if used <= 0 || uint64(len(data)-used) < n {
			t.Fatalf("damaged length at %d bytes before the end", len(data))
		}
		b := decodeBatch(t, data[used:used+int(n)])
		data = data[used+int(n):]
		if len(b.Blocks) != 1 || b.Blocks[0].Device != device {
			t.Fatalf("got %d blocks, want one of %s", len(b.Blocks), device)
		}
		out = append(out, b.Blocks[0].Readings...)
	}
	return out
}

func decodeBatch(t *testing.T, data []byte) messages.Batch {
	t.Helper()
	var d messages.Decoder
	var b messages.Batch
	if err := d.Batch(data, &b); err != nil {
		t.Fatal(err)
	}
	return b
}
