package testenv

import (
	"bytes"
	"sync"
)

// Output is what a program or a log has written, and can be read while that goes on. The zero value is ready; it
// may be used by many goroutines at once.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
