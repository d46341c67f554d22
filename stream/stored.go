package stream

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/wellhead/wellhead/messages"
)

// maxGaps bounds the gaps in one stored message. Those beyond are left out, and Highest is then below the
// first of them: what is above it counts as not known yet.
const maxGaps = 64

// Stored says how far a producer's batches of one site and shard are in the archive.
type Stored struct {
	Shard   messages.Shard
	Run     uint64
	Through uint64      // highest producer sequence with all before it stored
	Highest uint64      // highest producer sequence that is told of: all up to it is stored, but the gaps
	Gaps    [][2]uint64 // stretches between Through and Highest that are missing, both ends included, ascending
}

// storedJSON is its form on the wire: the run as 16 hexadecimal digits, because it does not fit into a
// JavaScript number.
type storedJSON struct {
	Shard   messages.Shard `json:"shard"`
	Run     string         `json:"run"`
	Through uint64         `json:"through"`
	Highest uint64         `json:"highest"`
	Gaps    [][2]uint64    `json:"gaps,omitempty"`
}

// MarshalJSON gives the form on the wire, with at most 64 gaps.
func (s Stored) MarshalJSON() ([]byte, error) {
	if len(s.Gaps) > maxGaps {
		s.Highest, s.Gaps = s.Gaps[maxGaps][0]-1, s.Gaps[:maxGaps]
	}
	return json.Marshal(storedJSON{
		Shard: s.Shard, Run: fmt.Sprintf("%016x", s.Run), Through: s.Through, Highest: s.Highest, Gaps: s.Gaps,
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
	*s = Stored{Shard: j.Shard, Run: run, Through: j.Through, Highest: j.Highest, Gaps: j.Gaps}
	return nil
}

// Has tells whether the sequence is surely stored: up to Highest, and in no gap.
func (s Stored) Has(sequence uint64) bool {
	if sequence <= s.Through {
		return true
	}
	for _, gap := range s.Gaps {
		if sequence >= gap[0] && sequence <= gap[1] {
			return false
		}
	}
	return sequence <= s.Highest
}

// storedRequest is what a question for what is stored may say.
type storedRequest struct {
	Run string `json:"run,omitempty"` // 16 hexadecimal digits
}

// ParseStoredRequest reads the run that a QueryStored asks for, 0 = all that the shards hold.
func ParseStoredRequest(data []byte) (run uint64, err error) {
	if len(data) == 0 {
		return 0, nil
	}
	var r storedRequest
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, fmt.Errorf("%w: the request is not like {\"run\":\"00f3a94b11c2d7e5\"}: %v", messages.ErrInvalid, err)
	}
	if r.Run == "" {
		return 0, nil
	}
	if run, err = strconv.ParseUint(r.Run, 16, 64); err != nil || run == 0 {
		return 0, fmt.Errorf("%w: run %q is not 16 hexadecimal digits, or is 0", messages.ErrInvalid, r.Run)
	}
	return run, nil
}

// Stored tells a producer how far it is stored: stored.{site}.{producer}. Core NATS may lose it; the
// same is answered by request at any time.
func (o *Outside) Stored(site, producer string, s Stored) {
	data, err := json.Marshal(s)
	if err != nil {
		return // cannot be: no part of it has a value without a form
	}
	o.Event(messages.StoredSubject(site, producer), data)
}
