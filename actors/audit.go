package actors

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// StoredNews says how far a producer's run is stored in one shard: all up to Highest but the gaps.
type StoredNews struct {
	Shard   messages.Shard
	Run     uint64
	Through uint64      // highest producer sequence with all before it stored
	Highest uint64      // highest producer sequence stored
	Gaps    [][2]uint64 // between them, both ends included
}

func (a *account) news(shard messages.Shard) StoredNews {
	return StoredNews{Shard: shard, Run: a.Key.Run, Through: a.Through, Highest: a.highest(), Gaps: a.gaps()}
}

// mayHavePast tells whether the shard may have let go of the run before: its first sequences are missing.
func (a *account) mayHavePast() bool { return a.Through == 0 && len(a.Beyond) > 0 }

// past returns what the archive knows of a run, nil when nothing. What a shard has retired later than
// asOf is left out: who asks has it from the shard.
func past(ctx context.Context, archive persistence.Archive, shard messages.Shard, key producerKey, asOf uint64) (*account, error) {
	var sum *account
	var broken error
	err := archive.Accounts(ctx, shard, persistence.AccountKey(key), func(one *persistence.Account) bool {
		if producerKey(one.AccountKey) != key {
			return false
		}
		if one.Sequence > asOf {
			return true
		}
		var a *account
		if a, broken = readAccount(one); broken != nil {
			return false
		}
		if sum == nil {
			sum = a
		} else {
			sum = sum.with(a)
		}
		return true
	})
	return sum, cmp.Or(err, broken)
}

// liveAccount is what a shard says of one run, or of one that it has retired and still holds.
type liveAccount struct {
	stored   *account // as the saved checkpoint has it
	received uint64   // batches that came, as of what was taken in; 0 = not known any more
	retired  uint64   // sequence at which it was retired, 0 = it was not
}

// accounts copies what the shard knows of runs that of picks.
func (c *core) accounts(of func(producerKey) bool) []liveAccount {
	var out []liveAccount
	for key, a := range c.saved.ProducersStored.of {
		if !of(key) {
			continue
		}
		live := liveAccount{stored: a.clone()}
		if taken := c.producers.of[key]; taken != nil {
			live.received = taken.count() + taken.Repeated + taken.Unaccounted
		}
		out = append(out, live)
	}
	for _, r := range c.saved.Retiring {
		if of(r.Key) {
			out = append(out, liveAccount{stored: r.clone(), retired: r.Sequence})
		}
	}
	return out
}

// shardsAtOnce is how many shards are asked at once for what the archive knows of them.
const shardsAtOnce = 16

// eachShard calls do for all shards, several at once, until one fails.
func (m *Member) eachShard(ctx context.Context, do func(ctx context.Context, shard messages.Shard) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(shardsAtOnce)
	for n := range m.cfg.Shards {
		group.Go(func() error { return do(ctx, messages.Shard(n)) })
	}
	return group.Wait()
}

// storedOfShard is what one shard knows of a producer.
type storedOfShard struct {
	News []StoredNews
	AsOf uint64 // stored, then
}

// Stored says how far a producer is stored, by shard and run. With a run it tells also what the archive
// knows of it; without one (0) only of runs that the shards hold. A shard without an account asks the archive
// only when no shard has one: what a producer waits for it has sent again, and then the shard has an account.
func (m *Member) Stored(ctx context.Context, site, producer string, run uint64) ([]StoredNews, error) {
	key := producerKey{site, producer, run}
	parts, err := gathered(ctx, m, question{Kind: askStored, Run: messages.ProducerRun(key)}, m.storedOfShard)
	if err != nil {
		return nil, err
	}
	var out []StoredNews
	for _, part := range parts {
		out = append(out, part.News...)
	}
	if run != 0 && len(out) == 0 {
		var mu sync.Mutex // guards out
		err := m.eachShard(ctx, func(ctx context.Context, shard messages.Shard) error {
			a, err := m.whole(ctx, shard, key, nil, parts[shard].AsOf)
			if err != nil || a == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, a.news(shard))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b StoredNews) int { return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Run, b.Run)) })
	return out, nil
}

// storedOfShard asks one shard of this member, and the archive for what the shard has let go of.
func (m *Member) storedOfShard(ctx context.Context, q *question) (storedOfShard, error) {
	key := producerKey(q.Run)
	type held struct {
		found []liveAccount
		asOf  uint64
	}
	h, err := ofCore(ctx, m, q.Shard, func(c *core) held {
		return held{asOf: c.saved.Stored, found: c.accounts(func(k producerKey) bool {
			return k.Site == key.Site && k.Producer == key.Producer && (key.Run == 0 || k.Run == key.Run)
		})}
	})
	out := storedOfShard{AsOf: h.asOf}
	switch {
	case err != nil || len(h.found) == 0:
		return out, err
	case key.Run == 0:
		for _, live := range h.found {
			if live.retired == 0 {
				out.News = append(out.News, live.stored.news(q.Shard))
			}
		}
		return out, nil
	}
	a, err := m.whole(ctx, q.Shard, key, h.found, h.asOf)
	if err == nil && a != nil {
		out.News = []StoredNews{a.news(q.Shard)}
	}
	return out, err
}

// whole puts together what a shard holds of one run and what the archive has; nil when that is nothing.
func (m *Member) whole(ctx context.Context, shard messages.Shard, key producerKey, found []liveAccount, asOf uint64) (*account, error) {
	if len(found) == 1 && found[0].retired == 0 && !found[0].stored.mayHavePast() {
		return found[0].stored, nil
	}
	for _, live := range found {
		if live.retired != 0 {
			asOf = min(asOf, live.retired-1) // the archive may have it already
		}
	}
	sum, err := past(ctx, m.parts.Archive, shard, key, asOf)
	if err != nil {
		return nil, err
	}
	for _, live := range found {
		if sum == nil {
			sum = live.stored
		} else {
			sum = sum.with(live.stored)
		}
	}
	return sum, nil
}

// Audit returns the accounts of producers' runs, live and retired ones, in the order of site, producer and
// run; next is where the following page begins, nil when this is the last. It looks at q.Limit runs, so a page
// of which q.Since or q.Open leave some out is shorter.
func (m *Member) Audit(ctx context.Context, q messages.AuditQuery) (page []messages.ProducerAccount, next *messages.ProducerRun, err error) {
	parts, err := gathered(ctx, m, question{Kind: askAudit, Audit: q}, m.auditShard)
	if err != nil {
		return nil, nil, err
	}
	all := map[producerKey]*messages.ProducerAccount{}
	for _, part := range parts {
		for run, s := range part {
			key := producerKey(run)
			if all[key] == nil {
				all[key] = &messages.ProducerAccount{ProducerRun: run}
			}
			all[key].Shards = append(all[key].Shards, s)
		}
	}
	keys := slices.SortedFunc(maps.Keys(all), compareKeys)
	if len(keys) > q.Limit {
		keys = keys[:q.Limit]
		last := messages.ProducerRun(keys[q.Limit-1])
		next = &last
	}
	for _, key := range keys {
		if a := all[key]; q.Wants(a) {
			page = append(page, *a)
		}
	}
	return page, next, nil
}

func compareKeys(a, b producerKey) int {
	return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Producer, b.Producer), cmp.Compare(a.Run, b.Run))
}

// auditShard returns one shard's part of the page: its first runs behind q.After, at least Limit + 1 if it
// has so many. What belongs on the page of any shard is among them.
func (m *Member) auditShard(ctx context.Context, asked *question) (map[messages.ProducerRun]messages.ShardAccount, error) {
	shard, q := asked.Shard, asked.Audit
	after := producerKey(q.After)
	belongs := func(key producerKey) bool {
		return (q.Site == "" || key.Site == q.Site) && (q.Producer == "" || key.Producer == q.Producer) && compareKeys(key, after) > 0
	}
	var live []liveAccount
	var asOf uint64
	err := m.withCore(ctx, shard, func(c *core, done func(error)) {
		asOf = c.saved.Stored
		live = c.accounts(belongs)
		done(nil)
	})
	if err != nil {
		return nil, err
	}
	held, err := m.retiredAccounts(ctx, shard, q, belongs, asOf)
	if err != nil {
		return nil, err
	}
	for _, l := range live {
		held[l.stored.Key] = append(held[l.stored.Key], l)
	}
	keys := slices.SortedFunc(maps.Keys(held), compareKeys)
	out := map[messages.ProducerRun]messages.ShardAccount{}
	for _, key := range keys[:min(len(keys), q.Limit+1)] {
		out[messages.ProducerRun(key)] = shardAccount(shard, held[key])
	}
	return out, nil
}

// retiredAccounts reads the archive's accounts: those of the first Limit + 1 runs that belong to the page.
func (m *Member) retiredAccounts(ctx context.Context, shard messages.Shard, q messages.AuditQuery, belongs func(producerKey) bool, asOf uint64) (map[producerKey][]liveAccount, error) {
	held := map[producerKey][]liveAccount{}
	from := persistence.AccountKey(q.After)
	if wanted := (persistence.AccountKey{Site: q.Site, Producer: q.Producer}); compareKeys(producerKey(from), producerKey(wanted)) < 0 {
		from = wanted
	}
	var broken error
	err := m.parts.Archive.Accounts(ctx, shard, from, func(one *persistence.Account) bool {
		key := producerKey(one.AccountKey)
		switch {
		case q.Site != "" && key.Site != q.Site, q.Site != "" && q.Producer != "" && key.Producer != q.Producer:
			return false // behind all that is wanted
		case !belongs(key) || one.Sequence > asOf:
			return true
		case len(held) > q.Limit && held[key] == nil:
			return false
		}
		a, err := readAccount(one)
		if broken = err; err != nil {
			return false
		}
		held[key] = append(held[key], liveAccount{stored: a, retired: one.Sequence})
		return true
	})
	return held, cmp.Or(err, broken)
}

// shardAccount sums what is known of one run. Of one that is in the archive and still retiring only one counts.
func shardAccount(shard messages.Shard, parts []liveAccount) messages.ShardAccount {
	var sum *account
	out := messages.ShardAccount{Shard: shard, Retired: true}
	beyond, seen := uint64(0), map[uint64]bool{} // batches taken in and not stored yet
	for _, p := range parts {
		if p.retired != 0 && seen[p.retired] {
			continue
		}
		seen[p.retired] = true
		if p.retired == 0 {
			out.Retired = false
			held := p.stored.count() + p.stored.Repeated + p.stored.Unaccounted
			beyond = max(p.received, held) - held
		}
		if sum == nil {
			sum = p.stored
		} else {
			sum = sum.with(p.stored)
		}
	}
	out.Stored, out.Readings, out.Duplicates, out.Unaccounted = sum.count(), sum.Readings, sum.Repeated, sum.Unaccounted
	out.Received = out.Stored + out.Duplicates + out.Unaccounted + beyond
	out.Through, out.Highest, out.Gaps = sum.Through, sum.highest(), sum.gaps()
	out.Missing = out.Highest - out.Stored
	out.First, out.Last = sum.First, sum.Seen
	return out
}

// Producers returns how many producers this member's shards hold a run of; with an error, of those that answered.
func (m *Member) Producers(ctx context.Context) (int, error) {
	names := map[[2]string]bool{}
	for n := range m.cfg.Shards {
		err := m.withCore(ctx, messages.Shard(n), func(c *core, done func(error)) {
			for key := range c.saved.ProducersStored.of {
				names[[2]string{key.Site, key.Producer}] = true
			}
			done(nil)
		})
		if err != nil && !errors.Is(err, ErrNotOwner) {
			return len(names), err
		}
	}
	return len(names), nil
}

// recountAtOnce is how many shards are counted at once.
const recountAtOnce = 4

// Recount counts readings between two event times, both included, from the archive: of a site, or of all
// sites if it is empty. told is called, one call at a time, with each device that has some; shardDone after
// each shard. Either may be nil. An error of theirs ends the count. It asks no actor.
func (m *Member) Recount(ctx context.Context, site string, from, to int64, told func(messages.DeviceID, messages.Recount) error, shardDone func(done int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards told, shardDone and done
	done := 0
	shards := make(chan messages.Shard)
	var workers sync.WaitGroup
	for range min(recountAtOnce, m.cfg.Shards) {
		workers.Go(func() {
			for shard := range shards {
				err := m.recountShard(ctx, shard, site, from, to, func(id messages.DeviceID, r messages.Recount) error {
					mu.Lock()
					defer mu.Unlock()
					return told(id, r)
				})
				mu.Lock()
				if done++; err == nil {
					err = shardDone(done)
				}
				mu.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for n := range m.cfg.Shards {
		select {
		case shards <- messages.Shard(n):
		case <-ctx.Done():
		}
	}
	close(shards)
	workers.Wait()
	return context.Cause(ctx)
}

func (m *Member) recountShard(ctx context.Context, shard messages.Shard, site string, from, to int64, told func(messages.DeviceID, messages.Recount) error) error {
	var ids []messages.DeviceID
	err := m.parts.Archive.Devices(ctx, shard, func(id messages.DeviceID) bool {
		if id.Device != "" && (site == "" || id.Site == site) {
			ids = append(ids, id)
		}
		return true
	})
	for _, id := range ids {
		if err != nil {
			break
		}
		var r messages.Recount
		err = m.parts.Archive.Scan(ctx, shard, id, persistence.Range{From: from, To: to}, func(row *persistence.Row) bool {
			r.Count(row.Time, row.Values)
			return true
		})
		if err = m.met(ctx, id, 0, from, to, err); err == nil && r.Readings > 0 {
			err = told(id, r)
		}
	}
	return err
}
