// Computes a derived device from each pump and publishes it back: PUMP-power = pressure × flow (channels 0 and 2).
// A derived reading has the time of its source, so doing the same twice changes nothing: several
// processors may run, and one that was away makes up for what the windows still hold.
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const site = process.env.SITE ?? "demo";
const source = /^pump-\d+$/; // a derived device is none itself, or it would feed itself
const nc = await connect({
  servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: `_INBOX_${site}`, user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
  maxReconnectAttempts: -1,
});
const js = jetstream(nc);

const derive = ([pressure, , flow]) => (pressure == null || flow == null ? null : pressure * flow);

async function publish(device, readings) {
  const out = readings.filter((r) => derive(r.values) !== null).map((r) => ({ time: r.time, values: [derive(r.values)] }));
  if (out.length === 0) return;
  for (let wait = 100; ; wait = Math.min(2 * wait, 5000)) {
    try {
      await js.publish(`readings.${site}.${device}-power`, JSON.stringify(out), { timeout: 5000 });
      return;
    } catch (err) { // the stream is full or away: keep it, try again
      console.log(`${device}: ${err.message}, trying again in ${wait} ms`);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

const ask = async (subject, question) => {
  const answer = await nc.request(subject, JSON.stringify(question), { timeout: 10_000 });
  const error = answer.headers?.get("Nats-Service-Error");
  if (error) throw new Error(`${subject}: ${error}`);
  return answer.json();
};

// Events are not kept: what came while nobody listened is asked for.
async function catchUp() {
  await new Promise((resolve) => setTimeout(resolve, 2000)); // members look who listens once a second
  for (let cursor = ""; cursor !== undefined;) {
    const page = await ask(`query.devices.${site}`, { limit: 1000, cursor });
    for (const { device } of page.devices.filter((d) => source.test(d.device))) {
      await publish(device, (await ask(`query.window.${site}.${device}`, { limit: 1000 })).readings);
    }
    cursor = page.cursor;
  }
  console.log("caught up");
}

const events = nc.subscribe(`events.${site}.*.reading`);
await nc.flush();
(async () => {
  await catchUp();
  for await (const s of nc.status()) if (s.type === "reconnect") await catchUp();
})();
for await (const message of events) { // one after the other; events wait meanwhile, up to a limit
  if (events.getPending() > 10_000) throw new Error("too slow: 10 000 events wait; share the site's devices among processors");
  const { device, readings } = message.json();
  if (source.test(device)) await publish(device, readings);
}
