// Package actors is the heart of Wellhead: the shard, which takes its stream in order and decides
// what is stored, and the device, a supervised actor that owns its window, rollups and trimming.
//
// Deciding code is pure: Device (device.go) and the shard's core know no clock, no goroutine and no
// I/O. The actors around them are thin. See docs/architecture.md for a reading's way through the files.
package actors
