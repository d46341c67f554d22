package actors

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// checkpointVersion is raised when an older member could not understand a newer checkpoint.
const checkpointVersion = 1

// Checkpoint is a shard's record of how far it has come. It is one value under compare-and-set.
//
// Sequences here are logical: the stream's own plus Offset (docs/adr/0002). They never go back.
type Checkpoint struct {
	Epoch      messages.Epoch
	Generation uint64 // of the snapshots that count

	Stored      uint64 // every message up to here is in the archive, or in rejects
	Snapshotted uint64 // every device's snapshot covers the stream up to here; <= Stored
	Reserved    uint64 // no message beyond this has been applied under this checkpoint

	Created    time.Time // of the stream
	Offset     uint64    // logical sequence = Offset + stream sequence
	Landmark   int64     // arrival (ns) of the message at Snapshotted, 0 = none: tells a stream put back to an older copy
	StoredMark int64     // the same at Stored

	WriteTimeStored      int64 // last write time given, as of Stored, µs
	WriteTimeSnapshotted int64 // the same as of Snapshotted

	Counts               messages.Counts // as of Stored
	Rejected             uint64          // messages or readings in rejects, as of Stored
	Repeated             uint64          // batches that came again, as of Stored
	ProducersStored      producers
	ProducersSnapshotted producers
	// Retiring are accounts that ProducersStored has let go of and the archive does not have yet. It is
	// never changed, only replaced.
	Retiring []retiringAccount
}

// retiringAccount is an account on its way to the archive.
type retiringAccount struct {
	*account
	Sequence  uint64 // of the message that retired it
	WriteTime int64  // of that message, µs
}

// checkpointFile is how a checkpoint is written: JSON, so that an operator can read it with any NATS client.
type checkpointFile struct {
	Version              int              `json:"version"`
	Epoch                uint64           `json:"epoch"`
	Generation           uint64           `json:"generation"`
	Stored               uint64           `json:"stored"`
	Snapshotted          uint64           `json:"snapshotted"`
	Reserved             uint64           `json:"reserved"`
	Created              time.Time        `json:"created"`
	Offset               uint64           `json:"offset"`
	Landmark             int64            `json:"landmark"`
	StoredMark           int64            `json:"storedMark"`
	WriteTimeStored      int64            `json:"writeTimeStored"`
	WriteTimeSnapshotted int64            `json:"writeTimeSnapshotted"`
	Counts               messages.Counts  `json:"counts"`
	Rejected             uint64           `json:"rejected"`
	Repeated             uint64           `json:"repeated"`
	Producers            []producerInFile `json:"producers,omitempty"`
	ProducersSnapshotted []producerInFile `json:"producersSnapshotted,omitempty"`
	Retiring             []retiringInFile `json:"retiring,omitempty"`
}

type retiringInFile struct {
	producerInFile
	Sequence  uint64 `json:"sequence"`
	WriteTime int64  `json:"writeTime"`
}

// producerInFile is an account as checkpoint and archive have it.
type producerInFile struct {
	Site        string      `json:"site"`
	Producer    string      `json:"producer"`
	Run         uint64      `json:"run,string"`
	Through     uint64      `json:"through"`
	Beyond      [][2]uint64 `json:"beyond,omitempty"`
	Readings    uint64      `json:"readings"`
	Repeated    uint64      `json:"repeated,omitempty"`
	Unaccounted uint64      `json:"unaccounted,omitempty"`
	Last        uint64      `json:"last"`
	First       int64       `json:"first,omitempty"`
	Seen        int64       `json:"seen,omitempty"`
}

// Encode writes the checkpoint.
func (c *Checkpoint) Encode() ([]byte, error) {
	var retiring []retiringInFile
	for _, r := range c.Retiring {
		retiring = append(retiring, retiringInFile{r.file(), r.Sequence, r.WriteTime})
	}
	return json.Marshal(checkpointFile{
		Version: checkpointVersion, Epoch: uint64(c.Epoch), Generation: c.Generation,
		Stored: c.Stored, Snapshotted: c.Snapshotted, Reserved: c.Reserved,
		Created: c.Created, Offset: c.Offset, Landmark: c.Landmark, StoredMark: c.StoredMark,
		WriteTimeStored: c.WriteTimeStored, WriteTimeSnapshotted: c.WriteTimeSnapshotted,
		Counts: c.Counts, Rejected: c.Rejected, Repeated: c.Repeated,
		Producers: c.ProducersStored.file(), ProducersSnapshotted: c.ProducersSnapshotted.file(),
		Retiring: retiring,
	})
}

// DecodeCheckpoint reads what Encode wrote. A checkpoint of a later version is refused.
func DecodeCheckpoint(data []byte) (*Checkpoint, error) {
	var f checkpointFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if f.Version != checkpointVersion {
		return nil, fmt.Errorf("read checkpoint: it has version %d and this program knows version %d: run the version of wellhead that wrote it", f.Version, checkpointVersion)
	}
	c := &Checkpoint{
		Epoch: messages.Epoch(f.Epoch), Generation: f.Generation,
		Stored: f.Stored, Snapshotted: f.Snapshotted, Reserved: f.Reserved,
		Created: f.Created, Offset: f.Offset, Landmark: f.Landmark, StoredMark: f.StoredMark,
		WriteTimeStored: f.WriteTimeStored, WriteTimeSnapshotted: f.WriteTimeSnapshotted,
		Counts: f.Counts, Rejected: f.Rejected, Repeated: f.Repeated,
		ProducersStored: producersFrom(f.Producers), ProducersSnapshotted: producersFrom(f.ProducersSnapshotted),
	}
	for _, r := range f.Retiring {
		c.Retiring = append(c.Retiring, retiringAccount{r.account(), r.Sequence, r.WriteTime})
	}
	if c.Snapshotted > c.Stored || c.Offset > c.Stored {
		return nil, fmt.Errorf("read checkpoint: stored %d, snapshotted %d and offset %d contradict each other", c.Stored, c.Snapshotted, c.Offset)
	}
	return c, nil
}

func (p *producers) file() []producerInFile {
	out := make([]producerInFile, 0, len(p.of))
	for _, a := range p.of {
		out = append(out, a.file())
	}
	slices.SortFunc(out, func(a, b producerInFile) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Producer, b.Producer), cmp.Compare(a.Run, b.Run))
	})
	return out
}

func producersFrom(list []producerInFile) producers {
	var out producers
	for i := range list {
		out.put(list[i].account())
	}
	return out
}

func (a *account) file() producerInFile {
	f := producerInFile{
		Site: a.Key.Site, Producer: a.Key.Producer, Run: a.Key.Run, Through: a.Through, Readings: a.Readings,
		Repeated: a.Repeated, Unaccounted: a.Unaccounted, Last: a.Last, First: a.First, Seen: a.Seen,
	}
	for _, b := range a.Beyond {
		f.Beyond = append(f.Beyond, [2]uint64{b.From, b.To})
	}
	return f
}

func (f *producerInFile) account() *account {
	a := &account{
		Key: producerKey{f.Site, f.Producer, f.Run}, Through: f.Through, Readings: f.Readings,
		Repeated: f.Repeated, Unaccounted: f.Unaccounted, Last: f.Last, First: f.First, Seen: f.Seen,
	}
	for _, b := range f.Beyond {
		a.Beyond = append(a.Beyond, interval{b[0], b[1]})
	}
	return a
}
