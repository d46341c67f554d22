//go:build unix

package testenv

import "syscall"

const (
	sigTerm     = syscall.SIGTERM
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)
