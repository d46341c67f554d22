package stream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// secured is a server with credentials for two sites.
type secured struct {
	server      *Server
	streams     *Streams
	credentials *Credentials
	passwords   map[string]string
}

func startSecured(t *testing.T) secured {
	t.Helper()
	x := secured{credentials: NewCredentials(quietLogger(t)), passwords: map[string]string{}}
	x.server = startServer(t, t.TempDir(), func(o *ServerOptions) {
		o.Credentials = x.credentials
		o.MQTT, o.WebSocket = "127.0.0.1:0", "127.0.0.1:0"
	})
	x.streams = openStreams(t, x.server, nil)
	registry := x.streams.Registry()
	for _, site := range []string{"a", "b"} {
		password, err := AddCredential(shortly(t), registry, site, "test", time.Now(), false)
		if err != nil {
			t.Fatal(err)
		}
		x.passwords[site] = password
	}
	if err := x.credentials.Load(shortly(t), registry); err != nil {
		t.Fatal(err)
	}
	return x
}

// connect connects as a site and gathers what is refused.
func (x secured) connect(t *testing.T, url, site string) (*nats.Conn, chan error) {
	t.Helper()
	refused := make(chan error, 100)
	nc, err := nats.Connect(url, nats.UserInfo(site, x.passwords[site]), nats.CustomInboxPrefix(SiteInbox(site)), nats.Name("x - mid:7"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, refused
}

func TestSitePermissions(t *testing.T) {
	x := startSecured(t)
	for _, url := range []string{x.server.ClientURL(), x.server.WebSocketURL()} {
		nc, refused := x.connect(t, url, "a")
		allowed := []string{"readings.a.dev", "batches.a.3"}
		for _, subject := range allowed {
			answer, err := nc.Request(subject, []byte("x"), 5*time.Second)
			if err != nil {
				t.Fatalf("%s: %v", subject, err)
			}
			if !strings.Contains(string(answer.Data), "READINGS_") {
				t.Errorf("%s: got %s", subject, answer.Data)
			}
		}
		for _, subject := range []string{
			"readings.b.dev", "batches.b.3", "shard.3.b", "shard.3.b.dev",
			"control.a.dev", "control.b.dev", "shard.3.a.dev.control", "shard.3.a.@site.control",
			"$JS.API.STREAM.DELETE.READINGS_3", "$JS.API.STREAM.LIST", "$JS.API.DIRECT.GET.READINGS_3",
			"$KV.wellhead-checkpoints.0", "rejects.a.1.1.1", "events.a.dev.online", "stored.a.p", "_INBOX.somebody.else", "_INBOX_b.somebody.else",
			"query.state.b.dev",
		} {
			if err := nc.Publish(subject, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			expectRefused(t, refused, "publish "+subject)
		}
		for _, subject := range []string{
			"events.b.>", "events.>", ">", "shard.>", "readings.a.>", "$KV.>", "_MEMBER.>", "stored.b.>", "query.>", "$SYS.>",
			"_INBOX.>", "_INBOX.*.*", "_INBOX.x", "_INBOX_b.>", "_INBOX_*.>", "*.>", "$MQTT.sub.>", "$MQTT.deliver.pubrel.>",
		} {
			sub, err := nc.SubscribeSync(subject)
			if err != nil {
				t.Fatal(err)
			}
			nc.Flush()
			expectRefused(t, refused, "subscribe "+subject)
			sub.Unsubscribe()
		}
		for _, subject := range []string{"events.a.>", "events.a.dev.reading", "stored.a.p"} {
			sub, err := nc.SubscribeSync(subject)
			if err != nil {
				t.Fatal(err)
			}
			nc.Flush()
			x.streams.Outside(EventsAll).Event(strings.ReplaceAll(subject, ">", "dev.online"), []byte("hi"))
			if _, err := sub.NextMsg(5 * time.Second); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
		select {
		case err := <-refused:
			t.Errorf("refused: %v", err)
		default:
		}
	}
	state, err := x.streams.Log().State(shortly(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := uint64(2) // batches.a.3, twice
	if messages.ShardOf(messages.DeviceID{Site: "a", Device: "dev"}, 8) == 3 {
		want = 4
	}
	if state.Last != want {
		t.Errorf("messages in shard 3: got %d, want %d", state.Last, want)
	}
}

func expectRefused(t *testing.T, refused <-chan error, what string) {
	t.Helper()
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: got %v, want a permission violation", what, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s: not refused", what)
	}
}

func TestWrongCredentials(t *testing.T) {
	x := startSecured(t)
	for _, user := range [][2]string{
		{"a", x.passwords["b"]}, {"a", ""}, {"", ""}, {"c", x.passwords["a"]}, {memberUser, ""}, {memberUser, x.passwords["a"]},
	} {
		nc, err := nats.Connect(x.server.ClientURL(), nats.UserInfo(user[0], user[1]))
		if err == nil {
			nc.Close()
			t.Errorf("user %q: connected", user[0])
		}
	}
}

func TestCredentialsChange(t *testing.T) {
	credentials := NewCredentials(quietLogger(t))
	server := startServer(t, t.TempDir(), func(o *ServerOptions) { o.Credentials = credentials })
	if nc, err := nats.Connect(server.ClientURL()); err == nil {
		nc.Close()
		t.Error("connected before the credentials were loaded")
	}
	s := openStreams(t, server, nil)
	registry := s.Registry()
	if err := credentials.Load(shortly(t), registry); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		credentials.Follow(ctx, registry)
	}()
	defer func() { cancel(); <-followed }()
	closed := make(chan struct{})
	anonymous, err := nats.Connect(server.ClientURL(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatalf("without credentials loopback is open: %v", err)
	}
	defer anonymous.Close()
	password, err := AddCredential(shortly(t), registry, "a", "test", time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddCredential(shortly(t), registry, "a", "test", time.Now(), false); !errors.Is(err, persistence.ErrConflict) {
		t.Errorf("second credential: got %v, want conflict", err)
	}
	await(t, closed, "the anonymous connection is closed by the first credential")
	gone := make(chan struct{})
	site, err := nats.Connect(server.ClientURL(), nats.UserInfo("a", password), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(gone) }))
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	replaced, err := AddCredential(shortly(t), registry, "a", "test", time.Now(), true)
	if err != nil {
		t.Fatal(err)
	}
	await(t, gone, "the connection is closed when its credential is replaced")
	if !credentials.Check("a", replaced) || credentials.Check("a", password) {
		t.Error("the new password must hold, and the old one not")
	}
	if err := RemoveCredential(shortly(t), registry, "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "without credentials it is open again", credentials.Open)
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("not within 20 s: %s", what)
	}
}

func TestCredentialFile(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCredentialFile(&b, "a", "SECRET"); err != nil {
		t.Fatal(err)
	}
	if site, password, err := ReadCredentialFile(&b); err != nil || site != "a" || password != "SECRET" {
		t.Errorf("got %q %q %v", site, password, err)
	}
	if _, _, err := ReadCredentialFile(strings.NewReader("hello\n")); !errors.Is(err, messages.ErrInvalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestDialTellsWhatIsNotPermitted(t *testing.T) {
	x := startSecured(t)
	file := t.TempDir() + "/a.creds"
	var b bytes.Buffer
	WriteCredentialFile(&b, "a", x.passwords["a"])
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var log testenv.Output
	c, err := Dial(shortly(t), DialOptions{URL: x.server.ClientURL(), CredsFile: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewPublisher(PublisherOptions{Producer: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Publish(shortly(t), "a", 1, someBlocks(1)); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := p.Publish(shortly(t), "b", 1, someBlocks(1)); err != nil {
			break
		}
	}
	if err := p.Flush(shortly(t)); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("publish for another site: got %v, want a permission violation", err)
	}
	p.Close()
	if _, err := c.nc.SubscribeSync("events.b.>"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the subscription's refusal", func() bool { return strings.Contains(log.String(), "events.b.") })
	if text := log.String(); strings.Contains(text, "Publish") {
		t.Errorf("what the publisher has told is logged as well:\n%s", text)
	}
}

// needProgram finds a foreign client.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	if err != nil {
		t.Skipf("MQTT IS NOT TESTED: %s is not installed", name)
	}
	return program
}

// mosquitto publishes one MQTT message with a foreign client.
func (x secured) mosquitto(t *testing.T, site, password, topic, text string) error {
	t.Helper()
	program := needProgram(t, "mosquitto_pub")
	host, port, err := net.SplitHostPort(x.server.MQTTAddress())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(shortly(t), program, "-h", host, "-p", port, "-u", site, "-P", password, "-q", "1", "-t", topic, "-m", text).CombinedOutput()
	if err != nil {
		t.Logf("mosquitto_pub %s: %v: %s", topic, err, out)
	}
	return err
}

func TestMQTT(t *testing.T) {
	x := startSecured(t)
	shard := messages.ShardOf(messages.DeviceID{Site: "a", Device: "dev"}, 8)
	if err := x.mosquitto(t, "a", x.passwords["a"], "readings/a/dev", `{"values":[1]}`); err != nil {
		t.Fatal(err)
	}
	f, err := x.streams.Log().Open(shortly(t), shard, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := f.Pull(shortly(t), MinPull)
	if err != nil {
		t.Fatal(err)
	}
	if want := "shard." + strconv.Itoa(int(shard)) + ".a.dev"; got[0].Subject != want || string(got[0].Data) != `{"values":[1]}` {
		t.Errorf("got %s %q, want %s", got[0].Subject, got[0].Data, want)
	}
	if err := x.mosquitto(t, "a", x.passwords["b"], "readings/a/dev", "x"); err == nil {
		t.Error("connected with a wrong password")
	}
	// QoS 1 is acknowledged by the MQTT layer although the message is not permitted: it must not arrive
	x.mosquitto(t, "a", x.passwords["a"], "readings/b/dev", "x")
	x.mosquitto(t, "a", x.passwords["a"], "control/a/dev", "x")
	for n := range 8 {
		state, err := x.streams.Log().State(shortly(t), messages.Shard(n))
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(0)
		if n == int(shard) {
			want = 1
		}
		if state.Last != want {
			t.Errorf("messages in shard %d: got %d, want %d", n, state.Last, want)
		}
	}
}

func TestMQTTSubscribes(t *testing.T) {
	program := needProgram(t, "mosquitto_sub")
	x := startSecured(t)
	host, port, _ := net.SplitHostPort(x.server.MQTTAddress())
	ctx := shortly(t)
	for _, qos := range []string{"0", "1"} {
		command := exec.CommandContext(ctx, program, "-h", host, "-p", port, "-u", "a", "-P", x.passwords["a"], "-q", qos, "-C", "1", "-W", "15", "-t", "events/a/#")
		var out bytes.Buffer
		command.Stdout, command.Stderr = &out, &out
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		// it is not told when it listens: say it until it has heard
		ticker := time.NewTicker(20 * time.Millisecond)
		for running := true; running; {
			select {
			case <-ticker.C:
				x.streams.Outside(EventsAll).Event("events.a.dev.online", []byte("hello"))
			case err := <-ended:
				running = false
				if err != nil || !strings.Contains(out.String(), "hello") {
					t.Errorf("qos %s: %v: %s", qos, err, out.String())
				}
			}
		}
		ticker.Stop()
	}
}

func TestMQTTIsClosedWhenNearlyFull(t *testing.T) {
	x := startSecured(t)
	state, err := x.streams.Log().State(shortly(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, x.streams, PublisherOptions{})
	block := []messages.Block{{Device: "d", Readings: make([]messages.Reading, 1000)}}
	for i := range block[0].Readings {
		block[0].Readings[i] = messages.Reading{Time: int64(i), Note: strings.Repeat("x", 900)}
	}
	for sent := 0; sent < int(state.Limit)*85/100; sent += 900_000 {
		if err := p.Publish(shortly(t), "a", 0, block); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(shortly(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mqtt is refused", x.server.auth.noMQTT.Load)
	if err := x.mosquitto(t, "a", x.passwords["a"], "readings/a/dev", "x"); err == nil {
		t.Error("an MQTT client was let in")
	}
	nc, _ := x.connect(t, x.server.ClientURL(), "a") // the others are not
	if _, err := nc.Request("readings.a.dev", []byte("x"), 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := x.streams.Log().Purge(shortly(t), 0, 1000, state.Created); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mqtt is let in again", func() bool { return !x.server.auth.noMQTT.Load() })
	if err := x.mosquitto(t, "a", x.passwords["a"], "readings/a/dev", "x"); err != nil {
		t.Error(err)
	}
}
