package cassandra

import (
	"context"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/persistence"
)

// TestHealth has one server that says how it is, and one that is frozen and does not.
func TestHealth(t *testing.T) {
	o := testOptions(t)
	a := open(t, o)
	if err := a.Append(t.Context(), &persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("a", now())}}); err != nil {
		t.Fatal(err)
	}
	got := a.Health(t.Context())
	if len(got) != 1 || got[0].Err != nil || got[0].Server != o.Hosts[0] {
		t.Fatalf("got %+v, want the server %s, well", got, o.Hosts[0])
	}
	h := got[0]
	if h.Clients < 1 || len(h.Pools) < 4 {
		t.Errorf("got %d clients and the pools %v, want this client, and the pools that are watched", h.Clients, h.Pools)
	}
	if len(h.Tables) != 2 || h.Tables[0].Table != "readings" || h.Tables[1].Table != "rollups" {
		t.Fatalf("tables: got %+v, want readings and rollups", h.Tables)
	}
	if got := h.Tables[0].Writes; got != 1 {
		t.Errorf("got %d writes to readings, want 1", got)
	}
}

// TestHealthOfSilentServer freezes a server: it is told as one that does not answer, within the time given, and
// well again afterwards.
func TestHealthOfSilentServer(t *testing.T) {
	server := testenv.OwnCassandra(t, testenv.CassandraOptions{HeapMB: 512})
	a := open(t, Options{Hosts: []string{server.Addr}, Keyspace: "frozen", Shards: 2, Timeout: 2 * time.Second})
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	got := a.Health(ctx)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Err == nil || got[0].Server != server.Addr {
		t.Errorf("frozen: got %+v, want an error for %s", got, server.Addr)
	}
	testenv.Eventually(t, 30*time.Second, func() error { return a.Health(t.Context())[0].Err })
}
