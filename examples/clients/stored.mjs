// Publishes a batch, and keeps it until its shard says that it is stored: then it survives power loss.
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { encode, newRun, shardOf } from "./batch.mjs";

// Whether a sequence is stored: at most highest, and in no gap.
const has = ({ highest, gaps = [] }, sequence) =>
  sequence <= highest && !gaps.some(([first, last]) => first <= sequence && sequence <= last);

const nc = await connect({
  servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: "_INBOX_demo", user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
});
const { shards } = (await nc.request("query.shards", "", { timeout: 5000 })).json();
const shard = shardOf("demo", "pump-1", shards), run = newRun();
const mine = (n) => n.shard === shard && n.run === run && has(n, 1);

const stored = new Promise((resolve, reject) => {
  const tell = (list) => {
    const n = list.find(mine);
    if (n) resolve(n);
  };
  nc.subscribe("stored.demo.stored-js", { callback: (err, message) => err ? reject(err) : tell([message.json()]) });
  setInterval(async () => { // the news may be lost: ask
    try {
      tell((await nc.request("query.stored.demo.stored-js", JSON.stringify({ run }), { timeout: 1500 })).json());
    } catch (err) {
      console.log("not told yet:", err.message);
    }
  }, 2000).unref();
  setTimeout(() => reject(new Error("not stored within a minute: keep the batch, and publish the same again")), 60_000).unref();
});

const reading = { time: Date.now(), values: [1.5, null, 3], note: "kept until stored" };
const batch = encode("stored-js", run, 1, { "pump-1": [reading] });
const ack = await jetstream(nc).publish(`batches.demo.${shard}`, batch, { timeout: 5000 });
console.log("acknowledged:", ack.stream, ack.seq);
const told = await stored;
console.log("stored: run", told.run, "up to", told.highest);
await nc.close();
