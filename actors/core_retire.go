package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/wellhead/wellhead/persistence"
)

// An account leaves a shard in this order: the table of what was taken in drops it, at one message,
// which a replay finds again; when that message is stored the checkpoint moves it to Retiring; when a
// checkpoint that says so is saved, the archive gets it; and then a later checkpoint is without it.

// retiringBytes bounds, roughly, what waits for the archive. Beyond it no message counts as stored.
const retiringBytes = 64 << 10

// retiringFull tells whether enough accounts wait for the archive.
func (c *core) retiringFull() bool {
	weight := 0
	for _, r := range c.current.Retiring {
		weight += r.weight()
	}
	return weight > retiringBytes
}

// retire moves the accounts that a message has retired out of the coming checkpoint's table.
func (c *core) retire(p *pending) {
	k := &c.current
	for _, key := range p.retired {
		if a := k.ProducersStored.drop(key); a != nil {
			k.Retiring = append(slices.Clip(k.Retiring), retiringAccount{a, p.sequence, p.writeTime})
		}
	}
	// Under other settings a replay may have let go of others than the life before.
	for k.ProducersStored.weight > accountsBytes+accountsBytes/8 && len(k.ProducersStored.of) > 1 {
		a := k.ProducersStored.drop(k.ProducersStored.oldest(p.producer))
		k.Retiring = append(slices.Clip(k.Retiring), retiringAccount{a, p.sequence, p.writeTime})
	}
}

// stepRetire has the archive keep what a saved checkpoint says is retiring.
func (c *core) stepRetire() {
	if c.retiring || len(c.saved.Retiring) == 0 || len(c.current.Retiring) == 0 {
		return
	}
	// The first of the coming checkpoint are the first of the saved one, but for those already done.
	at := slices.IndexFunc(c.saved.Retiring, func(r retiringAccount) bool { return r.account == c.current.Retiring[0].account })
	if at < 0 {
		return // done, or not saved yet
	}
	c.retiring = true
	c.fx.retire(&retireJob{accounts: c.saved.Retiring[at:]})
}

// retired answers a retireJob.
func (c *core) retired(j *retireJob, err error) {
	if j.done || c.lost != nil {
		return
	}
	if err != nil {
		c.again(&j.retryable, err, "keep accounts of producers in the archive", func() { c.fx.retire(j) })
		return
	}
	j.done = true
	c.retiring = false
	c.current.Retiring = slices.Clone(c.current.Retiring[len(j.accounts):])
	c.advance()
}

// retire writes accounts into the archive. The same once more changes nothing.
func (x *executor) retire(ctx context.Context, j *retireJob) error {
	list := make([]persistence.Account, len(j.accounts))
	for i, r := range j.accounts {
		payload, err := json.Marshal(r.file())
		if err != nil {
			return fmt.Errorf("write account %s: %w", r.Key, err)
		}
		list[i] = persistence.Account{
			AccountKey: persistence.AccountKey(r.Key), Sequence: r.Sequence, WriteTime: r.WriteTime, Payload: payload,
		}
	}
	return x.archive.PutAccounts(ctx, x.shard, list)
}

// readAccount reads what retire wrote.
func readAccount(a *persistence.Account) (*account, error) {
	var f producerInFile
	if err := json.Unmarshal(a.Payload, &f); err != nil {
		return nil, fmt.Errorf("read account of %s/%s in the archive: %w", a.Site, a.Producer, err)
	}
	return f.account(), nil
}
