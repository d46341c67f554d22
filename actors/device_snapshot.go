package actors

import "github.com/wellhead/wellhead/messages"

// AppendSnapshot appends the device's state: versioned, compact, with a checksum. Equal states give equal bytes.
func (d *Device) AppendSnapshot(dst []byte) []byte { panic("not yet") }

// DecodeSnapshot reads what AppendSnapshot wrote; the settings in force come with it (see
// SetSettings). Errors wrap messages.ErrInvalid; the data is not kept.
func DecodeSnapshot(data []byte) (*Device, error) { panic("not yet") }

// PeekSnapshot reads only what the shard's column table needs: the line, the stream sequence and the due time (Due).
func PeekSnapshot(data []byte) (row messages.DeviceRow, sequence uint64, due int64, err error) {
	panic("not yet")
}
