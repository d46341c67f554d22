package main

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// memberWithin bounds how long a member may take to start and to end.
const memberWithin = 60 * time.Second

// startMember is the script command `member`: it starts a member on free loopback ports with its data in
// $WORK/data, waits until it is ready, and sets $HTTP and $NATS.
func startMember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: member")
	}
	httpAddress, natsAddress := loopback(ts), loopback(ts)
	command := exec.Command("wellhead", "serve", "--data", filepath.Join(ts.Getenv("WORK"), "data"),
		"--http", httpAddress, "--nats", natsAddress, "--mqtt", loopback(ts))
	command.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("WORK")}
	ts.Check(command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	ts.Defer(func() {
		// an error means that it has ended already, which ended tells
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				ts.Logf("the member ended with: %v", err)
			}
		case <-time.After(memberWithin):
			_ = command.Process.Kill()
			ts.Logf("the member did not end within %v", memberWithin)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), memberWithin)
	defer cancel()
	for !ready(ctx, "http://"+httpAddress+"/readyz") {
		select {
		case err := <-ended:
			ended <- err
			ts.Fatalf("the member ended before it was ready: %v", err)
		case <-ctx.Done():
			ts.Fatalf("the member was not ready within %v", memberWithin)
		case <-time.After(50 * time.Millisecond):
		}
	}
	ts.Setenv("HTTP", "http://"+httpAddress)
	ts.Setenv("NATS", "nats://"+natsAddress)
}

func ready(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// loopback is an address here that nobody listened on just now.
func loopback(ts *testscript.TestScript) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer listener.Close()
	return listener.Addr().String()
}
