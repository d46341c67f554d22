package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/wellhead/wellhead/internal/testenv"
)

// project is a compose file whose services run as plain processes: each has a loopback address of its own in the
// place of its host name, so all keep their ports.
type project struct {
	t        *testing.T
	services types.Services
	subnet   string            // 127.a.b
	address  map[string]string // of a service, 127.a.b.n
	dir      string            // volumes and files, by service
	started  map[string]bool
	running  map[string]*process
	programs map[string]string // path of what an image runs, by the image's name
}

// process is a service that was started here.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it has ended
}

// loadProject reads the file as `docker compose` does without profiles.
func loadProject(t *testing.T, file string) *project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithName("wellhead"))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("compose-go does not take %s: %v", file, err)
	}
	p := &project{
		t: t, services: loaded.Services, address: map[string]string{}, dir: t.TempDir(),
		started: map[string]bool{}, running: map[string]*process{}, programs: map[string]string{},
	}
	p.subnet = fmt.Sprintf("127.%d.%d", 64+rand.IntN(128), rand.IntN(256))
	for i, name := range slices.Sorted(maps.Keys(p.services)) {
		p.address[name] = fmt.Sprintf("%s.%d", p.subnet, i+1)
	}
	return p
}

// build makes the programs of images that are built from Go here.
func (p *project) build() {
	p.t.Helper()
	root := filepath.Join("..", "..")
	for image, what := range map[string]string{"wellhead": "./cmd/wellhead", "nats": "github.com/nats-io/nats-server/v2"} {
		out := filepath.Join(p.dir, image)
		if given := os.Getenv("WELLHEAD_BINARY"); image == "wellhead" && given != "" {
			p.programs[image] = given
			continue
		}
		build := exec.CommandContext(p.t.Context(), "go", "build", "-o", out, what)
		build.Dir = root
		if text, err := build.CombinedOutput(); err != nil {
			p.t.Fatalf("build %s: %v: %s", what, err, text)
		}
		p.programs[image] = out
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		testenv.Missing(p.t, "redis-server", "apt-get install redis-server")
	}
	p.programs["redis"] = redis
}

// up starts a service after those it depends on, and waits until it answers.
func (p *project) up(name string) {
	p.t.Helper()
	if p.started[name] {
		return
	}
	p.started[name] = true
	s := p.services[name]
	for _, other := range slices.Sorted(maps.Keys(s.DependsOn)) {
		p.up(other)
	}
	begin := time.Now()
	switch image(&s) {
	case "cassandra":
		p.startCassandra(&s)
	case "nats":
		p.start(&s, nil)
		p.await(name, 30*time.Second, func() error { return dial(p.address[name] + ":4222") })
	case "redis":
		p.start(&s, []string{"--bind", p.address[name], "--dir", p.dir})
		p.await(name, 30*time.Second, func() error { return dial(p.address[name] + ":6379") })
	case "wellhead":
		p.start(&s, nil)
		p.await(name, 3*time.Minute, func() error { return get("http://" + p.address[name] + ":8080/readyz") })
	default:
		p.t.Fatalf("service %s runs image %s, which is not known here", name, s.Image)
	}
	p.t.Logf("%s is there after %v", name, time.Since(begin).Round(100*time.Millisecond))
}

func image(s *types.ServiceConfig) string { name, _, _ := strings.Cut(s.Image, ":"); return name }

// start runs a service's command with its environment and nothing else of ours.
func (p *project) start(s *types.ServiceConfig, more []string) {
	p.t.Helper()
	program, args := p.programs[image(s)], slices.Clone([]string(s.Command))
	if len(args) > 0 && args[0] == filepath.Base(program) {
		args = args[1:] // an image without an entry point
	}
	for i, arg := range args {
		args[i] = p.local(s, arg)
	}
	cmd := exec.Command(program, append(args, more...)...)
	cmd.Env, cmd.Dir = p.environment(s), p.dir
	log, err := os.Create(filepath.Join(p.dir, s.Name+".log"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.mount(s)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	run := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(run.done)
	}()
	p.running[s.Name] = run
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-run.done
		log.Close()
		if p.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			p.t.Logf("end of %s:\n%s", log.Name(), text[max(0, len(text)-3000):])
		}
	})
}

func (p *project) startCassandra(s *types.ServiceConfig) {
	p.t.Helper()
	value := func(name string) string {
		v := s.Environment[name]
		if v == nil {
			p.t.Fatalf("service %s has no %s in its environment", s.Name, name)
		}
		return *v
	}
	tokens, err := strconv.Atoi(value("CASSANDRA_NUM_TOKENS"))
	if err != nil {
		p.t.Fatal(err)
	}
	heap, err := strconv.Atoi(strings.TrimSuffix(value("MAX_HEAP_SIZE"), "G"))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer cancel()
	server, err := testenv.StartCassandra(ctx, filepath.Join(p.dir, s.Name), testenv.CassandraOptions{
		Host: p.address[s.Name], Port: 9042, StoragePort: 7000, HeapMB: heap << 10, Cluster: value("CASSANDRA_CLUSTER_NAME"),
		Seeds: net.JoinHostPort(p.address[value("CASSANDRA_SEEDS")], "7000"), Tokens: tokens, RingDelay: 2 * time.Second,
	})
	if errors.Is(err, testenv.ErrMissing) {
		testenv.Missing(p.t, "Cassandra", "scripts/fetch-cassandra")
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = server.Kill() })
}

// environment is the service's, with local addresses and paths. A service's own name stays as it is.
func (p *project) environment(s *types.ServiceConfig) []string {
	var out []string
	for name, v := range s.Environment {
		if v == nil {
			continue
		}
		text := *v
		if !strings.HasSuffix(name, "_NAME") {
			text = p.local(s, text)
		}
		out = append(out, name+"="+text)
	}
	return out
}

// local is a text as it must be here: host names are addresses, "everywhere" is the service's own address, and
// mounted paths lie in the service's folder.
func (p *project) local(s *types.ServiceConfig, text string) string {
	for name, address := range p.address {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).ReplaceAllString(text, address)
	}
	text = strings.ReplaceAll(text, "0.0.0.0", p.address[s.Name])
	for _, v := range s.Volumes {
		mounted := regexp.MustCompile(`(^|[\s"'=])` + regexp.QuoteMeta(v.Target) + `($|[\s"'/])`)
		text = mounted.ReplaceAllString(text, "${1}"+p.mounted(s, v.Target)+"${2}")
	}
	return text
}

func (p *project) mounted(s *types.ServiceConfig, target string) string {
	return filepath.Join(p.dir, "of-"+s.Name, target)
}

// mount makes the service's volumes, and copies of the files that are bound into it.
func (p *project) mount(s *types.ServiceConfig) {
	p.t.Helper()
	for _, v := range s.Volumes {
		place := p.mounted(s, v.Target)
		if v.Type != types.VolumeTypeBind {
			if err := os.MkdirAll(place, 0o700); err != nil {
				p.t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(v.Source)
		if err != nil {
			p.t.Fatalf("what service %s binds: %v", s.Name, err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o700), os.WriteFile(place, []byte(p.local(s, string(text))), 0o600)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// await waits until the service answers, while its process runs.
func (p *project) await(name string, within time.Duration, answers func() error) {
	p.t.Helper()
	testenv.Eventually(p.t, within, func() error {
		select {
		case <-p.running[name].done:
			p.t.Fatalf("%s has ended", name)
		default:
		}
		return answers()
	})
}

// alone starts an embedded member beside the project, and returns its HTTP address.
func (p *project) alone() string {
	p.t.Helper()
	const name = "alone"
	ip := p.subnet + ".200"
	p.address[name] = ip
	s := types.ServiceConfig{Name: name}
	s.Image = "wellhead:local"
	s.Command = types.ShellCommand{
		"serve", "--data", filepath.Join(p.dir, name), "--http", ip + ":8080", "--nats", ip + ":4222", "--mqtt", ip + ":1883",
	}
	p.start(&s, nil)
	p.await(name, time.Minute, func() error { return get("http://" + ip + ":8080/readyz") })
	return "http://" + ip + ":8080"
}

// stop sends SIGTERM and wants the service to end well within the time that compose gives it.
func (p *project) stop(name string) {
	p.t.Helper()
	run, grace := p.running[name], time.Duration(*p.services[name].StopGracePeriod)
	begin := time.Now()
	if err := run.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-run.done:
	case <-time.After(grace):
		p.t.Fatalf("%s did not end within %v of SIGTERM", name, grace)
	}
	if code := run.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("%s ended with %d after SIGTERM", name, code)
	}
	p.t.Logf("%s ended %v after SIGTERM", name, time.Since(begin).Round(100*time.Millisecond))
}

// wellhead runs a subcommand and wants exit code 0.
func (p *project) wellhead(args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.programs["wellhead"], args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("wellhead %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}

func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// get wants status 200.
func get(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
