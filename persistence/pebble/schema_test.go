package pebble

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// TestSchemaOfOtherVersions: data of a newer version is refused, of an older one with the command to
// run, which takes it step by step; the number of shards stays.
func TestSchemaOfOtherVersions(t *testing.T) {
	dir := t.TempDir() + "/archive"
	if s, err := Schema("archive", dir); err != nil || s.Found {
		t.Fatalf("no folder: %+v, %v", s, err)
	}
	a, err := OpenArchive(dir, Options{Shards: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	set := func(version int) {
		t.Helper()
		db, err := openPlain(dir, "archive", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := setVersion(db, version); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		a, err := OpenArchive(dir, Options{Shards: 8})
		if err == nil {
			_ = a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open: got %v, want %q in it", err, want)
		}
	}
	var told []string
	tell, errBroken := func(what string) { told = append(told, what) }, errors.New("broken off")
	set(layoutVersion + 1)
	refused("use the newer program")
	if _, err := Migrate("archive", dir, tell); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("migrate newer data: %v", err)
	}
	step := migrations[layoutVersion-1]
	t.Cleanup(func() { migrations[layoutVersion-1] = step })
	delete(migrations, layoutVersion-1)
	set(layoutVersion - 1)
	refused("run `wellhead schema migrate`")
	if _, err := Migrate("archive", dir, tell); err == nil || !strings.Contains(err.Error(), "no way is known") {
		t.Errorf("migrate without a step: %v", err)
	}
	ran := 0
	migrations[layoutVersion-1] = func(*pebble.DB) error { ran++; return errBroken }
	if changed, err := Migrate("archive", dir, tell); changed || !errors.Is(err, errBroken) {
		t.Errorf("a step that is broken off: changed %v, %v", changed, err)
	}
	refused("run `wellhead schema migrate`")
	ran, told = 0, nil
	migrations[layoutVersion-1] = func(*pebble.DB) error { ran++; return nil }
	set(layoutVersion - 1)
	for i, want := range []bool{true, false} {
		if changed, err := Migrate("archive", dir, tell); err != nil || changed != want || ran != 1 {
			t.Errorf("migrate %d: changed %v, %v; the step ran %d times; want %v and 1", i, changed, err, ran, want)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("from version %d to %d", layoutVersion-1, layoutVersion)) {
		t.Errorf("told %q", told)
	}
	openArchive(t, dir, Options{Shards: 8})
}
