package stream

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

var (
	// ErrDenied means that the server wants a credential, or another one.
	ErrDenied = errors.New("the server does not take this credential")
	// ErrUnreachable means that no server answers, or none that we can trust.
	ErrUnreachable = errors.New("no stream server can be used there")
)

// TLS names the PEM files of a connection with TLS; the zero value trusts what the system trusts and
// shows no certificate. Whether TLS is used is up to the server, and to a URL with tls:// or wss://.
type TLS struct {
	// CA has the certificates of the authorities that are trusted; empty = the system's.
	CA string
	// Cert and Key are what this side shows; both empty = nothing.
	Cert, Key string
}

// options translates the files; each must be there.
func (t TLS) options() ([]nats.Option, error) {
	for _, file := range []string{t.CA, t.Cert, t.Key} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("TLS file: %w", err)
		}
	}
	var out []nats.Option
	if t.CA != "" {
		out = append(out, nats.RootCAs(t.CA))
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("TLS: a client certificate and its key must be given together")
	}
	if t.Cert != "" {
		out = append(out, nats.ClientCert(t.Cert, t.Key))
	}
	return out, nil
}

// dial gives up when ctx ends; the library's own bound is connectTimeout.
func dial(ctx context.Context, url string, options []nats.Option) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(url, options...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// proofOptions translates who connects, and returns the user's name where it is known: a site's, or a member's.
func proofOptions(user, password, file string) (string, []nats.Option, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", nil, fmt.Errorf("read credential file: %w", err)
		}
		if bytes.Contains(data, []byte("BEGIN NATS USER JWT")) {
			return "", []nats.Option{nats.UserCredentials(file)}, nil
		}
		if user, password, err = ReadCredentialFile(bytes.NewReader(data)); err != nil {
			return "", nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if user == "" {
		return "", nil, nil
	}
	return user, []nats.Option{nats.UserInfo(user, password)}, nil
}

// names are what the user calls what he can set: keys of the configuration, or flags.
type names struct{ ca, cert, proof, server string }

var (
	keyNames = names{
		ca: "stream.tls.ca", cert: "stream.tls.cert and stream.tls.key", server: "is the NATS server running there?",
		proof: "set stream.user and stream.password, or stream.creds, to a user of its configuration",
	}
	flagNames = names{
		ca: "--tls-ca", cert: "--tls-cert and --tls-key", server: "is `wellhead serve` running there?",
		proof: "give the site's with --creds FILE; `wellhead site add` makes one, or the operator of an outside NATS server",
	}
)

// explainConnect says what is wrong with a connection, where, and what to do. The error wraps ErrDenied
// or ErrUnreachable.
func explainConnect(url string, n names, err error) error {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	text := err.Error()
	say := func(kind error, what string) error {
		return fmt.Errorf("connect to %s: %w: %w: %s", BareURLs(url), kind, err, what)
	}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return say(ErrDenied, n.proof)
	case errors.As(err, &authority):
		return say(ErrUnreachable, "its certificate is signed by an authority that is not known here: set "+n.ca+" to the file with that authority's certificate")
	case errors.As(err, &host):
		return say(ErrUnreachable, "its certificate is for another name: connect by a name that stands in it")
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"), strings.Contains(text, "unknown certificate authority"):
		return say(ErrUnreachable, "it wants a client certificate of its authority: set "+n.cert)
	case strings.Contains(text, "closed by remote after TLS handshake"): // the alert that says why may be lost (TLS 1.3)
		return say(ErrUnreachable, "it probably wants a client certificate of its authority: set "+n.cert)
	case errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return say(ErrUnreachable, "the server and the URL do not agree on TLS: write tls://host:port when the server has TLS, nats://host:port when it has not")
	}
	return say(ErrUnreachable, n.server)
}

// BareURLs is the URLs, separated by commas, without what stands before an @: nobody's password is printed.
func BareURLs(urls string) string {
	parts := strings.Split(urls, ",")
	for i, u := range parts {
		scheme, rest, ok := strings.Cut(u, "://")
		if at := strings.LastIndexByte(rest, '@'); ok && at >= 0 {
			parts[i] = scheme + "://" + rest[at+1:]
		}
	}
	return strings.Join(parts, ",")
}
