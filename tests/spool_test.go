package tests

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestSpoolPython kills the example client in Python and the member, kill -9, and wants every reading
// stored that the client said was on its disk.
func TestSpoolPython(t *testing.T) {
	python, err := filepath.Abs(filepath.Join("..", ".cache", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		testenv.Missing(t, "nats-py", "scripts/setup")
	}
	spooling(t, python, filepath.Join("..", "examples", "clients", "spool.py"))
}

// TestSpoolNode is the same for the one in JavaScript.
func TestSpoolNode(t *testing.T) {
	if _, err := os.Stat(filepath.Join("..", "examples", "clients", "node_modules", "@nats-io")); err != nil {
		testenv.Missing(t, "nats.js", "scripts/setup")
	}
	spooling(t, "node", filepath.Join("..", "examples", "clients", "spool.mjs"))
}

// spooled is how many readings the test has an example client send, from spoolDevices devices.
const (
	spooled      = 1500
	spoolDevices = 20
)

// spoolClient is a running example client.
type spoolClient struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	lines chan string
}

func startSpool(t *testing.T, url, file string, command []string) *spoolClient {
	t.Helper()
	cmd := exec.Command(command[0], append(command[1:], url, "spool", "client", file)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &spoolClient{cmd: cmd, input: input, lines: make(chan string, 2*spooled)}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(output); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *spoolClient) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// feed gives readings from one on, until the client said that so many are on disk; it returns the next one.
func (c *spoolClient) feed(t *testing.T, from, count int) int {
	t.Helper()
	go func() {
		for i := from; i < spooled; i++ {
			device, at := i%spoolDevices, 1_767_225_600_000+int64(i/spoolDevices)*1000
			if _, err := fmt.Fprintf(c.input, `{"device":"dev-%d","time":%d,"values":[%d,null,0.5]}`+"\n", device, at, i); err != nil {
				return // the client was killed
			}
		}
		c.input.Close()
	}()
	return from + c.said(t, "spooled", count)
}

// said waits until the client said the word with at least that number, or, for 0, at all.
func (c *spoolClient) said(t *testing.T, word string, least int) int {
	t.Helper()
	deadline := time.After(90 * time.Second)
	for {
		select {
		case line, open := <-c.lines:
			if !open {
				t.Fatalf("the client ended before it said %s %d", word, least)
			}
			rest, is := strings.CutPrefix(line, word)
			if n, _ := strconv.Atoi(strings.TrimSpace(rest)); is && n >= least {
				return n
			}
		case <-deadline:
			t.Fatalf("the client did not say %s %d", word, least)
		}
	}
}

func spooling(t *testing.T, command ...string) {
	dir := t.TempDir()
	m := startMember(t, dir)
	url := strings.Replace(m.nats, "://", "://spool:"+m.addSite("spool", dir)+"@", 1)
	file := filepath.Join(t.TempDir(), "spool")
	next := 0
	for round := range 4 {
		c := startSpool(t, url, file, command)
		next = c.feed(t, next, 150+100*round)
		if round%2 == 1 { // the member first: what the client sends meanwhile waits for it
			m.kill()
			pause(t, 300*time.Millisecond)
		}
		c.kill()
		if round%2 == 1 {
			m.start()
		}
	}
	c := startSpool(t, url, file, command)
	c.feed(t, next, spooled-next)
	m.kill()
	m.start()
	c.said(t, "stored", 0)
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the client: %v", err)
	}
	stored := 0
	for device := range spoolDevices {
		var list struct{ Readings []struct{ Values []any } }
		if err := m.get(fmt.Sprintf("/api/v1/sites/spool/devices/dev-%d/readings?from=0&limit=10000", device), &list); err != nil {
			t.Fatal(err)
		}
		for i, r := range list.Readings {
			if got, want := fmt.Sprint(r.Values), fmt.Sprintf("[%d <nil> 0.5]", i*spoolDevices+device); got != want {
				t.Fatalf("reading %d of device %d: got %s, want %s", i, device, got, want)
			}
		}
		stored += len(list.Readings)
	}
	if stored != spooled {
		t.Errorf("stored: %d readings, want %d", stored, spooled)
	}
	if out, code := run(t, "audit", "--server", m.http, "--site", "spool"); code != 0 {
		t.Errorf("wellhead audit: exit %d: %s", code, out)
	}
}
