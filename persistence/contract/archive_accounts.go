package contract

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// accounts returns what the archive has of sites that begin with site, from a key on, as text.
func (a archiveUnderTest) accounts(ctx context.Context, t *testing.T, site string, from persistence.AccountKey) []string {
	t.Helper()
	var got []string
	err := a.Accounts(ctx, a.shard, from, func(one *persistence.Account) bool {
		if strings.HasPrefix(one.Site, site) { // others may live here from other runs
			got = append(got, accountString(one))
		}
		return true
	})
	if err != nil {
		t.Fatalf("accounts from %+v: %v", from, err)
	}
	return got
}

func accountString(a *persistence.Account) string {
	return fmt.Sprintf("%s %s %016x %d %q", a.Site, a.Producer, a.Run, a.Sequence, a.Payload)
}

func testAccounts(t *testing.T, a archiveUnderTest, site string) {
	ctx := testContext(t)
	if got := a.accounts(ctx, t, site, persistence.AccountKey{}); got != nil {
		t.Fatalf("before any: got %v", got)
	}
	account := func(site, producer string, run, sequence uint64, payload string) persistence.Account {
		return persistence.Account{
			AccountKey: persistence.AccountKey{Site: site, Producer: producer, Run: run},
			Sequence:   sequence, WriteTime: writeTime(sequence), Payload: []byte(payload),
		}
	}
	want := []persistence.Account{
		account(site, "p", 1, 9, "first"),
		account(site, "p", 1, 1<<40, "came again"),
		account(site, "p", 256, 3, ""),
		account(site, "p", math.MaxUint64, 4, "x\x00\xff"),
		account(site, "p-1", 7, 5, strings.Repeat("y", 100_000)),
		account(site, "pa", 7, 6, "b"),
		account(site+"-", "a", 7, 6, "c"),
		account(site+"a", "a", 7, 6, "d"),
	}
	texts := func(list []persistence.Account) (out []string) {
		for i := range list {
			out = append(out, accountString(&list[i]))
		}
		return out
	}
	back := slices.Clone(want)
	slices.Reverse(back)
	for range 2 { // a shard that starts again puts the same once more
		if err := a.PutAccounts(ctx, a.shard, back); err != nil {
			t.Fatalf("put: %v", err)
		}
		if diff := cmp.Diff(texts(want), a.accounts(ctx, t, site, persistence.AccountKey{})); diff != "" {
			t.Fatalf("accounts (-want +got):\n%s", diff)
		}
	}
	for _, from := range []struct {
		key  persistence.AccountKey
		want int
	}{
		{persistence.AccountKey{Site: site}, 0},
		{persistence.AccountKey{Site: site, Producer: "p", Run: 1}, 0},
		{persistence.AccountKey{Site: site, Producer: "p", Run: 2}, 2},
		{persistence.AccountKey{Site: site, Producer: "p-"}, 4},
		{persistence.AccountKey{Site: site, Producer: "q"}, 6},
	} {
		if diff := cmp.Diff(texts(want[from.want:]), a.accounts(ctx, t, site, from.key)); diff != "" {
			t.Errorf("accounts from %+v (-want +got):\n%s", from.key, diff)
		}
	}
	calls := 0
	err := a.Accounts(ctx, a.shard, persistence.AccountKey{Site: site}, func(*persistence.Account) bool { calls++; return calls < 3 })
	if err != nil || calls != 3 {
		t.Errorf("stop at the 3rd: got %d calls and error %v", calls, err)
	}
	other := archiveUnderTest{a.Archive, (a.shard + 1) % Shards}
	if got := other.accounts(ctx, t, site, persistence.AccountKey{}); got != nil {
		t.Errorf("another shard has %v", got)
	}
	// They are no device's: a delete of one with the same name leaves them.
	if err := a.Delete(ctx, a.shard, messages.DeviceID{Site: site, Device: "p"}, 1<<50, writeTime(1<<50)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if got := a.accounts(ctx, t, site, persistence.AccountKey{}); len(got) != len(want) {
		t.Errorf("after the delete of a device: got %v", got)
	}
	if err := a.PutAccounts(ctx, a.shard, nil); err != nil {
		t.Errorf("put none: %v", err)
	}
}
