package tests

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// subscriber is a foreign client: it listens to a site's events, says when it does, and then publishes
// a reading as a request.
const subscriber = `
import asyncio, nats, sys

async def main():
    nc = await nats.connect(sys.argv[1])
    first = asyncio.Event()
    async def heard(m):
        print(m.subject, m.data.decode(), flush=True)
        first.set()
    await nc.subscribe("events.demo.>", cb=heard)
    await nc.flush()
    # A member looks who listens once a second: what comes before that is not said.
    for _ in range(15):
        ack = await nc.request("readings.demo.pump-1", b'{"values":[1,null,3],"note":"hi"}', timeout=5)
        print("ack", ack.data.decode(), flush=True)
        try:
            await asyncio.wait_for(first.wait(), 1)
            break
        except asyncio.TimeoutError:
            pass
    await asyncio.sleep(30)

asyncio.run(main())
`

// TestForeignClients sends one reading by nats-py as a request and one by mosquitto_pub, asks for both
// by command and HTTP, and wants a foreign subscriber to hear both.
func TestForeignClients(t *testing.T) {
	python, err := filepath.Abs(filepath.Join("..", ".cache", "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		testenv.Missing(t, "nats-py", "scripts/setup")
	}
	mosquitto, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		testenv.Missing(t, "mosquitto_pub", "apt-get install mosquitto-clients")
	}
	m := startMember(t, t.TempDir())
	client := exec.CommandContext(t.Context(), python, "-c", subscriber, m.nats)
	client.Stderr = os.Stderr
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = client.Process.Kill()
		_ = client.Wait()
	})
	hear(t, lines, "ack", `"seq"`)
	hear(t, lines, "events.demo.pump-1.reading", `"values":[1,null,3]`)
	host, port, _ := strings.Cut(m.mqtt, ":")
	publish := exec.CommandContext(t.Context(), mosquitto, "-h", host, "-p", port, "-q", "1", "-t", "readings/demo/pump-2", "-m", `{"values":[7]}`)
	if text, err := publish.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, text)
	}
	hear(t, lines, "events.demo.pump-2.reading", `"values":[7]`)
	for device, want := range map[string]string{"pump-1": "[1 <nil> 3] hi", "pump-2": "[7] "} {
		testenv.Eventually(t, 10*time.Second, func() error {
			var latest struct {
				Reading struct {
					Values []any
					Note   string
				}
			}
			if err := m.get("/api/v1/sites/demo/devices/"+device+"/latest", &latest); err != nil {
				return err
			}
			if got := fmt.Sprint(latest.Reading.Values, " ", latest.Reading.Note); got != want {
				return fmt.Errorf("latest of %s: got %s, want %s", device, got, want)
			}
			return nil
		})
	}
	if text, code := run(t, "query", "demo", "pump-1", "--server", m.http); code != 0 || !strings.Contains(text, "hi") {
		t.Errorf("wellhead query: exit %d, and no note: %s", code, text)
	}
}

// hear waits for a line that begins with one text and has another in it.
func hear(t *testing.T, lines <-chan string, begins, has string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the subscriber ended before it said %s … %s", begins, has)
			}
			if strings.HasPrefix(line, begins) && strings.Contains(line, has) {
				return
			}
		case <-deadline:
			t.Fatalf("the subscriber did not say %s … %s", begins, has)
		}
	}
}

// TestMalformed posts and publishes what is wrong in every way: each is counted and kept, whoever can
// hear it gets a clear error, and the good readings beside it are stored.
func TestMalformed(t *testing.T) {
	m := startMember(t, t.TempDir())
	for body, want := range map[string]string{
		`{"device":"p","values":[1,}`:                    "",
		`{"device":"p","values":[1],"colour":"red"}`:     "colour",
		`{"device":"p","values":["NaN"]}`:                "",
		`{"device":"no name","values":[1]}`:              "name",
		`{"device":"p","time":"yesterday","values":[1]}`: "time",
	} {
		err := m.request("POST", "/api/v1/sites/bad/readings", body, nil)
		if err == nil || !strings.Contains(err.Error(), " 400 ") || !strings.Contains(err.Error(), want) {
			t.Errorf("POST %s: got %v, want a 400 that speaks of %q", body, err, want)
		}
	}
	good := `[{"device":"p","time":1767225600000,"values":[1]},{"device":"p","values":"x"},{"device":"q","time":1767225600000,"values":[2]}]`
	var answer struct{ Accepted int }
	if err := m.request("POST", "/api/v1/sites/bad/readings?wait=stored", good, &answer); err != nil || answer.Accepted != 2 {
		t.Errorf("POST of two good and a bad one: accepted %d, error %v; want 2", answer.Accepted, err)
	}
	mosquitto, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		testenv.Missing(t, "mosquitto_pub", "apt-get install mosquitto-clients")
	}
	host, port, _ := strings.Cut(m.mqtt, ":")
	kinds := []string{
		`{"values":[1,}`, `{"values":[1],"x":2}`, `nonsense`, `{"values":[1e999]}`, `[{"values":[1]}]`,
		`{"time":99999999999999,"values":[1]}`, `{"time":"2999-01-01T00:00:00Z","values":[1]}`,
		`{"values":[` + strings.Repeat("1,", 64) + `1]}`, `{"values":[1],"note":"` + strings.Repeat("x", 1025) + `"}`,
	}
	for _, body := range kinds {
		cmd := exec.CommandContext(t.Context(), mosquitto, "-h", host, "-p", port, "-q", "1", "-t", "readings/bad/p", "-m", body)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, text)
		}
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		if got := m.counter("wellhead_rejects_total"); got != float64(len(kinds)) {
			return fmt.Errorf("rejects: got %v, want %d", got, len(kinds))
		}
		return nil
	})
	var readings struct{ Readings []any }
	if err := m.get("/api/v1/sites/bad/devices/p/readings", &readings); err != nil || len(readings.Readings) != 1 {
		t.Errorf("readings of p: got %d, error %v; want the one good one", len(readings.Readings), err)
	}
}
