"""Publishes a batch, and keeps it until its shard says that it is stored: then it survives power loss."""
import asyncio, json, os, secrets, time
import nats
from batch import encode, shard_of

def has(news, sequence):
    """Whether a sequence is stored: at most highest, and in no gap."""
    return sequence <= news["highest"] and not any(first <= sequence <= last for first, last in news.get("gaps", []))

async def main():
    nc = await nats.connect(os.environ.get("NATS", "nats://127.0.0.1:4222"), inbox_prefix="_INBOX_demo",
                            user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))
    shards = json.loads((await nc.request("query.shards", timeout=5)).data)["shards"]
    shard, run = shard_of("demo", "pump-1", shards), secrets.randbits(64) | 1
    news = await nc.subscribe("stored.demo.stored-py")
    reading = (time.time_ns() // 1_000_000, [1.5, None, 3], "kept until stored")
    batch = encode("stored-py", run, 1, {"pump-1": [reading]})
    ack = await nc.jetstream().publish(f"batches.demo.{shard}", batch, timeout=5)
    print("acknowledged:", ack.stream, ack.seq)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            told = [json.loads((await news.next_msg(timeout=2)).data)]
        except nats.errors.TimeoutError:  # the news may be lost: ask
            told = json.loads((await nc.request("query.stored.demo.stored-py", json.dumps({"run": f"{run:016x}"}).encode(), timeout=5)).data)
        for n in told:
            if n["shard"] == shard and n["run"] == f"{run:016x}" and has(n, 1):
                print("stored: run", n["run"], "up to", n["highest"])
                return await nc.close()
    raise SystemExit("not stored within a minute: keep the batch, and publish the same again")

asyncio.run(main())
