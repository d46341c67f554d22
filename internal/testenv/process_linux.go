package testenv

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the server when we end without stopping it: a panic, a time-out, kill -9.
func endWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a Ctrl-C in the terminal is ours to pass on
	}
}
