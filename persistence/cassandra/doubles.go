package cassandra

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gocql/gocql"
)

// doubles is a frozen<list<double>> that is read. The driver would take it apart by reflection, value by value.
// On the wire: the number of elements, then for each its length (8) and its bits; all big-endian.
type doubles []float64

const doubleOnWire = 4 + 8

// UnmarshalCQL reuses the slice.
func (d *doubles) UnmarshalCQL(_ gocql.TypeInfo, b []byte) error {
	*d = (*d)[:0]
	if len(b) == 0 {
		return nil
	}
	if len(b) < 4 || (len(b)-4)%doubleOnWire != 0 || int64(binary.BigEndian.Uint32(b)) != int64((len(b)-4)/doubleOnWire) {
		return fmt.Errorf("%d bytes are no list of doubles", len(b))
	}
	for b = b[4:]; len(b) > 0; b = b[doubleOnWire:] {
		if binary.BigEndian.Uint32(b) != 8 {
			return fmt.Errorf("a list of doubles has an element of %d bytes", int32(binary.BigEndian.Uint32(b)))
		}
		*d = append(*d, math.Float64frombits(binary.BigEndian.Uint64(b[4:])))
	}
	return nil
}
