package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/wellhead/wellhead/internal/config"
)

// tlsOf reads the files that say how a store is reached with TLS; nil when it is reached without. name is what
// the keys of the configuration begin with.
func tlsOf(name string, t config.TLS) (*tls.Config, error) {
	if !t.On {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("%s.tls.ca: %w", name, err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s.tls.ca: %s holds no certificate: it must be a PEM file with the authority's", name, t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("%s.tls.cert and %s.tls.key: %w", name, name, err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
