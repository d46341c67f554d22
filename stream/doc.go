// Package stream is all that knows NATS: the embedded server, the shards' streams and their feeds,
// publishing with acknowledgements, small values under compare-and-set, the registry, rejects, events,
// and questions from outside.
//
// What it guarantees
//   - What a Publisher reports as acknowledged is in the shard's stream. No producer here publishes
//     without a bounded window of acknowledged messages: without one, 65-75 % of the messages are lost
//     silently at full speed (measured).
//   - A Feed hands on a shard's messages in order, each once, with nothing missing but what was purged.
//     It checks the consumer's sequence at each message, because a connection that is cut and restored
//     by the client library loses what was in flight without a word.
//   - A shard's stream never drops a message by itself: a full one refuses the publisher.
//
// What it does not do: decide who owns a shard, look into a reading, or keep anything for ever.
//
// Advice: pull in bytes. A pull below one message's size would deliver nothing, and more than 64 MB in
// flight to one connection cuts it; so a feed asks for little, and for MinPull where the next message is
// larger, and the shards share several connections, at most 16 each.
package stream
