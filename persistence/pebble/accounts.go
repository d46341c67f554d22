package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// appendAccount appends the key of accounts up to the run; the sequence follows it.
func appendAccount(dst []byte, shard messages.Shard, k persistence.AccountKey) []byte {
	dst = appendDevice(dst, kindAccount, shard, messages.DeviceID{Site: k.Site, Device: k.Producer})
	return binary.BigEndian.AppendUint64(dst, k.Run)
}

// PutAccounts keeps accounts, synced; see persistence.Archive.
func (a *Archive) PutAccounts(ctx context.Context, shard messages.Shard, accounts []persistence.Account) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("put accounts: %w", err)
	}
	defer a.leave()
	batch := a.db.NewBatch()
	for i := range accounts {
		one := &accounts[i]
		err := a.check(shard, messages.DeviceID{Site: one.Site, Device: one.Producer})
		if err == nil {
			key := binary.BigEndian.AppendUint64(appendAccount(nil, shard, one.AccountKey), one.Sequence)
			err = batch.Set(key, one.Payload, nil)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("put account of %s/%s: %w", one.Site, one.Producer, err), batch.Close())
		}
	}
	if batch.Empty() {
		return batch.Close()
	}
	if err := a.queue.do(ctx, batch, true, nil); err != nil {
		return fmt.Errorf("put accounts: %w", err)
	}
	return nil
}

// Accounts calls fn for each account of the shard from a key on; see persistence.Archive.
func (a *Archive) Accounts(ctx context.Context, shard messages.Shard, from persistence.AccountKey, fn func(*persistence.Account) bool) error {
	if err := a.enter(ctx); err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	defer a.leave()
	if int(shard) >= a.shards {
		return fmt.Errorf("list accounts: %w: shard %d, there are %d", persistence.ErrRefused, shard, a.shards)
	}
	prefix := binary.BigEndian.AppendUint16([]byte{kindAccount}, uint16(shard))
	lower := prefix
	if from != (persistence.AccountKey{}) {
		lower = appendAccount(nil, shard, from)
	}
	err := a.walk(ctx, lower, after(prefix), false, func(key, value []byte) (bool, error) {
		id, rest, ok := readNames(key[3:])
		if !ok || len(rest) != 16 {
			return false, errors.New("corrupt account")
		}
		return fn(&persistence.Account{
			AccountKey: persistence.AccountKey{Site: id.Site, Producer: id.Device, Run: binary.BigEndian.Uint64(rest)},
			Sequence:   binary.BigEndian.Uint64(rest[8:]), Payload: value,
		}), nil
	})
	if err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	return nil
}
