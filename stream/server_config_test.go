package stream

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

var update = flag.Bool("update", false, "write the shipped configurations anew")

// TestShippedServerConfigs holds deploy/nats to the code that makes the embedded server's mapping and
// permissions; -update writes the files anew.
func TestShippedServerConfigs(t *testing.T) {
	for name, o := range map[string]ServerConfigOptions{
		"single.conf": {Sites: []string{"plant-7"}, Listen: "127.0.0.1:4222", StoreDir: "/var/lib/nats"},
		"cluster.conf": {
			Sites: []string{"plant-7"}, Listen: "0.0.0.0:4222", StoreDir: "/var/lib/nats", TLS: true,
			Cluster: []string{"nats-1:6222", "nats-2:6222", "nats-3:6222"},
		},
		"compose.conf": { // in the network of deploy/compose.yaml, where nobody else is
			Sites: []string{"demo"}, Listen: "0.0.0.0:4222", StoreDir: "/data",
			Cluster: []string{"nats-1:6222", "nats-2:6222", "nats-3:6222"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "deploy", "nats", name)
			want, err := ServerConfig(o)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("make generate writes it anew; -want +got:\n%s", diff)
			}
		})
	}
}

func TestServerConfigRefuses(t *testing.T) {
	for want, o := range map[string]ServerConfigOptions{
		"must be 1 to":      {Shards: 5000},
		"take 3 or 5":       {Cluster: []string{"a:1", "b:1"}},
		"write host:port":   {Cluster: []string{"a", "b", "c"}},
		"would have one":    {Sites: []string{"a-b", "A_B"}},
		"the site name":     {Sites: []string{"a b"}},
		"the sites a and a": {Sites: []string{"a", "a"}},
	} {
		if _, err := ServerConfig(o); !errors.Is(err, messages.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want it to say %q", o, err, want)
		}
	}
}

// TestServerConfigPasswords tries what the configuration's head says of its variables, in a real
// server's environment.
func TestServerConfigPasswords(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("long enough"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_SYS_PASSWORD", "plain")
	t.Setenv(PasswordVariable(""), "'"+string(hash)+"'")
	t.Setenv(PasswordVariable("site"), `"7E55"`)
	address := freeAddress(t)
	config, err := ServerConfig(ServerConfigOptions{Shards: 8, Sites: []string{"site"}, Listen: address, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server := testenv.NATS(t, address, string(config))
	o := outsideOptions(t, server)
	o.Password = "long enough"
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	c, err := Dial(shortly(t), DialOptions{URL: o.URL, User: "site", Password: "7E55", Logger: quietLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	log, err := os.ReadFile(filepath.Join(server.Dir, "nats.log"))
	if err != nil || bytes.Contains(log, []byte("[ERR]")) {
		t.Errorf("the server complains: %s, %v", log, err)
	}
}
