package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
)

// clientFiles are the examples that docs/wire.md shows whole.
var clientFiles = []string{
	"publish.py", "publish.mjs", "publish.sh", "batch.py", "batch.mjs", "batch.sh", "subscribe.py", "subscribe.mjs", "subscribe.sh",
	"query.py", "query.mjs", "query.sh", "stored.py", "stored.mjs", "stored.sh", "processor.mjs",
}

// shownFile finds a link to an example with the block of code below it.
var shownFile = regexp.MustCompile("(?m)^\\[`([a-z.]+)`\\]\\(\\.\\./examples/clients/([a-z.]+)\\)[^\\n]*\\n\\n```[a-z]+\\n((?s:.*?))^```$")

// TestClientsAreShown wants docs/wire.md to show the examples byte for byte.
func TestClientsAreShown(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "wire.md"))
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, m := range shownFile.FindAllStringSubmatch(string(page), -1) {
		name := m[2]
		shown = append(shown, name)
		file, err := os.ReadFile(filepath.Join("..", "examples", "clients", name))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(string(file), m[3]); diff != "" || m[1] != name {
			t.Errorf("docs/wire.md shows %s as %s (-file +document):\n%s", name, m[1], diff)
		}
	}
	for _, name := range clientFiles {
		if !slices.Contains(shown, name) {
			t.Errorf("docs/wire.md does not show examples/clients/%s", name)
		}
	}
}

// clients runs the examples against a member.
type clients struct {
	t      *testing.T
	m      *member
	python string
	env    []string
	login  nats.Option
}

func newClients(t *testing.T) *clients {
	t.Helper()
	python, err := filepath.Abs(filepath.Join("..", ".cache", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"node", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Missing(t, program, "scripts/setup")
		}
	}
	if _, err := os.Stat(filepath.Join("..", "examples", "clients", "node_modules", "protobufjs")); err != nil {
		testenv.Missing(t, "npm modules of examples/clients", "scripts/setup")
	}
	generated := t.TempDir()
	protoc := exec.CommandContext(t.Context(), python, "-m", "grpc_tools.protoc", "-I", "../messages", "--python_out="+generated, "../messages/wellhead.proto")
	if text, err := protoc.CombinedOutput(); err != nil {
		testenv.Missing(t, "grpcio-tools ("+string(text)+")", "scripts/setup")
	}
	dir := t.TempDir()
	m := startMember(t, dir)
	password := m.addSite("demo", dir)
	return &clients{t: t, m: m, python: python, login: nats.UserInfo("demo", password), env: append(
		os.Environ(), "NATS="+m.nats, "NATS_USER=demo", "NATS_PASSWORD="+password, "HTTP="+m.http, "PYTHONPATH="+generated, "PYTHONDONTWRITEBYTECODE=1",
	)}
}

func (c *clients) command(ctx context.Context, name string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "./"+name)
	switch filepath.Ext(name) {
	case ".py":
		cmd = exec.CommandContext(ctx, c.python, name)
	case ".mjs":
		cmd = exec.CommandContext(ctx, "node", name)
	}
	cmd.Dir, cmd.Env = filepath.Join("..", "examples", "clients"), c.env
	return cmd
}

// run runs an example to its end, which must be good, and returns what it printed.
func (c *clients) run(name string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 90*time.Second)
	defer cancel()
	out, err := c.command(ctx, name).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// listener is an example that runs until it is stopped.
type listener struct {
	cmd *exec.Cmd
	out testenv.Output
}

func (l *listener) stop() {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// start starts an example and waits until it has printed ready.
func (c *clients) start(name, ready string) *listener {
	c.t.Helper()
	l := &listener{cmd: c.command(context.WithoutCancel(c.t.Context()), name)}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	if err := l.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(l.stop)
	c.hears(l, name, 1, ready)
	return l
}

// hears waits until a listener has printed a text at least n times.
func (c *clients) hears(l *listener, name string, n int, text string) {
	c.t.Helper()
	testenv.Eventually(c.t, 30*time.Second, func() error {
		if got := l.out.String(); strings.Count(got, text) < n {
			return fmt.Errorf("%s did not print %q %d times: %s", name, text, n, tail(got, 1000))
		}
		return nil
	})
}

type clientReading struct {
	Time   time.Time
	Values []*float64
	Note   string
}

// archived returns a device's readings in the archive, oldest first.
func (c *clients) archived(device string) []clientReading {
	c.t.Helper()
	var got struct{ Readings []clientReading }
	if err := c.m.get("/api/v1/sites/demo/devices/"+device+"/readings?from=0&limit=10000", &got); err != nil {
		c.t.Logf("readings of %s: %v", device, err)
	}
	return got.Readings
}

// has waits until the archive has n readings of a device with these values and note.
func (c *clients) has(n int, device, values, note string) {
	c.t.Helper()
	testenv.Eventually(c.t, 20*time.Second, func() error {
		if got := count(c.archived(device), values, note); got != n {
			return fmt.Errorf("the archive has %d readings %s %q of %s, want %d", got, values, note, device, n)
		}
		return nil
	})
}

// count counts the readings with these values, as JSON, and this note.
func count(readings []clientReading, values, note string) (n int) {
	for _, r := range readings {
		if v, _ := json.Marshal(r.Values); string(v) == values && r.Note == note {
			n++
		}
	}
	return n
}

// wants wants an example's output to have each of the texts.
func (c *clients) wants(name string, texts ...string) {
	c.t.Helper()
	out := c.run(name)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			c.t.Errorf("%s printed no %q: %s", name, text, tail(out, 2000))
		}
	}
}

// TestClients runs every example that docs/wire.md shows as a foreign process, with the site's credential,
// and wants each to do what the document says.
func TestClients(t *testing.T) {
	c := newClients(t)
	listeners := map[string]*listener{
		"subscribe.py":  c.start("subscribe.py", "listening"),
		"subscribe.mjs": c.start("subscribe.mjs", "listening"),
		"subscribe.sh":  c.start("subscribe.sh", "retry:"),
	}
	processor := c.start("processor.mjs", "caught up") // by then members know that somebody listens

	for name, note := range map[string]string{"publish.py": "from Python", "publish.mjs": "from Node"} {
		c.wants(name, "acknowledged: READINGS_58 ")
		c.has(1, "pump-1", "[210.25,null,3]", note)
	}
	c.wants("publish.sh", `"accepted":1,"stored":false`)
	c.has(1, "pump-1", "[210.25,null,3]", "from curl")
	for name, l := range listeners {
		for _, note := range []string{"from Python", "from Node", "from curl"} {
			c.hears(l, name, 1, note)
		}
	}

	c.batches()

	for i, name := range []string{"stored.py", "stored.mjs"} {
		c.wants(name, "acknowledged: READINGS_58 ", " up to 1\n")
		if got := count(c.archived("pump-1"), "[1.5,null,3]", "kept until stored"); got != i+1 { // at once: it was told to be stored
			t.Errorf("after %s the archive has %d readings that were said to be stored, want %d", name, got, i+1)
		}
	}
	c.wants("stored.sh", `"accepted":1,"stored":true`)

	c.derived()
	for _, name := range []string{"query.py", "query.mjs"} {
		c.wants(name, "latest: online [1.5,", "3] kept until stored\n", "window: 6 readings\n", "devices: 302\n")
	}
	c.wants("query.sh", `"status":"online"`, `"note":"from curl"`, `"device":"pump-1-power"`, `"device":"curl-100"`)

	c.rejected(listeners)
	processor.stop() // what comes meanwhile is made up for
	c.run("publish.py")
	processor = c.start("processor.mjs", "caught up")
	c.derived()
	c.m.kill() // the processor connects again
	c.m.start()
	c.hears(processor, "processor.mjs", 2, "caught up")
	c.run("publish.mjs")
	c.derived()
}

// rejected wants nothing to be rejected so far, sends what must be, and wants the listeners to say so.
func (c *clients) rejected(listeners map[string]*listener) {
	c.t.Helper()
	if n := c.m.counter("wellhead_rejects_total"); n != 0 {
		c.t.Errorf("%v of what the examples sent were rejected, want none", n)
	}
	nc, err := nats.Connect(c.m.nats, c.login, nats.CustomInboxPrefix("_INBOX_demo"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("readings.demo.pump-9", []byte("{nonsense"), 5*time.Second); err != nil {
		c.t.Fatal(err)
	}
	for name, text := range map[string]string{"subscribe.py": "pump-9 rejected 1 ", "subscribe.mjs": "pump-9 rejected 1 ", "subscribe.sh": "event: rejected"} {
		c.hears(listeners[name], name, 1, text)
	}
}

// batches runs the examples of batches, and wants all readings to be there and each batch to be accounted for.
func (c *clients) batches() {
	c.t.Helper()
	for name, device := range map[string]string{"batch.py": "py-7", "batch.mjs": "js-7"} {
		out := c.run(name)
		var batches int
		var run string
		if _, err := fmt.Sscanf(out, "acknowledged: %d batches of run %s", &batches, &run); err != nil {
			c.t.Fatalf("%s printed %s: %v", name, out, err)
		}
		c.has(1, device, "[7,null,0]", "first")
		c.has(1, device, "[7,null,0.25]", "")
		c.has(1, device, "[7,null,0.5]", "")
		producer := strings.NewReplacer(".py", "-py", ".mjs", "-js").Replace(name)
		testenv.Eventually(c.t, 20*time.Second, func() error { return c.accounted(producer, run, batches) })
	}
	c.wants("batch.sh", `"accepted":100`)
	testenv.Eventually(c.t, 20*time.Second, func() error {
		var list struct {
			Devices []struct {
				Device string
				Counts struct{ InOrder int }
			}
		}
		if err := c.m.get("/api/v1/sites/demo/devices?limit=1000", &list); err != nil {
			return err
		}
		got := map[string]int{}
		for _, d := range list.Devices {
			kind, _, _ := strings.Cut(d.Device, "-")
			got[kind] += d.Counts.InOrder
		}
		delete(got, "pump")
		if diff := cmp.Diff(map[string]int{"py": 300, "js": 300, "curl": 100}, got); diff != "" {
			return fmt.Errorf("readings in order (-want +got):\n%s", diff)
		}
		return nil
	})
}

// accounted wants a run's first batch to be stored in as many shards as there were batches.
func (c *clients) accounted(producer, run string, batches int) error {
	nc, err := nats.Connect(c.m.nats, c.login, nats.CustomInboxPrefix("_INBOX_demo"))
	if err != nil {
		return err
	}
	defer nc.Close()
	answer, err := nc.Request("query.stored.demo."+producer, nil, 5*time.Second)
	if err != nil {
		return err
	}
	var list []struct {
		Run     string
		Through int
	}
	if err := json.Unmarshal(answer.Data, &list); err != nil {
		return err
	}
	stored := 0
	for _, s := range list {
		if s.Run == run && s.Through == 1 {
			stored++
		}
	}
	if stored != batches {
		return fmt.Errorf("%s: %d of %d batches of run %s are stored: %s", producer, stored, batches, run, tail(string(answer.Data), 500))
	}
	return nil
}

// derived wants a derived reading for each of the pump, with its time and the product of channels 0 and 2.
func (c *clients) derived() {
	c.t.Helper()
	testenv.Eventually(c.t, 30*time.Second, func() error {
		type power struct {
			Time  time.Time
			Value float64
		}
		var want, got []power
		for _, r := range c.archived("pump-1") {
			want = append(want, power{r.Time, *r.Values[0] * *r.Values[2]})
		}
		for _, r := range c.archived("pump-1-power") {
			got = append(got, power{r.Time, *r.Values[0]})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("readings of pump-1-power (-want +got):\n%s", diff)
		}
		return nil
	})
}
