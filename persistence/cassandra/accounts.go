package cassandra

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// accountName is an account's key as the table has it. The zero key is below all of them.
func accountName(k persistence.AccountKey) string {
	if k == (persistence.AccountKey{}) {
		return ""
	}
	return fmt.Sprintf("%s!%s!%016x", k.Site, k.Producer, k.Run)
}

// parseAccountName takes accountName apart.
func parseAccountName(name string) (persistence.AccountKey, error) {
	parts := strings.Split(name, "!")
	if len(parts) != 3 {
		return persistence.AccountKey{}, fmt.Errorf("account %q: want site!producer!run", name)
	}
	run, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil {
		return persistence.AccountKey{}, fmt.Errorf("account %q: run: %w", name, err)
	}
	return persistence.AccountKey{Site: parts[0], Producer: parts[1], Run: run}, nil
}

// PutAccounts writes one row after the other: they are few. See persistence.Archive.
func (a *Archive) PutAccounts(ctx context.Context, shard messages.Shard, accounts []persistence.Account) error {
	if err := a.checkShard(shard); err != nil {
		return err
	}
	for i := range accounts {
		one := &accounts[i]
		if strings.Contains(one.Site+one.Producer, "!") {
			return fmt.Errorf("put account of %s/%s: a name has a !: %w", one.Site, one.Producer, persistence.ErrRefused)
		}
		payload := one.Payload
		if payload == nil {
			payload = []byte{} // never a null
		}
		err := a.session.Query(cqlInsertAccount, int16(shard), accountName(one.AccountKey), int64(one.Sequence), payload, one.WriteTime).WithContext(ctx).Exec()
		if err != nil {
			return fmt.Errorf("put account of %s/%s: %w", one.Site, one.Producer, err)
		}
	}
	return nil
}

// Accounts reads the shard's partition from a key on. See persistence.Archive.
func (a *Archive) Accounts(ctx context.Context, shard messages.Shard, from persistence.AccountKey, fn func(*persistence.Account) bool) error {
	if err := a.checkShard(shard); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows := a.session.Query(cqlListAccounts, int16(shard), accountName(from)).WithContext(ctx).PageSize(pageSize).Iter()
	var name string
	var sequence int64
	var payload []byte
	for rows.Scan(&name, &sequence, &payload) {
		key, err := parseAccountName(name)
		if err != nil {
			_ = rows.Close()
			return err
		}
		if !fn(&persistence.Account{AccountKey: key, Sequence: uint64(sequence), Payload: payload}) {
			_ = rows.Close()
			return nil
		}
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("list accounts of shard %d: %w", shard, err)
	}
	return nil
}
