package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestSchemaOnCassandra asks for the schema before there is one, migrates nothing, and asks again when a member has
// made it, also while that runs.
func TestSchemaOnCassandra(t *testing.T) {
	dir, keyspace := t.TempDir(), testenv.Unique("schema")
	file := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("shards: 4\narchive: cassandra\ncassandra:\n  hosts: [%q]\n  keyspace: %s\n", testenv.Cassandra(t).Addr, keyspace)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	want := func(what, says string) {
		t.Helper()
		out, code := run(t, "schema", what, "--data", data, "--config", file)
		if code != 0 || !strings.Contains(out, "cassandra keyspace "+keyspace+": "+says) {
			t.Errorf("schema %s: exit %d: %s; want %q", what, code, out, says)
		}
	}
	want("status", "no data yet")
	want("migrate", "no data yet")
	m := startMember(t, data, "--config", file)
	var sites map[string]any
	if err := m.get("/api/v1/sites", &sites); err != nil {
		t.Fatal(err)
	}
	m.stop()
	want("status", "version 1, this program's is 1")
	want("migrate", "version 1, this program's is 1")
}
