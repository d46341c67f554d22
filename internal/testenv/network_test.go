package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestNetwork has two machines reach each other, cuts one off, parts them, and heals the network.
func TestNetwork(t *testing.T) {
	n := NewNetwork(t)
	a, b := n.Add(t), n.Add(t)
	redis, err := StartRedis(t.Context(), t.TempDir(), RedisOptions{On: b})
	failed(t, err, "Redis", installRedis)
	t.Cleanup(func() { endWithTest(t, redis.Kill, redis.Dir+"/redis.log") })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(from *Machine, reaches bool) {
		t.Helper()
		Eventually(t, 10*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			name, args := from.Command("redis-cli", "-h", b.Address, "PING")
			out, err := exec.CommandContext(ctx, name, args...).Output()
			if answered := err == nil && string(out) == "PONG\n"; answered != reaches {
				return errors.New("the server answers, or not, as it should not: " + string(out))
			}
			return nil
		})
	}
	want(nil, true)
	want(a, true)
	must(n.CutOff(b))
	want(nil, false)
	want(a, false)
	must(n.CutOff(a))
	want(a, true)
	must(n.Heal())
	want(nil, true)
	want(a, true)
	must(n.Part(a, b))
	want(a, false)
	want(nil, true)
	must(n.Heal())
	want(a, true)
}

// TestNetworkOfTheDead removes what a process has left that ended without removing it.
func TestNetworkOfTheDead(t *testing.T) {
	if err := NetworkMissing(); err != nil {
		Missing(t, err.Error(), "run the test as root on Linux")
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left, own := networkOf(dead.Process.Pid), networkOf(os.Getpid())
	for _, name := range []string{left, own} {
		if err := ip("netns", "add", name+"-2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ip("link", "add", left+".2", "type", "veth", "peer", "name", left+".3"); err != nil { // a port whose namespace is going
		t.Fatal(err)
	}
	if err := removeLeft(); err != nil {
		t.Fatal(err)
	}
	if err := ip("link", "delete", left+".2"); err != nil {
		t.Errorf("a port was removed, which goes by itself: %v", err)
	}
	if err := ip("netns", "delete", left+"-2"); err == nil {
		t.Error("what a dead process had made was still there")
	}
	if err := ip("netns", "delete", own+"-2"); err != nil {
		t.Errorf("what a living process has made was removed: %v", err)
	}
}
