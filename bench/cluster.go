package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// What one and three members are given, batches of 100 devices as fast as they are taken.
const (
	clusterDevices  = 10_000
	clusterReadings = 300 // of each device
	clusterMembers  = 3
	clusterWithin   = time.Minute // to be balanced
)

// members compares a cluster of three members with one of one, on a NATS server, Cassandra and Redis of the same kind.
func members(ctx context.Context, b *bench) ([]figure, error) {
	m, err := b.startOnCassandra(ctx) // for the warm-up of Cassandra alone
	if err != nil {
		return nil, err
	}
	m.remove()
	return b.compare(ctx, "members", []line{
		{what: "one member", run: func(ctx context.Context) (outcome, error) { return b.clusterOnce(ctx, 1) }},
		{what: "three members", than: []int{0}, run: func(ctx context.Context) (outcome, error) { return b.clusterOnce(ctx, clusterMembers) }},
	}, b.runs, true)
}

// clusterOnce sends to a new cluster of n members and reads everything back. CPU and memory are those of all members together.
func (b *bench) clusterOnce(ctx context.Context, n int) (got outcome, err error) {
	settings, err := b.onServers(testenv.Unique("bench"))
	if err != nil {
		return got, err
	}
	o, err := b.startOutside(ctx, 64)
	if o != nil {
		defer o.remove()
	}
	if err != nil {
		return got, err
	}
	var all []*member
	defer func() {
		for _, m := range all {
			m.remove()
		}
	}()
	for i := range n {
		m, err := o.member(ctx, settings, "--name", fmt.Sprint("m", i+1), "--cluster", "127.0.0.1:0")
		if m != nil {
			all = append(all, m)
		}
		if err != nil {
			return got, err
		}
	}
	if err := all[0].balanced(ctx, n); err != nil {
		return got, err
	}
	return measured(ctx, all, func() (s sent, err error) {
		err = b.command(ctx, []string{
			"simulate", "--server", "nats://" + o.server.Addr, "--creds", o.creds, "--stored", "--json", "--site", outsideSite, "--devices", strconv.Itoa(clusterDevices),
			"--readings", strconv.Itoa(max(1, int(clusterReadings*b.scale))), "--rate", "max",
		}, &s)
		return s, err
	})
}

// usageOfAll is what several members have used together.
func usageOfAll(all []*member) (sum used, err error) {
	for _, m := range all {
		u, err := m.usage()
		if err != nil {
			return sum, err
		}
		sum.cpu, sum.peak, sum.now = sum.cpu+u.cpu, sum.peak+u.peak, sum.now+u.now
	}
	return sum, nil
}

// balanced waits until the shards are where they are to be, among so many members.
func (m *member) balanced(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, clusterWithin)
	defer cancel()
	for {
		var status struct {
			Members []struct {
				Shards []int `json:"shards"`
			} `json:"members"`
		}
		err := m.bench.command(ctx, []string{"cluster", "status", "--server", m.http, "--data", filepath.Dir(m.log.Name()), "--json"}, &status)
		even := err == nil && len(status.Members) == n
		for _, one := range status.Members {
			even = even && len(one.Shards) >= 64/n
		}
		if even {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not balanced: %v: %w", status, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
