"""A client that loses nothing: readings wait in a file until Wellhead says that they are stored.

    spool.py SERVER SITE PRODUCER FILE < readings.ndjson

SERVER is nats://127.0.0.1:4222, or nats://SITE:PASSWORD@127.0.0.1:4222 with a credential.
Each line of standard input is {"device":"pump-1","time":1767323045678,"values":[1.5,null,3]}. A line is on
disk when `spooled N` is printed. FILE has one line that names the run, and one for each batch; it belongs to
one client of this producer. After a kill -9 start it again with the same FILE: it sends the same batches with
the same run and sequences, so each is stored once. Ends when all is stored. Needs nats-py.
"""
import asyncio, json, os, secrets, struct, sys, time
import nats

LIMIT = 10_000  # batches in the file: above it standard input waits

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])

def text(tag, data): return bytes([tag]) + varint(len(data)) + data

def encode(producer, run, b):  # one Batch of messages/wellhead.proto, with one reading
    values = b["values"]
    present = bytearray((len(values) + 7) // 8)
    for i, v in enumerate(values):
        present[i // 8] |= (v is not None) << i % 8
    t = b["time"]
    block = text(0x0A, b["device"].encode()) + b"\x10" + varint(t << 1 if t >= 0 else (-t << 1) - 1)
    block += text(0x22, struct.pack(f"<{len(values)}d", *(v or 0 for v in values))) + text(0x2A, bytes(present))
    return text(0x12, producer.encode()) + b"\x19" + struct.pack("<Q", run) + b"\x20" + varint(b["sequence"]) + text(0x32, block)

def shard_of(site, device, shards):
    h = 2166136261
    for c in (site + device).encode():
        h = (h ^ c) * 16777619 & 0xFFFFFFFF
    return h % shards

class Spool:
    """The file, and what of it is not stored yet: {(shard, sequence): batch}."""
    def __init__(self, path):
        self.path, self.run, self.last, self.waiting, self.lines = path, secrets.randbits(63) | 1, {}, {}, 0
        lines = open(path, "rb").read().split(b"\n")[:-1] if os.path.exists(path) else []  # a torn line was never sent
        if lines:
            head = json.loads(lines[0])
            self.run, self.last = int(head["run"], 16), {int(s): n for s, n in head["last"].items()}
        for line in lines[1:]:
            self.keep(json.loads(line))
        self.rewrite()

    def keep(self, b):
        self.waiting[b["shard"], b["sequence"]] = b
        self.last[b["shard"]] = max(b["sequence"], self.last.get(b["shard"], 0))

    def rewrite(self):  # without what is stored; the old file stays until the new one is on disk
        with open(self.path + ".new", "wb") as f:
            head = {"run": f"{self.run:016x}", "last": self.last}
            f.write(b"".join(json.dumps(line).encode() + b"\n" for line in [head, *self.waiting.values()]))
            f.flush(); os.fsync(f.fileno())
        os.replace(self.path + ".new", self.path)
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        os.fsync(folder); os.close(folder)
        self.file, self.lines = open(self.path, "ab"), len(self.waiting)

    def append(self, batches):  # on disk before any is sent
        for b in batches:
            b["sequence"] = self.last.get(b["shard"], 0) + 1
            self.keep(b)
            self.file.write(json.dumps(b).encode() + b"\n")
        self.file.flush(); os.fsync(self.file.fileno())
        self.lines += len(batches)

    def stored(self, news):  # all up to highest, but the gaps
        if int(news["run"], 16) != self.run:
            return
        for shard, n in [k for k in self.waiting if k[0] == news["shard"] and k[1] <= news["highest"]]:
            if not any(a <= n <= b for a, b in news.get("gaps", [])):
                del self.waiting[shard, n]
        if self.lines > 2 * len(self.waiting) + 1000:
            self.rewrite()

async def main(server, site, producer, path):
    spool = Spool(path)
    nc = await nats.connect(server, inbox_prefix=f"_INBOX_{site}", max_reconnect_attempts=-1, reconnect_time_wait=0.2, allow_reconnect=True)
    async def again(subject, data=b""):  # a member that starts has no answer yet
        while True:
            try: return json.loads((await nc.request(subject, data, timeout=2)).data)
            except (nats.errors.Error, ValueError): await asyncio.sleep(0.2)
    shards = (await again("query.shards"))["shards"]
    async def heard(m): spool.stored(json.loads(m.data))
    await nc.subscribe(f"stored.{site}.{producer}", cb=heard)
    window, ended = asyncio.Semaphore(256), asyncio.Event()

    async def send(b):
        try:
            ack = json.loads((await nc.request(f"batches.{site}.{b['shard']}", encode(producer, spool.run, b), timeout=2)).data)
            due[b["shard"], b["sequence"]] = time.monotonic() + (30 if "error" not in ack else 0.5)
        except (nats.errors.Error, ValueError):  # no acknowledgement: send it again
            due[b["shard"], b["sequence"]] = time.monotonic() + 0.5
        finally:
            window.release()

    async def read():
        reader, number = asyncio.StreamReader(limit=1 << 20), 0
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            b = json.loads(line)
            b["shard"] = shard_of(site, b["device"], shards)
            while len(spool.waiting) >= LIMIT:
                await asyncio.sleep(0.05)
            spool.append([b])
            number += 1
            print("spooled", number, flush=True)
        ended.set()

    due, sending, asked, reading = {}, set(), 0.0, asyncio.create_task(read())
    while not ended.is_set() or spool.waiting:
        if reading.done(): reading.result()  # a line that is no reading ends the client
        now = time.monotonic()
        for key, b in list(spool.waiting.items()):
            if key not in spool.waiting or due.get(key, 0) > now:
                continue
            await window.acquire()
            due[key] = now + 60
            task = asyncio.create_task(send(b))
            sending.add(task); task.add_done_callback(sending.discard)
        due = {key: at for key, at in due.items() if key in spool.waiting}
        if now - asked > 1:  # news may be lost, so ask too
            asked = now
            for news in await again(f"query.stored.{site}.{producer}", json.dumps({"run": f"{spool.run:016x}"}).encode()):
                spool.stored(news)
        await asyncio.sleep(0.05)
    spool.rewrite()
    print("stored", flush=True)

asyncio.run(main(*sys.argv[1:]))
