package testenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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
	skipMetadata                       = 0x02 // a flag: the answer need not name its columns
	flagWarning                        = 0x08 // a flag: warnings stand before the answer
	resultRows                         = 2
	statementWithin                    = 10 * time.Second
	maxFrame                    uint32 = 1 << 20
)

// Execute runs one CQL statement whose answer is of no interest, such as a DELETE: what a hand that
// should not be there does to a store. Tables are named with their keyspace. It takes at most 10 s.
func (s *CassandraServer) Execute(ctx context.Context, statement string) error {
	_, err := s.ask(ctx, statement)
	return err
}

// Count runs a SELECT of one number, such as count(*), and returns the number. Where there are millions of
// rows, count ranges of tokens one after the other. It takes at most 10 s.
func (s *CassandraServer) Count(ctx context.Context, statement string) (int64, error) {
	answer, err := s.ask(ctx, statement)
	if err != nil {
		return 0, err
	}
	// kind, flags, columns and rows; then one value with its length
	var head struct{ Kind, Flags, Columns, Rows, Length int32 }
	var n int64
	in := bytes.NewReader(answer)
	if err := errors.Join(binary.Read(in, binary.BigEndian, &head), binary.Read(in, binary.BigEndian, &n)); err != nil ||
		head.Kind != resultRows || head.Columns != 1 || head.Rows != 1 || head.Length != 8 {
		return 0, fmt.Errorf("execute %q: no single number in the answer % x", statement, answer)
	}
	return n, nil
}

// ask runs one statement and returns the body of its result.
func (s *CassandraServer) ask(ctx context.Context, statement string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, statementWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to cassandra: %w", err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	startup := []byte{0, 1} // a map of one entry
	for _, text := range []string{"CQL_VERSION", "3.0.0"} {
		startup = append(binary.BigEndian.AppendUint16(startup, uint16(len(text))), text...)
	}
	if _, err := exchange(conn, opStartup, startup, opReady); err != nil {
		return nil, fmt.Errorf("greet cassandra: %w", err)
	}
	query := append(binary.BigEndian.AppendUint32(nil, uint32(len(statement))), statement...)
	query = append(binary.BigEndian.AppendUint16(query, consistencyQuorum), skipMetadata)
	answer, err := exchange(conn, opQuery, query, opResult)
	if err != nil {
		return nil, fmt.Errorf("execute %q: %w", statement, err)
	}
	return answer, nil
}

// exchange sends one request, wants a certain kind of answer, and returns its body.
func exchange(conn io.ReadWriter, op byte, body []byte, want byte) ([]byte, error) {
	frame := binary.BigEndian.AppendUint32([]byte{requestV4, 0, 0, 0, op}, uint32(len(body)))
	if _, err := conn.Write(append(frame, body...)); err != nil {
		return nil, err
	}
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	size := binary.BigEndian.Uint32(head[5:])
	if head[0] != responseV4 || size > maxFrame {
		return nil, fmt.Errorf("strange answer: % x", head)
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if head[1]&flagWarning != 0 {
		var err error
		if answer, err = afterWarnings(answer); err != nil {
			return nil, err
		}
	}
	switch {
	case head[4] == want:
		return answer, nil
	case head[4] == opError && len(answer) > 6: // a code of 4 bytes, then the text with its length
		return nil, fmt.Errorf("cassandra says %x: %s", answer[:4], bytes.ToValidUTF8(answer[6:], nil))
	}
	return nil, fmt.Errorf("strange answer: % x", head)
}

// afterWarnings returns what follows the warnings that a body begins with: their number, then each with its length.
func afterWarnings(body []byte) ([]byte, error) {
	in := bytes.NewReader(body)
	var count, length uint16
	err := binary.Read(in, binary.BigEndian, &count)
	for ; count > 0 && err == nil; count-- {
		if err = binary.Read(in, binary.BigEndian, &length); err == nil {
			_, err = io.CopyN(io.Discard, in, int64(length))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the answer ends in its warnings: %w", err)
	}
	return body[len(body)-in.Len():], nil
}
