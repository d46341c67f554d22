package cassandra

// All statements of this package. They use only what ScyllaDB has too, but for those of system_views, where
// each may fail; a test holds them against a list of allowed shapes. In all tables grp is the group, step is 0 for readings or the length of a
// rollup's bucket in ms, and bucket is floor(time / length).

// schemaVersion is the version of the tables below.
const schemaVersion = 1

const (
	// cqlCreateKeyspace takes the keyspace's name and the replication map.
	cqlCreateKeyspace = `CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s`

	// cqlCreateLayout: one row that says how the data is laid out.
	cqlCreateLayout = `CREATE TABLE IF NOT EXISTS layout (
		name text, version int, shards int, grps int, bucket_ms bigint, readings text,
		PRIMARY KEY (name))`

	// cqlCreateReadings takes the compaction window in hours.
	cqlCreateReadings = `CREATE TABLE IF NOT EXISTS readings (
		shard smallint, grp smallint, bucket bigint, site text, device text, time timestamp,
		vals frozen<list<double>>, quality blob, note text, sequence bigint, flags tinyint,
		PRIMARY KEY ((shard, grp, bucket), site, device, time)
	) WITH CLUSTERING ORDER BY (site ASC, device ASC, time DESC)
	AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', 'compaction_window_size': '%d'}`

	// cqlCreateChunks takes the compaction window in hours. part is a random number.
	cqlCreateChunks = `CREATE TABLE IF NOT EXISTS chunks (
		shard smallint, grp smallint, bucket bigint, site text, device text, part bigint, data blob,
		PRIMARY KEY ((shard, grp, bucket), site, device, part)
	) WITH CLUSTERING ORDER BY (site ASC, device ASC, part ASC)
	AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', 'compaction_window_size': '%d'}`

	// cqlCreateRollups takes the compaction window in hours.
	cqlCreateRollups = `CREATE TABLE IF NOT EXISTS rollups (
		shard smallint, grp smallint, step int, bucket bigint, site text, device text, start timestamp,
		count bigint, counts frozen<list<bigint>>, mins frozen<list<double>>, maxs frozen<list<double>>,
		sums frozen<list<double>>, firsts frozen<list<double>>, lasts frozen<list<double>>, sequence bigint,
		PRIMARY KEY ((shard, grp, step, bucket), site, device, start)
	) WITH CLUSTERING ORDER BY (site ASC, device ASC, start DESC)
	AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', 'compaction_window_size': '%d'}`

	cqlCreateBuckets = `CREATE TABLE IF NOT EXISTS buckets (
		shard smallint, grp smallint, step int, bucket bigint,
		PRIMARY KEY ((shard, grp, step), bucket)
	) WITH CLUSTERING ORDER BY (bucket DESC)`

	cqlCreateRecords = `CREATE TABLE IF NOT EXISTS records (
		shard smallint, grp smallint, site text, device text, sequence bigint, payload blob,
		PRIMARY KEY ((shard, grp), site, device, sequence))`

	// cqlCreateDevices: recorded is the sequence of the device's newest record, deleted the one up to
	// which nothing of it counts.
	cqlCreateDevices = `CREATE TABLE IF NOT EXISTS devices (
		shard smallint, grp smallint, site text, device text, recorded bigint, deleted bigint,
		PRIMARY KEY ((shard, grp), site, device))`

	// cqlCreateAccounts: name is site, producer and run (16 hexadecimal digits) with ! between, which
	// sorts below every character of a name.
	cqlCreateAccounts = `CREATE TABLE IF NOT EXISTS accounts (
		shard smallint, name text, sequence bigint, payload blob,
		PRIMARY KEY ((shard), name, sequence))`
)

const (
	cqlFindLayout   = `SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'layout'`
	cqlFindAccounts = `SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'accounts'`
	cqlFindReadings = `SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = 'layout' AND column_name = 'readings'`
	cqlReadLayout   = `SELECT version, shards, grps, bucket_ms, readings FROM layout WHERE name = 'archive'`
	cqlReadRows     = `SELECT version, shards, grps, bucket_ms FROM layout WHERE name = 'archive'`
	cqlInsertLayout = `INSERT INTO layout (name, version, shards, grps, bucket_ms, readings) VALUES ('archive', ?, ?, ?, ?, ?) IF NOT EXISTS`
	cqlReadVersion  = `SELECT version FROM %s.layout WHERE name = 'archive'`
	cqlRaiseVersion = `UPDATE layout SET version = ? WHERE name = 'archive' IF version = ?`
	cqlReadSync     = `SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'`
	cqlPing         = `SELECT version FROM layout WHERE name = 'archive'`

	// Their texts are looked up for every row (the driver's cache of prepared statements): keep them short.
	cqlInsertReading = `INSERT INTO readings (shard, grp, bucket, site, device, time, vals, quality, note, sequence, flags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`
	// Around the statements of a batch that is one statement itself.
	cqlBeginBatch = `BEGIN UNLOGGED BATCH `
	cqlApplyBatch = `APPLY BATCH`

	cqlInsertChunk   = `INSERT INTO chunks (shard, grp, bucket, site, device, part, data) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`
	cqlInsertRollup  = `INSERT INTO rollups (shard, grp, step, bucket, site, device, start, count, counts, mins, maxs, sums, firsts, lasts, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`
	cqlInsertBucket  = `INSERT INTO buckets (shard, grp, step, bucket) VALUES (?, ?, ?, ?) USING TTL ?`
	cqlInsertRecord  = `INSERT INTO records (shard, grp, site, device, sequence, payload) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	cqlInsertDevice  = `INSERT INTO devices (shard, grp, site, device, recorded) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?`
	cqlInsertAccount = `INSERT INTO accounts (shard, name, sequence, payload) VALUES (?, ?, ?, ?) USING TIMESTAMP ?`
	cqlInsertDeleted = `INSERT INTO devices (shard, grp, site, device, deleted) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?`

	cqlScanUp       = `SELECT time, vals, quality, note, sequence, flags FROM readings WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ? AND time >= ? AND time <= ? ORDER BY site DESC, device DESC, time ASC`
	cqlScanDown     = `SELECT time, vals, quality, note, sequence, flags FROM readings WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ? AND time >= ? AND time <= ?`
	cqlScanChunks   = `SELECT part, data FROM chunks WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ?`
	cqlRollupsUp    = `SELECT start, count, counts, mins, maxs, sums, firsts, lasts, sequence FROM rollups WHERE shard = ? AND grp = ? AND step = ? AND bucket = ? AND site = ? AND device = ? AND start >= ? AND start <= ? ORDER BY site DESC, device DESC, start ASC`
	cqlRollupsDown  = `SELECT start, count, counts, mins, maxs, sums, firsts, lasts, sequence FROM rollups WHERE shard = ? AND grp = ? AND step = ? AND bucket = ? AND site = ? AND device = ? AND start >= ? AND start <= ?`
	cqlBucketsUp    = `SELECT bucket FROM buckets WHERE shard = ? AND grp = ? AND step = ? AND bucket >= ? AND bucket <= ? ORDER BY bucket ASC`
	cqlBucketsDown  = `SELECT bucket FROM buckets WHERE shard = ? AND grp = ? AND step = ? AND bucket >= ? AND bucket <= ?`
	cqlListAccounts = `SELECT name, sequence, payload FROM accounts WHERE shard = ? AND name >= ?`
	cqlReadRecords  = `SELECT sequence, payload, WRITETIME(payload) FROM records WHERE shard = ? AND grp = ? AND site = ? AND device = ?`
	cqlReadDeleted  = `SELECT deleted FROM devices WHERE shard = ? AND grp = ? AND site = ? AND device = ?`
	cqlListDevices  = `SELECT site, device, recorded, deleted FROM devices WHERE shard = ? AND grp = ?`
	cqlHasReadings  = `SELECT time FROM readings WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ? LIMIT 1`
	cqlHasChunks    = `SELECT part FROM chunks WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ? LIMIT 1`
	cqlHasRollups   = `SELECT start FROM rollups WHERE shard = ? AND grp = ? AND step = ? AND bucket = ? AND site = ? AND device = ? LIMIT 1`
	cqlDelReadings  = `DELETE FROM readings USING TIMESTAMP ? WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ?`
	cqlDelChunks    = `DELETE FROM chunks USING TIMESTAMP ? WHERE shard = ? AND grp = ? AND bucket = ? AND site = ? AND device = ?`
	cqlDelRollups   = `DELETE FROM rollups USING TIMESTAMP ? WHERE shard = ? AND grp = ? AND step = ? AND bucket = ? AND site = ? AND device = ?`
	cqlDelRecords   = `DELETE FROM records USING TIMESTAMP ? WHERE shard = ? AND grp = ? AND site = ? AND device = ?`
)

// Cassandra's virtual tables, of the server that is asked alone (health.go).
const (
	cqlViewPools     = `SELECT name, active_tasks, pending_tasks, blocked_tasks_all_time FROM system_views.thread_pools`
	cqlViewTasks     = `SELECT progress, total, unit FROM system_views.sstable_tasks`
	cqlViewClients   = `SELECT port FROM system_views.clients`
	cqlViewHints     = `SELECT files FROM system_views.pending_hints`
	cqlViewDisk      = `SELECT mebibytes FROM system_views.disk_usage WHERE keyspace_name = ? AND table_name = ?`
	cqlViewPartition = `SELECT mebibytes FROM system_views.max_partition_size WHERE keyspace_name = ? AND table_name = ?`
	cqlViewWrites    = `SELECT count FROM system_views.local_write_latency WHERE keyspace_name = ? AND table_name = ?`
	cqlViewReads     = `SELECT count FROM system_views.local_read_latency WHERE keyspace_name = ? AND table_name = ?`
)
