package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJoin has a second member get all that the cluster shares by a token, and nothing that is each member's own.
func TestJoin(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte("authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := Load(write(t, "name: m1\nhttp: 127.0.0.1:9999\nstream: tls://nats-1:4222,tls://nats-2:4222\nstream.user: member\nstream.tls.ca: "+ca+
		"\narchive: cassandra\ncassandra.hosts: [a, b]\ncassandra.replication: {dc1: 3}\nsnapshots: redis\nredis.addresses: [r:6379]\ncluster: 10.0.0.1:4300\nretention: {raw: 90d}\n"),
		[]string{"WELLHEAD_STREAM_PASSWORD=secret", "WELLHEAD_CLUSTER_SECRET=0123456789abcdef"}, map[string]string{"data": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	join, err := first.JoinFor("abc", first.Secret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := join.Token()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	second, err := Load("", nil, map[string]string{"join": token, "name": "m2", "data": data})
	if err != nil {
		t.Fatal(err)
	}
	if second.Name != "m2" || second.HTTP != "127.0.0.1:8080" || second.Cluster != "" || second.Joins.Cluster != "abc" || second.Secret != first.Secret {
		t.Errorf("its own: %+v", second)
	}
	if diff := cmp.Diff(first.Cassandra, second.Cassandra); diff != "" {
		t.Errorf("cassandra (-first +second):\n%s", diff)
	}
	if second.Stream.Server != first.Stream.Server || second.Stream.Password != "secret" || second.Retention["raw"] != first.Retention["raw"] {
		t.Errorf("stream: %+v", second.Stream)
	}
	if err := second.KeepFiles(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(second.Stream.CA); err != nil || string(text) != "authority" {
		t.Errorf("the authority's file: %q, %v", text, err)
	}
	if err := second.KeepToken(); err != nil {
		t.Fatal(err)
	}
	again, err := Load("", nil, map[string]string{"data": data, "advertise": "m2.example.net", "stream.user": "another"})
	if err != nil {
		t.Fatal(err)
	}
	if again.Joins == nil || again.Secret != first.Secret || again.Stream.User != "another" {
		t.Errorf("started again without the token: %+v", again)
	}
	spoiled := token[:40] + "x" + token[41:]
	if spoiled == token {
		spoiled = token[:40] + "y" + token[41:]
	}
	for text, want := range map[string]string{
		"abc":                "no join token",
		token[:len(token)-9]: "damaged",
		spoiled:              "damaged",
		joinPrefix:           "damaged",
	} {
		if _, err := Load("", nil, map[string]string{"join": text, "data": t.TempDir()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30s…: got %v, want an error with %q", text, err, want)
		}
	}
}
