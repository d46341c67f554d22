package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// answers is a fleet that was sent to site v: 20 devices of 50 readings, one a second from answersStart.
var answers = []string{
	"--site", "v", "--devices", "20", "--readings", "50", "--interval", "1s", "--start", answersStart, "--seed", "5",
}

const answersStart = "2026-03-01T00:00:00Z"

// sendAnswers sends the fleet, waits until it is stored, and wants verify to find it good.
func (m *member) sendAnswers() {
	m.t.Helper()
	if _, code := run(m.t, append([]string{"simulate", "--server", m.nats, "--rate", "max", "--stored"}, answers...)...); code != 0 {
		m.t.Fatalf("simulate: exit %d", code)
	}
	verify(m.t, append([]string{"simulate", "--server", m.http}, answers...)...)
}

// finding is what `wellhead verify --json` says when the answer is no.
type finding struct {
	Sent, Missing, Different, Unexpected int64
	Differences                          []string
}

// finds runs verify once, without waiting; later flags win.
func (m *member) finds(t *testing.T, more ...string) (finding, int) {
	t.Helper()
	args := append([]string{"verify", "simulate", "--server", m.http, "--wait", "0s", "--json"}, answers...)
	out, stderr, code := runWithin(t, 30*time.Second, append(args, more...)...)
	var f finding
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatalf("verify printed no JSON: exit %d, %v: %s%s", code, err, out, stderr)
	}
	return f, code
}

// TestVerifyAnswersNo wants verify to say no, and where, when it is asked for what was not sent or what
// is not there any more; and to tell a no from wrong use and from a server that is not there.
func TestVerifyAnswersNo(t *testing.T) {
	m := startMember(t, t.TempDir())
	m.sendAnswers()
	const at = ` v/dev-0000\d\d at 2026-03-01T00:0\d:\d\d\.000Z`
	tests := []struct {
		name    string
		flags   []string
		want    finding // Different 1 stands for some
		pattern string  // of each difference
	}{
		{"another seed", []string{"--seed", "6"}, finding{Sent: 1000, Different: 1}, `^different:` + at + `, sent \[.*\].*, stored \[.*\]`},
		{"a device more", []string{"--devices", "21"}, finding{Sent: 1050, Missing: 50}, `^missing:` + at + `, sent \[.*\]`},
		{"no last readings", []string{"--readings", "60"}, finding{Sent: 1200, Missing: 200}, `^missing:` + at + `, sent \[.*\]`},
		{"half of the times", []string{"--readings", "25", "--interval", "2s"}, finding{Sent: 500, Unexpected: 480}, `^unexpected:` + at + ` has \[.*\]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, code := m.finds(t, test.flags...)
			if code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			if min(got.Different, 1) != test.want.Different || got.Sent != test.want.Sent || got.Missing != test.want.Missing || got.Unexpected != test.want.Unexpected {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if len(got.Differences) == 0 {
				t.Error("no difference is named")
			}
			for _, d := range got.Differences {
				if !regexp.MustCompile(test.pattern).MatchString(d) {
					t.Errorf("difference %q, want one that matches %q", d, test.pattern)
				}
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		ports, err := testenv.FreePorts("127.0.0.1", 1)
		if err != nil {
			t.Fatal(err)
		}
		server := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
		stdout, stderr, code := runWithin(t, 30*time.Second, append([]string{"verify", "simulate", "--server", server}, answers...)...)
		if code != 3 || stdout != "" || !strings.Contains(stderr, server+" cannot be reached") {
			t.Errorf("exit %d, %q %q; want exit 3 and that the server cannot be reached", code, stdout, stderr)
		}
	})
	t.Run("wrong use", func(t *testing.T) {
		for _, wrong := range [][]string{{"--no-such-flag"}, {"--devices", "many"}, {"--start", "yesterday"}, {"--site", "a b"}, {"extra"}} {
			stdout, stderr, code := runWithin(t, 30*time.Second, append(append([]string{"verify", "simulate", "--server", m.http}, answers...), wrong...)...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, strings.TrimLeft(wrong[0], "-")) {
				t.Errorf("%q: exit %d, %q %q; want exit 2 and what is wrong", wrong, code, stdout, stderr)
			}
		}
	})
	t.Run("a deleted device", func(t *testing.T) { deletedDevice(t, m) })
}

// deletedDevice deletes a device over HTTP: all that it has sent is missing, and nothing else.
func deletedDevice(t *testing.T, m *member) {
	if err := m.request("DELETE", "/api/v1/sites/v/devices/dev-000007", "", nil); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error { // it takes effect in the order of the shard
		f, code := m.finds(t)
		if code != 1 || f.Missing != 50 || f.Different != 0 || f.Unexpected != 0 {
			return fmt.Errorf("verify: exit %d, %+v; want exit 1 and 50 missing", code, f)
		}
		for i, d := range f.Differences {
			if want := fmt.Sprintf("missing: v/dev-000007 at 2026-03-01T00:00:%02d.000Z, sent [", i); !strings.HasPrefix(d, want) {
				t.Errorf("difference %d: got %q, want %q…", i, d, want)
			}
		}
		return nil
	})
}

// TestVerifyAnswersNoCassandra lets somebody change real Cassandra by hand: one row is taken away, one
// changed, one made up. Verify finds and names exactly these.
func TestVerifyAnswersNoCassandra(t *testing.T) {
	const shards = 64
	server, keyspace := testenv.Cassandra(t), testenv.Unique("answers")
	config := filepath.Join(t.TempDir(), "wellhead.yaml")
	text := fmt.Sprintf("archive: cassandra\nshards: %d\ncassandra:\n  hosts: [%q]\n  keyspace: %s\n  groups: 1\n  bucket: 1h\n", shards, server.Addr, keyspace)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMember(t, t.TempDir(), "--config", config)
	m.sendAnswers()

	start, err := time.Parse(time.RFC3339, answersStart)
	if err != nil {
		t.Fatal(err)
	}
	// row is the key of one row, as columns of an INSERT and as a WHERE.
	row := func(device string, at time.Duration) (values, where string) {
		shard := messages.ShardOf(messages.DeviceID{Site: "v", Device: device}, shards)
		ms := start.Add(at).UnixMilli()
		bucket := ms / time.Hour.Milliseconds()
		return fmt.Sprintf("%d, 0, %d, 'v', '%s', %d", shard, bucket, device, ms),
			fmt.Sprintf("shard = %d AND grp = 0 AND bucket = %d AND site = 'v' AND device = '%s' AND time = %d", shard, bucket, device, ms)
	}
	execute := func(format string, args ...any) {
		t.Helper()
		if err := server.Execute(t.Context(), fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(want finding) {
		t.Helper()
		got, code := m.finds(t)
		for i, d := range got.Differences { // what was sent or is stored follows the time
			got.Differences[i], _, _ = strings.Cut(d, "Z")
		}
		if diff := cmp.Diff(want, got); diff != "" || code != 1 {
			t.Errorf("verify: exit %d, want 1; (-want +got):\n%s", code, diff)
		}
	}

	const missing = "missing: v/dev-000007 at 2026-03-01T00:00:13.000"
	_, where := row("dev-000007", 13*time.Second)
	execute("DELETE FROM %s.readings WHERE %s", keyspace, where)
	wants(finding{Sent: 1000, Missing: 1, Differences: []string{missing}})

	_, where = row("dev-000007", 21*time.Second)
	execute("UPDATE %s.readings SET vals = [1, 2, 3, 4] WHERE %s", keyspace, where)
	values, _ := row("dev-000007", 30500*time.Millisecond)
	execute("INSERT INTO %s.readings (shard, grp, bucket, site, device, time, vals, sequence) VALUES (%s, [1], 1)", keyspace, values)
	wants(finding{Sent: 1000, Missing: 1, Different: 1, Unexpected: 1, Differences: []string{
		missing,
		"different: v/dev-000007 at 2026-03-01T00:00:21.000",
		"unexpected: v/dev-000007 at 2026-03-01T00:00:30.500",
	}})
}
