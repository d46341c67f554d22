package main

import "testing"

// TestHTTPOf: where to check what was sent is what a member says, as far as it holds from here.
func TestHTTPOf(t *testing.T) {
	for _, c := range []struct{ nats, told, want string }{
		{"nats://127.0.0.1:4222", "127.0.0.1:8090", "http://127.0.0.1:8090"},
		{"nats://plant:4222,nats://other:4222", "0.0.0.0:8090", "http://plant:8090"},
		{"nats://site:secret@[fd00::7]:4222", "[::]:8090", "http://[fd00::7]:8090"},
		{"nats://127.0.0.1:4222", "10.0.0.7:8090", "http://10.0.0.7:8090"},
		{"plant", "", "http://plant:8080"},
		{"ws://plant:443", "nonsense", "http://plant:8080"},
	} {
		if got := httpOf(c.nats, c.told); got != c.want {
			t.Errorf("httpOf(%s, %q): got %s, want %s", c.nats, c.told, got, c.want)
		}
	}
}
