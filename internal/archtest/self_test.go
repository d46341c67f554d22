package archtest

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestForbidden breaks each kind of rule once.
func TestForbidden(t *testing.T) {
	tests := []struct {
		dir, imports string
		why          string // part of the reason, "" = allowed
	}{
		{"messages", module + "/persistence", "depends on none"},
		{"messages/wirepb", module + "/messages", ""},
		{"messages", module + "/messages/wirepb", ""},
		{"actors", module + "/messages", ""},
		{"actors", module + "/messages/wirepb", ""},
		{"actors", module + "/persistence", ""},
		{"actors", module + "/persistence/pebble", "decided in cmd"},
		{"actors", module + "/stream", "no seed could reproduce"},
		{"actors", module + "/internal/config", "the core runs in the simulation"},
		{"persistence", module + "/persistence/redis", "cannot have a second one"},
		{"persistence/redis", module + "/persistence", ""},
		{"persistence/redis", module + "/persistence/pebble", "a store keeps what it is given"},
		{"stream", module + "/actors", "slip to the edge"},
		{"api", module + "/actors", "Fleet stands between"},
		{"internal/verify", module + "/stream", "leaves"},
		{"internal/verify", module + "/internal/simulate", ""},
		{"internal/testenv", module + "/messages", "foreign servers"},
		{"cmd/wellhead", module + "/persistence/pebble", ""},
		{"cmd/wellhead", module + "/tests", "the binary connects"},
		{"tests", module + "/actors", "speak only HTTP and NATS"},
		{"actors", "github.com/nats-io/nats.go/jetstream", "how messages travel"},
		{"stream", "github.com/nats-io/nats.go/jetstream", ""},
		{"api", "github.com/nats-io/nats-server/v2/server", "embeds the server"},
		{"actors", "github.com/gocql/gocql", "all CQL stands together"},
		{"persistence/cassandra", "github.com/scylladb/gocqlx/v2", ""},
		{"persistence/pebble", "github.com/redis/go-redis/v9", "one implementation of Snapshots"},
		{"persistence", "github.com/asynkron/protoactor-go/actor", "thin shells"},
		{"actors", "golang.org/x/sync/errgroup", ""},
	}
	for _, test := range tests {
		got := forbidden(test.dir, test.imports)
		if test.why == "" && got != "" || test.why != "" && !strings.Contains(got, test.why) {
			t.Errorf("%s imports %s: got %q, want %q", test.dir, test.imports, got, test.why)
		}
	}
}

// TestChecksFind runs the checks over a small repository with one of each mistake.
func TestChecksFind(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	repository := fstest.MapFS{
		"actors/a.go":      file("package actors\nimport _ \"" + module + "/stream\"\n"),
		"actors/a_test.go": file("package actors\nimport \"time\"\nfunc f() { time.Sleep(1) }\n"),
		"actors/b_test.go": file("package actors\nimport (\"time\"; \"testing/synctest\")\nfunc f() { synctest.Test(nil, func(t any) { time.Sleep(1) }) }\n"),
		"actors/c_test.go": file("package actors\n// time.Sleep(1) is not called here.\nimport _ \"" + module + "/stream\"\n"),
		"actors/d_test.go": file("package actors\nimport \"time\"\nfunc f() { deadline := time.Now()\nfor time.Now().Before(deadline) { time.Sleep(1) } }\n"),
		"docs/a.md":        file("see\n/work/main/actors and /worker/ and https://example.com/registry\n"),
		".cache/a.md":      file("/work/main\n"),
		"tools/a.md":       file("/root/go\n"),
	}
	var places []string
	for _, problem := range append(append(checkImports(t, repository), checkSleeps(t, repository)...), checkStrangers(t, repository)...) {
		place, _, _ := strings.Cut(problem, " ")
		places = append(places, place)
	}
	want := []string{"actors/a.go", "actors/a_test.go:3:12:", "docs/a.md:2"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
