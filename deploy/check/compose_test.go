package check

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestCompose starts what compose.yaml says, command by command, as plain processes: the same commands, files and
// environment, only host names and paths are those of this machine. A fleet is sent, read back and compared, every metric
// that a dashboard or an alert names is looked for there and at an embedded member, and a member is stopped as compose would.
func TestCompose(t *testing.T) {
	p := loadProject(t, filepath.Join("..", "compose.yaml"))
	services := slices.Sorted(maps.Keys(p.services))
	want := []string{
		"cassandra-1", "cassandra-2", "cassandra-3", "nats-1", "nats-2", "nats-3", "redis-1", "wellhead-1", "wellhead-2", "wellhead-3",
	}
	if !slices.Equal(services, want) {
		t.Fatalf("the services are %v, want %v", services, want)
	}
	p.build()
	for _, name := range services {
		p.up(name)
	}
	creds := filepath.Join(p.dir, "demo.creds")
	if err := os.WriteFile(creds, []byte("site: demo\npassword: of-demo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := []string{"--site", "demo", "--devices", "200", "--channels", "4", "--seed", "7", "--interval", "1s", "--readings", "30", "--start", "2026-01-01T00:00:00Z"}
	p.wellhead(append([]string{"simulate", "--server", "nats://" + p.address["nats-1"] + ":4222", "--creds", creds, "--rate", "1000/s"}, sent...)...)
	member := func(n int) string { return fmt.Sprintf("http://%s:8080", p.address[fmt.Sprint("wellhead-", n)]) }
	p.wellhead(append([]string{"verify", "simulate", "--server", member(2), "--wait", "90s"}, sent...)...)

	t.Run("metrics", func(t *testing.T) {
		testenv.Eventually(t, time.Minute, func() error {
			for n := 1; n <= 3; n++ {
				if err := wantSeries(member(n)+"/metrics", "wellhead_cassandra_up", "wellhead_cluster_members", map[string]float64{
					fmt.Sprintf("wellhead_cassandra_up{server=%q}", p.address["cassandra-1"]+":9042"): 1,
					fmt.Sprintf("wellhead_cassandra_up{server=%q}", p.address["cassandra-2"]+":9042"): 1,
					fmt.Sprintf("wellhead_cassandra_up{server=%q}", p.address["cassandra-3"]+":9042"): 1,
					"wellhead_cluster_members": 3,
				}); err != nil {
					return err
				}
			}
			return nil
		})
		alone := p.alone()
		wantNamed(t, alone+"/metrics", member(1)+"/metrics", member(2)+"/metrics", member(3)+"/metrics")
	})
	p.stop("wellhead-3")
	p.wellhead(append([]string{"verify", "simulate", "--server", member(1), "--wait", "90s"}, sent...)...)
}

// TestComposeFile reads all of the file, monitoring too: what is bound must be there, what is pulled must have a version.
func TestComposeFile(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "compose.yaml")}, cli.WithName("wellhead"), cli.WithProfiles([]string{"monitoring"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(project.Services); n != 13 {
		t.Errorf("got %d services, want 13", n)
	}
	for name, s := range project.Services {
		if _, version, ok := strings.Cut(s.Image, ":"); !ok || version == "latest" {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				t.Errorf("%s binds what is not there: %v", name, err)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q, want loopback only", name, port.Published, port.HostIP)
			}
		}
	}
}
