package stream

import (
	"bytes"
	"fmt"
	"net"
	"strings"

	"github.com/wellhead/wellhead/messages"
)

// ServerConfigOptions say for which outside server a configuration is written.
type ServerConfigOptions struct {
	// Shards is the number of shards that the subject mapping spreads devices over; 0 = 64.
	Shards int
	// Sites get a user each, who may send for his own site only.
	Sites []string
	// Listen is the address for clients; empty = 127.0.0.1:4222.
	Listen string
	// StoreDir is where JetStream keeps its files; empty = ./nats-data.
	StoreDir string
	// Cluster holds the host:port of each server's routes when they are three or five; empty = one server.
	Cluster []string
	// ClusterListen is the address for routes; empty = 0.0.0.0 and the port of the first of Cluster.
	ClusterListen string
	// TLS has clients and routes use TLS, with the files server.crt, server.key and ca.crt.
	TLS bool
}

// PasswordVariable is the variable in a configuration of ServerConfig that holds the password of a site,
// or of the members when site is empty.
func PasswordVariable(site string) string {
	if site == "" {
		return "WELLHEAD_MEMBER_PASSWORD"
	}
	return "WELLHEAD_SITE_" + strings.ReplaceAll(strings.ToUpper(site), "-", "_")
}

// ServerConfig returns the configuration of an outside NATS server for Wellhead: JetStream, the subject
// mapping and the permissions that the embedded server has, from the same code. It holds no secret:
// passwords are variables. Errors wrap messages.ErrInvalid.
func ServerConfig(o ServerConfigOptions) ([]byte, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("nats configuration: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# A NATS server (2.11 or later) for Wellhead with %d shards. Made by `wellhead config nats`.\n", o.Shards)
	b.WriteString("# Each $WELLHEAD_… is a variable of the server's environment: a password, in double quotes unless it\n" +
		"# begins with a letter, or bcrypt of it in single quotes.\n")
	if len(o.Cluster) > 0 {
		b.WriteString("# The same file serves each server; $NATS_NAME differs.\n")
		b.WriteString("server_name: $NATS_NAME\n")
	} else {
		b.WriteString("server_name: wellhead-nats\n")
	}
	fmt.Fprintf(&b, "listen: %q\n", o.Listen)
	fmt.Fprintf(&b, "max_payload: %d\n", messages.MaxMessage+maxHeader)
	b.WriteString("write_deadline: \"10s\"\n")
	b.WriteString("# the cache holds fewer subjects than a fleet has\ndisable_sublist_cache: true\n")
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  # power loss may take what was acknowledged after the last sync and is not stored yet\n  sync_interval: \"1s\"\n}\n", o.StoreDir)
	if o.TLS {
		b.WriteString("tls {\n  cert_file: \"server.crt\"\n  key_file: \"server.key\"\n  ca_file: \"ca.crt\"\n  # with true clients must show a certificate of that authority too\n  verify: false\n}\n")
	}
	if len(o.Cluster) > 0 {
		o.writeCluster(&b)
	}
	o.writeAccounts(&b)
	return b.Bytes(), nil
}

// complete fills in defaults and checks.
func (o *ServerConfigOptions) complete() error {
	if o.Shards == 0 {
		o.Shards = 64
	}
	if o.Shards < 1 || o.Shards > maxShards {
		return fmt.Errorf("%w: %d shards: must be 1 to %d", messages.ErrInvalid, o.Shards, maxShards)
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:4222"
	}
	if o.StoreDir == "" {
		o.StoreDir = "./nats-data"
	}
	if n := len(o.Cluster); n == 1 || n == 2 || n == 4 {
		return fmt.Errorf("%w: a cluster of %d servers: with one of them gone there is no majority, or nothing is won; take 3 or 5", messages.ErrInvalid, n)
	}
	for _, route := range o.Cluster {
		_, port, err := net.SplitHostPort(route)
		if err != nil {
			return fmt.Errorf("%w: route %q: write host:port, like nats-1:6222", messages.ErrInvalid, route)
		}
		if o.ClusterListen == "" {
			o.ClusterListen = "0.0.0.0:" + port
		}
	}
	variables := map[string]string{}
	for _, site := range o.Sites {
		if err := messages.CheckName("site", site); err != nil {
			return err
		}
		v := PasswordVariable(site)
		if other, ok := variables[v]; ok {
			return fmt.Errorf("%w: the sites %s and %s would have one password, $%s: rename one", messages.ErrInvalid, other, site, v)
		}
		variables[v] = site
	}
	return nil
}

func (o *ServerConfigOptions) writeCluster(b *bytes.Buffer) {
	fmt.Fprintf(b, "cluster {\n  name: wellhead\n  listen: %q\n  routes: [\n", o.ClusterListen)
	for _, route := range o.Cluster {
		fmt.Fprintf(b, "    \"nats-route://%s\"\n", route)
	}
	b.WriteString("  ]\n")
	if o.TLS {
		b.WriteString("  tls {\n    cert_file: \"server.crt\"\n    key_file: \"server.key\"\n    ca_file: \"ca.crt\"\n    verify: true\n  }\n")
	} else {
		b.WriteString("  # without TLS only these servers may reach this port: keep it inside your firewall\n")
	}
	b.WriteString("}\n")
}

func (o *ServerConfigOptions) writeAccounts(b *bytes.Buffer) {
	b.WriteString("accounts {\n  WELLHEAD {\n    jetstream: enabled\n    # devices to shards; it must stay while there is data\n    mappings {\n")
	for _, m := range messages.Mappings(o.Shards) {
		fmt.Fprintf(b, "      %q: %q\n", m.From, m.To)
	}
	b.WriteString("    }\n    users: [\n      # the members: everything in this account\n")
	fmt.Fprintf(b, "      {user: member, password: $%s}\n", PasswordVariable(""))
	if len(o.Sites) > 0 {
		b.WriteString("      # a site each; what it may publish is checked after the mapping\n")
	}
	for _, site := range o.Sites {
		b.WriteString(SiteUser(site))
	}
	b.WriteString("    ]\n  }\n  SYS {users: [{user: sys, password: $NATS_SYS_PASSWORD}]}\n}\nsystem_account: SYS\n")
}

// SiteUser returns the lines that give a site its user in an outside server's configuration, with the
// permissions that the embedded server would give its credential.
func SiteUser(site string) string {
	p := sitePermissions(site, false)
	var b strings.Builder
	fmt.Fprintf(&b, "      {user: %q, password: $%s, permissions: {\n", site, PasswordVariable(site))
	for _, side := range []struct {
		what  string
		allow []string
	}{{"publish", p.Publish.Allow}, {"subscribe", p.Subscribe.Allow}} {
		fmt.Fprintf(&b, "        %s: [\"%s\"]\n", side.what, strings.Join(side.allow, `", "`))
	}
	b.WriteString("      }}\n")
	return b.String()
}
