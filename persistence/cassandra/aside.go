package cassandra

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/gocql/gocql"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/chunk"
)

// A chunk that cannot be read is set aside by a note beside it: a row of the same device and bucket, under a key of its own,
// that names the chunk and what of it is lost. The chunk stays as it is. So it counts again, and the note no more, when it can
// be read after all, or when whoever wrote it writes it again; and nobody needs to know who does. Of several
// notes about one chunk what all of them say is lost is lost: a later one only says less.

// noteVersion is a note's first byte, where a chunk has its version.
const noteVersion = 0x80

// note says what of a chunk is lost.
type note persistence.Loss

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the note as a value: version, checksum of what follows, key of the chunk, from, to, sequence; big endian.
func (n *note) encode() []byte {
	body := binary.BigEndian.AppendUint64(nil, n.Mark)
	for _, v := range []uint64{uint64(n.From), uint64(n.To), n.Sequence} {
		body = binary.BigEndian.AppendUint64(body, v)
	}
	out := binary.BigEndian.AppendUint32([]byte{noteVersion}, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

// readNote reads a value; false when it is none, or a damaged one.
func readNote(data []byte) (n note, ok bool) {
	if len(data) != 1+4+4*8 || data[0] != noteVersion || crc32.Checksum(data[5:], castagnoli) != binary.BigEndian.Uint32(data[1:]) {
		return n, false
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(data[5+8*i:]) }
	return note{Mark: number(0), From: int64(number(1)), To: int64(number(2)), Sequence: number(3)}, true
}

// inBucket is what a device has in one bucket: readings in a block, and what of its chunks could not be read.
type inBucket struct {
	damaged map[int64]error // by the chunk's key
	notes   map[int64]note  // about chunks
}

// losses returns what is lost of damaged chunks that were set aside, above a sequence; unnoted is the error of one that was not.
func (d *inBucket) losses(deleted uint64) (lost []persistence.Loss, unnoted error) {
	for part, err := range d.damaged {
		n, ok := d.notes[part]
		switch {
		case !ok:
			unnoted = err
		case n.From <= n.To && n.Sequence > deleted:
			lost = append(lost, persistence.Loss(n))
		}
	}
	return lost, unnoted
}

func (d *inBucket) add(n note) {
	if d.notes == nil {
		d.notes = make(map[int64]note)
	}
	if other, ok := d.notes[int64(n.Mark)]; ok {
		n.From, n.To, n.Sequence = max(n.From, other.From), min(n.To, other.To), min(n.Sequence, other.Sequence)
	}
	d.notes[int64(n.Mark)] = n
}

// readBucket adds the readings of all chunks of one bucket to b, in order and each event time once. With a damaged one
// among them it asks for the bucket again, to leave that out: a block that was half decoded has to be emptied.
func (a *Archive) readBucket(b *chunk.Block, bucket int64, rows *gocql.Iter, again func() *gocql.Iter) (inBucket, error) {
	var d inBucket
	for first := rows; ; rows = again() {
		part, err := a.decodeChunks(b, bucket, rows, &d)
		if rows != first { // which is the caller's to close
			if closing := rows.Close(); closing != nil {
				return d, closing
			}
		}
		if err == nil {
			b.Normalize()
			return d, nil
		}
		if d.damaged == nil {
			d.damaged = make(map[int64]error)
		}
		d.damaged[part], d.notes = err, nil
		b.Reset()
	}
}

// SetAside notes damaged chunks of layout Chunks; see persistence.Archive. What else there is Cassandra's own checksums guard.
func (a *Archive) SetAside(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, from, to int64, sequence uint64) ([]persistence.Loss, error) {
	if step != readings || a.options.Layout != Chunks {
		return nil, a.checkShard(shard)
	}
	var lost []persistence.Loss
	var failed error
	w := a.walk(shard, id, readings, persistence.Range{From: from, To: to})
	err := a.eachBucket(ctx, w, id, func(b *chunk.Block, bucket int64, d *inBucket) bool {
		length := a.bucketLength(readings)
		for part := range d.damaged {
			if _, noted := d.notes[part]; noted {
				continue
			}
			n := note{Mark: uint64(part), From: bucket * length, To: bucket*length + length - 1, Sequence: sequence}
			if failed = a.putNote(ctx, shard, id, bucket, n); failed != nil {
				return false
			}
			d.add(n)
		}
		found, _ := d.losses(w.deleted)
		lost = append(lost, found...)
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("set aside chunks of %v: %w", id, unreachable(err))
	}
	return lost, nil
}

// Recovered puts another note beside the chunk; see persistence.Archive.
func (a *Archive) Recovered(ctx context.Context, shard messages.Shard, id messages.DeviceID, step messages.Step, left persistence.Loss) error {
	if step != readings || a.options.Layout != Chunks {
		return a.checkShard(shard)
	}
	if err := a.putNote(ctx, shard, id, bucketOf(left.From, a.bucketLength(readings)), note(left)); err != nil {
		return fmt.Errorf("note what was recovered of %v: %w", id, unreachable(err))
	}
	return nil
}

// putNote writes a note, which goes when the bucket's readings have expired.
func (a *Archive) putNote(ctx context.Context, shard messages.Shard, id messages.DeviceID, bucket int64, n note) error {
	if err := a.checkShard(shard); err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	end := (bucket + 1) * a.bucketLength(readings)
	seconds, ok := ttl(a.options.Classes.Longest().Readings, end, now)
	if !ok {
		return nil // so has the chunk
	}
	return a.session.Query(cqlInsertChunk, int16(shard), a.group(id), bucket, id.Site, id.Device, rand.Int64(), n.encode(), now, seconds).WithContext(ctx).Exec()
}
