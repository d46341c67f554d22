package cassandra

import (
	"context"
	"errors"
	"fmt"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/persistence"
)

// migrations take tables of the version that is their key to the next one. Each must be safe to run again
// after it was broken off. Version 1 is the first there was.
var migrations = map[int]func(ctx context.Context, s *gocql.Session, o Options) error{}

// Schema tells which version the tables have, creating nothing.
func Schema(ctx context.Context, o Options) (persistence.Schema, error) {
	out := persistence.Schema{Part: "archive", Program: schemaVersion}
	o, err := o.complete()
	out.Where = "cassandra keyspace " + o.Keyspace
	if err != nil {
		return out, fmt.Errorf("cassandra archive: %w", err)
	}
	s, err := connect(ctx, o, func(*gocql.ClusterConfig) {})
	if err != nil {
		return out, err
	}
	defer s.Close()
	return readSchema(ctx, s, o, out)
}

func readSchema(ctx context.Context, s *gocql.Session, o Options, out persistence.Schema) (persistence.Schema, error) {
	var table string
	if err := s.Query(cqlFindLayout, o.Keyspace).WithContext(ctx).Scan(&table); errors.Is(err, gocql.ErrNotFound) {
		return out, nil
	} else if err != nil {
		return out, fmt.Errorf("look for the archive's tables in keyspace %s: %w", o.Keyspace, err)
	}
	err := s.Query(fmt.Sprintf(cqlReadVersion, o.Keyspace)).WithContext(ctx).Scan(&out.Data)
	if out.Found = err == nil; err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return out, fmt.Errorf("read the schema's version: %w", err)
	}
	return out, nil
}

// Migrate brings the keyspace to this program's version, step by step: a version is written when all of its step is
// done, so that one that is broken off goes on when it is run again, and two at once do no harm. tell hears of each
// step. It reports whether there was something to do; where there is no data yet, there is nothing.
func Migrate(ctx context.Context, o Options, tell func(string)) (changed bool, err error) {
	if o, err = o.complete(); err != nil {
		return false, fmt.Errorf("cassandra archive: %w", err)
	}
	s, err := connectToCreate(ctx, o, "")
	if err != nil {
		return false, err
	}
	defer s.Close()
	found, err := readSchema(ctx, s, o, persistence.Schema{Program: schemaVersion})
	if err != nil || !found.Found {
		return false, err
	}
	if found.Data > found.Program {
		return false, found.Check()
	}
	inside, err := connectToCreate(ctx, o, o.Keyspace)
	if err != nil {
		return false, err
	}
	defer inside.Close()
	for v := found.Data; v < found.Program; v++ {
		step := migrations[v]
		if step == nil {
			return changed, fmt.Errorf("keyspace %s: no way is known from version %d on: use the program that wrote it, export, and import", o.Keyspace, v)
		}
		tell(fmt.Sprintf("keyspace %s: from version %d to %d", o.Keyspace, v, v+1))
		if err := step(ctx, inside, o); err != nil {
			return changed, fmt.Errorf("keyspace %s: from version %d to %d: %w", o.Keyspace, v, v+1, err)
		}
		// Where it is not applied, another one has been faster with the same step.
		if _, err := inside.Query(cqlRaiseVersion, v+1, v).WithContext(ctx).MapScanCAS(map[string]any{}); err != nil {
			return changed, fmt.Errorf("keyspace %s: write version %d: %w", o.Keyspace, v+1, err)
		}
		changed = true
	}
	added, err := addAccounts(ctx, s, o)
	if added {
		tell(fmt.Sprintf("keyspace %s: the table of accounts was missing", o.Keyspace))
	}
	return changed || added, err
}
