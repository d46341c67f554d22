package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wellhead.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDefaults(t *testing.T) {
	c := Default()
	if c.HTTP != "127.0.0.1:8080" || c.NATS != "127.0.0.1:4222" || c.MQTT != "127.0.0.1:1883" || c.WebSocket != "" {
		t.Errorf("addresses: got %q %q %q %q", c.HTTP, c.NATS, c.MQTT, c.WebSocket)
	}
	if c.Shards != 64 || c.Archive != "pebble" || c.Snapshots != "pebble" || c.Stream.Server != "embedded" || c.Stream.Sync != time.Second {
		t.Errorf("stores: got %+v", c)
	}
	if c.Limits.InFlight != 256<<20 || c.Limits.MaxFuture != 10*time.Minute || c.Window.Count != 60 || c.Cassandra.Bucket != time.Hour {
		t.Errorf("limits: got %+v %+v", c.Limits, c.Window)
	}
}

// Company is what makes chunks cheap, so they wait longer for it, unless somebody says how long.
func TestFlushAgeGoesByTheLayout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"archive: pebble":                                                               time.Second,
		"archive: pebble\nlayout: chunks":                                               time.Second,
		"archive: cassandra\ncassandra.hosts: a":                                        time.Second,
		"archive: cassandra\ncassandra.hosts: a\nlayout: chunks":                        5 * time.Second,
		"archive: cassandra\ncassandra.hosts: a\nlayout: chunks\nwork.flush-age: 250ms": 250 * time.Millisecond,
	} {
		c, err := Load(write(t, text), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Work.FlushAge != want {
			t.Errorf("%q: got %v, want %v", text, c.Work.FlushAge, want)
		}
	}
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, `
# a comment
name: from-file
shards: 16
stream: nats://10.0.0.1:4222,nats://10.0.0.2:4222
stream.sync: always
limits:
  in-flight: 512MiB
  max-age: 30d
window.count: 100
cassandra: {hosts: [a, "b:9043"], replication: {dc1: 3, dc2: 2}}
archive: cassandra
redis:
`)
	env := []string{"WELLHEAD_SHARDS=32", "WELLHEAD_LIMITS_IN_FLIGHT=1GiB", "WELLHEAD_TEST_CASSANDRA=x:1", "WELLHEAD_SERVICE_HOST=10.1.1.1", "HOME=/"}
	c, err := Load(file, env, map[string]string{"shards": "8", "http": "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Name, c.Shards, c.Limits.InFlight, c.Limits.MaxAge, c.Window.Count, c.Stream.Sync, c.HTTP, c.Cassandra.Hosts, c.Cassandra.Replication, c.Unknown}
	want := []any{"from-file", 8, int64(1 << 30), 30 * 24 * time.Hour, 100, time.Duration(0), "127.0.0.1:0", []string{"a", "b:9043"}, map[string]int{"dc1": 3, "dc2": 2}, []string{"WELLHEAD_SERVICE_HOST"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesHaveALine(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // line: key: message, the file's name cut off
	}{
		{"unknown key", "name: a\nsharts: 3\n", []string{"2: sharts: there is no such setting; did you mean shards?"}},
		{"unknown in a group", "limits:\n  body: 1MiB\n  bodys: 1\n", []string{"3: limits.bodys: there is no such setting; did you mean limits.body?"}},
		{"far from all", "teapot: 1\n", []string{"1: teapot: there is no such setting; docs/operations.md lists them all"}},
		{"several, all told", "shards: many\n\nhttp: 8080\nlimits.query: 5\nlimits.in-flight: 3 pigs\narchive: tape\n", []string{
			`1: shards: "many" is not a whole number`,
			`3: http: "8080" is not an address: write host:port, like 127.0.0.1:8080`,
			`4: limits.query: "5" is not a duration: write a number with its unit, like 500ms, 10s, 15m, 1h or 30d`,
			`5: limits.in-flight: "3 pigs" is not a size: write a number of bytes, or with a unit, like 256KiB, 16MiB or 1GB`,
			`6: archive: "tape" is not one of pebble, cassandra`,
		}},
		{"twice", "limits.body: 1MiB\nlimits:\n  body: 2MiB\n", []string{"3: limits.body: it is given twice"}},
		{"not yaml", "a: b\n  c: d\n", []string{"2: not YAML: mapping values are not allowed in this context"}},
		{"a list of nothing we know", "- a\n", []string{"1: settings are written as `key: value` here"}},
		{"list for a scalar", "name: [a, b]\n", []string{"1: name: one value is wanted here"}},
		{"out of range", "shards: 0\n", []string{"1: shards: 0 is not between 1 and 4096"}},
		{"together", "archive: cassandra\n", []string{"cassandra.hosts: archive is cassandra, so name at least one host"}},
		{"class too short", "retention:\n  raw: 90m\n", []string{"1: retention: raw: 90m: write 0 (for ever), or at least 2h: the rollup of the running hour is made anew from its readings where a snapshot is missing"}},
		{"class of no name", "rollup-retention:\n  \"a b\": 3h\n", []string{`1: rollup-retention: "a b": a class has a name of 1 to 64 letters, digits, _ and -`}},
		{"open to all", "name: a\nnats: 0.0.0.0:4222\n", []string{
			"2: nats: 0.0.0.0:4222 can be reached from other machines, and anybody there could read and write everything; listen on 127.0.0.1, or make credentials with `wellhead site add` and set credentials: true",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text)
			var got []string
			for _, p := range Check(file) {
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(p.Error(), file), ":"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := Load(file, nil, nil); err == nil {
				t.Error("Load took it")
			}
		})
	}
}

func TestMistakesOutsideTheFile(t *testing.T) {
	_, err := Load("", []string{"WELLHEAD_SHARDS=x"}, map[string]string{"htp": ":1"})
	want := "--htp: there is no such setting; did you mean http?\nWELLHEAD_SHARDS: \"x\" is not a whole number"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Load(filepath.Join(t.TempDir(), "none.yaml"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "none.yaml: cannot be read: no such file") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyLoopbackWithoutCredentials(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:0": true,
		":8080": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.org:1": false, "nonsense": false,
	} {
		if got := Loopback(addr); got != want {
			t.Errorf("Loopback(%q): got %v, want %v", addr, got, want)
		}
	}
	for _, tt := range []struct {
		flags map[string]string
		bad   string
	}{
		{map[string]string{"nats": ":4222"}, "nats"},
		{map[string]string{"nats": ":4222", "credentials": "true"}, ""},
		{map[string]string{"http": ":80", "credentials": "true"}, "http"},
		{map[string]string{"http": ":80", "http-anonymous": "true"}, ""},
		{map[string]string{"mqtt": "", "nats-ws": "", "http": "", "nats": ""}, ""},
	} {
		_, err := Load("", nil, tt.flags)
		switch {
		case tt.bad == "" && err != nil:
			t.Errorf("%v: got %v, want none", tt.flags, err)
		case tt.bad != "" && (err == nil || !strings.HasPrefix(err.Error(), "--"+tt.bad+": ")):
			t.Errorf("%v: got %v, want a complaint about %s", tt.flags, err, tt.bad)
		}
	}
}

func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]string{}
	for i := range Keys {
		k := &Keys[i]
		if k.Doc == "" || k.kind == "" || k.set == nil {
			t.Errorf("%s: incomplete", k.Name)
		}
		for _, name := range []string{k.Name, k.Env()} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s and %s share %s", other, k.Name, name)
			}
			seen[name] = k.Name
		}
		if !strings.Contains(Markdown(), "| `"+k.Name+"` |") {
			t.Errorf("%s is not in the documentation", k.Name)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "1KiB": 1024, "1.5 MiB": 3 << 19, "2GB": 2e9, "3B": 3} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q): got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "x", "1 XB", "1e300TiB", "NaN"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q): got %d, want an error", text, got)
		}
	}
	for text, want := range map[string]time.Duration{"0": 0, "30d": 720 * time.Hour, "0.5d": 12 * time.Hour, "1m30s": 90 * time.Second} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("parseDuration(%q): got %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a: b\nlimits: {body: 1}\n")
	f.Add("stream: &x embedded\narchive: *x\n")
	f.Add("limits: &a\n  body: 1\nwindow: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, problems := parse("f", []byte(text))
		if l == nil && len(problems) == 0 {
			t.Error("neither settings nor problems")
		}
	})
}
