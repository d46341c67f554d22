"""Asks a device for its newest reading and its window, and the site for its devices."""
import asyncio, json, os
import nats

async def ask(nc, subject, **question):
    answer = await nc.request(subject, json.dumps(question).encode() if question else b"", timeout=10)
    error = (answer.headers or {}).get("Nats-Service-Error")
    if error:
        raise LookupError(f"{subject}: {error} ({answer.headers['Nats-Service-Error-Code']})")
    return json.loads(answer.data)

async def main():
    nc = await nats.connect(os.environ.get("NATS", "nats://127.0.0.1:4222"), inbox_prefix="_INBOX_demo",
                            user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))
    latest = await ask(nc, "query.latest.demo.pump-1")
    print("latest:", latest["status"], latest["reading"]["values"], latest["reading"].get("note", ""))
    window = await ask(nc, "query.window.demo.pump-1", limit=10)  # without from and to: newest first
    print("window:", len(window["readings"]), "readings")
    page = await ask(nc, "query.devices.demo", limit=1000)
    devices = page["devices"]
    while "cursor" in page:
        page = await ask(nc, "query.devices.demo", limit=1000, cursor=page["cursor"])
        devices += page["devices"]
    print("devices:", len(devices))
    await nc.close()

asyncio.run(main())
