package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/stream"
)

// Exit codes. They are a contract.
const (
	exitGood        = 0
	exitNo          = 1 // the answer is no, or the work failed
	exitWrongUse    = 2
	exitUnreachable = 3
)

// exitError is an error that says how the program ends.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// wrongUse marks an error as the user's: a flag, an argument or a file that cannot be right.
func wrongUse(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitWrongUse, err}
}

// unreachable marks an error as: the server did not answer.
func unreachable(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUnreachable, err}
}

// errNo means that the work was done, and the answer, which was printed, is no.
var errNo = &exitError{exitNo, errors.New("the answer is no")}

// newRoot makes the command line. Each subcommand stands in a file of its own.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wellhead",
		Short:         "Takes in, keeps and watches the readings of fleets of devices",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newServeCommand(),
		newDemoCommand(),
		newSimulateCommand(),
		newReplayCommand(),
		newVerifyCommand(),
		newQueryCommand(),
		newExportCommand(),
		newAuditCommand(),
		newSiteCommand(),
		newClusterCommand(),
		newRejectsCommand(),
		newLimitsCommand(),
		newConfigCommand(),
		newSchemaCommand(),
		newVersionCommand(),
	)
	return root
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	begun := false
	noteBegin(root, &begun)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitGood
	}
	code := exitCode(err, begun)
	if err != errNo {
		fmt.Fprintln(root.ErrOrStderr(), "wellhead:", err)
	}
	if code == exitWrongUse {
		fmt.Fprintf(root.ErrOrStderr(), "See: %s --help\n", command.CommandPath())
	}
	return code
}

// noteBegin lets the subcommands tell when they begin: an error before that is one in the command line.
func noteBegin(c *cobra.Command, begun *bool) {
	if work := c.RunE; work != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*begun = true
			return work(c, args)
		}
	}
	for _, child := range c.Commands() {
		noteBegin(child, begun)
	}
}

func exitCode(err error, begun bool) int {
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case !begun:
		return exitWrongUse
	case errors.Is(err, verify.ErrUnreachable), errors.Is(err, stream.ErrNoAnswer):
		return exitUnreachable
	}
	return exitNo
}
