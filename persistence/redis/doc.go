// Package redis keeps snapshots in Redis 6.2 or later, or what speaks its protocol.
//
// Of each shard there are, with the key prefix P and the hash tag that puts them into one slot of a
// Redis cluster:
//
//	P:{s12}:fence             the epoch that may write, 20 digits
//	P:{s12}:marker            "generation:snapshotted:puts", 20 digits each
//	P:{s12}:generations       set of the generations that have snapshots
//	P:{s12}:snapshots:GEN     hash of site/device -> stream sequence (8 bytes, big-endian), data
//
// Every write is a script that compares the fence first, so an owner that wakes up late can change
// nothing. Numbers are compared as strings of 20 digits: a script's own numbers are doubles.
//
// It does not make Redis durable: what is lost, or goes back after a failover, the shard finds out by
// the marker. Persistence and replication are the server's settings.
package redis
