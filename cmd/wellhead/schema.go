package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/cassandra"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// newSchemaCommand makes `wellhead schema`.
func newSchemaCommand() *cobra.Command {
	c := &cobra.Command{Use: "schema", Short: "Versions of the data, and bringing older data to this program's"}
	c.AddCommand(
		schemaCommand("status", "Show the version of the data and of this program; exit code 1 when serve would refuse it", false),
		schemaCommand("migrate", "Bring data of an older version to this program's; stop the member and copy its data first", true),
	)
	return c
}

func schemaCommand(use, short string, migrate bool) *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			flags := given(c.Flags())
			delete(flags, "json")
			cfg, err := config.Load(file, os.Environ(), flags)
			if err != nil {
				return wrongUse(err)
			}
			ctx, cancel := context.WithTimeout(c.Context(), time.Hour)
			defer cancel()
			if migrate {
				if _, err := schemas(ctx, cfg); err != nil {
					return err // before anything is changed
				}
				if err := migrateData(ctx, cfg, func(what string) { fmt.Fprintln(c.ErrOrStderr(), what) }); err != nil {
					return err
				}
			}
			parts, err := schemas(ctx, cfg)
			if err != nil {
				return err
			}
			return tellSchemas(c, parts, asJSON)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	c.Flags().String("data", "", "folder for everything that is kept on this machine (default ./data)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return c
}

// embedded are the databases of a configuration that are in its data folder: part and folder.
func embedded(cfg *config.Config) [][2]string {
	var out [][2]string
	if cfg.Archive == "pebble" {
		out = append(out, [2]string{"archive", filepath.Join(cfg.Data, "archive")})
	}
	if cfg.Snapshots == "pebble" {
		out = append(out, [2]string{"snapshots", filepath.Join(cfg.Data, "snapshots")})
	}
	return out
}

func schemas(ctx context.Context, cfg *config.Config) ([]persistence.Schema, error) {
	var out []persistence.Schema
	if cfg.Archive == "cassandra" {
		o, err := cassandraOptions(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		s, err := cassandra.Schema(ctx, o)
		if err != nil {
			return nil, unreachable(err)
		}
		out = append(out, s)
	}
	for _, part := range embedded(cfg) {
		s, err := pebble.Schema(part[0], part[1])
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// migrateData migrates the archive, wherever it is, and what else is in the data folder.
func migrateData(ctx context.Context, cfg *config.Config, tell func(string)) error {
	if cfg.Archive == "cassandra" {
		o, err := cassandraOptions(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		if _, err := cassandra.Migrate(ctx, o, tell); err != nil {
			return err
		}
	}
	for _, part := range embedded(cfg) {
		if _, err := pebble.Migrate(part[0], part[1], tell); err != nil {
			return err
		}
	}
	return nil
}

func tellSchemas(c *cobra.Command, parts []persistence.Schema, asJSON bool) error {
	var bad error
	for _, s := range parts {
		bad = errors.Join(bad, s.Check())
	}
	if asJSON {
		if err := writeJSON(c.OutOrStdout(), map[string]any{"parts": parts, "good": bad == nil}); err != nil {
			return err
		}
	} else {
		for _, s := range parts {
			what := fmt.Sprintf("version %d, this program's is %d", s.Data, s.Program)
			if !s.Found {
				what = fmt.Sprintf("no data yet, this program's version is %d", s.Program)
			}
			if err := s.Check(); err != nil {
				what = err.Error()
			}
			fmt.Fprintf(c.OutOrStdout(), "%-10s %s: %s\n", s.Part, s.Where, what)
		}
	}
	if bad != nil {
		return errNo
	}
	return nil
}
