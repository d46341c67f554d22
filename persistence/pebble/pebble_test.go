package pebble

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cleanup closes a store at the end of the test and wants no error.
func cleanup(t *testing.T, closer interface{ Close() error }) {
	t.Cleanup(func() {
		if err := closer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func openArchive(t *testing.T, dir string, o Options) *Archive {
	t.Helper()
	a, err := OpenArchive(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, a)
	return a
}

func TestArchiveContract(t *testing.T) {
	contract.Archive(t, func(t *testing.T) persistence.Archive { return openArchive(t, t.TempDir(), Options{}) })
}

// TestArchiveContractSmallMemtable makes flushes and compactions take part: merging happens on the way to disk too.
func TestArchiveContractSmallMemtable(t *testing.T) {
	a := openArchive(t, t.TempDir(), Options{MemtableBytes: 64 << 10})
	contract.Archive(t, func(t *testing.T) persistence.Archive { return a })
	if m := a.db.Metrics(); m.Flush.Count == 0 {
		t.Error("nothing was flushed")
	}
}

func TestSnapshotsContract(t *testing.T) {
	s, err := OpenSnapshots(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, s)
	contract.Snapshots(t, func(t *testing.T) persistence.Snapshots { return s })
}
