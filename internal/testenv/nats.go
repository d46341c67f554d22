package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// natsServer is the program's package, at the version that go.mod pins.
const natsServer = "github.com/nats-io/nats-server/v2"

// NATSServer is a running nats-server process of this test alone.
type NATSServer struct {
	server
	Addr string // host:port for clients
	Dir  string // its configuration, log and data
}

// built is nats-server, built at most once a process.
var built struct {
	once sync.Once
	path string
	err  error
}

// buildNATS builds nats-server into .cache from the module that go.mod pins, and returns its path. Go's
// build cache makes it a second when nothing has changed.
func buildNATS(ctx context.Context) (string, error) {
	built.once.Do(func() {
		dir := filepath.Join(root(), ".cache", "nats")
		if built.err = os.MkdirAll(dir, 0o755); built.err != nil {
			return
		}
		// Renamed when it is whole: packages are tested at the same time, and one may be running it.
		fresh := filepath.Join(dir, Unique("nats"))
		build := exec.CommandContext(ctx, "go", "build", "-o", fresh, natsServer)
		build.Dir = root()
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build nats-server: %w: %s", err, out)
			return
		}
		built.path = filepath.Join(dir, "nats-server")
		built.err = os.Rename(fresh, built.path)
	})
	return built.path, built.err
}

// StartNATS starts nats-server on a machine (nil = this one) with this configuration, which must have it listen for
// clients on addr, a loopback address or the machine's, and waits until it greets clients. Its configuration, log and (unless the
// configuration says otherwise by an absolute path) data are in dir and stay there.
func StartNATS(ctx context.Context, on *Machine, dir, addr, config string) (*NATSServer, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if err := on.mayListen(host); err != nil {
		return nil, err
	}
	bin, err := buildNATS(ctx)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	s := &NATSServer{Addr: addr, Dir: dir}
	s.run = func(ctx context.Context) (*process, error) {
		p, err := startProcess(on, filepath.Join(dir, "nats.log"), dir, bin, "-c", file)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := p.waitReady(ctx, func() error { return greeted(ctx, addr) }); err != nil {
			return nil, errors.Join(err, p.kill())
		}
		return p, nil
	}
	return s, s.Start(ctx)
}

// NATS starts a server for this test alone; it ends with the test. See StartNATS.
func NATS(t testing.TB, addr, config string) *NATSServer {
	t.Helper()
	s, err := StartNATS(t.Context(), nil, t.TempDir(), addr, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endWithTest(t, s.Kill, filepath.Join(s.Dir, "nats.log")) })
	return s
}

// greeted tells whether the server sends clients its first line.
func greeted(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "INFO ") {
		return fmt.Errorf("no greeting: %q, %w", line, err)
	}
	return nil
}
