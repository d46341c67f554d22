// A client that loses nothing: readings wait in a file until Wellhead says that they are stored.
//
//   node spool.mjs SERVER SITE PRODUCER FILE < readings.ndjson
//
// SERVER is nats://127.0.0.1:4222, or nats://SITE:PASSWORD@127.0.0.1:4222 with a credential.
// Each line of standard input is {"device":"pump-1","time":1767323045678,"values":[1.5,null,3]}. A line is on
// disk when `spooled N` is printed. FILE has one line that names the run, and one for each batch; it belongs to
// one client of this producer. After a kill -9 start it again with the same FILE: it sends the same batches with
// the same run and sequences, so each is stored once. Ends when all is stored. Needs @nats-io/transport-node.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';

const limit = 10_000; // batches in the file: above it standard input waits
const window = 256; // batches without an acknowledgement
const [server, site, producer, file] = process.argv.slice(2);

function varint(n) { // n is a BigInt
  const out = [];
  for (; n > 127n; n >>= 7n) out.push(Number(n & 127n) | 128);
  return Buffer.from([...out, Number(n)]);
}
const text = (tag, data) => Buffer.concat([Buffer.from([tag]), varint(BigInt(data.length)), data]);

function encode(b) { // one Batch of messages/wellhead.proto, with one reading
  const values = Buffer.alloc(8 * b.values.length), present = Buffer.alloc((b.values.length + 7) >> 3), id = Buffer.alloc(8);
  b.values.forEach((v, i) => { values.writeDoubleLE(v ?? 0, 8 * i); if (v !== null) present[i >> 3] |= 1 << (i & 7); });
  id.writeBigUInt64LE(BigInt(`0x${spool.run}`));
  const time = BigInt(b.time);
  const block = Buffer.concat([text(0x0a, Buffer.from(b.device)), Buffer.from([0x10]), varint(time >= 0n ? time << 1n : (-time << 1n) - 1n),
    text(0x22, values), text(0x2a, present)]);
  return Buffer.concat([text(0x12, Buffer.from(producer)), Buffer.from([0x19]), id, Buffer.from([0x20]), varint(BigInt(b.sequence)), text(0x32, block)]);
}

function shardOf(device, shards) {
  let h = 2166136261;
  for (const c of Buffer.from(site + device)) h = Math.imul(h ^ c, 16777619) >>> 0;
  return h % shards;
}

// The file, and what of it is not stored yet: "shard.sequence" → batch.
const spool = { run: (randomBytes(8).readBigUInt64BE() | 1n).toString(16).padStart(16, '0'), last: {}, waiting: new Map(), lines: 0, fd: -1 };
const key = (b) => `${b.shard}.${b.sequence}`;

function keep(b) {
  spool.waiting.set(key(b), b);
  spool.last[b.shard] = Math.max(b.sequence, spool.last[b.shard] ?? 0);
}

function load() {
  if (fs.existsSync(file)) {
    const [head, ...batches] = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1); // a torn line was never sent
    if (head) Object.assign(spool, JSON.parse(head));
    for (const line of batches) keep(JSON.parse(line));
  }
  rewrite();
}

function rewrite() { // without what is stored; the old file stays until the new one is on disk
  const lines = [{ run: spool.run, last: spool.last }, ...spool.waiting.values()].map((line) => `${JSON.stringify(line)}\n`);
  fs.writeFileSync(`${file}.new`, lines.join(''));
  sync(`${file}.new`);
  fs.renameSync(`${file}.new`, file);
  sync(path.dirname(path.resolve(file)));
  if (spool.fd >= 0) fs.closeSync(spool.fd);
  spool.fd = fs.openSync(file, 'a');
  spool.lines = spool.waiting.size;
}

function sync(name) {
  const fd = fs.openSync(name, 'r');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function append(b) { // on disk before it is sent
  b.sequence = (spool.last[b.shard] ?? 0) + 1;
  fs.writeSync(spool.fd, `${JSON.stringify(b)}\n`);
  fs.fsyncSync(spool.fd);
  keep(b);
  spool.lines++;
}

function stored(news) { // all up to highest, but the gaps
  if (news.run !== spool.run) return;
  for (const [name, b] of spool.waiting) {
    const missing = (news.gaps ?? []).some(([from, to]) => from <= b.sequence && b.sequence <= to);
    if (b.shard === news.shard && b.sequence <= news.highest && !missing) { spool.waiting.delete(name); due.delete(name); }
  }
  if (spool.lines > 2 * spool.waiting.size + 1000) rewrite();
}

const due = new Map(); // when each is sent again, ms
let flying = 0, ended = false;
load();
const at = new URL(server), login = at.username ? { user: decodeURIComponent(at.username), pass: decodeURIComponent(at.password) } : {};
const nc = await connect({ servers: at.host, ...login, inboxPrefix: `_INBOX_${site}`, maxReconnectAttempts: -1, reconnectTimeWait: 200, waitOnFirstConnect: true });

async function again(subject, data) { // a member that starts has no answer yet
  for (;;) {
    try { return (await nc.request(subject, data, { timeout: 2000 })).json(); } catch { await pause(200); }
  }
}

async function send(b) {
  let wait = 500; // without an acknowledgement: send it again
  try {
    if (!(await nc.request(`batches.${site}.${b.shard}`, encode(b), { timeout: 2000 })).json().error) wait = 30_000;
  } catch { /* the same */ }
  flying--;
  if (spool.waiting.has(key(b))) due.set(key(b), Date.now() + wait);
}

async function read(shards) {
  let number = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const b = JSON.parse(line);
    while (spool.waiting.size >= limit) await pause(50);
    append({ ...b, shard: shardOf(b.device, shards) });
    console.log('spooled', ++number);
  }
  ended = true;
}

const { shards } = await again('query.shards');
nc.subscribe(`stored.${site}.${producer}`, { callback: (error, m) => { if (!error) stored(m.json()); } });
read(shards).catch((error) => { console.error(error); process.exit(1); }); // a line that is no reading ends the client
for (let asked = 0; !ended || spool.waiting.size > 0; await pause(50)) {
  for (const b of spool.waiting.values()) {
    if (flying >= window) break;
    if ((due.get(key(b)) ?? 0) > Date.now()) continue;
    due.set(key(b), Date.now() + 60_000);
    flying++;
    send(b);
  }
  if (Date.now() - asked < 1000) continue; // news may be lost, so ask too
  asked = Date.now();
  for (const news of await again(`query.stored.${site}.${producer}`, JSON.stringify({ run: spool.run }))) stored(news);
}
rewrite();
console.log('stored');
await nc.close();
