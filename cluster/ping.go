package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// pingMethod is answered on the port of proto.actor's remote, beside it.
const pingMethod = "/wellhead.Cluster/Ping"

// pong answers a ping: any call that proto.actor does not know.
func pong(_ any, stream grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(stream); method != pingMethod {
		return status.Error(codes.Unimplemented, "no such call")
	}
	var empty emptypb.Empty
	if err := stream.RecvMsg(&empty); err != nil {
		return err
	}
	return stream.SendMsg(&empty)
}

// Pinger asks members for a sign of life, on a connection that it keeps for each. All methods may be called
// by many goroutines.
type Pinger struct {
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

// Ping asks the member at an address; ErrNobodyListens when it refuses.
func (p *Pinger) Ping(ctx context.Context, address string, of *Identity) error {
	conn, err := p.conn(address, of)
	if err != nil {
		return fmt.Errorf("ping %s: %w", address, err)
	}
	if err = conn.Invoke(ctx, pingMethod, &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
		return nil
	}
	// grpc tells of a refusal only in words
	l, dialErr := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if errors.Is(dialErr, syscall.ECONNREFUSED) {
		return fmt.Errorf("ping %s: %w", address, ErrNobodyListens)
	} else if dialErr == nil {
		_ = l.Close()
	}
	return fmt.Errorf("ping %s: %w", address, err)
}

func (p *Pinger) conn(address string, of *Identity) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn := p.conns[address]; conn != nil {
		return conn, nil
	}
	secure, err := of.tls()
	if err != nil {
		return nil, err
	}
	often := backoff.DefaultConfig
	often.BaseDelay, often.MaxDelay = 100*time.Millisecond, probeEvery
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: often, MinConnectTimeout: silentFor / 2}))
	if err != nil {
		return nil, err
	}
	if p.conns == nil {
		p.conns = map[string]*grpc.ClientConn{}
	}
	p.conns[address] = conn
	return conn, nil
}

// Keep closes the connections to all but these addresses.
func (p *Pinger) Keep(addresses map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, conn := range p.conns {
		if !addresses[address] {
			_ = conn.Close() // nothing is under way on it
			delete(p.conns, address)
		}
	}
}
