package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/config"
)

// newConfigCommand makes `wellhead config`.
func newConfigCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	c.AddCommand(configCheck(), configKeys(), configNATS())
	return c
}

func configCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Explain the mistakes in a configuration file; exit code 1 when there are any",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return wrongUse(fmt.Errorf("read the configuration: %w", err))
			}
			problems := config.Check(args[0])
			switch {
			case asJSON:
				if problems == nil {
					problems = []config.Problem{}
				}
				if err := json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{"problems": problems}); err != nil {
					return err
				}
			case len(problems) == 0:
				fmt.Fprintln(c.OutOrStdout(), args[0]+": good")
			default:
				for _, p := range problems {
					fmt.Fprintln(c.OutOrStdout(), p.Error())
				}
			}
			if len(problems) > 0 {
				return errNo
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

func configKeys() *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "Print all keys with default, unit and meaning, as Markdown",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), config.Markdown())
			return err
		},
	}
}
