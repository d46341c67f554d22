package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// lease is the value of a shard's lease.
type lease struct {
	Member  string `json:"member"` // empty = released
	Address string `json:"address,omitempty"`
	// Of a released one:
	Paused  int64  `json:"paused,omitempty"`  // ms, when its owner stopped pulling
	Applied uint64 `json:"applied,omitempty"` // logical sequence that its devices have reached, when not all of that is snapshotted
}

// begin takes a shard: claim, fences, checkpoint, table of devices, feed. See PlanStart.
func (m *Member) begin(ctx context.Context, shard messages.Shard) (*started, error) {
	p := m.parts
	claim, err := m.claim(ctx, shard)
	if err != nil {
		return nil, err
	}
	found := Found{Claim: claim, Snapshots: true, Now: m.now()}
	data, revision, err := p.Checkpoints.Load(ctx, shardKey(shard))
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	default:
		if found.Checkpoint, err = DecodeCheckpoint(data); err != nil {
			return nil, err
		}
	}
	if err := m.lookAround(ctx, shard, &found); err != nil {
		return nil, err
	}
	plan := PlanStart(found)
	k := &plan.Checkpoint
	if found.Snapshots {
		if err := p.Snapshots.RaiseFence(ctx, shard, k.Epoch); err != nil {
			return nil, fmt.Errorf("raise the fence: %w", err)
		}
	}
	caution, err := loadStarts(ctx, p.Starts, shard, k, found.Stream.Last+k.Offset)
	if err != nil {
		return nil, err
	}
	plan.Starts = caution.starts
	b := &started{plan: plan, marker: found.Marker, sites: map[string]siteRecord{}, caution: caution}
	b.exec = &executor{
		shard: shard, archive: p.Archive, snapshots: p.Snapshots, log: p.Log, cells: p.Checkpoints,
		outside: p.Outside, epoch: k.Epoch, offset: k.Offset, revision: revision, limits: &m.cfg.Limits, fleet: &m.cfg.Fleet,
		inspect: m.options.Inspect, guilty: plan.Starts.Guilty, accounts: m.cfg.Retire,
		corrupt: func(c Corruption) { m.corrupt(shard, c) },
	}
	if data, err = k.Encode(); err != nil {
		return nil, fmt.Errorf("encode the checkpoint: %w", err)
	}
	if err := b.exec.saveCheckpoint(ctx, data); err != nil {
		return nil, fmt.Errorf("save the first checkpoint: %w", err)
	}
	if err := m.fill(ctx, b, found.Snapshots); err != nil {
		if b.feed != nil {
			b.feed.Close()
		}
		return nil, err
	}
	return b, nil
}

// lookAround finds what is there beside the checkpoint, which was read before: an owner from before that still works
// moves it last, so what is older than it would look like something that went back.
func (m *Member) lookAround(ctx context.Context, shard messages.Shard, f *Found) error {
	return m.together(
		func() (err error) {
			if f.Stream, err = m.parts.Log.State(ctx, shard); err != nil {
				return fmt.Errorf("look at the stream: %w", err)
			}
			return nil
		},
		func() (err error) {
			if f.Witness, err = m.witness(ctx, shard); err == nil && f.Witness != nil {
				f.Deleted = m.arrival(ctx, shard, f.Checkpoint, f.Witness.Deleted, f.Witness.DeletedMark)
			}
			return err
		},
		func() error {
			if k := f.Checkpoint; k != nil {
				f.Landmark = m.arrival(ctx, shard, k, k.Snapshotted, k.Landmark)
			}
			return nil
		},
		func() error {
			if k := f.Checkpoint; k != nil {
				f.StoredMark = m.arrival(ctx, shard, k, k.Stored, k.StoredMark)
			}
			return nil
		},
		func() error {
			m.lookAtSnapshots(ctx, shard, f)
			return nil
		},
	)
}

// fill has the archive keep the start, reads the table of devices and opens the feed.
func (m *Member) fill(ctx context.Context, b *started, snapshots bool) error {
	shard, k := b.exec.shard, &b.plan.Checkpoint
	return m.together(
		func() error {
			b.exec.witness, b.exec.witnessTime = Witness{Epoch: k.Epoch, Reserved: k.Reserved}, m.now()*1000
			if err := b.exec.bearWitness(ctx, 0, 0); err != nil {
				return fmt.Errorf("have the archive keep the shard's start: %w", err)
			}
			return nil
		},
		func() error {
			if b.plan.Rebuild && snapshots {
				m.beginGeneration(ctx, b)
			}
			if !b.plan.Rebuild && snapshots {
				m.readSnapshots(ctx, b)
			}
			return nil
		},
		func() error { return m.readTable(ctx, b) },
		func() (err error) {
			if b.feed, err = m.parts.Log.Open(ctx, shard, b.plan.From); err != nil {
				return fmt.Errorf("open the feed: %w", err)
			}
			return nil
		},
	)
}

// atOnce does all of it at the same time, and returns when all is done: the devices of a shard that starts stand still.
func atOnce(do ...func() error) error {
	var group errgroup.Group
	for _, one := range do {
		group.Go(one)
	}
	return group.Wait()
}

// arrival reads when a message came that checkpoint or witness remember, by its logical sequence; 0 = the stream does not
// have it any more.
func (m *Member) arrival(ctx context.Context, shard messages.Shard, k *Checkpoint, seq uint64, mark int64) int64 {
	if k == nil || mark == 0 || seq <= k.Offset {
		return 0
	}
	msg, err := m.parts.Log.Get(ctx, shard, seq-k.Offset)
	if err != nil {
		return 0
	}
	return msg.Arrival
}

// witnessSite stands in the site's place of the archive's record of a shard's starts. No site can have
// this name.
const witnessSite = "@shard"

// witness returns what the archive keeps of the shard's newest start.
func (m *Member) witness(ctx context.Context, shard messages.Shard) (*Witness, error) {
	records, err := m.parts.Archive.Records(ctx, shard, messages.DeviceID{Site: witnessSite})
	if err != nil {
		return nil, fmt.Errorf("read what the archive knows of the shard's starts: %w", err)
	}
	if len(records) == 0 {
		return nil, nil
	}
	var w Witness
	if err := json.Unmarshal(records[len(records)-1].Payload, &w); err != nil {
		return nil, fmt.Errorf("read what the archive knows of the shard's starts: %w", err)
	}
	return &w, nil
}

// beginGeneration has the marker tell of the new generation, so that a start that comes before its
// first snapshots finds nothing amiss. If that fails, the first put finds out.
func (m *Member) beginGeneration(ctx context.Context, b *started) {
	k := &b.plan.Checkpoint
	marker := persistence.Marker{Generation: k.Generation, Snapshotted: k.Snapshotted, Puts: b.marker.Puts + 1}
	if err := m.parts.Snapshots.PutMarker(ctx, b.exec.shard, k.Epoch, b.marker, marker); err != nil {
		m.log.Warn("cannot store the marker of a new generation", "shard", int(b.exec.shard), "error", err)
		return
	}
	b.marker = marker
}

// claim writes the lease; its revision is part of the epoch.
func (m *Member) claim(ctx context.Context, shard messages.Shard) (uint64, error) {
	if m.options.Shared != nil {
		return m.claimShared(ctx, shard)
	}
	_, revision, err := m.parts.Leases.Load(ctx, shardKey(shard))
	if err != nil && !errors.Is(err, persistence.ErrNotFound) {
		return 0, fmt.Errorf("read the lease: %w", err)
	}
	data, err := json.Marshal(lease{Member: m.options.Name, Address: m.options.Address})
	if err != nil {
		return 0, fmt.Errorf("encode the lease: %w", err)
	}
	claim, err := m.parts.Leases.Save(ctx, shardKey(shard), data, revision)
	if err != nil {
		return 0, fmt.Errorf("claim the lease: %w", err)
	}
	return claim, nil
}

// snapshotPatienceAtStart is how long a start waits for the snapshot store before it goes on without.
const snapshotPatienceAtStart = 5 * time.Second

// lookAtSnapshots reads fence and marker. A store that cannot be reached is done without: states
// come from the archive.
func (m *Member) lookAtSnapshots(ctx context.Context, shard messages.Shard, f *Found) {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatienceAtStart)
	defer cancel()
	fence, err := m.parts.Snapshots.Fence(ctx, shard)
	if err == nil {
		f.Fence = fence
		f.Marker, err = m.parts.Snapshots.Marker(ctx, shard)
	}
	if err != nil {
		f.Snapshots = false
		m.complain("start without snapshots: the snapshot store cannot be reached: "+err.Error(), shard)
	}
}

// complain logs that a store fails, but not each time.
func (m *Member) complain(text string, shard messages.Shard) {
	if unsaid, say := m.complaints.due(text, time.Now()); say {
		m.log.Warn("a store failed, trying again", "shard", int(shard), "what", text, "unsaid", unsaid)
	}
}

// readTable fills the shard's column table with all names that the archive has.
func (m *Member) readTable(ctx context.Context, b *started) error {
	shard, k := b.exec.shard, &b.plan.Checkpoint
	var sites []messages.DeviceID
	site := ""
	err := m.parts.Archive.Devices(ctx, shard, func(id messages.DeviceID) bool {
		if id.Site != site {
			site = strings.Clone(id.Site)
		}
		id = messages.DeviceID{Site: site, Device: strings.Clone(id.Device)}
		switch {
		case id.Site == witnessSite:
		case id.Device == "":
			sites = append(sites, id)
		default:
			b.devices = append(b.devices, id)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, id := range sites {
		records, err := m.parts.Archive.Records(ctx, shard, id)
		if err != nil {
			return fmt.Errorf("read the settings of site %s: %w", id.Site, err)
		}
		for _, r := range records {
			if own, err := decodeSiteRecord(r.Payload); err == nil && r.Sequence <= k.Snapshotted {
				b.sites[id.Site] = siteRecord{own: own, sequence: r.Sequence}
			}
		}
	}
	return nil
}

// readSnapshots fills the shard's column table with the lines that snapshots have, and reads the states of the devices
// that are about to send: loaded one by one, as readings and questions come, each would be fetched a second time.
func (m *Member) readSnapshots(ctx context.Context, b *started) {
	shard, k, now := b.exec.shard, &b.plan.Checkpoint, m.now()
	var r snapshotReader
	err := m.parts.Snapshots.Scan(ctx, shard, k.Generation, func(s persistence.Snapshot) bool {
		head, err := r.read(s.Data, now)
		if err != nil {
			b.exec.found(Corruption{What: CorruptSnapshot, Device: s.Device, Damage: persistence.Damage{Err: err}})
		} else if head.Sequence == s.Sequence && head.Sequence <= k.Stored {
			b.snaps = append(b.snaps, head)
		}
		return true
	})
	if errors.Is(err, persistence.ErrCorrupt) {
		b.exec.found(Corruption{What: CorruptSnapshot, Damage: persistence.Damage{Err: err}})
	} else if err != nil {
		m.log.Warn("cannot list snapshots; devices are loaded one by one", "shard", int(shard), "error", err)
	}
}

// siteRecord is a site's own settings and the sequence they came with.
type siteRecord struct {
	own      messages.Settings
	sequence uint64
}

func encodeSiteRecord(own messages.Settings) []byte {
	data, err := json.Marshal(own)
	if err != nil {
		panic(err) // plain strings and integers
	}
	return data
}

func decodeSiteRecord(data []byte) (messages.Settings, error) {
	var own messages.Settings
	err := json.Unmarshal(data, &own)
	return own, err
}
