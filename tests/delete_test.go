package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestDeleteEmbedded deletes a device and a whole site and wants both to stay deleted after every kind of start.
func TestDeleteEmbedded(t *testing.T) {
	dir := t.TempDir()
	snapshots, older := filepath.Join(dir, "snapshots"), filepath.Join(t.TempDir(), "snapshots")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m := startMember(t, dir)
	d := deletions{m: m}
	d.fill()
	m.stop()
	must(os.CopyFS(older, os.DirFS(snapshots)))
	m.start()
	d.check()
	d.deleteAll()
	for _, between := range []struct {
		what string
		do   func()
	}{
		{"nothing", func() {}},
		{"older snapshots", func() {
			must(os.RemoveAll(snapshots))
			must(os.CopyFS(snapshots, os.DirFS(older)))
		}},
		{"no snapshots: all is rebuilt from the archive", func() { must(os.RemoveAll(snapshots)) }},
		{"the stream made anew", func() { must(os.RemoveAll(filepath.Join(dir, "stream"))) }},
		{"stream made anew and no snapshots", func() {
			must(os.RemoveAll(filepath.Join(dir, "stream")))
			must(os.RemoveAll(snapshots))
		}},
	} {
		t.Log("between a kill and the next start:", between.what)
		m.kill()
		between.do()
		m.start()
		d.check()
	}
	m.stop()
	m.start()
	d.check()
	d.sendAgain(2)
	m.kill()
	m.start()
	d.check()
	m.kill()
	must(os.RemoveAll(snapshots))
	must(os.CopyFS(snapshots, os.DirFS(older)))
	m.start()
	d.check()
	d.send("gone", 3*deletedDevices, 3)
	d.tellSite() // and a kill in the midst of it
	m.kill()
	m.start()
	d.check()
}

// TestDeleteCassandraRedis is the same on real Cassandra and Redis.
func TestDeleteCassandraRedis(t *testing.T) {
	cassandra, redis := testenv.Cassandra(t), testenv.Redis(t)
	config := settingsFile(t, fmt.Sprintf("archive: cassandra\nsnapshots: redis\nwork:\n  snapshot-within: 2s\n"+
		"cassandra:\n  hosts: [%q]\n  keyspace: %s\nredis:\n  addresses: [%q]\n", cassandra.Addr, testenv.Unique("delete"), redis.Addr))
	dir := t.TempDir()
	m := startMember(t, dir, "--config", config)
	d := deletions{m: m}
	d.fill()
	m.stop()
	copied, err := redis.SaveCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	d.deleteAll()
	for _, between := range []struct {
		what string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"older snapshots", func() error { return redis.RestoreCopy(t.Context(), copied) }},
		{"no snapshots: all is rebuilt from the archive", func() error { return redis.Flush(t.Context()) }},
		{"the stream made anew", func() error { return os.RemoveAll(filepath.Join(dir, "stream")) }},
	} {
		t.Log("between a kill and the next start:", between.what)
		m.kill()
		if err := between.do(); err != nil {
			t.Fatal(err)
		}
		m.start()
		d.check()
	}
	d.sendAgain(2)
	m.kill()
	m.start()
	d.check()
}

// deletions is what should be there after deletions: a number of readings by device.
type deletions struct {
	m      *member
	want   map[string]int // by site/devices/device
	window int            // that the settings of the site gone give
}

const deletedDevices = 100

func (d *deletions) send(site string, devices, minute int) {
	d.m.t.Helper()
	var rows []string
	for n := range devices {
		for i := range 3 {
			at := time.Date(2026, 3, 1, 0, minute, i, 0, time.UTC).Format(time.RFC3339)
			rows = append(rows, fmt.Sprintf(`{"device":"dev-%d","time":%q,"values":[%d]}`, n, at, i))
		}
		d.want[fmt.Sprintf("%s/devices/dev-%d", site, n)] += 3
	}
	var answer struct{ Stored bool }
	if err := d.m.request(http.MethodPost, "/api/v1/sites/"+site+"/readings?wait=stored", "["+strings.Join(rows, ",")+"]", &answer); err != nil || !answer.Stored {
		d.m.t.Fatalf("stored %v, error %v", answer.Stored, err)
	}
}

// fill has three sites send, and gives one settings.
func (d *deletions) fill() {
	d.m.t.Helper()
	d.want = map[string]int{}
	d.send("gone", deletedDevices, 0)
	d.send("stays", deletedDevices, 0)
	d.send("gone", deletedDevices, 1)
	if err := d.m.request(http.MethodPut, "/api/v1/sites/gone/settings", `{"windowCount":2}`, nil); err != nil {
		d.m.t.Fatal(err)
	}
	d.window = 2
	d.check()
}

// deleteAll deletes a device of one site, and the other site.
func (d *deletions) deleteAll() {
	d.m.t.Helper()
	d.deleteDevice()
	for _, args := range [][]string{{"gone"}, {"gone", "--readings"}, {"g.ne", "--readings", "--yes"}} {
		if _, code := run(d.m.t, append([]string{"site", "delete", "--server", d.m.http}, args...)...); code != 2 {
			d.m.t.Errorf("site delete %v: exit %d, want 2", args, code)
		}
	}
	d.check()
	d.deleteSite()
}

func (d *deletions) deleteDevice() {
	d.m.t.Helper()
	if err := d.m.request(http.MethodDelete, "/api/v1/sites/stays/devices/dev-1", "", nil); err != nil {
		d.m.t.Fatal(err)
	}
	d.want["stays/devices/dev-1"] = 0
	d.check()
}

func (d *deletions) deleteSite() {
	d.m.t.Helper()
	d.tellSite()
	d.check()
}

// tellSite has a site deleted and does not wait until it is.
func (d *deletions) tellSite() {
	d.m.t.Helper()
	if _, code := run(d.m.t, "site", "delete", "gone", "--readings", "--yes", "--server", d.m.http); code != 0 {
		d.m.t.Fatalf("site delete: exit %d", code)
	}
	for device := range d.want {
		if strings.HasPrefix(device, "gone/") {
			d.want[device] = 0
		}
	}
	d.window = 0
}

// sendAgain has what was deleted send: that counts from the start.
func (d *deletions) sendAgain(minute int) {
	d.m.t.Helper()
	d.send("gone", 10, minute)
	d.send("stays", 2, minute)
	d.check()
}

// check waits until archive, windows, lists and settings are as they should be.
func (d *deletions) check() {
	d.m.t.Helper()
	testenv.Eventually(d.m.t, 30*time.Second, func() error {
		alive := map[string]bool{}
		for device, want := range d.want {
			if want > 0 {
				alive[device] = true
			}
			if err := d.checkDevice(device, want); err != nil {
				return err
			}
		}
		listed, sites := map[string]bool{}, map[string]bool{}
		for _, site := range []string{"gone", "stays"} {
			var list struct{ Devices []struct{ Device string } }
			if err := d.m.get("/api/v1/sites/"+site+"/devices?limit=1000", &list); err != nil {
				return err
			}
			for _, row := range list.Devices {
				listed[site+"/devices/"+row.Device] = true
				sites[site] = true
			}
		}
		if len(listed) != len(alive) {
			return fmt.Errorf("%d devices are listed, want %d", len(listed), len(alive))
		}
		var all struct{ Sites []string }
		if err := d.m.get("/api/v1/sites", &all); err != nil || len(all.Sites) != len(sites) {
			return fmt.Errorf("sites: got %v, error %v; want %v", all.Sites, err, sites)
		}
		var settings struct {
			Own        struct{ WindowCount int }
			Everywhere bool
		}
		if err := d.m.get("/api/v1/sites/gone/settings", &settings); err != nil || settings.Own.WindowCount != d.window || !settings.Everywhere {
			return fmt.Errorf("settings of the site: got %+v, error %v; want a window of %d", settings, err, d.window)
		}
		return nil
	})
}

func (d *deletions) checkDevice(device string, want int) error {
	var stored, window struct{ Readings []struct{ Time string } }
	if err := d.m.get("/api/v1/sites/"+device+"/readings", &stored); err != nil {
		return err
	}
	err := d.m.get("/api/v1/sites/"+device+"/window", &window)
	if gone := err != nil && strings.Contains(err.Error(), " 404 "); gone != (want == 0) || err != nil && !gone {
		return fmt.Errorf("window of %s with %d readings: %v", device, want, err)
	}
	if len(stored.Readings) != want {
		return fmt.Errorf("%s has %d readings in the archive, want %d", device, len(stored.Readings), want)
	}
	return nil
}
