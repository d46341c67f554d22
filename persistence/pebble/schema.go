package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wellhead/wellhead/persistence"
)

// migrations take data of the version that is their key to the next one. Each must be safe to run again
// after it was broken off. Version 1 is the first there was; what it has is read as it is.
var migrations = map[int]func(*pebble.DB) error{
	1: func(*pebble.DB) error { return nil },
}

// Schema tells which version the database in dir has; part is "archive" or "snapshots". It changes nothing, and fails while another process
// has the database open.
func Schema(part, dir string) (persistence.Schema, error) {
	out := persistence.Schema{Part: part, Where: dir, Program: layoutVersion}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	db, err := openPlain(dir, part, true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("open %s: %w (a running member has it open: stop it first)", dir, err)
	}
	out.Data, out.Found, err = dataVersion(db)
	return out, errors.Join(err, db.Close())
}

// Migrate brings the database in dir to this program's version, step by step; each is synced before the
// next begins, so that one that is broken off goes on when it is run again. tell hears of each step. It
// reports whether there was something to do.
func Migrate(part, dir string, tell func(string)) (changed bool, err error) {
	s, err := Schema(part, dir)
	if err != nil || !s.Found || s.Data == s.Program {
		return false, err
	}
	if s.Data > s.Program {
		return false, s.Check()
	}
	db, err := openPlain(dir, part, false)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for v := s.Data; v < s.Program; v++ {
		step := migrations[v]
		if step == nil {
			return changed, fmt.Errorf("%s: no way is known from version %d on: use the program that wrote it, export, and import", dir, v)
		}
		tell(fmt.Sprintf("%s: from version %d to %d", dir, v, v+1))
		if err := step(db); err != nil {
			return changed, fmt.Errorf("%s: from version %d to %d: %w", dir, v, v+1, err)
		}
		if err := setVersion(db, v+1); err != nil {
			return changed, fmt.Errorf("%s: write version %d: %w", dir, v+1, err)
		}
		changed = true
	}
	return changed, nil
}

// openPlain opens a database of either kind: the archive has a merger of ours, snapshots have pebble's.
func openPlain(dir, part string, readOnly bool) (*pebble.DB, error) {
	var merger *pebble.Merger
	if part == "archive" {
		merger = archiveMerger
	}
	return openDatabase(dir, &pebble.Options{
		ReadOnly: readOnly, ErrorIfNotExists: true, Merger: merger, Logger: logger{slog.New(slog.DiscardHandler)}, FormatMajorVersion: pebble.FormatNewest,
	})
}

// dataVersion finds nothing in a database that was made and never used.
func dataVersion(db *pebble.DB) (version int, found bool, err error) {
	value, closer, err := db.Get([]byte{kindVersion})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the layout's version: %w", err)
	}
	defer closer.Close()
	if len(value) != 5 {
		return 0, false, fmt.Errorf("the layout's version is damaged: %x", value)
	}
	return int(value[0]), true, nil
}

// setVersion keeps the number of shards that stands behind the version.
func setVersion(db *pebble.DB, version int) error {
	value, closer, err := db.Get([]byte{kindVersion})
	if err != nil {
		return err
	}
	next := append([]byte{byte(version)}, value[1:]...)
	return errors.Join(closer.Close(), db.Set([]byte{kindVersion}, next, pebble.Sync))
}
