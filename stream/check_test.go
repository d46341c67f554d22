package stream

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// secrets define the variables of a configuration that ServerConfig makes, in the file itself.
func secrets(sites ...string) string {
	text := "NATS_SYS_PASSWORD: \"sys\"\n" + PasswordVariable("") + ": \"secret\"\n"
	for _, site := range sites {
		text += PasswordVariable(site) + ": \"of-" + site + "\"\n"
	}
	return text
}

// freeAddress returns a loopback address.
func freeAddress(t testing.TB) string {
	t.Helper()
	ports, err := testenv.FreePorts("127.0.0.1", 1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[0]))
}

// startOutside starts a real nats-server with the shipped configuration for 8 shards, changed.
func startOutside(t testing.TB, o ServerConfigOptions, change func(string) string) *testenv.NATSServer {
	t.Helper()
	o.Shards, o.Listen = 8, freeAddress(t)
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	config, err := ServerConfig(o)
	if err != nil {
		t.Fatal(err)
	}
	text := secrets(o.Sites...) + string(config)
	if change != nil {
		changed := change(text)
		if changed == text {
			t.Fatal("the change finds nothing to change")
		}
		text = changed
	}
	return testenv.NATS(t, o.Listen, text)
}

// outsideOptions are those of a member at this server.
func outsideOptions(t testing.TB, server *testenv.NATSServer) Options {
	return Options{
		URL: "nats://" + server.Addr, User: "member", Password: "secret", Shards: 8, MaxBytes: 16 << 20, Logger: quietLogger(t),
	}
}

// openOutside opens the streams of this server.
func openOutside(t testing.TB, server *testenv.NATSServer) *Streams {
	t.Helper()
	s, err := Open(t.Context(), outsideOptions(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestOutsideServer(t *testing.T) {
	server := startOutside(t, ServerConfigOptions{Sites: []string{"site"}}, nil)
	s := openOutside(t, server)
	put(t, s, 3, 1, 50)
	f, err := s.Log().Open(t.Context(), 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	take(t, f, 1, 50)
	// The checks themselves left nothing behind.
	kept, err := s.Rejects(shortly(t), RejectQuery{Limit: 10})
	if err != nil || len(kept.Rejects) > 0 {
		t.Errorf("rejects: %v, %v; want none", kept, err)
	}
	again, err := Open(t.Context(), outsideOptions(t, server))
	if err != nil {
		t.Fatalf("the second time: %v", err)
	}
	again.Close()
	state, err := s.Log().State(shortly(t), 3)
	if err != nil || state.Last != 50 {
		t.Errorf("shard 3 ends at %d, %v; want 50", state.Last, err)
	}
}

// TestOutsideChecks takes one thing after another away from a real server and wants the start to say so.
func TestOutsideChecks(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, with) }
	}
	for name, test := range map[string]struct {
		server func(string) string
		member func(*Options)
		want   []string
	}{
		"no mapping": {
			func(text string) string {
				from, to := strings.Index(text, "    mappings {"), strings.Index(text, "    users:")
				return text[:from] + text[to:]
			}, nil,
			[]string{"batches.", "is not mapped", "wellhead config nats --shards 8"},
		},
		"one mapping": {
			func(text string) string {
				from := strings.Index(text, `      "control.*.*"`)
				return text[:from] + text[from+strings.Index(text[from:], "\n"):]
			}, nil,
			[]string{"control.", "is not mapped", "wellhead config nats"},
		},
		"other shards":  {replace("partition(8,", "partition(16,"), nil, []string{"is mapped to shard.", "another number of shards than 8", "set shards"}},
		"swapped names": {replace("partition(8,1,2)", "partition(8,2,1)"), nil, []string{"is mapped to shard."}},
		"no JetStream":  {replace("    jetstream: enabled\n", ""), nil, []string{"JetStream is off", "set jetstream"}},
		"no JetStream at all": {func(text string) string {
			from := strings.Index(text, "jetstream {")
			text = strings.Replace(text, "    jetstream: enabled\n", "", 1)
			return text[:from] + text[from+strings.Index(text[from:], "\n}\n")+3:]
		}, nil, []string{"JetStream is off", "set jetstream"}},
		"wrong password": {nil, func(o *Options) { o.Password = "wrong" }, []string{"does not take this credential", "set stream.user"}},
		"no user":        {nil, func(o *Options) { o.User = "" }, []string{"does not take this credential", "set stream.user"}},
		"may not publish": {
			replace("{user: member,", `{user: member, permissions: {publish: {deny: "stored.>"}},`), nil,
			[]string{"may not publish to stored.", "no permissions block"},
		},
		"may not subscribe": {
			replace("{user: member,", `{user: member, permissions: {subscribe: {deny: "query.>"}},`), nil,
			[]string{"may not subscribe to query.", "no permissions block"},
		},
		"may not use JetStream": {
			replace("{user: member,", `{user: member, permissions: {publish: {deny: "$JS.API.>"}},`), nil,
			[]string{"may not use JetStream", "$JS.API.>"},
		},
		"a site's user":    {nil, func(o *Options) { o.User, o.Password = "site", "of-site" }, []string{"the member's user may not"}},
		"small payload":    {replace("max_payload: 1114112", "max_payload: 65536"), nil, []string{"max_payload is 65536", "1114112"}},
		"little storage":   {replace("jetstream {", "jetstream {\n max_file_store: 100MB"), nil, []string{"no room to reserve", "stream.max-bytes lower", "max_file_store"}},
		"no cluster":       {nil, func(o *Options) { o.Replicas = 3 }, []string{"3 copies need a cluster", "stream.replicas lower"}},
		"nobody there":     {nil, func(o *Options) { o.URL = "nats://" + freeAddress(t) }, []string{"no stream server", "is the NATS server running there?"}},
		"TLS, server none": {nil, func(o *Options) { o.URL = strings.Replace(o.URL, "nats:", "tls:", 1) }, []string{"do not agree on TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := startOutside(t, ServerConfigOptions{Sites: []string{"site"}}, identity(test.server))
			o := outsideOptions(t, server)
			if test.member != nil {
				test.member(&o)
			}
			wantUnfit(t, o, test.want...)
		})
	}
}

// identity lets a test have no change.
func identity(change func(string) string) func(string) string {
	if change != nil {
		return change
	}
	return func(text string) string { return text + "# unchanged\n" }
}

func wantUnfit(t *testing.T, o Options, want ...string) {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err == nil {
		s.Close()
		t.Fatal("the member starts")
	}
	t.Log(err)
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want it to say %q", err, part)
		}
	}
}

func TestOutsideTLS(t *testing.T) {
	dir := t.TempDir()
	testenv.Certificates(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, verify := range []bool{false, true} {
		t.Run(fmt.Sprintf("verify=%v", verify), func(t *testing.T) {
			server := startOutside(t, ServerConfigOptions{TLS: true, Sites: []string{"site"}}, func(text string) string {
				for _, name := range []string{"server.crt", "server.key", "ca.crt"} {
					text = strings.ReplaceAll(text, `"`+name+`"`, `"`+file(name)+`"`)
				}
				return strings.ReplaceAll(text, "verify: false", fmt.Sprintf("verify: %v", verify))
			})
			o := outsideOptions(t, server)
			wantUnfit(t, o, "signed by an authority that is not known here", "stream.tls.ca")
			o.TLS.CA = file("missing.crt")
			wantUnfit(t, o, "missing.crt")
			o.TLS.CA = file("ca.crt")
			if verify {
				wantUnfit(t, o, "client certificate", "stream.tls.cert")
				o.TLS.Cert = file("client.crt")
				wantUnfit(t, o, "must be given together")
				o.TLS.Key = file("client.key")
			}
			for _, scheme := range []string{"nats://", "tls://"} {
				o.URL = scheme + server.Addr
				s, err := Open(t.Context(), o)
				if err != nil {
					t.Fatalf("%s: %v", scheme, err)
				}
				s.Close()
			}
			creds := file("site.creds")
			var b bytes.Buffer
			if err := WriteCredentialFile(&b, "site", "of-site"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(creds, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Dial(shortly(t), DialOptions{URL: o.URL, CredsFile: creds, TLS: o.TLS, Logger: quietLogger(t)})
			if err != nil {
				t.Fatalf("a site: %v", err)
			}
			c.Close()
		})
	}
}

// TestOutsideSites holds the shipped permissions of sites to those of the embedded server.
func TestOutsideSites(t *testing.T) {
	server := startOutside(t, ServerConfigOptions{Sites: []string{"a", "b"}}, nil)
	openOutside(t, server)
	nc, err := nats.Connect("nats://"+server.Addr, nats.UserInfo("a", "of-a"), nats.CustomInboxPrefix(SiteInbox("a")), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	for _, subject := range []string{"readings.a.dev", "batches.a.3"} {
		if answer, err := nc.Request(subject, []byte("x"), 5*time.Second); err != nil || !bytes.Contains(answer.Data, []byte(`"stream":"READINGS_`)) {
			t.Errorf("publish to %s: %v", subject, err)
		}
	}
	for _, subject := range []string{
		"readings.b.dev", "batches.b.3", "control.a.dev", "shard.1.a.@site.control", "rejects.x", "events.a.dev.reading", "stored.a.p",
		"$JS.API.INFO", "$KV.wellhead-leases.x", "_INBOX.x", "_MEMBER.x",
	} {
		before := nc.LastError()
		if err := nc.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		if nc.LastError() == before {
			t.Errorf("site a may publish to %s", subject)
		}
	}
	for _, subject := range []string{"_INBOX.>", "_INBOX_b.>", "events.b.>", "$MQTT.sub.>"} {
		before := nc.LastError()
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		if nc.LastError() == before {
			t.Errorf("site a may subscribe to %s", subject)
		}
	}
}

// TestOutsideEvents: an outside server does not say who listens, so asked is all; none is none.
func TestOutsideEvents(t *testing.T) {
	server := startOutside(t, ServerConfigOptions{}, nil)
	s := openOutside(t, server)
	for events, want := range map[Events]bool{EventsAsked: true, EventsAll: true, EventsNone: false, "": true} {
		if got := s.Outside(events).Listening("site"); got != want {
			t.Errorf("events %q: listening %v, want %v", events, got, want)
		}
	}
	sub, err := s.main.nc.SubscribeSync("events.site.dev.>")
	if err != nil {
		t.Fatal(err)
	}
	out := s.Outside(EventsAsked)
	out.Event(messages.EventSubject(messages.DeviceID{Site: "site", Device: "dev"}, "reading"), []byte("1"))
	announcement := messages.Announcement{Subject: "events.site.dev.online", ID: "id-1", Data: []byte("2")}
	if err := errors.Join(out.Announce(shortly(t), []messages.Announcement{announcement})...); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1", "2"} {
		if m, err := sub.NextMsgWithContext(shortly(t)); err != nil || string(m.Data) != want {
			t.Fatalf("got %v, %v; want %s", m, err, want)
		}
	}
}

// TestOutsideMoreCopies: what was made with one copy gets three when three are configured, and back. Any copy answers only
// when there was one already: those that are to go may do so for a while, with what they have.
func TestOutsideMoreCopies(t *testing.T) {
	ports, err := testenv.FreePorts("127.0.0.1", 3)
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	for _, port := range ports {
		routes = append(routes, net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
	}
	var urls []string
	for i := range routes {
		server := startOutside(t, ServerConfigOptions{Cluster: routes, ClusterListen: routes[i]}, func(text string) string {
			return fmt.Sprintf("NATS_NAME: \"n%d\"\n", i) + text
		})
		urls = append(urls, "nats://"+server.Addr)
	}
	o := Options{URL: strings.Join(urls, ","), User: "member", Password: "secret", Shards: 8, MaxBytes: 16 << 20, Logger: quietLogger(t)}
	for i, copies := range []int{1, 3, 1, 1} {
		o.Replicas = copies
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		// a publisher of ours, which sends again: while copies change, an acknowledgement may get lost
		p := newPublisher(t, s, PublisherOptions{})
		if err := p.Publish(shortly(t), "site", 3, someBlocks(10)); err != nil {
			t.Fatal(err)
		}
		if err := p.Flush(shortly(t)); err != nil {
			t.Fatal(err)
		}
		list := s.js.ListStreams(shortly(t))
		n := 0
		for info := range list.Info() {
			n++
			if info.Config.Replicas != copies {
				t.Errorf("stream %s has %d copies, want %d", info.Config.Name, info.Config.Replicas, copies)
			}
			if aside := info.Config.Name == rejectsStream || info.Config.Name == eventsStream; !aside && info.Config.AllowDirect {
				t.Errorf("stream %s of %d copies is answered by any copy", info.Config.Name, copies)
			}
		}
		if err := list.Err(); err != nil || n != 8+2+len(allBuckets) {
			t.Errorf("%d streams, %v", n, err)
		}
		cells, err := s.Cells(BucketCheckpoints)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cells.Save(shortly(t), fmt.Sprint("key", i), []byte("x"), 0); err != nil {
			t.Error(err)
		}
		if _, _, err := cells.Load(shortly(t), fmt.Sprint("key", i)); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func TestOlderThan(t *testing.T) {
	for v, want := range map[string]bool{
		"2.10.29": true, "2.11.0": false, "2.11.0-RC.1": false, "2.15.2": false, "3.0.0": false, "1.99.9": true, "": false, "dev": false,
	} {
		if got := olderThan(v, "2.11.0"); got != want {
			t.Errorf("%q: got %v, want %v", v, got, want)
		}
	}
}

func TestBareURLs(t *testing.T) {
	got := BareURLs("nats://me:p@ss@h1:4222,tls://h2:4222,h3:1")
	if want := "nats://h1:4222,tls://h2:4222,h3:1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
