package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// member is a running `wellhead serve`.
type member struct {
	bench      *bench
	cmd        *exec.Cmd
	args       []string
	log        *os.File
	http, nats string
	began      time.Time
}

// readyWithin is how long a member may take to get ready.
const readyWithin = 2 * time.Minute

// start starts a member on free ports, with its data in an empty folder.
func (b *bench) start(ctx context.Context, args ...string) (*member, error) {
	ports, err := testenv.FreePorts("127.0.0.1", 3)
	if err != nil {
		return nil, err
	}
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])) }
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	m := &member{bench: b, http: "http://" + at(0), nats: "nats://" + at(1)}
	m.args = append([]string{"serve", "--data", data, "--http", at(0), "--nats", at(1), "--mqtt", at(2)}, b.serve...)
	m.args = append(m.args, args...)
	if m.log, err = os.Create(filepath.Join(data, "member.log")); err != nil {
		return nil, err
	}
	return m, m.again(ctx)
}

// again starts the member on the data that it has, and waits until it answers.
func (m *member) again(ctx context.Context) error {
	if err := m.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.http+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(m.log.Name())
			return fmt.Errorf("the member does not get ready: %w\n%s", ctx.Err(), log[max(0, len(log)-2000):])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// launch starts the member's process and does not wait for it.
func (m *member) launch() error {
	m.cmd = exec.Command(m.bench.binary, m.args...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.began = time.Now()
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start the member: %w", err)
	}
	return nil
}

// kill ends the member at once, as kill -9 does.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // it was killed: there is always an error
}

// remove kills the member and removes its data.
func (m *member) remove() {
	m.kill()
	_ = m.log.Close()
	_ = os.RemoveAll(filepath.Dir(m.log.Name()))
}

// usage is what the member has used since it was last started.
func (m *member) usage() (used, error) { return usageOf(m.cmd.Process.Pid) }

// put sends a document to the member.
func (m *member) put(ctx context.Context, path, document string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, m.http+path, strings.NewReader(document))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= 300 {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("PUT %s: %s: %s", path, response.Status, said)
	}
	return nil
}

// sent is what `wellhead simulate --json` prints.
type sent struct {
	Sent       int64   `json:"sent"`
	StoredRate float64 `json:"storedReadingsPerSecond"`
	Seconds    float64 `json:"storedSeconds"`
	Verify     string  `json:"verify"`
}

// simulate sends readings and waits until all are stored.
func (m *member) simulate(ctx context.Context, args ...string) (s sent, err error) {
	args = append([]string{"simulate", "--server", m.nats, "--stored", "--json"}, args...)
	err = m.bench.command(ctx, args, &s, loadRunsOn)
	return s, err
}

// loadRunsOn makes room for what is measured beside the load: one goroutine makes the readings, and a second
// processor that wakes up for each message takes a twentieth of the machine's two from the member (measured).
const loadRunsOn = "GOMAXPROCS=1"

// checked is what `wellhead verify --json` prints.
type checked struct {
	Sent       int64 `json:"sent"` // different devices and event times
	Stored     int64 `json:"stored"`
	Checked    int64 `json:"checked"`
	Missing    int64 `json:"missing"`
	Different  int64 `json:"different"`
	Unexpected int64 `json:"unexpected"`
}

// compare reads everything back that s was. Where that is not what was sent it gives what was found and an error.
func (m *member) compare(ctx context.Context, s sent) (r checked, err error) {
	args := strings.Fields(s.Verify)[1:]
	for i := range args {
		if i > 0 && args[i-1] == "--server" {
			args[i] = m.http
		}
	}
	err = m.bench.command(ctx, append(args, "--json"), &r)
	return r, err
}

// verify reads everything back that s was.
func (m *member) verify(ctx context.Context, s sent) (int64, error) {
	r, err := m.compare(ctx, s)
	if err != nil {
		return 0, err
	}
	if r.Missing+r.Different+r.Unexpected > 0 || r.Checked == 0 {
		return 0, fmt.Errorf("%d readings are missing, %d different, %d unexpected: there is no figure", r.Missing, r.Different, r.Unexpected)
	}
	return r.Checked, nil
}

// command runs the program, with env beside its environment, and reads the document that it prints, also when it ends
// with an error.
func (b *bench) command(ctx context.Context, args []string, answer any, env ...string) error {
	cmd := exec.CommandContext(ctx, b.binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if b.progress != nil {
		cmd.Stderr = io.MultiWriter(&complaint, b.progress)
	}
	if err := cmd.Run(); err != nil {
		_ = json.Unmarshal(out.Bytes(), answer) // there may be none
		return fmt.Errorf("wellhead %s: %w\n%s%s", strings.Join(args, " "), err, out.Bytes(), complaint.Bytes())
	}
	return json.Unmarshal(out.Bytes(), answer)
}

// version is what the measured program says it is.
func (b *bench) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, b.binary, "version").Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "wellhead ")
}

// loadAverage is that of the last minute.
func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// httpGet asks for a page, until ctx ends. Who reads the body closes it.
func httpGet(ctx context.Context, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}
