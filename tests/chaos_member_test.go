package tests

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

const (
	restartAfter = time.Second      // as systemd's RestartSec
	endWithin    = 60 * time.Second // of SIGTERM
)

// keptMember is a member that is started again when it ends by itself, as systemd would.
type keptMember struct {
	t    *testing.T
	name string
	on   *testenv.Machine
	http string // http://host:port
	log  *os.File
	args []string

	end  context.CancelFunc
	done chan struct{} // nothing is started any more

	mu      sync.Mutex
	program string
	env     []string
	wanted  chan struct{} // closed while it should run
	running bool          // it should run
	cmd     *exec.Cmd     // nil = no process
	gone    chan struct{} // closed when the process has ended
	starts  int
	away    bool // it is paused or cut off
}

// run begins to keep the member, which does not run before start.
func (m *keptMember) run() {
	life, end := context.WithCancel(context.Background())
	m.end, m.done, m.wanted = end, make(chan struct{}), make(chan struct{})
	go func() {
		// The kernel ends the child when the thread that started it ends: keep that thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(m.done)
		for life.Err() == nil {
			m.mu.Lock()
			wanted := m.wanted
			m.mu.Unlock()
			select {
			case <-wanted:
				m.once(life)
			case <-life.Done():
			}
		}
	}()
}

// once runs the process to its end, and waits a little.
func (m *keptMember) once(life context.Context) {
	m.mu.Lock()
	name, args := m.on.Command(m.program, m.args...)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.Env = append(os.Environ(), m.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Start()
	if err == nil {
		m.cmd, m.gone = cmd, make(chan struct{})
		m.starts++
	}
	m.mu.Unlock()
	if err != nil {
		m.t.Errorf("start %s: %v", m.name, err)
	} else {
		_ = cmd.Wait()
		m.mu.Lock()
		m.cmd = nil
		close(m.gone)
		again := m.running
		m.mu.Unlock()
		if !again {
			return
		}
	}
	select {
	case <-time.After(restartAfter):
	case <-life.Done():
	}
}

// start has the member run from now on.
func (m *keptMember) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		m.running = true
		close(m.wanted)
	}
}

// stop has the member hand over and end, by SIGTERM, and not run any more.
func (m *keptMember) stop() error {
	m.mu.Lock()
	if m.running {
		m.running, m.wanted = false, make(chan struct{})
	}
	cmd, gone := m.cmd, m.gone
	m.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-gone:
		return nil
	case <-time.After(endWithin):
		return fmt.Errorf("%s did not end within %v of SIGTERM", m.name, endWithin)
	}
}

// signal sends a signal to the process, if there is one.
func (m *keptMember) signal(s os.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s)
	}
}

// setAway says whether the member is paused or cut off.
func (m *keptMember) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// askable tells whether the member runs and can be reached.
func (m *keptMember) askable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running && m.cmd != nil && !m.away
}

// life is the number of times that it was started.
func (m *keptMember) life() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts
}

// rewire has the member be another program, from its next start on.
func (m *keptMember) rewire(program string, env ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.program, m.env = program, env
}

// close kills the process and starts no other.
func (m *keptMember) close() {
	m.end()
	m.mu.Lock()
	m.running = false
	m.mu.Unlock()
	m.signal(syscall.SIGKILL)
	<-m.done
}

// chaosClient asks members. What does not answer is given up after each request's own time.
var chaosClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}}

// ask asks the member and decodes the answer, if v is not nil.
func (m *keptMember) ask(ctx context.Context, method, path, body string, v any) error {
	return ask(ctx, chaosClient, m.http, method, path, body, v)
}

// get is ask with a time of its own.
func (m *keptMember) get(ctx context.Context, within time.Duration, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return m.ask(ctx, http.MethodGet, path, "", v)
}
