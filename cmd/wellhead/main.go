// Command wellhead is the whole of Wellhead in one binary: the member that serves, and the tools that
// feed it, ask it and check it. This package holds flags, wiring and exit codes; the work is done elsewhere.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // --zone must work where the system has no zones
)

func main() { os.Exit(run()) }

// run runs the command line. The first interrupt ends it in good order, the second at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return execute(ctx, newRoot(), os.Args[1:])
}
