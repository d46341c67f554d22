package messages

import (
	"fmt"
	"strings"
)

// RejectKind says in a word why something is in rejects. The zero value stands for one that an older
// version kept without saying.
type RejectKind uint8

// The kinds of rejects.
const (
	RejectOther       RejectKind = iota
	RejectUndecodable            // the message as a whole
	RejectInvalid                // a reading that breaks the rules, in a message that does not
	RejectTime                   // a reading whose event time is too far from its arrival
	RejectWrongShard             // a device that belongs to another shard
	RejectPanic                  // its device failed on it each time it was tried
	RejectFatal                  // the process ended each time it was applied
	RejectArchive                // the archive will never take it
	RejectStray                  // no shard takes its subject
	rejectKinds
)

// RejectKinds is the number of kinds.
const RejectKinds = int(rejectKinds)

var rejectKindNames = [RejectKinds]string{
	"other", "undecodable", "invalid", "time", "wrong_shard", "panic", "fatal", "archive", "stray",
}

// String is the word that stands in headers, answers and metrics.
func (k RejectKind) String() string { return rejectKindNames[k] }

// ParseRejectKind is the inverse of String; ok is false, and the kind RejectOther, for an unknown word.
func ParseRejectKind(s string) (kind RejectKind, ok bool) {
	for k, name := range rejectKindNames {
		if name == s {
			return RejectKind(k), true
		}
	}
	return RejectOther, false
}

// Reject is what could not be decoded or applied, with the reason and where it came from.
type Reject struct {
	Shard    Shard
	Sequence uint64 // stream sequence of the message; with Index the identity of the reject
	Index    int    // reading within the message; -1 = the message as a whole; see RefusedIndex
	Subject  string // where it was published (mapped)
	Device   DeviceID
	Arrival  int64 // ms
	Kind     RejectKind
	Reason   string
	Data     []byte // the message's payload, or the one reading as JSON
	Type     string // content type of Data
}

// Places in a message are numbered from here on when they are not those of the readings handed on.
const (
	firstRefused = 1_000_000 // readings that the decoder left out
	firstStored  = 2_000_000 // rows that the archive refused
)

// RefusedIndex is the Index of a reading that the decoder left out. The reject's Data is the whole message then.
func RefusedIndex(r RefusedReading) int { return firstRefused + r.Block*MaxReadings + r.Reading }

// RowIndex is the Index of a row with that event time that the archive refused.
func RowIndex(time int64) int { return firstStored + int(time&0xfffff) }

// OneReading tells whether Data is one reading as JSON, not the message that it came with.
func (r *Reject) OneReading() bool {
	return r.Index >= 0 && r.Index < firstRefused || r.Index >= firstStored
}

// KeptReject is a reject in the stream of rejects.
type KeptReject struct {
	Reject
	ID      uint64       // its place in that stream, from 1
	Retried *RejectRetry // nil = it was not
}

// RejectRetry says what became of a reject's retry.
type RejectRetry struct {
	At       int64  // ms
	Subject  string // where it was published
	Sequence uint64 // stream sequence that it got there; 0 = it is under way, or nobody knows whether it arrived
	Repaired bool   // with another payload
}

// Matches tells whether the reject is of that kind, or has the words in its reason; an empty text matches all.
func (r *Reject) Matches(reason string) bool {
	return r.Kind.String() == reason || strings.Contains(r.Reason, reason)
}

// Retry returns what to publish so that the reject gets its place in the order of a shard anew: the
// payload is the original's, or, when it is not nil, the repaired one. A reading without a time gets the
// reject's arrival time: published twice, it is the same reading. Errors wrap ErrInvalid.
func (r *Reject) Retry(shards int, repaired []byte, contentType string) (subject string, data []byte, newType string, err error) {
	if r.Kind == RejectStray {
		return "", nil, "", fmt.Errorf("%w: no shard takes %s, so it cannot be sent there again: publish it to the subject it was meant for", ErrInvalid, r.Subject)
	}
	data, newType = r.Data, r.Type
	if repaired != nil {
		data, newType = repaired, contentType
	}
	subject = r.Subject
	if r.OneReading() && r.Device.Site != "" && r.Device.Device != "" {
		subject = ShardReadingsSubject(ShardOf(r.Device, shards), r.Device)
	}
	parsed, err := ParseShardSubject(subject)
	if err != nil {
		return "", nil, "", fmt.Errorf("the reject's origin: %w", err)
	}
	if len(data) == 0 {
		return "", nil, "", fmt.Errorf("%w: the message is empty: send a repaired one", ErrInvalid)
	}
	if len(data) > MaxMessage {
		return "", nil, "", fmt.Errorf("%w: the message has %d bytes, at most %d are allowed", ErrInvalid, len(data), MaxMessage)
	}
	switch parsed.Kind {
	case KindControl, KindSiteControl:
		if repaired != nil {
			_, err = DecodeControl(newType, data)
		}
	default:
		data, newType, err = r.retryReadings(parsed, data, newType, repaired != nil)
	}
	return subject, data, newType, err
}

// retryReadings looks at a message with readings before it is sent again. What people repaired must be
// good now; the original may have become good by a repair of the program, so it is sent whatever it is.
func (r *Reject) retryReadings(subject ShardSubject, data []byte, contentType string, repaired bool) ([]byte, string, error) {
	var dec Decoder
	var b Batch
	if err := dec.Message(contentType, subject, data, &b); err != nil {
		if repaired {
			return nil, "", fmt.Errorf("the repaired payload: %w", err)
		}
		return data, contentType, nil
	}
	if b.Producer != "" && r.Index >= 0 {
		return nil, "", fmt.Errorf("%w: all but this reading of the batch was applied, and a batch of producer %s, run %016x, sequence %d "+
			"is not applied twice: send the repaired reading alone, in a batch without a producer", ErrInvalid, b.Producer, b.Run, b.Sequence)
	}
	if refused := dec.Refused(); repaired && len(refused) > 0 {
		return nil, "", fmt.Errorf("%w: the repaired payload: block %d, reading %d: %s", ErrInvalid, refused[0].Block, refused[0].Reading, refused[0].Reason)
	}
	if subject.Kind != KindReadings || len(b.Blocks) != 1 || len(b.Blocks[0].Readings) != 1 {
		return data, contentType, nil
	}
	if reading := b.Blocks[0].Readings[0]; reading.Time == NoTime {
		reading.Time = r.Arrival
		return AppendReadingJSON(nil, reading), TypeJSON, nil
	}
	return data, contentType, nil
}
