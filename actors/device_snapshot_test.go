package actors

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/wellhead/wellhead/messages"
)

// peek reads only the head of a snapshot, as a start does with devices that are not due.
func peek(data []byte) (SnapshotHead, error) {
	var r snapshotReader
	return r.read(data, math.MaxInt64)
}

func TestSnapshotIsSmall(t *testing.T) {
	if got := len(benchDevices(1, 200)[0].AppendSnapshot(nil)); got > 1024 {
		t.Errorf("60 readings of 4 decimal channels: got %d bytes, want at most 1024", got)
	}
}

func TestSnapshotThatIsDamagedIsInvalid(t *testing.T) {
	data := benchDevices(1, 20)[0].AppendSnapshot(nil)
	for i := range data {
		for name, bad := range map[string][]byte{"cut": data[:i], "changed": append(append([]byte(nil), data[:i]...), append([]byte{data[i] ^ 0x40}, data[i+1:]...)...)} {
			if _, err := DecodeSnapshot(bad); !errors.Is(err, messages.ErrInvalid) {
				t.Fatalf("%s at %d: got %v, want invalid", name, i, err)
			}
			if _, err := peek(bad); !errors.Is(err, messages.ErrInvalid) {
				t.Fatalf("peek, %s at %d: got %v, want invalid", name, i, err)
			}
		}
	}
}

func TestSnapshotOfANewerVersionSaysSo(t *testing.T) {
	data := NewDevice(testID, &messages.Settings{}).AppendSnapshot(nil)
	data[0] = snapshotVersion + 1
	data = data[:len(data)-4]
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	_, err := DecodeSnapshot(data)
	if want := "device snapshot of version 3, known are 1 to 2: invalid"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// FuzzSnapshot puts a right checksum behind anything: decoding must not panic, and what decodes must
// be usable and come back the same.
func FuzzSnapshot(f *testing.F) {
	for _, n := range []int{0, 1, 70} {
		data := benchDevices(1, n)[0].AppendSnapshot(nil)
		f.Add(data[:len(data)-4])
	}
	noted := NewDevice(testID, &messages.Settings{Channels: []messages.Channel{{Name: "p", Unit: "bar"}}})
	in := at(1, 9000, 1000, 2000)
	in[0].Reading.Note, in[1].Reading.Quality = "note", []uint8{1}
	in[1].Reading.Values = []float64{1e300, 1e-300}
	var out Outcome
	noted.Apply(in, &Limits{}, &out)
	data := noted.AppendSnapshot(nil)
	f.Add(data[:len(data)-4])
	f.Fuzz(func(t *testing.T, data []byte) {
		data = binary.LittleEndian.AppendUint32(append([]byte(nil), data...), crc32.Checksum(data, castagnoli))
		head, _ := peek(data)
		d, err := DecodeSnapshot(data)
		if err != nil {
			return
		}
		if head.Gone != d.gone() {
			t.Fatalf("peek: got gone %v, want %v", head.Gone, d.gone())
		}
		first := d.AppendSnapshot(nil)
		again, err := DecodeSnapshot(first)
		if err != nil {
			t.Fatalf("what was decoded cannot be read again: %v", err)
		}
		if second := again.AppendSnapshot(nil); string(first) != string(second) {
			t.Fatalf("got %x, want %x", second, first)
		}
		d.State()
		d.OpenRollups()
		var out Outcome
		d.Apply(at(d.Sequence()+1, d.lastSeen, 1000, d.newest, d.newest+1, 5_000_000), &Limits{}, &out)
	})
}
