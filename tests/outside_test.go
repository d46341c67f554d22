package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
)

// outside is one NATS server or a cluster, a member on it, and the credentials of its sites.
type outside struct {
	servers []*testenv.NATSServer
	url     string
	member  *member
	dir     string // of the credentials
}

// credsOf is the credential file of a site.
func (o *outside) credsOf(site string) string { return filepath.Join(o.dir, site+".creds") }

// startOutside starts n servers with the printed configuration, and a member on them with more settings
// and these sites.
func startOutside(t *testing.T, n int, settings string, sites ...string) *outside {
	t.Helper()
	o := startServers(t, n, 8, sites...)
	o.member = startMember(t, t.TempDir(), "--config", settingsFile(t, o.settings(8)+settings))
	return o
}

// settings are those of a member on these servers.
func (o *outside) settings(shards int) string {
	return fmt.Sprintf("shards: %d\nstream: %q\nstream.user: member\nstream.max-bytes: 32MiB\nstream.replicas: %d\n", shards, o.url, len(o.servers))
}

// startServers starts n servers with the printed configuration for so many shards and these sites.
func startServers(t *testing.T, n, shards int, sites ...string) *outside {
	t.Helper()
	ports, err := testenv.FreePorts("127.0.0.1", 2*n)
	if err != nil {
		t.Fatal(err)
	}
	address := func(i int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[i])) }
	var routes, urls []string
	for i := range n {
		routes, urls = append(routes, address(n+i)), append(urls, "nats://"+address(i))
	}
	o := &outside{url: strings.Join(urls, ","), dir: t.TempDir()}
	secrets := "NATS_SYS_PASSWORD: \"sys\"\nWELLHEAD_MEMBER_PASSWORD: \"secret\"\n"
	for _, site := range sites {
		secrets += fmt.Sprintf("WELLHEAD_SITE_%s: \"of-%s\"\n", strings.ToUpper(strings.ReplaceAll(site, "-", "_")), site)
		if err := os.WriteFile(o.credsOf(site), fmt.Appendf(nil, "site: %s\npassword: of-%s\n", site, site), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		args := []string{"config", "nats", "--sites", strings.Join(sites, ","), "--listen", address(i), "--store", t.TempDir(), "--shards", fmt.Sprint(shards)}
		secrets := secrets
		if n > 1 {
			secrets += fmt.Sprintf("NATS_NAME: \"n%d\"\n", i)
			args = append(args, "--cluster", strings.Join(routes, ","), "--cluster-listen", address(n+i))
		}
		text, code := run(t, args...)
		if code != 0 {
			t.Fatalf("wellhead config nats: exit %d", code)
		}
		o.servers = append(o.servers, testenv.NATS(t, address(i), secrets+text))
	}
	t.Setenv("WELLHEAD_STREAM_PASSWORD", "secret")
	return o
}

// outsideFlags are what the fleet of these tests sends.
var outsideFlags = []string{
	"--site", "kill", "--devices", "100", "--interval", "1s", "--channels", "4", "--seed", "12",
	"--readings", "300", "--start", "2026-03-01T00:00:00Z", "--batch", "50",
}

// load sends in the background; the channel brings the exit code.
func (o *outside) load(t *testing.T, rate string) <-chan int {
	done := make(chan int, 1)
	go func() {
		_, code := run(t, append([]string{"simulate", "--server", o.url, "--creds", o.credsOf("kill"), "--rate", rate, "--json"}, outsideFlags...)...)
		done <- code
	}()
	return done
}

// wantSent waits until the load is over, all of it acknowledged.
func wantSent(t *testing.T, loaded <-chan int) {
	t.Helper()
	select {
	case code := <-loaded:
		if code != 0 {
			t.Fatalf("simulate: exit %d", code)
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("simulate does not come to its end")
	}
}

// wantStored wants the archive, rollups and windows to hold what the load has sent.
func (o *outside) wantStored(t *testing.T) {
	t.Helper()
	verify(t, append([]string{"simulate", "--server", o.member.http, "--rollups", "--windows", "--wait", "60s"}, outsideFlags...)...)
}

// TestOutsideKills kills one outside NATS server, kill -9, at random moments under load, and brings it
// back each time. The member goes on by itself, and all that was acknowledged is stored. Three kills,
// or WELLHEAD_NATS_KILLS.
func TestOutsideKills(t *testing.T) {
	times := numberFrom(t, "WELLHEAD_NATS_KILLS", 3)
	o := startOutside(t, 1, "", "kill")
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("the moments of the kills come from seed %d", seed)
	loaded := o.load(t, fmt.Sprintf("%d/s", 30_000/(3*times+1)))
	for range times {
		pause(t, time.Duration(500+rnd.IntN(1500))*time.Millisecond)
		if err := o.servers[0].Kill(); err != nil {
			t.Fatal(err)
		}
		pause(t, time.Duration(rnd.IntN(1500))*time.Millisecond)
		if err := o.servers[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(loaded) > 0 {
		t.Error("the load was over before the last kill")
	}
	wantSent(t, loaded)
	o.wantStored(t)
	o.wantNothingOlder(t)
	select {
	case <-o.member.done:
		t.Error("the member has ended")
	default:
	}
}

// TestOutsideCluster runs on three servers with three copies of each stream: the leader of a shard's
// stream steps down, then the server of another shard's leader is killed and comes back, then the member
// is killed and starts again.
func TestOutsideCluster(t *testing.T) {
	o := startOutside(t, 3, "", "kill")
	loaded := o.load(t, "2000/s")
	pause(t, 2*time.Second)
	nc, err := nats.Connect(o.url, nats.UserInfo("member", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)

	before := leader(t, nc, 0)
	if _, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN.READINGS_0", nil, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() error {
		if after := leader(t, nc, 0); after == "" || after == before {
			return fmt.Errorf("shard 0 is led by %q, before by %q", after, before)
		}
		return nil
	})
	pause(t, 2*time.Second)
	var victim int
	testenv.Eventually(t, 30*time.Second, func() error {
		_, err := fmt.Sscanf(leader(t, nc, 5), "n%d", &victim)
		return err
	})
	if err := o.servers[victim].Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() error {
		if after := leader(t, nc, 5); after == "" || after == fmt.Sprintf("n%d", victim) {
			return fmt.Errorf("shard 5 is led by %q", after)
		}
		return nil
	})
	pause(t, 2*time.Second)
	if err := o.servers[victim].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSent(t, loaded)
	o.wantStored(t)
	o.member.kill()
	o.member.start()
	o.wantStored(t)
	o.wantNothingOlder(t)
}

// wantNothingOlder wants the member to have found the stream and the snapshots as they should be.
func (o *outside) wantNothingOlder(t *testing.T) {
	t.Helper()
	resp, err := http.Get(o.member.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"stream", "hole", "snapshots"} {
		if line := fmt.Sprintf("wellhead_went_back_total{what=%q} 0\n", what); !bytes.Contains(text, []byte(line)) {
			t.Errorf("/metrics does not have %q: the member found something older than it should be", line)
		}
	}
}

// leader returns the name of the server that leads a shard's stream; empty when there is none now.
func leader(t *testing.T, nc *nats.Conn, shard int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, fmt.Sprintf("$JS.API.STREAM.INFO.READINGS_%d", shard), nil)
	if err != nil {
		return ""
	}
	var info struct {
		Config struct {
			Replicas int `json:"num_replicas"`
		}
		Cluster struct{ Leader string }
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Config.Replicas != 3 && info.Cluster.Leader != "" {
		t.Fatalf("shard %d has %d copies, want 3", shard, info.Config.Replicas)
	}
	return info.Cluster.Leader
}

// TestOutsideSite: who may send is said in the server's configuration, and `site add` says how.
func TestOutsideSite(t *testing.T) {
	o := startOutside(t, 1, "", "kill")
	dir := o.member.args[2]
	_, stderr, code := runWithin(t, 20*time.Second, "site", "add", "s1", "--server", o.member.http, "--data", dir, "--out", filepath.Join(t.TempDir(), "s1.creds"))
	for _, want := range []string{"outside NATS server", "wellhead config nats --sites s1", `{user: "s1", password: $WELLHEAD_SITE_S1`, "shard.*.s1.*"} {
		if code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("site add: exit %d, %q; want a failure that says %q", code, stderr, want)
		}
	}
	args := append([]string{"simulate", "--server", o.url, "--rate", "max", "--deadline", "10s"}, outsideFlags...)
	_, stderr, code = runWithin(t, 20*time.Second, args...)
	wantRefused(t, "without a credential", `does not take this credential.*--creds`)(stderr, code)
	_, stderr, code = runWithin(t, 20*time.Second, append(args, "--creds", o.credsOf("kill"), "--site", "other")...)
	wantRefused(t, "another site's", `does not allow .*[Pp]ermission.*other`)(stderr, code)
}
