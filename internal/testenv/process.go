package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// stopGrace is how long a server may take to end after a polite request; then it is killed.
const stopGrace = 20 * time.Second

// process is one run of a server. It ends with us (Linux), however we end.
type process struct {
	cmd  *exec.Cmd
	log  string // path of what it writes
	done chan struct{}
	err  error // valid after done is closed
}

// startProcess runs the command on a machine with its output appended to the file log.
func startProcess(on *Machine, log, dir, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	name, args = on.Command(name, args...)
	p := &process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	endWithParent(p.cmd)
	started := make(chan error, 1)
	go func() {
		// The kernel ends the child when the thread that started it ends: keep that thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = out.Close() }()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// waitReady polls ready until it returns nil; an error has the end of the log.
func (p *process) waitReady(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.done:
			cancel(errors.New("it ended by itself"))
		case <-stop:
		}
	}()
	if err := poll(ctx, ready); err != nil {
		return fmt.Errorf("%s did not get ready: %w (%v); errors in its log:\n%send of its log:\n%s", p.cmd.Path, err, context.Cause(ctx),
			complaints(p.log, 10), tail(p.log, 2<<10))
	}
	return nil
}

// stop asks the process to end and waits; after stopGrace it is killed.
func (p *process) stop() error {
	_ = p.signal(sigContinue)
	_ = p.signal(sigTerm)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
		return errors.Join(fmt.Errorf("%s did not end within %v and was killed", p.cmd.Path, stopGrace), p.kill())
	}
}

// kill ends the process as a power cut would (kill -9), and waits until it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.done
	return nil
}

func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.cmd.Path, err)
	}
	return nil
}

// server is what Cassandra and Redis have in common: a process that can be ended and started again.
type server struct {
	run func(ctx context.Context) (*process, error) // nil: not ours, only its address is known

	mu   sync.Mutex
	proc *process // nil = stopped
}

var errNotOurs = errors.New("this server is shared with other tests: take one of your own to stop or pause it")

// Start starts a stopped server on its old data and address, and waits until it answers.
func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotOurs
	}
	if s.proc != nil {
		return errors.New("the server runs already")
	}
	p, err := s.run(ctx)
	s.proc = p
	return err
}

// Stop ends the server politely and waits until it has ended. A server that is down stays down.
func (s *server) Stop() error { return s.end((*process).stop) }

// Kill ends the server at once (kill -9).
func (s *server) Kill() error { return s.end((*process).kill) }

func (s *server) end(how func(*process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotOurs
	}
	if s.proc == nil {
		return nil
	}
	err := how(s.proc)
	s.proc = nil
	return err
}

// Restart is Stop and Start.
func (s *server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Pause freezes the server: it keeps its connections and answers nothing, until Resume. It waits until none of the
// server's threads runs: on a busy machine one may answer questions for a while after the signal was sent.
func (s *server) Pause() error {
	if err := s.send(sigStop); err != nil {
		return err
	}
	return awaitFrozen(s.PID())
}

// Resume ends a Pause.
func (s *server) Resume() error { return s.send(sigContinue) }

func (s *server) send(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotOurs
	}
	if s.proc == nil {
		return errors.New("the server is stopped")
	}
	return s.proc.signal(sig)
}

// PID returns the server's process id, 0 when it is stopped or not ours.
func (s *server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Done is closed when the running process has ended; nil when there is none.
func (s *server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	return s.proc.done
}

// tail returns the last n bytes of a file, from the start of a line.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	if _, err := f.Seek(max(0, size-n), io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	text := string(b)
	if size > n {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}

// complaints are the last n lines of a file that name an error.
func complaints(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "ERROR") || strings.Contains(line, "Exception") {
			found = append(found, line)
		}
	}
	return strings.Join(found[max(0, len(found)-n):], "")
}
