package testenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// What is used of CQL's native protocol, version 4.
const (
	requestV4, responseV4              = 0x04, 0x84
	opError, opStartup, opReady        = 0x00, 0x01, 0x02
	opOptions, opSupported             = 0x05, 0x06
	opQuery, opResult                  = 0x07, 0x08
	consistencyQuorum                  = 0x0004
	statementWithin                    = 10 * time.Second
	maxFrame                    uint32 = 1 << 20
)

// Execute runs one CQL statement whose answer is of no interest, such as a DELETE: what a hand that
// should not be there does to a store. Tables are named with their keyspace. It takes at most 10 s.
func (s *CassandraServer) Execute(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, statementWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("connect to cassandra: %w", err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	startup := []byte{0, 1} // a map of one entry
	for _, text := range []string{"CQL_VERSION", "3.0.0"} {
		startup = append(binary.BigEndian.AppendUint16(startup, uint16(len(text))), text...)
	}
	if err := exchange(conn, opStartup, startup, opReady); err != nil {
		return fmt.Errorf("greet cassandra: %w", err)
	}
	query := append(binary.BigEndian.AppendUint32(nil, uint32(len(statement))), statement...)
	query = append(binary.BigEndian.AppendUint16(query, consistencyQuorum), 0) // no flags
	if err := exchange(conn, opQuery, query, opResult); err != nil {
		return fmt.Errorf("execute %q: %w", statement, err)
	}
	return nil
}

// exchange sends one request and wants a certain kind of answer.
func exchange(conn io.ReadWriter, op byte, body []byte, want byte) error {
	frame := binary.BigEndian.AppendUint32([]byte{requestV4, 0, 0, 0, op}, uint32(len(body)))
	if _, err := conn.Write(append(frame, body...)); err != nil {
		return err
	}
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	size := binary.BigEndian.Uint32(head[5:])
	if head[0] != responseV4 || size > maxFrame {
		return fmt.Errorf("strange answer: % x", head)
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	switch {
	case head[4] == want:
		return nil
	case head[4] == opError && size > 6: // a code of 4 bytes, then the text with its length
		return fmt.Errorf("cassandra says %x: %s", answer[:4], bytes.ToValidUTF8(answer[6:], nil))
	}
	return fmt.Errorf("strange answer: % x", head)
}
