package tests

import (
	"bufio"
	"context"
	bigendian "encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between the member and Cassandra and spoils what goes through it. It knows the frames of
// Cassandra's native protocol, version 4: a header of 9 bytes (version, flags, stream, opcode, length).
type proxy struct {
	addr, server string

	delay atomic.Int64 // of each piece from the server, ns
	fail  atomic.Int32 // error code that each write is answered with instead; 0 = none

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// What proxy.fail may be: codes of Cassandra's native protocol.
const (
	errServer       = 0x0000 // as with a full disk
	errOverloaded   = 0x1001
	errNothing      = 0
	failServerError = -1 // stands for errServer
)

const (
	frameHeader  = 9
	opcodeError  = 0x00
	opcodeBatch  = 0x0d
	longestFrame = 64 << 20
)

// startProxy listens on a free port until the test ends.
func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), server: server, conns: make(map[net.Conn]struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(t.Context(), client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		all.Wait()
	})
	return p
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// cutFor breaks all connections again and again.
func (p *proxy) cutFor(t *testing.T, span time.Duration) {
	for end := time.Now().Add(span); time.Now().Before(end); {
		p.cut()
		pause(t, 100*time.Millisecond)
	}
}

func (p *proxy) know(c net.Conn, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known {
		p.conns[c] = struct{}{}
	} else {
		delete(p.conns, c)
	}
}

func (p *proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.know(client, true)
	defer p.know(client, false)
	var writing sync.Mutex // answers to the client
	var back sync.WaitGroup
	back.Go(func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if d := p.delay.Load(); d > 0 {
				select {
				case <-time.After(time.Duration(d)):
				case <-ctx.Done():
				}
			}
			// Whole frames only are known on the way there; here an error may come between two pieces of
			// one, so pieces are held together by sending errors only when the server is quiet.
			writing.Lock()
			_, werr := client.Write(buffer[:n])
			writing.Unlock()
			if err != nil || werr != nil {
				return
			}
		}
	})
	p.forward(client, server, &writing)
	server.Close()
	back.Wait()
}

// forward hands on the client's frames, and answers writes itself while they are to fail.
func (p *proxy) forward(client, server net.Conn, writing *sync.Mutex) {
	in := bufio.NewReaderSize(client, 64<<10)
	header := make([]byte, frameHeader)
	for {
		if _, err := io.ReadFull(in, header); err != nil {
			return
		}
		length := int64(bigendian.BigEndian.Uint32(header[5:]))
		if length > longestFrame {
			return
		}
		if code := p.fail.Load(); code != errNothing && header[4] == opcodeBatch {
			if _, err := in.Discard(int(length)); err != nil {
				return
			}
			writing.Lock()
			_, err := client.Write(errorFrame(header, code))
			writing.Unlock()
			if err != nil {
				return
			}
			continue
		}
		if _, err := server.Write(header); err != nil {
			return
		}
		if _, err := io.CopyN(server, in, length); err != nil {
			return
		}
	}
}

// errorFrame answers a request with an error.
func errorFrame(request []byte, code int32) []byte {
	text := "proxy: overloaded"
	if code == failServerError {
		code, text = errServer, "proxy: java.lang.RuntimeException: No space left on device"
	}
	body := bigendian.BigEndian.AppendUint32(nil, uint32(code))
	body = bigendian.BigEndian.AppendUint16(body, uint16(len(text)))
	body = append(body, text...)
	frame := []byte{request[0] | 0x80, 0, request[2], request[3], opcodeError}
	frame = bigendian.BigEndian.AppendUint32(frame, uint32(len(body)))
	return append(frame, body...)
}
