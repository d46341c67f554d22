"""Prints what the devices of a site say."""
import asyncio, json, os
import nats

async def main():
    nc = await nats.connect(os.environ.get("NATS", "nats://127.0.0.1:4222"), inbox_prefix="_INBOX_demo",
                            user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))
    events = await nc.subscribe("events.demo.>")
    print("listening", flush=True)
    async for message in events.messages:
        _, site, device, kind = message.subject.split(".")
        event = json.loads(message.data)
        if kind == "reading":  # newest last
            for r in event["readings"]:
                print(device, r["time"], r["values"], r.get("note", ""), r["decision"], flush=True)
        elif kind in ("online", "offline"):
            print(device, kind, event["at"], flush=True)
        elif kind == "rejected":  # of @site when the device is not known
            print(device, "rejected", event["count"], event["reason"], flush=True)

asyncio.run(main())
