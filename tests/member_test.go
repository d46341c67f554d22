package tests

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wellhead-tests")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = os.Getenv("WELLHEAD_BINARY")
	if binary == "" {
		binary = filepath.Join(dir, "wellhead")
		build := exec.Command("go", "build", "-o", binary, "../cmd/wellhead")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build the binary:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	testenv.StopShared()
	os.RemoveAll(dir)
	os.Exit(code)
}

// member is a running `wellhead serve`, which can be killed and started again on the same data and ports.
type member struct {
	t    *testing.T
	args []string
	http string // http://host:port
	nats string // nats://host:port
	mqtt string // host:port
	log  *os.File
	with string // the program, when it is another than the one under test

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// startMember starts a member on free ports with its data in dir.
func startMember(t *testing.T, dir string, args ...string) *member {
	t.Helper()
	return startMemberOf(t, "", dir, args...)
}

// startMemberOf is startMember with another program, "" = the one under test.
func startMemberOf(t *testing.T, with, dir string, args ...string) *member {
	t.Helper()
	ports, err := testenv.FreePorts("127.0.0.1", 3)
	if err != nil {
		t.Fatal(err)
	}
	address := func(i int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[i])) }
	log, err := os.Create(filepath.Join(t.TempDir(), "member.log"))
	if err != nil {
		t.Fatal(err)
	}
	m := &member{
		t: t, http: "http://" + address(0), nats: "nats://" + address(1), mqtt: address(2), log: log, with: with,
		args: append([]string{"serve", "--data", dir, "--http", address(0), "--nats", address(1), "--mqtt", address(2)}, args...),
	}
	t.Cleanup(func() {
		m.kill()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the end of the member's log:\n%s", text[max(0, len(text)-6000):])
		}
	})
	m.start()
	return m
}

// start starts the process and waits until it is ready.
func (m *member) start() {
	m.t.Helper()
	m.launch()
	testenv.Eventually(m.t, 90*time.Second, func() error {
		select {
		case <-m.done:
			return errors.New("the member has ended")
		default:
		}
		return m.get("/readyz", nil)
	})
}

func (m *member) launch() {
	m.t.Helper()
	cmd := exec.Command(cmp.Or(m.with, binary), m.args...)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	m.mu.Lock()
	m.cmd, m.done = cmd, done
	m.mu.Unlock()
}

// kill is kill -9.
func (m *member) kill() {
	m.mu.Lock()
	cmd, done := m.cmd, m.done
	m.mu.Unlock()
	_ = cmd.Process.Kill()
	<-done
}

// stop is SIGTERM: the member hands everything over and ends.
func (m *member) stop() {
	m.t.Helper()
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.done:
	case <-time.After(60 * time.Second):
		m.t.Fatal("the member did not end within a minute of SIGTERM")
	}
}

// get asks the member and decodes the answer, if v is not nil.
func (m *member) get(path string, v any) error {
	return m.request(http.MethodGet, path, "", v)
}

func (m *member) request(method, path, body string, v any) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	return ask(ctx, http.DefaultClient, m.http, method, path, body, v)
}

// ask sends a request with a body of JSON, or none, and reads the answer into v: as JSON, or as it is into a string.
func ask(ctx context.Context, client *http.Client, server, method, path, body string, v any) error {
	r, err := http.NewRequestWithContext(ctx, method, server+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if v == nil {
		return nil
	}
	if raw, ok := v.(*string); ok {
		*raw = string(text)
		return nil
	}
	return json.Unmarshal(text, v)
}

// run runs a subcommand to its end and returns standard output and the exit code.
func run(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	stdout, _, code = runWithin(t, 10*time.Minute, args...)
	return stdout, code
}

// runWithin runs a subcommand that should end within the limit: else it is killed and the code is -1.
func runWithin(t *testing.T, limit time.Duration, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, code = runQuietly(t, limit, args...)
	shown := args
	if most := 24; len(shown) > most { // many files
		shown = append(shown[:most:most], fmt.Sprintf("… and %d more", len(args)-most))
	}
	t.Logf("wellhead %s: exit %d\n%s%s", strings.Join(shown, " "), code, stdout, tail(stderr, 2000))
	return stdout, stderr, code
}

// runQuietly is runWithin without a word in the test's log.
func runQuietly(t *testing.T, limit time.Duration, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), code
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// verdict is what `wellhead verify --json` says.
type verdict struct {
	Sent, Stored, Checked, Missing, Different, Unexpected int64
}

// verify runs `wellhead verify` and wants everything to be there.
func verify(t *testing.T, args ...string) verdict {
	t.Helper()
	out, code := run(t, append([]string{"verify"}, append(args, "--json")...)...)
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("verify printed no JSON: %v: %s", err, out)
	}
	if code != 0 || v.Missing != 0 || v.Different != 0 || v.Unexpected != 0 || v.Checked != v.Sent || v.Sent == 0 {
		t.Errorf("verify: exit %d, %+v; want exit 0, all of sent checked, nothing missing, different or unexpected", code, v)
	}
	return v
}
