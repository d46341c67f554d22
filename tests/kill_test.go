package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// kills is how often the member is killed under load; `make outages` sets more.
func kills(t *testing.T) int { return numberFrom(t, "WELLHEAD_KILLS", 10) }

// numberFrom reads a number from the environment.
func numberFrom(t *testing.T, variable string, otherwise int) int {
	if s := os.Getenv(variable); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return otherwise
}

// TestKillEmbedded kills the member, kill -9, at random moments under load. Every acknowledged
// reading is stored; windows and rollups are those of a computation over all that was sent.
func TestKillEmbedded(t *testing.T) {
	m := startMember(t, t.TempDir())
	killUnderLoad(t, m, kills(t))
}

// TestKillCassandraRedis is the same on real Cassandra and Redis.
func TestKillCassandraRedis(t *testing.T) {
	config := outsideStores(t)
	m := startMember(t, t.TempDir(), "--config", config)
	killUnderLoad(t, m, kills(t))
}

// TestKillCassandraChunks is the same with layout chunks.
func TestKillCassandraChunks(t *testing.T) {
	config := settingsFile(t, storeSettings(t)+"layout: chunks\n")
	m := startMember(t, t.TempDir(), "--config", config)
	killUnderLoad(t, m, kills(t))
}

// outsideStores writes a configuration for the test's real Cassandra and Redis.
func outsideStores(t *testing.T) string {
	t.Helper()
	return settingsFile(t, storeSettings(t))
}

// storeSettings is outsideStores as text.
func storeSettings(t *testing.T) string {
	t.Helper()
	cassandra, redis := testenv.Cassandra(t), testenv.Redis(t)
	return fmt.Sprintf("archive: cassandra\nsnapshots: redis\ncassandra:\n  hosts: [%q]\n  keyspace: %s\nredis:\n  addresses: [%q]\n  prefix: %q\n",
		cassandra.Addr, testenv.Unique("kill"), redis.Addr, testenv.Unique("kill"))
}

func killUnderLoad(t *testing.T, m *member, times int) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("the moments of the kills come from seed %d", seed)
	flags := []string{
		"--site", "kill", "--devices", "300", "--interval", "1s", "--channels", "4", "--seed", "11",
		"--readings", "600", "--start", "2026-03-01T00:00:00Z", "--batch", "100",
	}
	loaded := make(chan int, 1)
	go func() {
		_, code := run(t, append([]string{"simulate", "--server", m.nats, "--rate", "6000/s", "--json"}, flags...)...)
		loaded <- code
	}()
	for range times {
		pause(t, time.Duration(500+rnd.IntN(2000))*time.Millisecond)
		m.kill()
		m.start()
	}
	select {
	case code := <-loaded:
		if code != 0 {
			t.Fatalf("simulate: exit %d", code)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("simulate does not come to its end")
	}
	v := verify(t, append([]string{"simulate", "--server", m.http, "--rollups", "--windows", "--wait", "60s"}, flags...)...)
	if v.Sent < 170_000 {
		t.Errorf("only %d readings were sent", v.Sent)
	}
}
