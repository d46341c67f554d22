package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// openProfiles serves profiles of the program, if that is wanted, to this machine only.
func (n *node) openProfiles() error {
	if n.cfg.Profiles == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(n.cfg.Profiles)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("debug-pprof is for this machine only and %q is no loopback address: use 127.0.0.1:6060", n.cfg.Profiles)
	}
	listener, err := net.Listen("tcp", n.cfg.Profiles)
	if err != nil {
		return fmt.Errorf("listen for debug-pprof: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	n.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("profiles are not served any more", "error", err)
		}
	})
	n.closing(func() { _ = server.Close() }) // nothing waits for an answer of it
	return nil
}
