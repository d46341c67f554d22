package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is what a server of the archive says of itself.
type Server struct {
	Server string // address:port
	Up     bool   // it answered
	Known  bool   // what follows is known

	Pools           []Pool
	Tables          []Table
	Clients         int
	HintFiles       int64
	Compacting      int
	CompactionBytes int64
}

// Pool is one of a server's pools of threads.
type Pool struct {
	Pool                     string
	Active, Pending, Blocked int64
}

// Table is a server's part of one of the archive's tables.
type Table struct {
	Table                        string
	DiskBytes, MaxPartitionBytes int64
	Writes, Reads                int64
}

// Servers returns what takes in how the archive's servers are, each time that somebody has asked them; all are
// told until the next time. The returned function is for one goroutine.
func (m *Metrics) Servers() func([]Server) {
	c := &serverCollector{}
	m.registry.MustRegister(c)
	return func(servers []Server) { c.servers.Store(&servers) }
}

type serverCollector struct {
	servers atomic.Pointer[[]Server]
}

var (
	serverUpDesc    = describe("cassandra_up", "1 when a server of the archive answered the last question for its virtual tables.", "server")
	poolActiveDesc  = describe("cassandra_active_tasks", "Tasks under way in a pool of threads of a server.", "server", "pool")
	poolPendingDesc = describe("cassandra_pending_tasks", "Tasks that wait for a thread.", "server", "pool")
	poolBlockedDesc = describe("cassandra_blocked_tasks_total", "Tasks that found the queue of their pool full.", "server", "pool")
	clientsDesc     = describe("cassandra_clients", "Connections of all clients to a server.", "server")
	hintsDesc       = describe("cassandra_hint_files", "Files of writes that a server keeps for others that are away.", "server")
	compactingDesc  = describe("cassandra_compactions", "Compactions and the like under way at a server.", "server")
	compactionDesc  = describe("cassandra_compaction_remaining_bytes", "What those have left to do.", "server")
	tableDiskDesc   = describe("cassandra_table_disk_bytes", "What an archive's table takes on a server's disk.", "server", "table")
	partitionDesc   = describe("cassandra_table_max_partition_bytes", "Largest partition of a table on a server; 100 MB is the most that should ever be.", "server", "table")
	operationsDesc  = describe("cassandra_table_operations_total", "Reads or writes of a table by a server.", "server", "table", "operation")
)

// Describe implements prometheus.Collector.
func (*serverCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		serverUpDesc, poolActiveDesc, poolPendingDesc, poolBlockedDesc, clientsDesc, hintsDesc, compactingDesc, compactionDesc,
		tableDiskDesc, partitionDesc, operationsDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *serverCollector) Collect(out chan<- prometheus.Metric) {
	servers := c.servers.Load()
	if servers == nil {
		return
	}
	for i := range *servers {
		(*servers)[i].collect(out)
	}
}

func (s *Server) collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Server}, labels...)...)
	}
	up := 0.0
	if s.Up {
		up = 1
	}
	gauge(serverUpDesc, up)
	if !s.Known {
		return
	}
	for _, p := range s.Pools {
		gauge(poolActiveDesc, float64(p.Active), p.Pool)
		gauge(poolPendingDesc, float64(p.Pending), p.Pool)
		out <- prometheus.MustNewConstMetric(poolBlockedDesc, prometheus.CounterValue, float64(p.Blocked), s.Server, p.Pool)
	}
	gauge(clientsDesc, float64(s.Clients))
	gauge(hintsDesc, float64(s.HintFiles))
	gauge(compactingDesc, float64(s.Compacting))
	gauge(compactionDesc, float64(s.CompactionBytes))
	for _, t := range s.Tables {
		gauge(tableDiskDesc, float64(t.DiskBytes), t.Table)
		gauge(partitionDesc, float64(t.MaxPartitionBytes), t.Table)
		out <- prometheus.MustNewConstMetric(operationsDesc, prometheus.CounterValue, float64(t.Writes), s.Server, t.Table, "write")
		out <- prometheus.MustNewConstMetric(operationsDesc, prometheus.CounterValue, float64(t.Reads), s.Server, t.Table, "read")
	}
}
