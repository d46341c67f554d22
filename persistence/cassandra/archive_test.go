package cassandra

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// testOptions are for the shared server, in a keyspace of the test's own.
func testOptions(t testing.TB) Options {
	t.Helper()
	return Options{Hosts: []string{testenv.Cassandra(t).Addr}, Keyspace: testenv.Unique("test"), Shards: contract.Shards, Groups: 3, Logger: slog.New(slog.DiscardHandler)}
}

// open opens an archive and closes it with the test. A keyspace on a server that stays is left behind.
func open(t testing.TB, o Options) *Archive {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestContract(t *testing.T) {
	o := testOptions(t)
	a := open(t, o)
	contract.Archive(t, func(*testing.T) persistence.Archive { return a })
}

// rawColumn tells whether a column is null.
type rawColumn struct{ null bool }

func (c *rawColumn) UnmarshalCQL(_ gocql.TypeInfo, b []byte) error {
	c.null = b == nil
	return nil
}

func TestRetentionContract(t *testing.T) {
	o := testOptions(t)
	o.Classes = contract.Classes
	contract.Retention(t, func(t *testing.T) persistence.Archive { return open(t, o) })
}
