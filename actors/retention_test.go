package actors

import (
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// A device refuses what its class would not keep on arrival, and says which class that is; the same again
// after its snapshot was read, and by the default class when its own is not configured any more.
func TestReadingBeyondItsRetentionClassIsRefused(t *testing.T) {
	const arrival = int64(1_767_225_600_000)
	l := &Limits{Classes: persistence.Classes{"raw": {Readings: 2 * time.Hour}, persistence.DefaultClass: {Readings: 5 * time.Hour}}}
	hour := time.Hour.Milliseconds()
	for class, kept := range map[string]int64{"raw": 2 * hour, "": 5 * hour, "gone": 5 * hour} {
		settings := &messages.Settings{Retention: class}
		d := NewDevice(testID, settings)
		d.SetSettings(settings, settings)
		d, err := DecodeSnapshot(d.AppendSnapshot(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d.Own().Retention != class {
			t.Errorf("class %q: %q came back from the snapshot", class, d.Own().Retention)
		}
		in := at(1, arrival, arrival-kept+1, arrival-kept)
		var out Outcome
		d.Apply(in, l, &out)
		if in[0].Decision == Refused || in[1].Decision != Refused || !strings.Contains(in[1].Reason, "retention class") || out.Counts.Refused != 1 {
			t.Errorf("class %q: decisions %v (%s) and %v (%s), counts %+v; want only the second refused", class, in[0].Decision, in[0].Reason, in[1].Decision, in[1].Reason, out.Counts)
		}
	}
}
