package cassandra

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// statements runs statements in the options' keyspace, which is made.
func statements(t *testing.T, o Options, list ...string) {
	t.Helper()
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	if err := createKeyspace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s, err := connectToCreate(t.Context(), o, o.Keyspace)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, statement := range list {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := change(t.Context(), s, statement); err != nil {
			t.Fatal(err)
		}
	}
}

// version1 lays a keyspace out as version 1 did, before it had accounts: testdata/version1.cql is never changed.
func version1(t *testing.T, o Options) {
	t.Helper()
	data, err := os.ReadFile("testdata/version1.cql")
	if err != nil {
		t.Fatal(err)
	}
	statements(t, o, strings.Split(string(data), ";\n")...)
}

// told collects what Migrate tells.
type told []string

func (l *told) tell(what string) { *l = append(*l, what) }

func wantSchema(t *testing.T, o Options, found bool, data int) {
	t.Helper()
	s, err := Schema(t.Context(), o)
	if err != nil || s.Found != found || s.Data != data || s.Program != schemaVersion || !strings.Contains(s.Where, o.Keyspace) {
		t.Errorf("schema %+v, %v; want found %v, version %d", s, err, found, data)
	}
}

func TestSchemaOfNoData(t *testing.T) {
	o := testOptions(t)
	wantSchema(t, o, false, 0)
	if changed, err := Migrate(t.Context(), o, (&told{}).tell); changed || err != nil {
		t.Errorf("migrate where nothing is: changed %v, %v", changed, err)
	}
	wantSchema(t, o, false, 0)
	open(t, o)
	wantSchema(t, o, true, schemaVersion)
	if changed, err := Migrate(t.Context(), o, (&told{}).tell); changed || err != nil {
		t.Errorf("migrate what is new: changed %v, %v", changed, err)
	}
}

// TestVersion1 reads data of version 1, and migrates it twice.
func TestVersion1(t *testing.T) {
	o := testOptions(t)
	o.Groups = 1
	version1(t, o)
	wantSchema(t, o, true, 1)
	var hear told
	for i, want := range []bool{true, false} {
		if changed, err := Migrate(t.Context(), o, hear.tell); changed != want || err != nil {
			t.Errorf("migrate %d: changed %v, %v; want %v", i, changed, err, want)
		}
	}
	if len(hear) != 1 || !strings.Contains(hear[0], "accounts") {
		t.Errorf("told %q, want the table that was missing", hear)
	}
	a := open(t, o)
	id := messages.DeviceID{Site: "s", Device: "a"}
	var rows []persistence.Row
	err := a.Scan(t.Context(), 1, id, persistence.Range{From: 0, To: maxTime}, func(r *persistence.Row) bool {
		rows = append(rows, persistence.Row{Time: r.Time, Values: slices.Clone(r.Values[:1]), Note: r.Note, Sequence: r.Sequence})
		return true
	})
	if diff := cmp.Diff([]persistence.Row{{Time: 1767326400000, Values: []float64{1.5}, Note: "hi", Sequence: 7}}, rows); err != nil || diff != "" {
		t.Errorf("readings: %v (-want +got):\n%s", err, diff)
	}
	hours := 0
	err = a.Rollups(t.Context(), 1, id, messages.Hour, persistence.Range{From: 0, To: maxTime}, func(r *persistence.RollupRow) bool {
		hours += int(r.Count)
		return true
	})
	if err != nil || hours != 1 {
		t.Errorf("hours count %d, %v; want 1", hours, err)
	}
	if records, err := a.Records(t.Context(), 1, id); err != nil || len(records) != 1 {
		t.Errorf("%d records, %v; want 1", len(records), err)
	}
}

// TestMigrateSteps takes a keyspace of an older version through a step that is broken off once, and refuses a newer one.
func TestMigrateSteps(t *testing.T) {
	o := testOptions(t)
	open(t, o)
	set := func(version int) {
		statements(t, o, fmt.Sprintf("UPDATE layout SET version = %d WHERE name = 'archive'", version))
	}
	refused := func(want string) {
		t.Helper()
		a, err := Open(t.Context(), o)
		if err == nil {
			a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open: got %v, want %q in it", err, want)
		}
	}
	var hear told
	set(schemaVersion + 1)
	refused("use the newer program")
	if _, err := Migrate(t.Context(), o, hear.tell); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("migrate what is newer: %v", err)
	}
	set(schemaVersion - 1)
	wantSchema(t, o, true, schemaVersion-1)
	refused("run `wellhead schema migrate`")
	if _, err := Migrate(t.Context(), o, hear.tell); err == nil || !strings.Contains(err.Error(), "no way is known") {
		t.Errorf("migrate without a step: %v", err)
	}
	broken := errors.New("broken off")
	migrations[schemaVersion-1] = func(ctx context.Context, s *gocql.Session, _ Options) error {
		err := change(ctx, s, "CREATE TABLE IF NOT EXISTS later (name text, PRIMARY KEY (name))")
		if err == nil {
			err, broken = broken, nil
		}
		return err
	}
	t.Cleanup(func() { delete(migrations, schemaVersion-1) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if changed, err := Migrate(ctx, o, hear.tell); changed || err == nil {
		t.Errorf("a step that is broken off: changed %v, %v", changed, err)
	}
	wantSchema(t, o, true, schemaVersion-1)
	for i, want := range []bool{true, false} {
		if changed, err := Migrate(ctx, o, hear.tell); changed != want || err != nil {
			t.Errorf("migrate %d: changed %v, %v; want %v", i, changed, err, want)
		}
	}
	if len(hear) != 2 || !strings.Contains(hear[1], "from version 0 to 1") {
		t.Errorf("told %q, want the step twice", hear)
	}
	open(t, o)
}
