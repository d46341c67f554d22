package cassandra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/gocql/gocql"
)

// ServerHealth is what one server of the cluster says of itself in its virtual tables (system_views). These are
// each server's own: another one cannot be asked for them.
type ServerHealth struct {
	Server string // address:port
	// Err is why the server did not answer; nothing below is known then. ErrNoViews: it has no such tables (ScyllaDB).
	Err error

	Pools      []PoolHealth  // work that waits, by name; those of watchedPools
	Tables     []TableHealth // the archive's large tables
	Clients    int           // connections of all clients
	HintFiles  int64         // files of writes kept for servers that are away
	Compacting int           // compactions and the like under way
	// CompactionBytes is what those have left to do.
	CompactionBytes int64
}

// PoolHealth is one of a server's pools of threads.
type PoolHealth struct {
	Pool            string
	Active, Pending int64
	Blocked         int64 // requests that found its queue full, since the server's start
}

// TableHealth is a server's part of one of the archive's tables. Durations are not in it: Cassandra 5.0.5 calls them
// milliseconds and shows a thousandth of them (tried); calls are timed where they are made.
type TableHealth struct {
	Table             string
	DiskBytes         int64
	MaxPartitionBytes int64 // of the largest partition
	Writes, Reads     int64 // by this server, since its start
}

// ErrNoViews means that a server has none of Cassandra's virtual tables.
var ErrNoViews = errors.New("the server has no virtual tables in system_views")

// watchedPools are the pools that say how an archive's server does; the others are not told.
var watchedPools = []string{
	"CompactionExecutor", "HintsDispatcher", "MemtableFlushWriter", "MutationStage", "Native-Transport-Requests", "ReadStage",
}

// Health asks every server that the driver knows for its virtual tables, all at once, and returns them by
// address. One that does not answer until ctx ends has an error in its place. It takes none of the archive's write
// requests.
func (a *Archive) Health(ctx context.Context) []ServerHealth {
	servers := a.servers.list()
	out := make([]ServerHealth, len(servers))
	var asked sync.WaitGroup
	for i, server := range servers {
		asked.Go(func() { out[i] = a.healthOf(ctx, server) })
	}
	asked.Wait()
	return out
}

func (a *Archive) healthOf(ctx context.Context, host *gocql.HostInfo) ServerHealth {
	h := ServerHealth{Server: serverOf(host)}
	ctx = context.WithValue(ctx, onlyServer{}, host.HostID())
	for _, ask := range []func(context.Context, *ServerHealth) error{a.askPools, a.askTasks, a.askClients, a.askHints, a.askTables} {
		if err := ask(ctx, &h); err != nil {
			if isInvalid(err) {
				err = fmt.Errorf("%w: %w", ErrNoViews, err)
			}
			return ServerHealth{Server: h.Server, Err: fmt.Errorf("ask cassandra server %s how it is: %w", h.Server, err)}
		}
	}
	return h
}

// each calls row after each row that the statement's columns were scanned from, at this very server.
func (a *Archive) each(ctx context.Context, statement string, values []any, into []any, row func()) error {
	iter := a.session.Query(statement, values...).WithContext(ctx).Consistency(gocql.One).Iter()
	for iter.Scan(into...) {
		row()
	}
	return iter.Close()
}

func (a *Archive) askPools(ctx context.Context, h *ServerHealth) error {
	var p PoolHealth
	return a.each(ctx, cqlViewPools, nil, []any{&p.Pool, &p.Active, &p.Pending, &p.Blocked}, func() {
		if slices.Contains(watchedPools, p.Pool) {
			h.Pools = append(h.Pools, p)
		}
	})
}

func (a *Archive) askTasks(ctx context.Context, h *ServerHealth) error {
	var progress, total int64
	var unit string
	return a.each(ctx, cqlViewTasks, nil, []any{&progress, &total, &unit}, func() {
		h.Compacting++
		if strings.EqualFold(unit, "bytes") {
			h.CompactionBytes += max(0, total-progress)
		}
	})
}

func (a *Archive) askClients(ctx context.Context, h *ServerHealth) error {
	var port int
	return a.each(ctx, cqlViewClients, nil, []any{&port}, func() { h.Clients++ })
}

func (a *Archive) askHints(ctx context.Context, h *ServerHealth) error {
	var files int64
	return a.each(ctx, cqlViewHints, nil, []any{&files}, func() { h.HintFiles += files })
}

func (a *Archive) askTables(ctx context.Context, h *ServerHealth) error {
	for _, table := range []string{a.statement("readings", "chunks"), "rollups"} {
		t := TableHealth{Table: table}
		var disk, partition int64 // MiB
		for _, view := range []struct {
			statement string
			into      *int64
		}{
			{cqlViewDisk, &disk}, {cqlViewPartition, &partition}, {cqlViewWrites, &t.Writes}, {cqlViewReads, &t.Reads},
		} {
			if err := a.each(ctx, view.statement, []any{a.options.Keyspace, table}, []any{view.into}, func() {}); err != nil {
				return err
			}
		}
		t.DiskBytes, t.MaxPartitionBytes = disk<<20, partition<<20
		h.Tables = append(h.Tables, t)
	}
	return nil
}

// onlyServer is the context's key for the id of the one server that may answer a query.
type onlyServer struct{}

// serverList is the driver's policy of which server to ask, and remembers which there are. A query whose context
// names a server goes to that one or fails.
type serverList struct {
	gocql.HostSelectionPolicy

	mu      sync.Mutex
	servers map[string]*gocql.HostInfo // by host id
}

func (l *serverList) AddHost(host *gocql.HostInfo) {
	l.mu.Lock()
	if l.servers == nil {
		l.servers = make(map[string]*gocql.HostInfo)
	}
	l.servers[host.HostID()] = host
	l.mu.Unlock()
	l.HostSelectionPolicy.AddHost(host)
}

func (l *serverList) RemoveHost(host *gocql.HostInfo) {
	l.mu.Lock()
	delete(l.servers, host.HostID())
	l.mu.Unlock()
	l.HostSelectionPolicy.RemoveHost(host)
}

// list returns the servers by address.
func (l *serverList) list() []*gocql.HostInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*gocql.HostInfo, 0, len(l.servers))
	for _, host := range l.servers {
		out = append(out, host)
	}
	slices.SortFunc(out, func(a, b *gocql.HostInfo) int { return strings.Compare(serverOf(a), serverOf(b)) })
	return out
}

func serverOf(host *gocql.HostInfo) string {
	return net.JoinHostPort(host.ConnectAddress().String(), fmt.Sprint(host.Port()))
}

// Pick implements gocql.HostSelectionPolicy.
func (l *serverList) Pick(query gocql.ExecutableQuery) gocql.NextHost {
	if query == nil || query.Context() == nil {
		return l.HostSelectionPolicy.Pick(query)
	}
	id, ok := query.Context().Value(onlyServer{}).(string)
	if !ok {
		return l.HostSelectionPolicy.Pick(query)
	}
	l.mu.Lock()
	host := l.servers[id]
	l.mu.Unlock()
	return func() gocql.SelectedHost {
		if host == nil {
			return nil
		}
		picked := oneServer{host}
		host = nil
		return picked
	}
}

// oneServer is a server that was picked by name.
type oneServer struct{ host *gocql.HostInfo }

// Info implements gocql.SelectedHost.
func (s oneServer) Info() *gocql.HostInfo { return s.host }

// Mark implements gocql.SelectedHost.
func (oneServer) Mark(error) {}
