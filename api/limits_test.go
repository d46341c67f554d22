package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/api"
)

// TestPostRefusesWhatTheDeviceWould sends readings around both limits of event times.
func TestPostRefusesWhatTheDeviceWould(t *testing.T) {
	f := start(t, func(o *api.Options) { o.Limits.MaxFuture, o.Limits.MaxAge = 10*time.Minute, time.Hour })
	body := "["
	for _, ago := range []time.Duration{-11 * time.Minute, -9 * time.Minute, 59 * time.Minute, 61 * time.Minute} {
		body += fmt.Sprintf(`{"device":"a","time":%d,"values":[1]},`, time.Now().Add(-ago).UnixMilli())
	}
	var out struct {
		Accepted int
		Stored   bool
		Refused  []struct {
			Index  int
			Reason string
		}
	}
	f.do(t, "POST", posts+"?wait=stored", body[:len(body)-1]+"]").into(t, &out)
	if out.Accepted != 2 || !out.Stored || len(out.Refused) != 2 || out.Refused[0].Index != 0 || out.Refused[1].Index != 3 {
		t.Fatalf("got %+v, want the first and the last refused", out)
	}
	for i, want := range []string{"more than max_future (600000 ms)", "more than max_age (3600000 ms)"} {
		if !strings.Contains(out.Refused[i].Reason, want) {
			t.Errorf("got %q, want it to say %q", out.Refused[i].Reason, want)
		}
	}
	if got := f.do(t, "POST", posts, `{"device":"a","values":[1]}`); got.status != 200 {
		t.Errorf("without a time: got %d %s, want 200", got.status, got.text)
	}
}

// TestPostOutgrown has a reading pass the limit of age while it is waited for: the device, which came
// later, may have refused it, so the answer must not say that it is stored.
func TestPostOutgrown(t *testing.T) {
	const age = 500 * time.Millisecond
	f := start(t, func(o *api.Options) {
		o.Limits.MaxAge = age
		o.Ingest = slow{o.Ingest, age + 10*time.Millisecond}
	})
	old := time.Now().UnixMilli()
	got := f.do(t, "POST", posts+"?wait=stored", fmt.Sprintf(`{"device":"a","time":%d,"values":[1]}`, old))
	if want := `{"accepted":1,"stored":false,"refusedCount":0,"refused":[]}` + "\n"; got.text != want {
		t.Errorf("got %s, want %s", got.text, want)
	}
	f.do(t, "POST", posts+"?wait=stored", fmt.Sprintf(`{"device":"a","time":%d,"values":[1]}`, old)).problem(t, 400)
}

// TestPostUncertain sends a reading that some retention class keeps and another does not: it is taken, and not
// said to be stored, since the device may have refused it.
func TestPostUncertain(t *testing.T) {
	f := start(t, func(o *api.Options) { o.Limits.MaxAge, o.Limits.CertainAge = 5*time.Hour, time.Hour })
	for ago, want := range map[time.Duration]string{
		59 * time.Minute:  `{"accepted":1,"stored":true,"refusedCount":0,"refused":[]}` + "\n",
		61 * time.Minute:  `{"accepted":1,"stored":false,"refusedCount":0,"refused":[]}` + "\n",
		299 * time.Minute: `{"accepted":1,"stored":false,"refusedCount":0,"refused":[]}` + "\n",
	} {
		at := time.Now().Add(-ago).UnixMilli()
		if got := f.do(t, "POST", posts+"?wait=stored", fmt.Sprintf(`{"device":"a","time":%d,"values":[1]}`, at)); got.text != want {
			t.Errorf("%v ago: got %s, want %s", ago, got.text, want)
		}
	}
	f.do(t, "POST", posts, fmt.Sprintf(`{"device":"a","time":%d,"values":[1]}`, time.Now().Add(-301*time.Minute).UnixMilli())).problem(t, 400)
}

// slow is an Ingest that takes its time.
type slow struct {
	api.Ingest
	by time.Duration
}

func (s slow) Publish(ctx context.Context, site string, devices []api.DeviceReadings, how api.How) error {
	select {
	case <-time.After(s.by):
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.Ingest.Publish(ctx, site, devices, how)
}
