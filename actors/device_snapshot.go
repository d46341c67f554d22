package actors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/wellhead/wellhead/messages"
)

// A snapshot is: version, the head, the rest, CRC-32C of all before.
// Numbers are varints, times and sequences differences of differences.
// Version 2 has the retention class behind each settings; version 1 is read too.
const (
	snapshotVersion       = 2
	snapshotVersionOldest = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What a device has, as bits.
const (
	hasSeen = 1 << iota
	hasNewest
	hasAssigned
	hasFloor
	hasDropped
	hasOwn
)

const (
	bucketHeld = 1 << iota
	bucketWhole
)

const (
	windowNotes = 1 << iota
	windowFlags
	windowQuality
)

// AppendSnapshot appends the device's state: versioned, compact, with a checksum. Equal states give equal bytes.
func (d *Device) AppendSnapshot(dst []byte) []byte {
	begin := len(dst)
	dst = d.appendHead(append(dst, snapshotVersion))
	dst = binary.AppendVarint(dst, d.writeTime)
	dst = binary.AppendUvarint(dst, d.deletedAt)
	var has byte
	for _, h := range []struct {
		bit byte
		is  bool
	}{
		{hasSeen, d.seen},
		{hasNewest, d.newest != never},
		{hasAssigned, d.lastAssigned != never},
		{hasFloor, d.floor != never},
		{hasDropped, d.dropped != never},
		{hasOwn, d.own != nil},
	} {
		if h.is {
			has |= h.bit
		}
	}
	dst = append(dst, has)
	for i, v := range []int64{d.firstSeen, d.newest, d.lastAssigned, d.floor, d.dropped} {
		if has&(1<<i) != 0 {
			dst = binary.AppendVarint(dst, v)
		}
	}
	dst = appendSettings(dst, d.effective)
	if d.own != nil {
		dst = appendSettings(dst, d.own)
	}
	dst = d.window.appendTo(dst)
	for _, b := range []*bucket{&d.hour, &d.minute, &d.previous} {
		dst = b.appendTo(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.later)))
	for _, sequence := range slices.Sorted(maps.Keys(d.later)) {
		dst = binary.AppendUvarint(dst, sequence)
		dst = binary.AppendVarint(dst, d.later[sequence])
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

// appendHead writes what a shard's table needs of a device that is not read whole.
func (d *Device) appendHead(dst []byte) []byte {
	row := d.Row()
	dst = appendString(appendString(dst, d.id.Site), d.id.Device)
	dst = binary.AppendUvarint(dst, d.sequence)
	dst = append(dst, byte(d.status))
	dst = binary.AppendVarint(dst, row.LastSeen)
	dst = binary.AppendVarint(dst, d.Due())
	dst = binary.AppendVarint(dst, row.Newest)
	c := d.counts
	for _, n := range []uint64{c.Received, c.InOrder, c.Late, c.Stale, c.Duplicate, c.Refused, uint64(len(row.Values))} {
		dst = binary.AppendUvarint(dst, n)
	}
	return appendColumn(dst, row.Values)
}

func (r *snapshotReader) head() (row messages.DeviceRow, sequence uint64, s status, due int64) {
	if site := r.bytes(r.uvarint()); string(site) != r.site {
		r.site = string(site)
	}
	row.Device = messages.DeviceID{Site: r.site, Device: r.string()}
	sequence = r.uvarint()
	if s = status(r.byte()); s > offline {
		r.fail("status")
		s = unknown
	}
	row.Status = statusNames[s]
	row.LastSeen, due, row.Newest = r.varint(), r.varint(), r.varint()
	c := &row.Counts
	for _, n := range []*uint64{&c.Received, &c.InOrder, &c.Late, &c.Stale, &c.Duplicate, &c.Refused} {
		*n = r.uvarint()
	}
	if n := r.number(messages.MaxChannels); n > 0 {
		row.Values = make([]float64, n)
	}
	r.column(row.Values)
	return row, sequence, s, due
}

// open begins with a snapshot, and checks its version and checksum.
func (r *snapshotReader) open(data []byte) {
	r.data, r.at, r.err = nil, 0, nil
	switch n := len(data) - 4; {
	case n < 1:
		r.fail("length")
	case crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]):
		r.fail("checksum")
	case data[0] < snapshotVersionOldest || data[0] > snapshotVersion:
		r.err = fmt.Errorf("device snapshot of version %d, known are %d to %d: %w", data[0], snapshotVersionOldest, snapshotVersion, messages.ErrInvalid)
	default:
		if r.data = data[1:n]; data[0] != r.version {
			r.version, r.lastSettings = data[0], nil
		}
	}
}

// SnapshotHead is what a shard's column table needs of a snapshot.
type SnapshotHead struct {
	Row      messages.DeviceRow
	Sequence uint64 // stream sequence of the state
	Due      int64  // see Device.Due
	Gone     bool   // it was deleted and has not sent since

	state *Device // of a device that is about to send; nil = it is loaded when it is touched
}

// read reads a snapshot's head, and the state too if the device is due after that time (ms).
func (r *snapshotReader) read(data []byte, after int64) (SnapshotHead, error) {
	r.open(data)
	row, sequence, s, due := r.head()
	h := SnapshotHead{Row: row, Sequence: sequence, Due: due}
	if due > after {
		h.state = r.state(row, sequence, s)
		h.Gone = h.state.gone()
	} else {
		r.varint() // write time
		deletedAt := r.uvarint()
		h.Gone = deletedAt > 0 && r.byte()&hasSeen == 0
	}
	if r.err != nil {
		return SnapshotHead{}, r.err
	}
	return h, nil
}

// DecodeSnapshot reads what AppendSnapshot wrote; the settings in force come with it (see
// SetSettings). Errors wrap messages.ErrInvalid; the data is not kept.
func DecodeSnapshot(data []byte) (*Device, error) {
	var r snapshotReader
	return r.device(data)
}

// device is DecodeSnapshot.
func (r *snapshotReader) device(data []byte) (*Device, error) {
	r.open(data)
	row, sequence, s, _ := r.head()
	d := r.state(row, sequence, s)
	if r.err != nil {
		return nil, r.err
	}
	return d, nil
}

// state reads what follows on the head.
func (r *snapshotReader) state(row messages.DeviceRow, sequence uint64, s status) *Device {
	d := NewDevice(row.Device, nil)
	d.sequence, d.status, d.lastSeen, d.counts = sequence, s, row.LastSeen, row.Counts
	d.writeTime, d.deletedAt = r.varint(), r.uvarint()
	has := r.byte()
	d.seen = has&hasSeen != 0
	for i, v := range []*int64{&d.firstSeen, &d.newest, &d.lastAssigned, &d.floor, &d.dropped} {
		if has&(1<<i) != 0 {
			*v = r.varint()
		}
	}
	d.effective = r.settings()
	if has&hasOwn != 0 {
		own := r.readSettings()
		d.own = &own
	}
	d.window.readFrom(r)
	d.hour.readFrom(r, messages.Hour)
	d.minute.readFrom(r, messages.Minute)
	d.previous.readFrom(r, messages.Minute)
	if n := r.number(uint64(r.left())); n > 0 {
		d.later = make(map[uint64]int64)
		for range n {
			sequence := r.uvarint()
			d.later[sequence] = r.varint()
		}
	}
	if r.left() != 0 {
		r.fail("end")
	}
	d.checkTimes(r)
	return d
}

// checkTimes refuses what no device can have been: times out of bounds, or rollups of another time
// than the newest reading's.
func (d *Device) checkTimes(r *snapshotReader) {
	for _, t := range []int64{d.newest, d.lastAssigned, d.floor, d.dropped} {
		if t != never && (t < -1<<60 || t > 1<<60) {
			r.fail("time")
		}
	}
	w := &d.window
	if w.count > 0 && (w.timeAt(0) < earliestTime || w.timeAt(int(w.count)-1) > d.newest) {
		r.fail("time")
	}
	if d.hour.held && d.hour.start != messages.Hour.Start(d.newest) || d.hour.held != (d.newest != never) ||
		d.minute.held && d.minute.start != messages.Minute.Start(d.newest) ||
		d.previous.held && (!d.minute.held || d.previous.start >= d.minute.start) {
		r.fail("rollup")
	}
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendSettings(dst []byte, s *messages.Settings) []byte {
	for _, v := range []int64{int64(s.WindowCount), s.WindowAge, s.ExpectedInterval, s.OfflineAfter} {
		dst = binary.AppendVarint(dst, v)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Channels)))
	for _, c := range s.Channels {
		dst = appendString(appendString(dst, c.Name), c.Unit)
	}
	return appendString(dst, s.Retention)
}

// settings reads the settings in force, which most devices of a site share.
func (r *snapshotReader) settings() *messages.Settings {
	if r.lastSettings != nil && bytes.HasPrefix(r.data[r.at:], r.settingsBytes) {
		r.at += len(r.settingsBytes)
		return r.lastSettings
	}
	from := r.at
	s := r.readSettings()
	if r.err == nil {
		r.settingsBytes, r.lastSettings = append(r.settingsBytes[:0], r.data[from:r.at]...), &s
	}
	return &s
}

func (r *snapshotReader) readSettings() messages.Settings {
	s := messages.Settings{WindowCount: int(r.varint()), WindowAge: r.varint(), ExpectedInterval: r.varint(), OfflineAfter: r.varint()}
	if n := r.number(uint64(r.left())); n > 0 {
		s.Channels = make([]messages.Channel, n)
		for i := range s.Channels {
			s.Channels[i] = messages.Channel{Name: r.string(), Unit: r.string()}
		}
	}
	if r.version >= 2 {
		s.Retention = r.string()
	}
	return s
}

func (w *window) appendTo(dst []byte) []byte {
	n, channels := int(w.count), w.usedChannels()
	dst = binary.AppendUvarint(dst, uint64(n))
	if n == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(channels))
	dst = appendSteps(dst, n, func(i int) uint64 { return uint64(w.timeAt(i)) })
	dst = appendSteps(dst, n, w.sequenceAt)
	for c := range channels {
		if w.wide {
			dst = appendColumn(dst, w.column(c))
		} else {
			dst = w.appendCells(dst, c)
		}
	}
	return w.appendExtras(dst, channels)
}

// column returns all values of a channel.
func (w *window) column(channel int) []float64 {
	column := make([]float64, w.count)
	for i := range column {
		column[i] = w.valueAt(i, channel)
	}
	return column
}

// appendSteps writes n numbers, each as how much its distance from the one before has changed.
func appendSteps(dst []byte, n int, at func(i int) uint64) []byte {
	var last, step uint64
	for i := range n {
		v := at(i)
		dst = binary.AppendVarint(dst, int64(v-last-step))
		if i > 0 {
			step = v - last
		}
		last = v
	}
	return dst
}

// steps reads what appendSteps wrote into out.
func (r *snapshotReader) steps(out []uint64) {
	var last, step uint64
	for i := range out {
		v := last + step + uint64(r.varint())
		if i > 0 {
			step = v - last
		}
		out[i], last = v, v
	}
}

// usedChannels returns how many channels have a value in the window.
func (w *window) usedChannels() int {
	for n := int(w.channels); n > 0; n-- {
		for i := range int(w.count) {
			if v := w.valueAt(i, n-1); v == v {
				return n
			}
		}
	}
	return 0
}

// appendExtras writes one byte that says which there are, and each kind for all readings.
func (w *window) appendExtras(dst []byte, channels int) []byte {
	head := len(dst)
	dst = append(dst, 0)
	x, n, stride := w.extras, int(w.count), int(w.channels)
	if x == nil {
		return dst
	}
	for i := range n {
		p := w.place(i)
		if x.note(p) != "" {
			dst[head] |= windowNotes
		}
		if x.flags[p] != 0 {
			dst[head] |= windowFlags
		}
		if x.quality != nil && slices.ContainsFunc(x.qualityOf(p, stride)[:channels], notGood) {
			dst[head] |= windowQuality
		}
	}
	has := dst[head]
	for i := range n {
		p := w.place(i)
		if has&windowNotes != 0 {
			dst = appendString(dst, x.note(p))
		}
		if has&windowFlags != 0 {
			dst = append(dst, x.flags[p])
		}
		if has&windowQuality != 0 {
			dst = append(dst, x.qualityOf(p, stride)[:channels]...)
		}
	}
	return dst
}

func (w *window) readFrom(r *snapshotReader) {
	n := r.number(min(maxWindowCount, uint64(r.left()/2))) // at least a byte each for time and sequence
	if n == 0 {
		return
	}
	channels := r.number(messages.MaxChannels)
	if r.err != nil {
		return
	}
	r.numbers = slices.Grow(r.numbers[:0], 2*n)[:2*n]
	times, sequences := r.numbers[:n], r.numbers[n:]
	r.steps(times)
	r.steps(sequences)
	for i := 1; i < n; i++ {
		if int64(times[i]) <= int64(times[i-1]) {
			r.fail("order of times")
		}
	}
	if !w.readPacked(r, times, sequences, channels) {
		w.readValues(r, times, sequences, channels)
	}
	if r.err == nil {
		w.readExtras(r)
	}
}

// readPacked reads values into packed cells as they are written, if that can be; if not it has read nothing.
func (w *window) readPacked(r *snapshotReader, times, sequences []uint64, channels int) bool {
	n, from := len(times), r.at
	m := newCells(n, channels, false)
	m.baseTime, m.baseSequence = int64(times[0]), sequences[0]
	for i := range n {
		slot := m.slot(i)
		dt, timeFits := distance(int64(times[i]), m.baseTime)
		ds, sequenceFits := distance(int64(sequences[i]), int64(m.baseSequence))
		if !timeFits || !sequenceFits {
			return false
		}
		slot[0], slot[1] = uint32(dt), uint32(ds)
	}
	for c := range channels {
		if !r.cells(&m, c) {
			if r.err == nil {
				r.at = from
			}
			return false
		}
	}
	w.cells, w.count = m, int32(n)
	return r.err == nil
}

// readValues reads values of any kind.
func (w *window) readValues(r *snapshotReader, times, sequences []uint64, channels int) {
	n := len(times)
	r.floats = slices.Grow(r.floats[:0], n*(channels+1))[:n*(channels+1)]
	values, column := r.floats[:n*channels], r.floats[n*channels:]
	for c := range channels {
		r.column(column)
		for i, v := range column {
			values[i*channels+c] = v
		}
	}
	if r.err != nil {
		return
	}
	w.cells = newCells(n, channels, false)
	for i := range n {
		w.store(i, int64(times[i]), sequences[i], values[i*channels:(i+1)*channels])
		w.count++
	}
}

func (w *window) readExtras(r *snapshotReader) {
	has := r.byte()
	if has == 0 {
		return
	}
	n, channels := int(w.count), int(w.channels)
	x := newExtras(n)
	if has&windowQuality != 0 {
		x.quality = make([]uint8, n*channels)
	}
	for i := range n {
		if has&windowNotes != 0 {
			x.setNote(i, r.string())
		}
		if has&windowFlags != 0 {
			x.setFlags(i, r.byte())
		}
		if has&windowQuality != 0 {
			x.setQuality(i, channels, r.bytes(uint64(channels)))
		}
	}
	if x.count > 0 {
		w.extras = x
	}
}

func (b *bucket) appendTo(dst []byte) []byte {
	switch {
	case !b.held:
		return append(dst, 0)
	case !b.whole:
		return binary.AppendVarint(append(dst, bucketHeld), b.start)
	}
	dst = binary.AppendVarint(append(dst, bucketHeld|bucketWhole), b.start)
	dst = binary.AppendUvarint(dst, uint64(b.count))
	n := len(b.channels)
	for n > 0 && b.channels[n-1].count == 0 {
		n--
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range n {
		c := &b.channels[i]
		dst = binary.AppendUvarint(dst, uint64(c.count))
		if c.count > 0 {
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(c.firstAt)), uint64(c.lastAt))
			dst = appendColumn(dst, []float64{c.min, c.max, c.first, c.last})
			dst = b.appendSum(dst, i)
		}
	}
	return dst
}

func (b *bucket) readFrom(r *snapshotReader, step messages.Step) {
	has := r.byte()
	if has&bucketHeld == 0 {
		return
	}
	b.held, b.whole, b.start = true, has&bucketWhole != 0, r.varint()
	if !b.whole {
		return
	}
	const most = 1<<32 - 1
	b.count = uint32(r.number(most))
	if n := r.number(messages.MaxChannels); n > 0 {
		b.channels = make([]channelRollup, n)
	}
	var four [4]float64
	for i := range b.channels {
		c := &b.channels[i]
		if c.count = uint32(r.number(most)); c.count == 0 {
			continue
		}
		c.firstAt, c.lastAt = uint32(r.number(uint64(step-1))), uint32(r.number(uint64(step-1)))
		r.column(four[:])
		c.min, c.max, c.first, c.last = four[0], four[1], four[2], four[3]
		b.readSum(r, i)
	}
}
