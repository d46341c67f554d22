package pebble

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// Keys. Numbers are big endian so that bytes sort as numbers do; signed ones have their top bit turned.
// A name ends with a zero byte, which sorts below every character of a name.
//
//	archive    v                                             layout, number of shards
//	           a shard site 0 producer 0 run sequence        account of a producer's run
//	           c shard site 0 device 0 slice                 chunk: readings of one slice of event time
//	           C shard site 0 device 0 generation slice      the same, in the place of one that was set aside
//	           d shard site 0 device 0                       delete marker: stream sequence
//	           e shard site 0 device 0                       retention class, if it is not the default
//	           m shard site 0 device 0 sequence              record
//	           r shard site 0 device 0 step start            rollup
//	           R shard site 0 device 0 step generation start the same, in the place of one that was set aside
//	           x shard site 0 device 0 generation            mark of what cannot be read and was set aside
//	snapshots  v                                             layout
//	           f shard                                       fence: epoch
//	           k shard                                       marker
//	           s shard generation site 0 device 0            snapshot
//
// A device stands before the time in a chunk's key: a chart or a window reads one stretch of keys, and
// finds the newest row in one seek however long the device was silent. The price is that compactions
// rewrite old chunks between which new ones fall.
const (
	kindVersion  = 'v'
	kindAccount  = 'a'
	kindChunk    = 'c'
	kindDelete   = 'd'
	kindClass    = 'e'
	kindRecord   = 'm'
	kindRollup   = 'r'
	kindAside    = 'x'
	kindFence    = 'f'
	kindMarker   = 'k'
	kindSnapshot = 's'

	kindChunkAnew  = 'C'
	kindRollupAnew = 'R'
)

// holdsReadings tells whether the values under keys of a kind are chunks.
func holdsReadings(kind byte) bool { return kind == kindChunk || kind == kindChunkAnew }

// isAnew tells whether keys of a kind take the place of damaged ones.
func isAnew(kind byte) bool { return kind == kindChunkAnew || kind == kindRollupAnew }

// slice is the length of event time whose readings share a chunk, in ms. One hour: at 1 reading a
// second a chunk of 3 600 readings takes some 20 KB and decodes in well under a millisecond, at 1 a
// minute it still holds 60, enough for the differences to pay.
const slice = int64(messages.Hour)

// sliceOf returns the number of the slice that holds event time t; it never overflows.
func sliceOf(t int64) int64 {
	n := t / slice
	if t%slice < 0 {
		n--
	}
	return n
}

func appendInt(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
}

func readInt(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

// appendDevice appends the part of a key that all keys of one kind and device begin with.
func appendDevice(dst []byte, kind byte, shard messages.Shard, id messages.DeviceID) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(shard))
	return appendNames(dst, id)
}

func appendNames(dst []byte, id messages.DeviceID) []byte {
	dst = append(dst, id.Site...)
	dst = append(dst, 0)
	dst = append(dst, id.Device...)
	return append(dst, 0)
}

// readNames takes both names off b.
func readNames(b []byte) (id messages.DeviceID, rest []byte, ok bool) {
	site, rest, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return id, nil, false
	}
	device, rest, ok := bytes.Cut(rest, []byte{0})
	return messages.DeviceID{Site: string(site), Device: string(device)}, rest, ok
}

// after returns the lowest key that is above every key with this prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// describeKey names a key of either store for an error.
func describeKey(key []byte) string {
	if len(key) < 3 {
		return fmt.Sprintf("key %x", key)
	}
	shard := binary.BigEndian.Uint16(key[1:])
	names := key[3:]
	if key[0] == kindSnapshot && len(names) > 8 {
		names = names[8:]
	}
	id, rest, ok := readNames(names)
	switch {
	case key[0] == kindChunk && ok && len(rest) == 8:
		return fmt.Sprintf("shard %d, device %v, slice of event time from %s", shard, id, describeSlice(readInt(rest)))
	case ok:
		return fmt.Sprintf("%c key of shard %d, device %v, %x", key[0], shard, id, rest)
	}
	return fmt.Sprintf("key %x", key)
}

func describeSlice(n int64) string {
	if n < math.MinInt64/slice || n > math.MaxInt64/slice {
		return fmt.Sprintf("slice %d", n)
	}
	return fmt.Sprintf("%d ms", n*slice)
}

// checkNames refuses what no key can hold. Which characters a name may have is not the store's matter.
func checkNames(id messages.DeviceID) error {
	if id.Site == "" || len(id.Site) > 255 || len(id.Device) > 255 || strings.IndexByte(id.Site, 0) >= 0 || strings.IndexByte(id.Device, 0) >= 0 {
		return fmt.Errorf("%w: site %q, device %q: a name has 1 to 255 bytes, none of them zero", persistence.ErrRefused, id.Site, id.Device)
	}
	return nil
}
