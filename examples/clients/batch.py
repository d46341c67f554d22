"""Publishes readings of many devices as columnar batches, one for each shard, with producer and sequence."""
import asyncio, json, os, secrets, time
import nats
from wellhead_pb2 import Batch  # python -m grpc_tools.protoc -I messages --python_out=examples/clients messages/wellhead.proto

def shard_of(site, device, shards):
    h = 2166136261  # FNV-1a-32 of both names, joined without a separator
    for byte in (site + device).encode():
        h = (h ^ byte) * 16777619 % 2**32
    return h % shards

def encode(producer, run, sequence, devices):
    """devices: {name: [(time in ms, [values, None = omitted], note), …]}, all readings of a device with as many values."""
    batch = Batch(producer=producer, run=run, sequence=sequence)
    batch.base_time = next(iter(devices.values()))[0][0]
    for device, readings in devices.items():
        times = [time for time, _, _ in readings]
        block = batch.blocks.add(device=device, time=times[0] - batch.base_time)
        block.time_deltas.extend(b - a for a, b in zip(times, times[1:]))
        values = [v for _, row, _ in readings for v in row]
        block.values.extend(v or 0.0 for v in values)
        presence = sum((v is not None) << i for i, v in enumerate(values))
        block.presence = presence.to_bytes((len(values) + 7) // 8, "little")
        for i, (_, _, note) in enumerate(readings):
            if note:
                block.notes.add(reading=i, text=note)
    return batch.SerializeToString()

async def main():
    nc = await nats.connect(os.environ.get("NATS", "nats://127.0.0.1:4222"), inbox_prefix="_INBOX_demo",
                            user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))
    shards = json.loads((await nc.request("query.shards", timeout=5)).data)["shards"]
    now = time.time_ns() // 1_000_000
    by_shard = {}
    for n in range(100):
        device = f"py-{n}"
        readings = [(now + 1000 * i, [n, None, i / 4], "first" if i == 0 else "") for i in range(3)]
        by_shard.setdefault(shard_of("demo", device, shards), {})[device] = readings
    run = secrets.randbits(64) | 1  # not 0; new with each start, because nothing here remembers the sequences
    for shard, devices in by_shard.items():  # sequence 1 is the first of this run in each shard
        await nc.jetstream().publish(f"batches.demo.{shard}", encode("batch-py", run, 1, devices), timeout=5)
    print(f"acknowledged: {len(by_shard)} batches of run {run:016x}")
    await nc.close()

if __name__ == "__main__":
    asyncio.run(main())
