package actors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// The stores of the simulation: plain, obviously right, in memory. They are used by one goroutine.

// simStream is a shard's stream.
type simStream struct {
	created time.Time
	msgs    []messages.Message // contiguous
	next    uint64
}

func newSimStream(created time.Time) *simStream { return &simStream{created: created, next: 1} }

func (s *simStream) publish(arrival int64, subject string, data []byte) {
	s.msgs = append(s.msgs, messages.Message{Sequence: s.next, Arrival: arrival, Subject: subject, Data: data})
	s.next++
}

func (s *simStream) copy() *simStream {
	return &simStream{created: s.created, msgs: slices.Clone(s.msgs), next: s.next}
}

func (s *simStream) first() uint64 { return s.next - uint64(len(s.msgs)) }

func (s *simStream) from(sequence uint64, most int) []messages.Message {
	at := 0
	if first := s.first(); sequence > first {
		at = min(int(sequence-first), len(s.msgs))
	}
	return slices.Clone(s.msgs[at:min(at+most, len(s.msgs))])
}

// simLog is the stream as Log.
type simLog struct{ w *world }

func (l simLog) State(context.Context, messages.Shard) (messages.StreamState, error) {
	s := l.w.stream
	return messages.StreamState{Created: s.created, First: s.first(), Last: s.next - 1}, nil
}

func (l simLog) Open(_ context.Context, _ messages.Shard, from uint64) (Feed, error) {
	return &simFeed{w: l.w, next: from}, nil
}

func (l simLog) Get(_ context.Context, _ messages.Shard, sequence uint64) (messages.Message, error) {
	for _, m := range l.w.stream.msgs {
		if m.Sequence == sequence {
			return m, nil
		}
	}
	return messages.Message{}, persistence.ErrNotFound
}

func (l simLog) Purge(_ context.Context, _ messages.Shard, upTo uint64, created time.Time) error {
	s := l.w.stream
	for created.Equal(s.created) && len(s.msgs) > 0 && s.msgs[0].Sequence <= upTo {
		s.msgs = s.msgs[1:]
	}
	return nil
}

type simFeed struct {
	w    *world
	next uint64
}

func (f *simFeed) Pull(context.Context, int) ([]messages.Message, error) {
	msgs := f.w.stream.from(f.next, 1+f.w.rnd.IntN(20))
	if len(msgs) == 0 {
		return nil, errors.New("nothing there")
	}
	f.next = msgs[len(msgs)-1].Sequence + 1
	return msgs, nil
}

func (f *simFeed) Close() {}

// simCells are compare-and-set values.
type simCells struct {
	values   map[string][]byte
	revision map[string]uint64
	last     uint64
}

func newSimCells() *simCells {
	return &simCells{values: map[string][]byte{}, revision: map[string]uint64{}}
}

func (c *simCells) copy() *simCells {
	return &simCells{values: maps.Clone(c.values), revision: maps.Clone(c.revision), last: c.last}
}

func (c *simCells) Load(_ context.Context, key string) ([]byte, uint64, error) {
	if v, ok := c.values[key]; ok {
		return v, c.revision[key], nil
	}
	return nil, 0, persistence.ErrNotFound
}

func (c *simCells) Save(_ context.Context, key string, data []byte, revision uint64) (uint64, error) {
	if c.revision[key] != revision {
		return 0, persistence.ErrConflict
	}
	c.last++
	c.values[key], c.revision[key] = bytes.Clone(data), c.last
	return c.last, nil
}

// bucketTime names one rollup of a device.
type bucketTime struct {
	step  messages.Step
	start int64
}

// simArchive keeps rows by device and time; the higher sequence wins.
type simArchive struct {
	rows    map[messages.DeviceID]map[int64]persistence.Row
	rollups map[messages.DeviceID]map[bucketTime]persistence.RollupRow
	records map[messages.DeviceID]map[uint64]persistence.Record
	deleted map[messages.DeviceID]uint64
	writes  map[messages.DeviceID]map[int64]int64 // write time of each row: must not fall where a sequence rises
	refuse  func(persistence.Row) bool
	broken  []string // laws that were broken

	accounts map[string]persistence.Account
	damages  []*simDamage
}

// simDamage is a stretch of a device's readings (step 0) or rollups that cannot be read. Until it is set aside
// nothing of it can, whatever is written there.
type simDamage struct {
	id    messages.DeviceID
	step  messages.Step
	aside bool
	loss  persistence.Loss

	from, to int64 // as it was
}

func newSimArchive() *simArchive {
	return &simArchive{
		rows:    map[messages.DeviceID]map[int64]persistence.Row{},
		rollups: map[messages.DeviceID]map[bucketTime]persistence.RollupRow{},
		records: map[messages.DeviceID]map[uint64]persistence.Record{},
		deleted: map[messages.DeviceID]uint64{},
		writes:  map[messages.DeviceID]map[int64]int64{},

		accounts: map[string]persistence.Account{},
	}
}

func (a *simArchive) Append(_ context.Context, b *persistence.Batch) error {
	var failed error
	for i := range b.Devices {
		d := &b.Devices[i]
		d.Err = nil
		for _, r := range d.Rows {
			if a.refuse != nil && a.refuse(r) {
				d.Err, failed = persistence.ErrRefused, persistence.ErrRefused
			}
		}
		if d.Err != nil {
			continue
		}
		a.appendDevice(d)
	}
	return failed
}

func (a *simArchive) appendDevice(d *persistence.DeviceRows) {
	id := d.Device
	if a.rows[id] == nil {
		a.rows[id], a.rollups[id] = map[int64]persistence.Row{}, map[bucketTime]persistence.RollupRow{}
		a.records[id], a.writes[id] = map[uint64]persistence.Record{}, map[int64]int64{}
	}
	for _, r := range d.Rows {
		r.Values, r.Quality = slices.Clone(r.Values), slices.Clone(r.Quality)
		old, there := a.rows[id][r.Time]
		if there && (r.Sequence > old.Sequence) != (r.WriteTime > a.writes[id][r.Time]) && r.Sequence != old.Sequence {
			a.broken = append(a.broken, "write time does not grow with the sequence: "+id.String())
		}
		if r.Sequence > a.deleted[id] && (!there || r.Sequence >= old.Sequence) {
			a.rows[id][r.Time], a.writes[id][r.Time] = r, r.WriteTime
		}
	}
	for _, r := range d.Rollups {
		key := bucketTime{r.Step, r.Start}
		if old, there := a.rollups[id][key]; r.Sequence > a.deleted[id] && (!there || r.Sequence >= old.Sequence) {
			a.rollups[id][key] = r
		}
	}
	for _, r := range d.Records {
		if r.Sequence > a.deleted[id] {
			a.records[id][r.Sequence] = r
		}
	}
}

// damage makes a stretch unreadable.

func (a *simArchive) damage(id messages.DeviceID, step messages.Step, from, to int64) {
	a.damages = append(a.damages, &simDamage{
		id: id, step: step, from: from, to: to,
		loss: persistence.Loss{From: from, To: to, Sequence: math.MaxUint64, Mark: uint64(len(a.damages) + 1)},
	})
}

// losses returns what cannot be read of a device between two event times.
func (a *simArchive) losses(id messages.DeviceID, step messages.Step, from, to int64) (out []persistence.Loss) {
	for _, d := range a.damages {
		l := d.loss
		if d.id == id && d.step == step && l.From <= l.To && l.From <= to && l.To >= from && l.Sequence > a.deleted[id] {
			out = append(out, l)
		}
	}
	return out
}

// lostAt tells whether it is known that something of that time and sequence may be missing.
func (a *simArchive) lostAt(id messages.DeviceID, step messages.Step, at int64, sequence uint64) bool {
	return slices.ContainsFunc(a.losses(id, step, at, at), func(l persistence.Loss) bool { return sequence <= l.Sequence })
}

func (a *simArchive) SetAside(_ context.Context, _ messages.Shard, id messages.DeviceID, step messages.Step, from, to int64, sequence uint64) ([]persistence.Loss, error) {
	for _, d := range a.damages {
		l := &d.loss
		if d.aside || d.id != id || d.step != step || l.From > to || l.To < from {
			continue
		}
		d.aside, l.Sequence = true, sequence
		gone := func(t int64) bool { return l.From <= t && t <= l.To }
		if step == 0 {
			maps.DeleteFunc(a.rows[id], func(t int64, _ persistence.Row) bool { return gone(t) })
			maps.DeleteFunc(a.writes[id], func(t int64, _ int64) bool { return gone(t) })
		}
		maps.DeleteFunc(a.rollups[id], func(key bucketTime, _ persistence.RollupRow) bool { return key.step == step && gone(key.start) })
	}
	return a.losses(id, step, from, to), nil
}

func (a *simArchive) Recovered(_ context.Context, _ messages.Shard, id messages.DeviceID, step messages.Step, left persistence.Loss) error {
	for _, d := range a.damages {
		if l := &d.loss; d.aside && d.id == id && d.step == step && l.Mark == left.Mark {
			l.To, l.Sequence = min(l.To, left.To), min(l.Sequence, left.Sequence)
		}
	}
	return nil
}

func (a *simArchive) Scan(_ context.Context, _ messages.Shard, id messages.DeviceID, r persistence.Range, fn func(*persistence.Row) bool) error {
	from, to := min(r.From, r.To), max(r.From, r.To)
	var found []persistence.Row
	for t, row := range a.rows[id] {
		if t >= from && t <= to && (r.MaxSequence == 0 || row.Sequence <= r.MaxSequence) {
			found = append(found, row)
		}
	}
	sort.Slice(found, func(i, j int) bool { return (found[i].Time < found[j].Time) == (r.From <= r.To) })
	lost := persistence.LostAlong(&r, from, to, a.losses(id, 0, from, to))
	given := 0
	for i := range found {
		if err := lost.Reach(found[i].Time); err != nil {
			return err
		}
		if lost.Hides(found[i].Time, found[i].Sequence) {
			continue
		}
		if given++; !fn(&found[i]) || given == r.Limit {
			return nil
		}
	}
	return lost.End()
}

// Rollups knows only one start, which is all that a core asks for.
func (a *simArchive) Rollups(_ context.Context, _ messages.Shard, id messages.DeviceID, step messages.Step, r persistence.Range, fn func(*persistence.RollupRow) bool) error {
	if r.From != r.To {
		return errors.New("not used")
	}
	lost := persistence.LostAlong(&r, r.From, r.To, a.losses(id, step, r.From, r.To))
	if row, ok := a.rollups[id][bucketTime{step, r.From}]; ok && !lost.Hides(r.From, row.Sequence) {
		fn(&row)
	}
	return lost.End()
}

func (a *simArchive) Records(_ context.Context, _ messages.Shard, id messages.DeviceID) ([]persistence.Record, error) {
	out := slices.Collect(maps.Values(a.records[id]))
	sort.Slice(out, func(i, j int) bool { return out[i].Sequence < out[j].Sequence })
	return out, nil
}

func (a *simArchive) Devices(_ context.Context, _ messages.Shard, fn func(messages.DeviceID) bool) error {
	var ids []messages.DeviceID
	for id, records := range a.records {
		if len(records) > 0 {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i].String() < ids[j].String() })
	for _, id := range ids {
		if !fn(id) {
			break
		}
	}
	return nil
}

func (a *simArchive) Delete(_ context.Context, _ messages.Shard, id messages.DeviceID, sequence uint64, _ int64) error {
	a.deleted[id] = max(a.deleted[id], sequence)
	maps.DeleteFunc(a.rows[id], func(_ int64, r persistence.Row) bool { return r.Sequence <= sequence })
	maps.DeleteFunc(a.rollups[id], func(_ bucketTime, r persistence.RollupRow) bool { return r.Sequence <= sequence })
	maps.DeleteFunc(a.records[id], func(s uint64, _ persistence.Record) bool { return s <= sequence })
	return nil
}

func (a *simArchive) PutAccounts(_ context.Context, _ messages.Shard, accounts []persistence.Account) error {
	for _, one := range accounts {
		a.accounts[fmt.Sprintf("%s/%s/%016x/%d", one.Site, one.Producer, one.Run, one.Sequence)] = one
	}
	return nil
}

func (a *simArchive) Accounts(_ context.Context, _ messages.Shard, from persistence.AccountKey, fn func(*persistence.Account) bool) error {
	for _, name := range slices.Sorted(maps.Keys(a.accounts)) {
		one := a.accounts[name]
		if producerKey(one.AccountKey).String() >= producerKey(from).String() && !fn(&one) {
			break
		}
	}
	return nil
}

func (a *simArchive) Ping(context.Context) error { return nil }
func (a *simArchive) Close() error               { return nil }

// simSnapshots is the snapshot store. Its whole state can be put back.
type simSnapshots struct {
	fence  messages.Epoch
	marker persistence.Marker
	kept   map[uint64]map[messages.DeviceID]persistence.Snapshot
	down   bool
	// unfenced leaves the fence out: a test of the simulation itself.
	unfenced bool
}

func newSimSnapshots() *simSnapshots {
	return &simSnapshots{kept: map[uint64]map[messages.DeviceID]persistence.Snapshot{}}
}

func (s *simSnapshots) copy() *simSnapshots {
	c := *s
	c.kept = map[uint64]map[messages.DeviceID]persistence.Snapshot{}
	for g, m := range s.kept {
		c.kept[g] = maps.Clone(m)
	}
	return &c
}

var errDown = errors.New("store is down")

func (s *simSnapshots) guard(epoch messages.Epoch) error {
	switch {
	case s.down:
		return errDown
	case s.fence != epoch && !s.unfenced:
		return persistence.ErrFenced
	}
	return nil
}

func (s *simSnapshots) Fence(context.Context, messages.Shard) (messages.Epoch, error) {
	if s.down {
		return 0, errDown
	}
	return s.fence, nil
}

func (s *simSnapshots) RaiseFence(_ context.Context, _ messages.Shard, epoch messages.Epoch) error {
	if s.down {
		return errDown
	}
	if s.fence > epoch {
		return persistence.ErrFenced
	}
	s.fence = epoch
	return nil
}

func (s *simSnapshots) Put(_ context.Context, _ messages.Shard, epoch messages.Epoch, old, marker persistence.Marker, snaps []persistence.Snapshot) error {
	if err := s.guard(epoch); err != nil {
		return err
	}
	if s.marker != old {
		return persistence.ErrConflict
	}
	s.marker = marker
	generation := marker.Generation
	if s.kept[generation] == nil {
		s.kept[generation] = map[messages.DeviceID]persistence.Snapshot{}
	}
	for _, snap := range snaps {
		s.kept[generation][snap.Device] = snap
	}
	return nil
}

func (s *simSnapshots) Get(_ context.Context, _ messages.Shard, generation uint64, ids []messages.DeviceID) ([]persistence.Snapshot, error) {
	if s.down {
		return nil, errDown
	}
	var out []persistence.Snapshot
	for _, id := range ids {
		if snap, ok := s.kept[generation][id]; ok {
			out = append(out, snap)
		}
	}
	return out, nil
}

func (s *simSnapshots) Scan(_ context.Context, _ messages.Shard, generation uint64, fn func(persistence.Snapshot) bool) error {
	ids := slices.SortedFunc(maps.Keys(s.kept[generation]), func(a, b messages.DeviceID) int {
		return bytes.Compare([]byte(a.String()), []byte(b.String()))
	})
	for _, id := range ids {
		if !fn(s.kept[generation][id]) {
			break
		}
	}
	return nil
}

func (s *simSnapshots) Remove(context.Context, messages.Shard, messages.Epoch, uint64, []messages.DeviceID) error {
	return errors.New("not used")
}

func (s *simSnapshots) Marker(context.Context, messages.Shard) (persistence.Marker, error) {
	if s.down {
		return persistence.Marker{}, errDown
	}
	return s.marker, nil
}

func (s *simSnapshots) PutMarker(_ context.Context, _ messages.Shard, epoch messages.Epoch, old, marker persistence.Marker) error {
	if err := s.guard(epoch); err != nil {
		return err
	}
	if s.marker != old {
		return persistence.ErrConflict
	}
	s.marker = marker
	return nil
}

func (s *simSnapshots) Drop(_ context.Context, _ messages.Shard, epoch messages.Epoch, below uint64) error {
	if err := s.guard(epoch); err != nil {
		return err
	}
	maps.DeleteFunc(s.kept, func(g uint64, _ map[messages.DeviceID]persistence.Snapshot) bool { return g < below })
	return nil
}

func (s *simSnapshots) Ping(context.Context) error { return nil }
func (s *simSnapshots) Close() error               { return nil }
