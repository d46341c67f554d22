package cassandra

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/contract"
)

// TestTLS speaks to a server with TLS that wants a certificate of its authority, a user and a password.
func TestTLS(t *testing.T) {
	files := t.TempDir()
	testenv.Certificates(t, files)
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// Cassandra wants key and certificate in one file. Without TLS it answers too, for testenv to see that it is up.
	if err := os.WriteFile(filepath.Join(files, "server.pem"), append(read("server.key"), read("server.crt")...), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testenv.OwnCassandra(t, testenv.CassandraOptions{Extra: fmt.Sprintf(`
authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  optional: true
  require_client_auth: true
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: %[1]s/server.pem
  truststore: %[1]s/ca.crt
`, files)})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read("ca.crt"))
	pair, err := tls.X509KeyPair(read("client.crt"), read("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	good := Options{Hosts: []string{server.Addr}, Username: "cassandra", Password: "cassandra", Keyspace: "tls", Shards: contract.Shards, Logger: slog.New(slog.DiscardHandler)}
	good.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
	testenv.Eventually(t, time.Minute, func() error { // the first user is made some seconds after the start
		a, err := Open(t.Context(), good)
		if err == nil {
			a.Close()
		}
		return err
	})
	a := open(t, good)
	appendAll(t, a, persistence.Batch{Shard: 1, Devices: []persistence.DeviceRows{oneRow("dev", now())}})
	if n := countRows(t, a, "dev"); n != 1 {
		t.Errorf("%d rows are there, want 1", n)
	}
	for what, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"an authority that is not known": {func(o *Options) { o.TLS = &tls.Config{Certificates: []tls.Certificate{pair}} }, "authority"},
		"no certificate":                 {func(o *Options) { o.TLS = &tls.Config{RootCAs: pool} }, ""},
		"another password":               {func(o *Options) { o.Password = "wrong" }, "incorrect"},
	} {
		o := good
		test.change(&o)
		if a, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", what, err, test.want)
			if err == nil {
				a.Close()
			}
		}
	}
}
