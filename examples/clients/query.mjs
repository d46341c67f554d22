// Asks a device for its newest reading and its window, and the site for its devices.
import { connect } from "@nats-io/transport-node";

const nc = await connect({
  servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: "_INBOX_demo", user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
});

async function ask(subject, question) {
  const answer = await nc.request(subject, question ? JSON.stringify(question) : "", { timeout: 10_000 });
  const error = answer.headers?.get("Nats-Service-Error");
  if (error) throw new Error(`${subject}: ${error} (${answer.headers.get("Nats-Service-Error-Code")})`);
  return answer.json();
}

const latest = await ask("query.latest.demo.pump-1");
console.log("latest:", latest.status, JSON.stringify(latest.reading.values), latest.reading.note ?? "");
const window = await ask("query.window.demo.pump-1", { limit: 10 }); // without from and to: newest first
console.log("window:", window.readings.length, "readings");
let page = await ask("query.devices.demo", { limit: 1000 });
const devices = page.devices;
while (page.cursor) {
  page = await ask("query.devices.demo", { limit: 1000, cursor: page.cursor });
  devices.push(...page.devices);
}
console.log("devices:", devices.length);
await nc.close();
