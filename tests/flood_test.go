package tests

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFlood has one site post as much as it can over HTTP, on many connections, while another posts a
// reading now and then. The quiet site's p99 stays within three times of what it is without the flood,
// both until the acknowledgement and until the reading is stored.
func TestFlood(t *testing.T) {
	m := startMember(t, t.TempDir())
	span := outage(t, 6*time.Second)
	m.postsFor(2*time.Second, "") // warm
	quietAck, quietStored := m.postsFor(span, ""), m.postsFor(span, "?wait=stored")

	stop := make(chan struct{})
	var flood sync.WaitGroup
	var taken, refused, failed atomic.Int64
	for client := range 32 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch status, wait := m.postMany(client, n); {
				case status == http.StatusOK:
					taken.Add(1)
				case status == http.StatusTooManyRequests && wait != "":
					refused.Add(1)
				default:
					failed.Add(1)
				}
			}
		})
	}
	floodAck, floodStored := m.postsFor(span, ""), m.postsFor(span, "?wait=stored")
	close(stop)
	flood.Wait()
	t.Logf("the flood: %d requests of 1000 readings taken, %d refused, %d failed", taken.Load(), refused.Load(), failed.Load())
	if taken.Load() < 20 || failed.Load() > 0 {
		t.Errorf("the flood: %d requests taken, %d failed; want a flood, and 429 with Retry-After at worst", taken.Load(), failed.Load())
	}
	wantClose(t, "acknowledged", quietAck, floodAck)
	wantClose(t, "stored", quietStored, floodStored)
}

// wantClose compares the 99th percentiles.
func wantClose(t *testing.T, what string, quiet, flood []time.Duration) {
	t.Helper()
	const times = 3
	p := func(list []time.Duration, percent int) time.Duration { return list[len(list)*percent/100] }
	t.Logf("%s: quiet p50 %v p99 %v (%d), in the flood p50 %v p99 %v (%d)", what,
		p(quiet, 50), p(quiet, 99), len(quiet), p(flood, 50), p(flood, 99), len(flood))
	if p(flood, 99) > times*p(quiet, 99) {
		t.Errorf("%s: p99 of the quiet site is %v in the flood, and %v without: want at most %d times", what, p(flood, 99), p(quiet, 99), times)
	}
}

// postsFor posts one reading of site quiet every 20 ms and returns how long each took, sorted.
func (m *member) postsFor(span time.Duration, query string) []time.Duration {
	m.t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var posts sync.WaitGroup
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(span); time.Now().Before(end); <-tick.C {
		posts.Go(func() {
			at := time.Now()
			body := fmt.Sprintf(`{"device":"pump","time":%d,"values":[1,2]}`, at.UnixMilli())
			resp, err := http.Post(m.http+"/api/v1/sites/quiet/readings"+query, "application/json", strings.NewReader(body))
			if err != nil {
				m.t.Error(err)
				return
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				m.t.Errorf("the quiet site is refused: %s: %s", resp.Status, text)
			}
			mu.Lock()
			took = append(took, time.Since(at))
			mu.Unlock()
		})
	}
	posts.Wait()
	slices.Sort(took)
	return took
}

// floodStart is the first event time of the flood, in Unix seconds.
const floodStart = 1_772_323_200

// floodBody has a thousand readings of a hundred devices, with @ for the client and # for the second.
var floodBody = func() string {
	var rows []string
	for i := range 1000 {
		rows = append(rows, fmt.Sprintf(`{"device":"d-@-%d","time":#%d00,"values":[%d,1.5,2.25]}`, i%100, i/100, i))
	}
	return "[" + strings.Join(rows, ",") + "]"
}()

// postMany posts 1000 readings of the site that floods.
func (m *member) postMany(client, n int) (status int, retryAfter string) {
	body := strings.NewReplacer("@", strconv.Itoa(client), "#", strconv.Itoa(floodStart+n)).Replace(floodBody)
	resp, err := http.Post(m.http+"/api/v1/sites/flood/readings", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After")
}
