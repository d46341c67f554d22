package pebble

import (
	"sync"

	"github.com/wellhead/wellhead/persistence/chunk"
)

// encoder is the codec with room for a key and a value beside it.
type encoder struct {
	chunk.Encoder
	key, value []byte
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// release gives the encoder back; what its rows refer to is the caller's.
func (e *encoder) release() {
	e.Block.Reset()
	encoders.Put(e)
}
