// Prints what the devices of a site say.
import { connect } from "@nats-io/transport-node";

const nc = await connect({
  servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: "_INBOX_demo", user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
});
const events = nc.subscribe("events.demo.>");
await nc.flush();
console.log("listening");
for await (const message of events) {
  const [, , device, kind] = message.subject.split(".");
  const event = message.json();
  if (kind === "reading") { // newest last
    for (const r of event.readings) console.log(device, r.time, JSON.stringify(r.values), r.note ?? "", r.decision);
  } else if (kind === "online" || kind === "offline") {
    console.log(device, kind, event.at);
  } else if (kind === "rejected") { // of @site when the device is not known
    console.log(device, "rejected", event.count, event.reason);
  }
}
