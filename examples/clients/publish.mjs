// Publishes one reading and waits until the stream has it.
import { connect, errors } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const nc = await connect({
  servers: process.env.NATS ?? "127.0.0.1:4222", inboxPrefix: "_INBOX_demo", user: process.env.NATS_USER, pass: process.env.NATS_PASSWORD,
}); // the site's credential, if it has one
const reading = { time: Date.now(), values: [210.25, null, 3], note: "from Node" };
let ack;
for (let attempt = 0; !ack && attempt < 10; attempt++) {
  try { // an answer that is no acknowledgement throws: the reading was not taken
    ack = await jetstream(nc).publish("readings.demo.pump-1", JSON.stringify(reading), { timeout: 5000 });
  } catch (err) {
    if (!(err instanceof errors.TimeoutError)) throw err;
    console.log("no answer, trying again"); // taken or not: send the same, it has its time and so is stored once
  }
}
if (!ack) throw new Error("not acknowledged: keep the reading");
console.log("acknowledged:", ack.stream, ack.seq);
await nc.close();
