package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// endWithParent has the kernel kill the server when we end without stopping it: a panic, a time-out, kill -9.
func endWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a Ctrl-C in the terminal is ours to pass on
	}
}

// awaitFrozen waits until all threads of a process that was sent SIGSTOP are stopped, 5 s at most.
func awaitFrozen(pid int) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		stopped, err := frozen(pid)
		if stopped || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d still runs 5 s after SIGSTOP", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// frozen tells whether all threads of a process are stopped (proc_pid_stat(5): the state follows on the name, which is in
// parentheses).
func frozen(pid int) (bool, error) {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("process %d has ended (%v)", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return false, err
		}
		if after := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(after, []byte(" T")) {
			return false, nil
		}
	}
	return true, nil
}
