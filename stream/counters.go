package stream

import "sync/atomic"

// Counters count what an operator should know of. They only grow.
type Counters struct {
	FeedGaps      atomic.Uint64 // consumer sequences that were missing
	FeedsReopened atomic.Uint64 // consumers made again after a loss
	Resent        atomic.Uint64 // messages published again, without an acknowledgement in time
	MQTTClosed    atomic.Uint64 // MQTT clients closed because a stream was nearly full
	DiskRefusals  atomic.Uint64 // times that publishers were refused because the disk was nearly full
	JetStreamBack atomic.Uint64 // times that JetStream was started again
}

// Counters returns the counters of these streams.
func (s *Streams) Counters() *Counters { return &s.counters }
