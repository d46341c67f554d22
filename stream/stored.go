package stream

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/wellhead/wellhead/messages"
)

// maxGaps bounds the gaps in one stored message. Those beyond are left out, and with them everything
// above the last one told: it counts as not known yet.
const maxGaps = 64

// Stored says how far a producer's batches of one site and shard are in the archive.
type Stored struct {
	Shard   messages.Shard
	Run     uint64
	Through uint64      // highest producer sequence with all before it stored
	Gaps    [][2]uint64 // stretches above Through that are missing, both ends included, ascending
}

// storedJSON is its form on the wire: the run as 16 hexadecimal digits, because it does not fit into a
// JavaScript number.
type storedJSON struct {
	Shard   messages.Shard `json:"shard"`
	Run     string         `json:"run"`
	Through uint64         `json:"through"`
	Gaps    [][2]uint64    `json:"gaps,omitempty"`
}

// MarshalJSON gives the form on the wire, with at most 64 gaps.
func (s Stored) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedJSON{
		Shard: s.Shard, Run: fmt.Sprintf("%016x", s.Run), Through: s.Through, Gaps: s.Gaps[:min(len(s.Gaps), maxGaps)],
	})
}

// UnmarshalJSON reads it.
func (s *Stored) UnmarshalJSON(data []byte) error {
	var j storedJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("read stored message: %w", err)
	}
	run, err := strconv.ParseUint(j.Run, 16, 64)
	if err != nil {
		return fmt.Errorf("read stored message: run %q: %w", j.Run, messages.ErrInvalid)
	}
	*s = Stored{Shard: j.Shard, Run: run, Through: j.Through, Gaps: j.Gaps}
	return nil
}

// Has tells whether the sequence is surely stored: up to Through, or between two gaps.
func (s Stored) Has(sequence uint64) bool {
	if sequence <= s.Through {
		return true
	}
	for i, gap := range s.Gaps {
		if sequence <= gap[1] {
			return sequence < gap[0] && i > 0
		}
	}
	// Just after a gap there is a stored one; how far it goes on is not told.
	return len(s.Gaps) > 0 && sequence == s.Gaps[len(s.Gaps)-1][1]+1
}

// Stored tells a producer how far it is stored: stored.{site}.{producer}. Core NATS may lose it; the
// same is answered by request at any time.
func (o *Outside) Stored(site, producer string, shard messages.Shard, run, through uint64, gaps [][2]uint64) {
	data, err := json.Marshal(Stored{Shard: shard, Run: run, Through: through, Gaps: gaps})
	if err != nil {
		return // cannot be: no part of it has a value without a form
	}
	o.Event(messages.StoredSubject(site, producer), data)
}
