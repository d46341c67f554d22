// Package cassandra is the archive in Apache Cassandra 5 or ScyllaDB.
//
// A table readings holds one row for each reading. Its partitions are (shard, group, bucket): the
// readings of a fixed part of a shard's devices (the group is a hash of the device's names) in a slice
// of event time. So a flush of many devices is few partitions, and each is written as unlogged batches
// inside one partition. How many groups and how long a bucket is, is fixed when the data is created
// (see Plan), so that no partition grows beyond 100 MB. The table buckets lists which buckets there
// are; it is written before a bucket's first row, so that a scan of decades visits only those.
//
// With layout Chunks a table chunks stands in the place of readings: a row of it holds many readings of
// one device, compressed (docs/chunks.md, chunks.go). All else is the same.
//
// Rows are written whole, never with a null, with the write time that the shard gives them: of two
// rows of one device and event time the later stays, in whatever order they are written, and the same
// row written twice is one row. Rollups are written the same way. A reading lives for the retention
// from its event time on (a TTL) and then vanishes without tombstones.
//
// A delete is a row in the table devices that says up to which stream sequence nothing of a device
// counts. It hides also what is written later with such a sequence, and for longer than a tombstone
// does; tombstones are written besides, only where the device has rows, to free the space.
//
// The server's default settings are good but for one: with a single copy of the data set commitlog_sync
// to group (Open warns), or a crash takes the newest readings. The batches here have at most 100 rows
// and 40 KiB of one partition of one table; Cassandra's batch_size_warn_threshold (5 KiB) and
// batch_size_fail_threshold (50 KiB) do not count such batches, ScyllaDB's (128 and 1024 KiB) are above.
//
// What it does not do: retry writes (the caller does, everything is idempotent), cache rows, or scan
// over many devices at once.
package cassandra
