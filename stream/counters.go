package stream

import "sync/atomic"

// Counters count what an operator should know of. They only grow.
type Counters struct {
	FeedGaps      atomic.Uint64 // consumer sequences that were missing
	FeedsReopened atomic.Uint64 // consumers made again after a loss
	Resent        atomic.Uint64 // messages published again, without an acknowledgement in time
	MQTTClosed    atomic.Uint64 // MQTT clients closed because a stream was nearly full
	FlowCut       atomic.Uint64 // connections cut because they sent more than a site may have unstored
	DiskRefusals  atomic.Uint64 // times that publishers were refused because the disk was nearly full
	JetStreamBack atomic.Uint64 // times that JetStream was started again
}

// Disk is the condition of the embedded server's disk, as it was a moment ago.
type Disk struct {
	Free, Total uint64 // bytes; 0, 0 = not known
	Refusing    bool   // publishers are refused for want of room
	Off         bool   // JetStream has shut itself down, or a stream takes nothing more after a failed write
}

// Disk returns the condition of the embedded server's disk; the zero Disk for an outside server.
func (s *Streams) Disk() Disk {
	if d := s.disk.Load(); d != nil {
		return *d
	}
	return Disk{}
}

// Counters returns the counters of these streams.
func (s *Streams) Counters() *Counters { return &s.counters }
