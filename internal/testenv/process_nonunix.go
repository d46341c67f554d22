//go:build !unix

package testenv

import "os"

// There are no signals here but kill: stopping is killing, and pausing fails.
var (
	sigTerm     os.Signal = os.Kill
	sigStop     os.Signal = os.Interrupt
	sigContinue os.Signal = os.Interrupt
)
