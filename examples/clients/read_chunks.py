#!/usr/bin/env python3
"""Reads what Wellhead stored in Cassandra or ScyllaDB with layout chunks, without Wellhead.

    read_chunks.py --host 127.0.0.1:9042 --keyspace wellhead SITE DEVICE [--from MS --to MS]
    read_chunks.py --csv chunks.csv SITE DEVICE       # of cqlsh: COPY wellhead.chunks TO 'chunks.csv' WITH HEADER = true
    read_chunks.py --hex FILE                         # one chunk a line, in hexadecimal

prints one JSON object for each reading, oldest first. decode() is the format of docs/chunks.md, in plain
Python; only --host needs a package (cassandra-driver).
"""
import argparse, csv, json, math, struct, sys

MASK = (1 << 64) - 1
NONE, DECIMAL, XOR, RAW = range(4)
NOTES, QUALITY, FLAGS, COUNTS = 1, 2, 4, 8


class Corrupt(ValueError):
    """The bytes are no chunk, or not the one that was written."""


def signed(u):
    """The 64 bits of u as a signed number."""
    u &= MASK
    return u - (1 << 64) if u >> 63 else u


def unzigzag(u):
    return (u >> 1) ^ -(u & 1)


def crc_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


CRC = crc_table()


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ CRC[(c ^ b) & 255]
    return c ^ 0xFFFFFFFF


class Reader:
    """Takes numbers off bytes."""

    def __init__(self, data, version=0):
        self.data, self.at, self.version = data, 0, version
        self.acc = self.held = 0  # bits taken from the bytes and not used yet

    def bytes(self, n):
        if n > len(self.data) - self.at:
            raise Corrupt("cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def byte(self):
        return self.bytes(1)[0]

    def uvarint(self):
        out = shift = 0
        while True:
            b = self.byte()
            out |= (b & 127) << shift
            if b < 128:
                return out & MASK
            shift += 7

    def bits(self, n):
        while self.held < n:
            self.acc |= self.byte() << self.held
            self.held += 8
        out = self.acc & ((1 << n) - 1)
        self.acc >>= n
        self.held -= n
        return out

    def rice(self, k):
        ones = 0
        while ones < 16 and self.bits(1):
            ones += 1
        return self.bits(64) if ones == 16 else ones << k | self.bits(k)

    def series(self, n):
        """The n integers of a series (versions 2 and 3)."""
        out = [signed(unzigzag(self.uvarint()))]
        if n == 1:
            return out
        if self.version == 3:
            return self.whole_series(out[0], n)
        head = self.byte()
        order, k = head & 3, head >> 2
        if order > 2:
            raise Corrupt("a series of an unknown order")
        distance = 0
        if order == 2:
            distance = unzigzag(self.uvarint())
            out.append(signed(out[0] + distance))
        self.acc = self.held = 0
        while len(out) < n:
            residual = unzigzag(self.rice(k))
            if order == 0:
                out.append(signed(out[0] + residual))
            elif order == 1:
                out.append(signed(out[-1] + residual))
            else:
                distance += residual
                out.append(signed(out[-1] + distance))
        self.acc = self.held = 0  # zeros up to a whole byte
        return out

    def whole_series(self, first, n):
        """The n integers of a series of version 3, whose first has been read."""
        head = self.byte()
        if head & 3 > 2 or head > 7:
            raise Corrupt("a series of an unknown order")
        order, unit = head & 3, self.uvarint() if head & 4 else 1
        out, steps, distance = [first], 0, 0
        while len(out) < n:
            residual = unzigzag(self.uvarint())
            distance = residual if order < 2 else distance + residual
            steps = distance if order == 0 else steps + distance
            out.append(signed(first + unit * steps))
        return out


def times_and_sequences(r, n):
    highest = r.uvarint()
    if r.version >= 2:
        times = r.series(n)
        return times, [(highest - below) & MASK for below in r.series(n)]
    times, distance = [], 0
    for i in range(n):
        v = unzigzag(r.uvarint())
        if i == 0:
            times.append(signed(v))
            continue
        distance += v
        times.append(signed(times[-1] + distance))
    sequences = [(highest - r.uvarint()) & MASK]
    for _ in range(n - 1):
        sequences.append((sequences[-1] + unzigzag(r.uvarint())) & MASK)
    return times, sequences


def bits_of(v):
    return struct.unpack("<Q", struct.pack("<d", v))[0]


def value_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits & MASK))[0]


def column(r, n):
    """The values of one channel, None where a row has none."""
    head = r.byte()
    kind, same, places = head & 3, head & 8, head >> 4
    near = r.version == 3 and kind == DECIMAL and places == 15 and not same
    if near:
        places = r.byte()
    if places > 9:
        raise Corrupt("too many decimal places")
    power = 10.0 ** places
    present = [True] * n
    if head & 4:
        bitmap = r.bytes((n + 7) // 8)
        present = [bitmap[i >> 3] >> (i & 7) & 1 for i in range(n)]
    if kind == NONE:
        return [None] * n
    count = 1 if same else sum(map(bool, present))
    if kind == DECIMAL:
        if r.version >= 2:
            integers = r.series(count)
        else:
            integers, last = [], 0
            for _ in range(count):
                last += unzigzag(r.uvarint())
                integers.append(signed(last))
        values = [i / power for i in integers]
        if near:
            values = [value_of(bits_of(v) + unzigzag(r.uvarint())) for v in values]
    elif kind == RAW:
        values = [struct.unpack("<d", r.bytes(8))[0] for _ in range(count)]
    else:
        values, last = [], 0
        for _ in range(count):
            size = r.byte()
            front, length = size >> 4, size & 15
            if front + length > 8:
                raise Corrupt("a value has more than eight bytes")
            x = int.from_bytes(r.bytes(length), "little")
            last ^= x << 8 * (8 - front - length) if length else 0
            values.append(value_of(last))
    if same:
        values *= n
    values = iter(values)
    return [next(values) if p else None for p in present]


def body_rows(version, body):
    r = Reader(body, version)
    n, channels, sections = r.uvarint(), r.uvarint(), r.byte()
    times, sequences = times_and_sequences(r, n)
    counts = r.bytes(n) if sections & COUNTS else [channels] * n
    columns = [column(r, n) for _ in range(channels)]
    notes = [""] * n
    if sections & NOTES:
        known = [""] + [r.bytes(r.uvarint()).decode() for _ in range(r.uvarint())]
        notes = [known[i] for i in (r.series(n) if version >= 2 else [r.uvarint() for _ in range(n)])]
    quality = [list(r.bytes(r.uvarint())) for _ in range(n)] if sections & QUALITY else [[]] * n
    flags = r.bytes(n) if sections & FLAGS else [0] * n
    if r.at != len(body):
        raise Corrupt(f"{len(body) - r.at} bytes too many")
    for i in range(n):
        yield {"time": times[i], "sequence": sequences[i], "values": [c[i] for c in columns[:counts[i]]],
               "note": notes[i], "quality": quality[i], "flags": flags[i]}


def decode(chunk):
    """The readings of one chunk, in no particular order: merge() them. A note about a damaged one has none."""
    if chunk[:1] == b"\x80":
        return
    r = Reader(chunk)
    while r.at < len(chunk):
        version = r.byte()
        if version not in (1, 2, 3):
            raise Corrupt(f"version {version}: this program reads 1, 2 and 3")
        length = r.uvarint()
        checksum = struct.unpack("<I", r.bytes(4))[0]
        body = r.bytes(length)
        if crc32c(bytes([version]) + body if version == 3 else body) != checksum:
            raise Corrupt("the checksum is wrong")
        yield from body_rows(version, body)


def merge(readings):
    """One reading for each event time, that with the highest stream sequence, oldest first."""
    best = {}
    for reading in readings:
        held = best.get(reading["time"])
        if held is None or reading["sequence"] >= held["sequence"]:
            best[reading["time"]] = reading
    return [best[t] for t in sorted(best)]


def shard_of(site, device, shards):
    h = 2166136261
    for b in (site + device).encode():
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return h % shards


def group_of(site, device, groups):
    h = 14695981039346656037
    for b in f"{site}/{device}".encode():
        h = (h ^ b) * 1099511628211 & MASK
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & MASK
    h = (h ^ h >> 27) * 0x94D049BB133111EB & MASK
    return (h ^ h >> 31) % groups


def from_cassandra(o):
    from cassandra.cluster import Cluster

    host, _, port = o.host.rpartition(":")
    cluster = Cluster([host or o.host], port=int(port) if host else 9042)
    session = cluster.connect(o.keyspace)
    layout = session.execute("SELECT shards, grps, bucket_ms, readings FROM layout WHERE name = 'archive'").one()
    if layout.readings != "chunks":
        sys.exit(f"keyspace {o.keyspace} has layout {layout.readings}: its table readings is plain")
    key = (shard_of(o.site, o.device, layout.shards), group_of(o.site, o.device, layout.grps))
    gone = session.execute("SELECT deleted FROM devices WHERE shard = %s AND grp = %s AND site = %s AND device = %s", (*key, o.site, o.device)).one()
    floor = gone and gone.deleted or 0
    buckets = session.execute("SELECT bucket FROM buckets WHERE shard = %s AND grp = %s AND step = 0 AND bucket >= %s AND bucket <= %s ORDER BY bucket ASC",
                              (*key, o.since // layout.bucket_ms, o.until // layout.bucket_ms))
    for bucket in buckets:
        rows = session.execute("SELECT part, data FROM chunks WHERE shard = %s AND grp = %s AND bucket = %s AND site = %s AND device = %s",
                               (*key, bucket.bucket, o.site, o.device))
        # What a delete covers does not count; it is looked at after corrections were sorted out.
        yield from (r for r in merge(r for row in rows for r in decode(row.data)) if r["sequence"] > floor)
    cluster.shutdown()


def from_csv(o):
    csv.field_size_limit(1 << 26)
    with open(o.csv, newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["site"] == o.site and r["device"] == o.device]
    return merge(r for row in rows for r in decode(bytes.fromhex(row["data"].removeprefix("0x"))))


def from_hex(o):
    with open(o.hex) as f:
        return merge(r for line in f if line.strip() for r in decode(bytes.fromhex(line.strip().removeprefix("0x"))))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("site", nargs="?")
    p.add_argument("device", nargs="?")
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--host")
    source.add_argument("--csv")
    source.add_argument("--hex")
    p.add_argument("--keyspace", default="wellhead")
    p.add_argument("--from", dest="since", type=int, default=-62135596800000, help="event time in ms")
    p.add_argument("--to", dest="until", type=int, default=253402300799999, help="event time in ms")
    o = p.parse_args()
    if not o.hex and not o.device:
        p.error("name site and device")
    for r in from_cassandra(o) if o.host else from_csv(o) if o.csv else from_hex(o):
        if o.since <= r["time"] <= o.until:
            r["values"] = [None if v is None or math.isnan(v) else v for v in r["values"]]
            print(json.dumps(r, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except Corrupt as e:
        sys.exit(f"corrupt chunk: {e}")
