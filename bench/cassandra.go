package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// warmUp is how long Cassandra is loaded before a figure counts: until then its code is not compiled.
const warmUp = time.Minute

var errNoServers = errors.New("no Cassandra or no Redis: run it as scripts/with-servers go run ./bench …")

// startOnCassandra starts a member on the Cassandra and the Redis that the environment names, with a
// keyspace of its own, and loads it for a while.
func (b *bench) startOnCassandra(ctx context.Context) (*member, error) {
	keyspace := fmt.Sprintf("bench_%d", time.Now().Unix())
	text, err := b.onServers(keyspace)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, keyspace+".yaml") // its own: of several members each is started again and again
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	m, err := b.start(ctx, "--config", file)
	if err != nil {
		return nil, err
	}
	each := b.onceOnCassandra() / 10
	start := time.Now().UTC().Truncate(time.Second).Add(-24 * time.Hour)
	for begun := time.Now(); time.Since(begun) < b.warmUp; start = start.Add(time.Duration(each) * time.Second) {
		if _, err := m.simulate(ctx, "--site", "warm", "--devices", "10000", "--readings", strconv.Itoa(each), "--start", start.Format(time.RFC3339), "--rate", "max"); err != nil {
			m.remove()
			return nil, fmt.Errorf("warm up: %w", err)
		}
	}
	return m, nil
}

// onServers is the settings of a member whose archive and snapshots are on the servers that the environment names.
func (b *bench) onServers(keyspace string) (string, error) {
	cassandra, redis := os.Getenv(testenv.CassandraVariable), os.Getenv(testenv.RedisVariable)
	if cassandra == "" || redis == "" {
		return "", errNoServers
	}
	return fmt.Sprintf("archive: cassandra\nlayout: %s\nsnapshots: redis\ncassandra:\n  hosts: [%q]\n  keyspace: %s\nredis:\n  addresses: [%q]\n  prefix: %s\n",
		b.layout, cassandra, keyspace, redis, keyspace), nil
}

// onceOnCassandra is how many readings of each of 10 000 devices make a run: with chunks a run of as many as
// with rows would be over before a flush is due.
func (b *bench) onceOnCassandra() int {
	if b.layout == "chunks" {
		return 1500
	}
	return 200
}

func chunksOnCassandra(ctx context.Context, b *bench) ([]figure, error) {
	chunks := *b
	chunks.layout = "chunks"
	figures, err := onCassandra(ctx, &chunks)
	for i := range figures {
		figures[i].Case = "cassandra-chunks"
	}
	return figures, err
}

func onCassandra(ctx context.Context, b *bench) ([]figure, error) {
	m, err := b.startOnCassandra(ctx)
	if err != nil {
		return nil, err
	}
	defer m.remove()
	f := figure{
		Case: "cassandra", What: fmt.Sprintf("%s, batches of 100 devices, after %v of load", b.layout, b.warmUp),
		Unit: "readings/s", Revision: b.revision,
	}
	readings := strconv.Itoa(max(1, int(float64(b.onceOnCassandra())*b.scale)))
	for n := range b.runs {
		f.Load = loadAverage()
		before, err := m.usage()
		if err != nil {
			return nil, err
		}
		s, err := m.simulate(ctx, "--site", fmt.Sprint("site", n), "--devices", "10000", "--readings", readings, "--rate", "max")
		if err != nil {
			return nil, err
		}
		after, err := m.usage()
		if err != nil {
			return nil, err
		}
		checked, err := m.verify(ctx, s)
		if err != nil {
			return nil, err
		}
		f.Runs = append(f.Runs, s.StoredRate)
		f.CPU, f.PeakMiB = (after.cpu-before.cpu)/s.Seconds, after.peak
		f.Checked += checked
	}
	f.Value = median(f.Runs)
	return []figure{f}, nil
}
