package tests

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestCredentials gives sites credentials and takes one away while the member runs. Each may send for
// its own site and no other; without one nobody may, from the first on, nor after a restart; what was
// refused is not stored. One credential is left: without any, loopback would be open again.
func TestCredentials(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	m := startMember(t, dir)
	flags := []string{"--devices", "5", "--readings", "20", "--start", "2026-03-01T00:00:00Z", "--seed", "4"}
	simulate := func(site string, more ...string) (stderr string, code int) {
		t.Helper()
		args := append([]string{"simulate", "--server", m.nats, "--rate", "max", "--deadline", "10s", "--site", site}, flags...)
		_, stderr, code = runWithin(t, 20*time.Second, append(args, more...)...)
		return stderr, code
	}
	site := func(args ...string) string {
		t.Helper()
		out, stderr, code := runWithin(t, 20*time.Second, append([]string{"site"}, append(args, "--server", m.http, "--data", dir)...)...)
		if code != 0 {
			t.Fatalf("wellhead site %v: exit %d: %s", args, code, stderr)
		}
		return out
	}
	if _, code := simulate("before"); code != 0 {
		t.Errorf("without any credential loopback is open: exit %d", code)
	}
	anonymous := m.mayConnect()

	first, second := filepath.Join(files, "s1.creds"), filepath.Join(files, "s2.creds")
	site("add", "s1", "--out", first)
	site("add", "s2", "--out", second)
	if got := strings.Fields(site("list")); strings.Join(got, " ") != "s1 s2" {
		t.Errorf("site list: got %q, want s1 and s2", got)
	}
	if info, err := os.Stat(first); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the credential file: %v, error %v; want one that only its owner reads", info.Mode(), err)
	}
	m.wantClosed(anonymous, "nobody, after the first credential")
	m.mayNotConnect()
	wantRefused(t, "without a credential", `does not take this credential.*--creds`)(simulate("s1"))

	if _, code := simulate("s1", "--creds", first, "--stored"); code != 0 {
		t.Errorf("s1 with its credential: exit %d", code)
	}
	wantRefused(t, "s1 for s2", `does not allow .*[Pp]ermission.*s2`)(simulate("s2", "--creds", first))
	wantRefused(t, "s1 for s2, one by one", `does not allow .*[Pp]ermission.*s2`)(simulate("s2", "--creds", first, "--single"))

	own := m.mayConnect(nats.UserInfo("s1", password(t, first)), nats.CustomInboxPrefix("_INBOX_s1"))
	sendOwnAndOther(t, own)
	m.mayNotConnect(nats.UserInfo("s1", password(t, second)))
	m.mayNotConnect(nats.UserInfo("s2", password(t, first)))

	site("remove", "s1")
	m.wantClosed(own, "s1, after its removal")
	m.mayNotConnect(nats.UserInfo("s1", password(t, first)))
	wantRefused(t, "s1 after its removal", "does not take this credential")(simulate("s1", "--creds", first))

	_, stderr, code := runWithin(t, 20*time.Second, "site", "remove", "s2", "--server", m.http, "--data", dir)
	wantRefused(t, "the last credential's removal", "last credential")(stderr, code)

	m.kill()
	m.start()
	m.mayNotConnect()
	m.mayNotConnect(nats.UserInfo("s1", password(t, first)))
	sendOne(t, m.mayConnect(nats.UserInfo("s2", password(t, second)), nats.CustomInboxPrefix("_INBOX_s2")), "readings.s2.own")
	verify(t, append([]string{"simulate", "--server", m.http, "--site", "s1"}, flags...)...)
	testenv.Eventually(t, 10*time.Second, func() error {
		var s2 struct{ Devices []struct{ Device string } }
		err := m.get("/api/v1/sites/s2/devices", &s2)
		if err == nil && (len(s2.Devices) != 1 || s2.Devices[0].Device != "own") {
			err = fmt.Errorf("devices of s2: got %v, want only what s2 has sent itself", s2.Devices)
		}
		return err
	})
}

// addSite makes a site's credential at a member with that data folder and returns its password. From then on everybody needs one.
func (m *member) addSite(site, data string) string {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), site+".creds")
	if _, stderr, code := runWithin(m.t, 20*time.Second, "site", "add", site, "--server", m.http, "--data", data, "--out", file); code != 0 {
		m.t.Fatalf("wellhead site add: exit %d: %s", code, stderr)
	}
	return password(m.t, file)
}

// wantRefused wants a subcommand to have failed with an error that matches.
func wantRefused(t *testing.T, what, pattern string) func(stderr string, code int) {
	return func(stderr string, code int) {
		t.Helper()
		last := lastLine(stderr)
		if code <= 0 || !strings.HasPrefix(last, "wellhead: ") || !regexp.MustCompile(pattern).MatchString(last) {
			t.Errorf("%s: exit %d, %q; want a failure that speaks of %q", what, code, last, pattern)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// mayConnect opens a connection that is not opened again when it is closed.
func (m *member) mayConnect(options ...nats.Option) *nats.Conn {
	m.t.Helper()
	nc, err := nats.Connect(m.nats, append(options, nats.NoReconnect())...)
	if err != nil {
		m.t.Fatalf("connect: %v", err)
	}
	m.t.Cleanup(nc.Close)
	return nc
}

// mayNotConnect wants a connection to be refused.
func (m *member) mayNotConnect(options ...nats.Option) {
	m.t.Helper()
	nc, err := nats.Connect(m.nats, append(options, nats.NoReconnect())...)
	if err == nil {
		nc.Close()
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		m.t.Errorf("connect: got %v, want %v", err, nats.ErrAuthorization)
	}
}

// wantClosed waits until the member closes a connection: it hears of a changed credential a moment later.
func (m *member) wantClosed(nc *nats.Conn, whose string) {
	m.t.Helper()
	testenv.Eventually(m.t, 10*time.Second, func() error {
		if !nc.IsClosed() {
			return fmt.Errorf("the connection of %s is still open", whose)
		}
		return nil
	})
}

// sendOwnAndOther sends as any NATS client would: for its own site it gets the stream's
// acknowledgement, for another site the server says no.
func sendOwnAndOther(t *testing.T, nc *nats.Conn) {
	t.Helper()
	sendOne(t, nc, "readings.s1.other") // not a device that is simulated
	refused := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	for _, subject := range []string{"readings.s2.pump", "batches.s2.0", "control.s1.pump"} {
		if err := nc.Publish(subject, []byte(`{"values":[1]}`)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("s1 to %s: got %v, want %v", subject, err, nats.ErrPermissionViolation)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("s1 to %s: not refused", subject)
		}
	}
}

// sendOne sends a reading and wants the stream's acknowledgement.
func sendOne(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	answer, err := nc.Request(subject, []byte(`{"values":[1]}`), 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if !strings.Contains(string(answer.Data), `"seq"`) {
		t.Errorf("%s: got %s, want an acknowledgement", subject, answer.Data)
	}
}

// password reads a credential file of `wellhead site add`.
func password(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^password: (\S+)$`).FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("no password in %s", file)
	}
	return found[1]
}

// TestServeStaysOnLoopback wants a member without credentials not to listen where others could reach it.
// The port is taken on loopback, so that not even a member that is wrong about this opens a door.
func TestServeStaysOnLoopback(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, door := range []string{"http", "nats", "mqtt", "nats-ws"} {
		for _, host := range []string{"0.0.0.0", "::", "", "192.0.2.1"} { // the last is nobody's (RFC 5737)
			address := net.JoinHostPort(host, port)
			args := []string{"serve", "--data", filepath.Join(t.TempDir(), "data")}
			for _, other := range []string{"http", "nats", "mqtt"} {
				args = append(args, "--"+other, "127.0.0.1:0")
			}
			stdout, stderr, code := runWithin(t, 10*time.Second, append(args, "--"+door, address)...)
			want := fmt.Sprintf("wellhead: --%s: %s can be reached from other machines", door, address)
			if code != 2 || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "listen on 127.0.0.1") {
				t.Errorf("serve --%s %s: exit %d, %q %q; want exit 2 and %q", door, address, code, stdout, stderr, want)
			}
		}
	}
}

// TestCredentialsRequired: a member that is told to want credentials wants them while there is none.
func TestCredentialsRequired(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "member.yaml")
	if err := os.WriteFile(config, []byte("credentials: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMember(t, filepath.Join(dir, "data"), "--config", config)
	m.mayNotConnect()
}
