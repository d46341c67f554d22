// Command servers starts Cassandra and Redis on loopback for tests and development, prints their
// addresses as lines for a shell (WELLHEAD_TEST_CASSANDRA=host:port) and ends them at Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

func main() {
	cassandra := flag.Bool("cassandra", false, "start Cassandra")
	redis := flag.Bool("redis", false, "start Redis")
	dir := flag.String("dir", "", "folder for data and logs, kept; empty: a temporary one, removed at the end")
	heap := flag.Int("cassandra-heap", 0, "Cassandra's heap in MB; 0: 1024")
	sync := flag.String("cassandra-sync", "periodic", "Cassandra's commit log: periodic, group or batch")
	latest := flag.Bool("cassandra-latest", false, "what cassandra_latest.yaml recommends for version 5: trie memtables outside the heap, BTI tables")
	cassandraPort := flag.Int("cassandra-port", 0, "0: a free one")
	redisPort := flag.Int("redis-port", 0, "0: a free one")
	env := flag.String("env", "", "also write the addresses to this file, once all are up")
	print := flag.Bool("print-config", false, "print the cassandra.yaml that would be used, and end")
	flag.Parse()

	o := testenv.CassandraOptions{HeapMB: *heap, Port: *cassandraPort, CommitlogSync: *sync, Latest: *latest}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *print:
		err = testenv.PrintCassandraConfig(os.Stdout, *dir, o)
	case !*cassandra && !*redis:
		err = errors.New("nothing to start: give --cassandra, --redis or both")
	default:
		s := servers{dir: *dir, env: *env}
		if *cassandra {
			s.cassandra = &o
		}
		if *redis {
			s.redis = &testenv.RedisOptions{Port: *redisPort}
		}
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(3)
	}
}

// servers is what to start; nil = not.
type servers struct {
	dir, env  string
	cassandra *testenv.CassandraOptions
	redis     *testenv.RedisOptions
}

// run starts the servers and ends them when ctx ends or one of them does.
func (s servers) run(ctx context.Context) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "wellhead-servers-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	starting, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var lines string
	var cassandraDone, redisDone <-chan struct{}
	if s.redis != nil {
		r, err := testenv.StartRedis(starting, filepath.Join(s.dir, "redis"), *s.redis)
		if err != nil {
			return err
		}
		defer func() { _ = r.Stop() }()
		lines += fmt.Sprintf("%s=%s\n", testenv.RedisVariable, r.Addr)
		redisDone = r.Done()
	}
	if s.cassandra != nil {
		c, err := testenv.StartCassandra(starting, filepath.Join(s.dir, "cassandra"), *s.cassandra)
		if err != nil {
			return err
		}
		defer func() { _ = c.Stop() }()
		lines += fmt.Sprintf("%s=%s\n", testenv.CassandraVariable, c.Addr)
		cassandraDone = c.Done()
	}
	fmt.Print(lines)
	if s.env != "" {
		// Renamed, so that who waits for the file finds all of it.
		if err := os.WriteFile(s.env+".new", []byte(lines), 0o644); err != nil {
			return err
		}
		if err := os.Rename(s.env+".new", s.env); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case <-cassandraDone:
		return fmt.Errorf("cassandra ended by itself; see %s", s.dir)
	case <-redisDone:
		return fmt.Errorf("redis ended by itself; see %s", s.dir)
	}
}
