package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// second is what was seen of the member in one second of an overload run.
type second struct {
	at       int     // since the load began
	memory   float64 // VmRSS, MiB
	taken    float64 // readings decided by devices, a second
	inFlight float64 // MiB
	p99      float64 // of questions, ms; 0 = none was answered
	asked    int
}

// TestOverload offers ten times of what the archive is held to, with streams so small that they fill after a
// fifth of the time, and stops the archive from half of it to seven tenths: questions are answered all the
// time, memory stays flat, and all that was acknowledged is stored in the end. OVERLOAD=10m runs it in full and
// draws docs/overload.svg (make overload); OVERLOAD=60s is the short form.
func TestOverload(t *testing.T) {
	const rate, devices = 2000, 500
	const valueBytes, leastStream = 3.25, float64(16 << 20) // of a value in the stream, measured; what a stream has at least
	length, err := time.ParseDuration(os.Getenv("OVERLOAD"))
	if err != nil {
		t.Skip("set OVERLOAD=60s, or run make overload")
	}
	seconds := int(length / time.Second)
	// A fifth of the time fills the stream: of a long run its size is made for that, of a short one the readings are.
	surplus := 9 * rate * seconds / 5
	streamBytes := int(max(leastStream, 4*valueBytes*float64(surplus)))
	channels := min(64, max(4, int(leastStream/valueBytes/float64(surplus))+1))
	m := startHeld(t, rate, length, map[string]string{
		"WELLHEAD_SHARDS": "1", "WELLHEAD_STREAM_MAX_BYTES": strconv.Itoa(streamBytes),
		"WELLHEAD_WORK_FLUSH_BYTES": "32KiB", "WELLHEAD_LIMITS_IN_FLIGHT": "128MiB",
		"WELLHEAD_WORK_SNAPSHOT_WITHIN": "5s", "WELLHEAD_WORK_PURGE_EVERY": "1s",
		// as the streams: what takes half an hour to fill would look like growth
		"WELLHEAD_PEBBLE_MEMTABLE": "4MiB", "WELLHEAD_PEBBLE_CACHE": "8MiB",
	})
	// held for the whole time and filling the streams at once, this is what goes in
	readings := rate * seconds * 26 / 10 / devices
	load := exec.CommandContext(t.Context(), os.Args[0])
	load.Args = []string{
		"wellhead", "simulate", "--server", m.nats, "--site", "load", "--devices", strconv.Itoa(devices), "--readings", strconv.Itoa(readings), "--channels", strconv.Itoa(channels),
		"--rate", strconv.Itoa(10*rate) + "/s", "--json",
	}
	var sent, loadErr bytes.Buffer
	load.Stdout, load.Stderr = &sent, &loadErr
	begun := time.Now()
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- load.Wait() }()
	shown := m.watch(t, seconds, begun, devices)
	select {
	case err = <-ended:
	case <-time.After(length + 2*time.Minute):
		t.Fatal("the load does not end")
	}
	if err != nil {
		t.Fatalf("simulate: %v\n%s", err, loadErr.String())
	}
	var out sending
	if err := json.Unmarshal(sent.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	m.verify(t, out.Verify)
	recovered := time.Since(begun) - length
	t.Logf("%d readings acknowledged in %.0f s, all stored; verified %.0f s after the archive was let go", out.Acknowledged, out.Seconds, recovered.Seconds())
	if free := float64(out.Sent) / (10 * rate); out.Seconds < 2*free {
		t.Errorf("the load ended after %.0f s, %.0f s without an overload: the streams never filled", out.Seconds, free)
	}
	judge(t, shown, seconds)
	if to := os.Getenv("OVERLOAD_PLOT"); to != "" {
		title := fmt.Sprintf("overload: archive held to %d readings/s, %d offered, for %v", rate, 10*rate, length)
		if length < 10*time.Minute {
			title += " (short form)"
		}
		if err := os.WriteFile(to, plotOverload(title, shown, seconds), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// judge holds what was seen against what is promised.
func judge(t *testing.T, shown []second, seconds int) {
	t.Helper()
	var memory, p99 []float64
	for _, s := range shown {
		if s.asked == 0 && s.at > 2 {
			t.Errorf("second %d: no question was answered", s.at)
		}
		p99 = append(p99, s.p99)
		if s.at >= seconds/5 {
			memory = append(memory, s.memory)
		}
	}
	if len(memory) == 0 {
		t.Fatal("nothing was seen")
	}
	slices.Sort(p99)
	least, most := slices.Min(memory), slices.Max(memory)
	t.Logf("memory from a fifth of the time on: %.0f to %.0f MiB; p99 of questions by second: half below %.0f ms, worst %.0f ms", least, most, p99[len(p99)/2], p99[len(p99)-1])
	// A minute is too short for the heap to find its size, and the machine may be busy: only the long form is strict.
	flat, slow := 1.1/0.9, 100.0
	if seconds < 600 {
		flat, slow = 2, 1000
	}
	if most > flat*least {
		t.Errorf("memory is not flat: %.0f to %.0f MiB", least, most)
	}
	if worst := p99[len(p99)-1]; worst > slow {
		t.Errorf("questions took up to %.0f ms (p99 of the worst second), want %.0f", worst, slow)
	}
}

// heldMember is a member that runs as a process of its own.
type heldMember struct {
	http, nats string
	pid        int
}

func startHeld(t *testing.T, rate int, length time.Duration, env map[string]string) *heldMember {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command(os.Args[0])
	c.Args = []string{"wellhead-held", "--data", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--name", "held"}
	c.Env = append(os.Environ(), heldRate+"="+strconv.Itoa(rate), heldFor+"="+length.String())
	for name, value := range env {
		c.Env = append(c.Env, name+"="+value)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		dead := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		dead.Stop()
		if data, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("end of the member's log:\n%s", data[max(0, len(data)-4000):])
		}
		log.Close()
	})
	m := &heldMember{pid: c.Process.Pid}
	lines := bufio.NewScanner(out)
	address := regexp.MustCompile(`^\s+(page|NATS)\s+(\S+)`)
	for (m.http == "" || m.nats == "") && lines.Scan() {
		if found := address.FindStringSubmatch(lines.Text()); found != nil && found[1] == "page" {
			m.http = strings.TrimSuffix(found[2], "/")
		} else if found != nil {
			m.nats = found[2]
		}
	}
	if m.nats == "" {
		t.Fatal("the member did not start")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return m
}

// watch looks at the member each second while others ask it for latest readings.
func (m *heldMember) watch(t *testing.T, seconds int, begun time.Time, devices int) []second {
	var mu sync.Mutex
	var took []float64 // ms, since the last look
	stop := make(chan struct{})
	var asking sync.WaitGroup
	client := &http.Client{Timeout: 5 * time.Second}
	asking.Go(func() {
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-every.C:
			}
			from := time.Now()
			status, _, err := get(client, fmt.Sprintf("%s/api/v1/sites/load/devices/dev-%06d/latest", m.http, 1+n*7%devices))
			if err == nil && status == http.StatusOK {
				mu.Lock()
				took = append(took, float64(time.Since(from).Microseconds())/1000)
				mu.Unlock()
			}
		}
	})
	defer asking.Wait()
	defer close(stop)
	var shown []second
	var before float64
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for at := 1; at <= seconds; at++ {
		<-every.C
		s := second{at: int(time.Since(begun).Round(time.Second) / time.Second), memory: memoryOf(t, m.pid)}
		if _, text, err := get(client, m.http+"/metrics"); err == nil {
			sum := figure(text, "wellhead_readings_total")
			s.taken, before = max(0, sum-before), sum
			s.inFlight = figure(text, "wellhead_in_flight_bytes") / (1 << 20)
		}
		mu.Lock()
		slices.Sort(took)
		if s.asked = len(took); s.asked > 0 {
			s.p99 = took[(s.asked*99-1)/100]
		}
		took = took[:0]
		mu.Unlock()
		shown = append(shown, s)
	}
	return shown
}

// verify runs the command that simulate gave, which reads everything back.
func (m *heldMember) verify(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	for i := range args {
		if i > 0 && args[i-1] == "--server" {
			args[i] = m.http
		}
	}
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Args = append(args, "--wait", "5m")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

func get(client *http.Client, url string) (status int, body string, err error) {
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

// figure adds up a metric over its labels.
func figure(text, name string) (sum float64) {
	for _, line := range strings.Split(text, "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return sum
}

// memoryOf is a process's VmRSS in MiB.
func memoryOf(t *testing.T, pid int) float64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// plotOverload draws three panels, one over the other, with the time when the archive was stopped in grey.
func plotOverload(title string, shown []second, seconds int) []byte {
	const left, width, height, gap = 70, 700, 120, 46
	var b bytes.Buffer
	panels := []struct {
		name string
		of   func(s *second) float64
	}{
		{"memory (VmRSS), MiB", func(s *second) float64 { return s.memory }},
		{"readings taken by devices, 1/s", func(s *second) float64 { return s.taken }},
		{"p99 of questions for the latest reading, ms", func(s *second) float64 { return s.p99 }},
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+30, 40+len(panels)*(height+gap))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="20" font-size="14">%s</text>`+"\n", left, title)
	for i, p := range panels {
		top, most := 50+i*(height+gap), 1.0
		for n := range shown {
			most = max(most, p.of(&shown[n]))
		}
		x := func(at float64) float64 { return left + at*width/float64(seconds) }
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#ddd"/>`, x(float64(seconds)/2), top, x(float64(seconds)*0.7)-x(float64(seconds)/2), height)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999"/>`, left, top, width, height)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text><text x="%d" y="%d" text-anchor="end">%.0f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
			left, top-6, p.name, left-6, top+10, most, left-6, top+height)
		b.WriteString(`<polyline fill="none" stroke="#06c" stroke-width="1.5" points="`)
		for n := range shown {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(float64(shown[n].at)), float64(top+height)-p.of(&shown[n])*height/most)
		}
		b.WriteString("\"/>\n")
		fmt.Fprintf(&b, `<text x="%d" y="%d">0</text><text x="%d" y="%d" text-anchor="end">%d s</text>`+"\n", left, top+height+14, left+width, top+height+14, seconds)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
