// Publishes readings of many devices as columnar batches, one for each shard, with producer and sequence.
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const schema = await protobuf.load(fileURLToPath(new URL("../../messages/wellhead.proto", import.meta.url)));
const Batch = schema.lookupType("wellhead.v1.Batch");

export function shardOf(site, device, shards) {
  let h = 2166136261; // FNV-1a-32 of both names, joined without a separator
  for (const byte of Buffer.from(site + device)) h = Math.imul(h ^ byte, 16777619) >>> 0;
  return h % shards;
}

// run: 16 hexadecimal digits. devices: { name: [{ time (ms), values (null = omitted), note }, …] }, all
// readings of a device with as many values.
export function encode(producer, run, sequence, devices) {
  const baseTime = Object.values(devices)[0][0].time;
  const blocks = Object.entries(devices).map(([device, readings]) => {
    const values = readings.flatMap((r) => r.values);
    const presence = new Uint8Array(Math.ceil(values.length / 8));
    values.forEach((v, i) => { if (v !== null) presence[i >> 3] |= 1 << (i & 7); });
    return {
      device, presence,
      time: readings[0].time - baseTime,
      timeDeltas: readings.slice(1).map((r, i) => r.time - readings[i].time),
      values: values.map((v) => v ?? 0),
      notes: readings.map((r, i) => ({ reading: i, text: r.note })).filter((n) => n.text),
    };
  });
  const number = protobuf.util.Long.fromString(run, true, 16); // does not fit into a JavaScript number
  return Batch.encode(Batch.create({ producer, run: number, sequence, baseTime, blocks })).finish();
}

export const newRun = () => (BigInt("0x" + randomBytes(8).toString("hex")) | 1n).toString(16).padStart(16, "0"); // not 0

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const nc = await connect({
    servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: "_INBOX_demo", user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
  });
  const { shards } = (await nc.request("query.shards", "", { timeout: 5000 })).json();
  const byShard = new Map();
  for (let n = 0; n < 100; n++) {
    const shard = shardOf("demo", `js-${n}`, shards);
    const readings = [0, 1, 2].map((i) => ({ time: Date.now() + 1000 * i, values: [n, null, i / 4], note: i === 0 ? "first" : "" }));
    byShard.set(shard, { ...byShard.get(shard), [`js-${n}`]: readings });
  }
  const run = newRun(); // new with each start, because nothing here remembers the sequences
  for (const [shard, devices] of byShard) { // sequence 1 is the first of this run in each shard
    await jetstream(nc).publish(`batches.demo.${shard}`, encode("batch-js", run, 1, devices), { timeout: 5000 });
  }
  console.log(`acknowledged: ${byShard.size} batches of run ${run}`);
  await nc.close();
}
