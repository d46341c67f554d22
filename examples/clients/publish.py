"""Publishes one reading and waits until the stream has it."""
import asyncio, json, os, time
import nats
from nats.errors import TimeoutError

async def main():
    nc = await nats.connect(os.environ.get("NATS", "nats://127.0.0.1:4222"), inbox_prefix="_INBOX_demo",
                            user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))  # the site's credential, if it has one
    reading = {"time": time.time_ns() // 1_000_000, "values": [210.25, None, 3], "note": "from Python"}
    for attempt in range(10):
        try:  # an answer that is no acknowledgement raises: the reading was not taken
            ack = await nc.jetstream().publish("readings.demo.pump-1", json.dumps(reading).encode(), timeout=5)
            print("acknowledged:", ack.stream, ack.seq)
            break
        except TimeoutError:  # taken or not: send the same again, it has its time and so is stored once
            print("no answer, trying again")
    else:
        raise SystemExit("not acknowledged: keep the reading")
    await nc.close()

asyncio.run(main())
