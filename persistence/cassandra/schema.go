package cassandra

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gocql/gocql"
	"github.com/scylladb/gocqlx/v2"

	"github.com/wellhead/wellhead/persistence"
)

// schemaTimeout is for creating the keyspace or one table: a cluster has to agree on it.
const schemaTimeout = time.Minute

// layout is the row that says how the data is laid out.
type layout struct {
	Version  int
	Shards   int
	Grps     int
	BucketMs int64  `db:"bucket_ms"`
	Readings string // Rows or Chunks
}

func (l layout) String() string {
	return fmt.Sprintf("version %d, layout %s, %d shards, %d groups, bucket %v", l.Version, l.Readings, l.Shards, l.Grps, time.Duration(l.BucketMs)*time.Millisecond)
}

// connectToCreate returns a session that waits long enough for schema changes: under load one takes seconds.
func connectToCreate(ctx context.Context, o Options, keyspace string) (*gocql.Session, error) {
	return connect(ctx, o, func(c *gocql.ClusterConfig) {
		c.NumConns, c.Keyspace, c.Timeout = 1, keyspace, max(o.Timeout, schemaTimeout)
	})
}

// connectTries is how often a session is tried. A keyspace that another creator has just made can be
// told of before a connection can use it; the driver then says that it could make none.
const connectTries = 5

// connect returns a session with the options, changed by set. Each try has a configuration of its own:
// the driver's policies keep state.
func connect(ctx context.Context, o Options, set func(*gocql.ClusterConfig)) (*gocql.Session, error) {
	for try := 1; ; try++ {
		c, err := o.cluster()
		if err != nil {
			return nil, fmt.Errorf("cassandra archive: %w", err)
		}
		set(c)
		s, err := c.CreateSession()
		if err == nil {
			return s, nil
		}
		err = fmt.Errorf("connect to cassandra at %v: %w", o.Hosts, err)
		if try == connectTries || !errors.Is(err, gocql.ErrNoConnectionsStarted) {
			return nil, err
		}
		select {
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// createKeyspace makes sure that the keyspace is there. Where it is, no right to create one is needed.
func createKeyspace(ctx context.Context, o Options) error {
	s, err := connectToCreate(ctx, o, "")
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.KeyspaceMetadata(o.Keyspace); err == nil {
		return nil
	} else if !errors.Is(err, gocql.ErrKeyspaceDoesNotExist) {
		return fmt.Errorf("look for keyspace %s: %w", o.Keyspace, err)
	}
	return change(ctx, s, fmt.Sprintf(cqlCreateKeyspace, o.Keyspace, o.replication()))
}

// createSchema makes sure that the tables are there and laid out as o says. Several may do it at once.
func createSchema(ctx context.Context, s *gocql.Session, o Options) error {
	want := layout{Version: schemaVersion, Shards: o.Shards, Grps: o.Groups, BucketMs: o.Bucket.Milliseconds(), Readings: o.Layout}
	got, err := readLayout(ctx, s, o.Keyspace)
	// Invalid: somebody is creating the table just now, and it is listed before it can be read.
	if errors.Is(err, gocql.ErrNotFound) || isInvalid(err) {
		got, err = createTables(ctx, o, want)
	}
	if err != nil {
		return err
	}
	if err := (persistence.Schema{Found: true, Data: got.Version, Program: schemaVersion}).Check(); err != nil {
		return fmt.Errorf("the archive in keyspace %s: %w", o.Keyspace, err)
	}
	if got.Readings != want.Readings {
		return fmt.Errorf("the archive in keyspace %s keeps readings as %s and cannot be opened with layout %s: set layout to %s, or name another keyspace and bring the readings there (wellhead export, then replay)",
			o.Keyspace, got.Readings, want.Readings, got.Readings)
	}
	if got != want {
		return fmt.Errorf("the archive in keyspace %s was created with %v and cannot be opened with %v: give the same, or another keyspace", o.Keyspace, got, want)
	}
	_, err = addAccounts(ctx, s, o)
	return err
}

// addAccounts makes the table of accounts in a keyspace that is older than it, and tells whether it was missing.
func addAccounts(ctx context.Context, s *gocql.Session, o Options) (added bool, err error) {
	var table string
	err = s.Query(cqlFindAccounts, o.Keyspace).WithContext(ctx).Scan(&table)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, gocql.ErrNotFound) {
		return false, fmt.Errorf("look for the table of accounts in keyspace %s: %w", o.Keyspace, err)
	}
	creating, err := connectToCreate(ctx, o, o.Keyspace)
	if err != nil {
		return false, err
	}
	defer creating.Close()
	return true, change(ctx, creating, cqlCreateAccounts)
}

func isInvalid(err error) bool {
	var re gocql.RequestError
	return errors.As(err, &re) && re.Code() == gocql.ErrCodeInvalid
}

// readLayout returns gocql.ErrNotFound when the tables were not, or not completely, created.
func readLayout(ctx context.Context, s *gocql.Session, keyspace string) (layout, error) {
	var got layout
	var table string
	if err := s.Query(cqlFindLayout, keyspace).WithContext(ctx).Scan(&table); err != nil {
		return got, fmt.Errorf("look for the archive's tables in keyspace %s: %w", keyspace, err)
	}
	// Keyspaces that are older than layout chunks do not say which one they have: it is rows.
	statement, column := cqlReadLayout, ""
	if err := s.Query(cqlFindReadings, keyspace).WithContext(ctx).Scan(&column); errors.Is(err, gocql.ErrNotFound) {
		statement = cqlReadRows
	} else if err != nil {
		return got, fmt.Errorf("look for the archive's layout in keyspace %s: %w", keyspace, err)
	}
	if err := gocqlx.NewSession(s).ContextQuery(ctx, statement, nil).GetRelease(&got); err != nil {
		return got, fmt.Errorf("read the archive's layout in keyspace %s: %w", keyspace, err)
	}
	setDefault(&got.Readings, Rows)
	return got, nil
}

// createTables creates the tables and then says the layout, unless another creator has been faster:
// the layout that counts is returned. It is said last, so that where it is read all tables are there.
func createTables(ctx context.Context, o Options, want layout) (layout, error) {
	s, err := connectToCreate(ctx, o, o.Keyspace)
	if err != nil {
		return layout{}, err
	}
	defer s.Close()
	create := cqlCreateReadings
	if o.Layout == Chunks {
		create = cqlCreateChunks
	}
	for _, statement := range []string{
		cqlCreateLayout, cqlCreateBuckets, cqlCreateRecords, cqlCreateDevices, cqlCreateAccounts,
		fmt.Sprintf(create, compactionWindow(o.Retention, o.Bucket)),
		fmt.Sprintf(cqlCreateRollups, compactionWindow(o.RollupRetention, o.Bucket)),
	} {
		if err := change(ctx, s, statement); err != nil {
			return layout{}, err
		}
	}
	// A lightweight transaction whose answer got lost may have been applied: read what is there then.
	applied, err := s.Query(cqlInsertLayout, want.Version, want.Shards, want.Grps, want.BucketMs, want.Readings).WithContext(ctx).
		MapScanCAS(map[string]any{})
	if err == nil && applied {
		return want, nil
	}
	held, readErr := readLayout(ctx, s, o.Keyspace)
	if readErr != nil {
		return layout{}, errors.Join(err, readErr)
	}
	return held, nil
}

// change runs a statement that changes the schema and waits until all servers agree on it.
func change(ctx context.Context, s *gocql.Session, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	if err := s.Query(statement).WithContext(ctx).Exec(); err != nil {
		return fmt.Errorf("create the archive's schema (%.60s…): %w", statement, err)
	}
	if err := s.AwaitSchemaAgreement(ctx); err != nil {
		return fmt.Errorf("wait until all servers agree on the schema: %w", err)
	}
	return nil
}

// warnOfLoss says when the servers acknowledge writes that a crash can take: measured with commitlog_sync
// periodic, Cassandra's default, up to 0.1 s of them at a kill -9 and 10 s at a power cut. Other copies
// make up for it; with one copy nothing does. A server that does not tell (ScyllaDB) is not warned of.
func warnOfLoss(ctx context.Context, s *gocql.Session, o Options) {
	keyspace, err := s.KeyspaceMetadata(o.Keyspace)
	if err != nil {
		return
	}
	for name, copies := range keyspace.StrategyOptions {
		if n, ok := copies.(string); ok && name != "class" && n != "1" {
			return
		}
	}
	var sync string
	if err := s.Query(cqlReadSync).WithContext(ctx).Scan(&sync); err == nil && sync == "periodic" {
		o.Logger.Warn("the archive has one copy and commitlog_sync is periodic: a crash of its server loses the newest readings; set commitlog_sync: group in cassandra.yaml",
			"keyspace", o.Keyspace)
	}
}
