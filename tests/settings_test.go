package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestSiteSettings changes a site's window while the member runs: windows of its devices are trimmed at
// once, a device's own setting stays before the site's, another site goes by the fleet's, and all this
// holds after a stop in good order, and after a kill.
func TestSiteSettings(t *testing.T) {
	m := startMember(t, t.TempDir())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// send stores 30 readings of a device, one a second of that minute.
	send := func(site, device string, minute int) {
		t.Helper()
		var rows []string
		for i := range 30 {
			at := time.Date(2026, 3, 1, 0, minute, i, 0, time.UTC).Format(time.RFC3339)
			rows = append(rows, fmt.Sprintf(`{"device":%q,"time":%q,"values":[%d]}`, device, at, i))
		}
		var answer struct{ Stored bool }
		must(m.request(http.MethodPost, "/api/v1/sites/"+site+"/readings?wait=stored", "["+strings.Join(rows, ",")+"]", &answer))
		if !answer.Stored {
			t.Fatal("not stored")
		}
	}
	put := func(path, body string) {
		t.Helper()
		must(m.request(http.MethodPut, "/api/v1/sites/"+path+"/settings", body, nil))
	}
	const plain, own, other, later = "oil/devices/plain", "oil/devices/own", "gas/devices/other", "oil/devices/later"
	windows := func(want map[string]int) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			for device, n := range want {
				var window struct{ Readings []struct{ Time string } }
				if err := m.get("/api/v1/sites/"+device+"/window", &window); err != nil {
					return err
				}
				if len(window.Readings) != n {
					return fmt.Errorf("the window of %s has %d readings, want %d", device, len(window.Readings), n)
				}
			}
			return nil
		})
	}
	settings := func(want string) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			var got struct {
				Own, Settings struct{ WindowCount int }
				Everywhere    bool
			}
			err := m.get("/api/v1/sites/oil/settings", &got)
			if text := fmt.Sprint(got.Own.WindowCount, got.Settings.WindowCount, got.Everywhere); err == nil && text != want {
				return fmt.Errorf("own, in force, everywhere: got %s, want %s", text, want)
			}
			return err
		})
	}
	for _, device := range []string{"plain", "own"} {
		send("oil", device, 0)
	}
	send("gas", "other", 0)
	put(own, `{"windowCount":20}`)
	settings("0 60 true")
	windows(map[string]int{plain: 30, own: 20, other: 30})

	put("oil", `{"windowCount":7}`)
	settings("7 7 true")
	windows(map[string]int{plain: 7, own: 20, other: 30})
	send("oil", "plain", 1)
	send("oil", "later", 0)
	after := map[string]int{plain: 7, own: 20, other: 30, later: 7}
	windows(after)

	m.stop()
	m.start()
	settings("7 7 true")
	windows(after)

	put("oil", `{"windowCount":5}`)
	settings("5 5 true")
	m.kill()
	m.start()
	settings("5 5 true")
	send("oil", "later", 1)
	windows(map[string]int{plain: 5, own: 20, other: 30, later: 5})

	put("oil", `{}`)
	settings("0 60 true")
	send("oil", "later", 2)
	windows(map[string]int{plain: 5, own: 20, other: 30, later: 35}) // what has left a window does not come back
	var all struct{ Readings []struct{ Time string } }
	must(m.get("/api/v1/sites/"+plain+"/readings", &all))
	if len(all.Readings) != 60 {
		t.Errorf("the archive has %d readings of plain, want all 60", len(all.Readings))
	}
}
