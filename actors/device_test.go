package actors

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// at makes a message of one reading for each event time given, with the time's second as value.
func at(sequence uint64, arrival int64, times ...int64) []Arrived {
	out := make([]Arrived, len(times))
	for i, t := range times {
		out[i] = Arrived{
			Sequence: sequence, Arrival: arrival, WriteTime: arrival * 1000,
			Reading: messages.Reading{Time: t, Values: []float64{float64(t / 1000)}},
		}
	}
	return out
}

func decisions(in []Arrived) string {
	var out []string
	for i := range in {
		out = append(out, in[i].Decision.String())
	}
	return strings.Join(out, ", ")
}

func TestDeviceIsOnlineByArrivals(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings messages.Settings
		silence  int64
	}{
		{"nothing known", messages.Settings{}, 180_000},
		{"expected interval", messages.Settings{ExpectedInterval: 5000}, 15_000},
		{"offline after", messages.Settings{ExpectedInterval: 5000, OfflineAfter: 7000}, 7000},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDevice(testID, &c.settings)
			var out Outcome
			if got := d.Status(); got != messages.StatusUnknown {
				t.Errorf("new: got %s, want unknown", got)
			}
			d.Apply(at(1, 1000, 500), &Limits{}, &out)
			want := []StatusChange{{messages.StatusOnline, 1000, 1}}
			if diff := cmp.Diff(want, out.Status); diff != "" {
				t.Errorf("first message (-want +got):\n%s", diff)
			}
			due := 1000 + c.silence
			if got := d.Due(); got != due {
				t.Errorf("due: got %d, want %d", got, due)
			}
			d.Apply(at(2, due, 600), &Limits{}, &out)
			if len(out.Status) != 0 {
				t.Errorf("a message when it is due: got %v, want no change", out.Status)
			}
			due += c.silence
			d.Apply(at(3, due+1, 700), &Limits{}, &out)
			want = []StatusChange{{messages.StatusOffline, due, 3}, {messages.StatusOnline, due + 1, 3}}
			if diff := cmp.Diff(want, out.Status); diff != "" {
				t.Errorf("message after it was due (-want +got):\n%s", diff)
			}
			due += 1 + c.silence
			if change, ok := d.Tick(due); ok {
				t.Errorf("tick when it is due: got %v, want none", change)
			}
			if change, ok := d.Tick(due + 5000); !ok || change != (StatusChange{messages.StatusOffline, due, 3}) {
				t.Errorf("tick after it was due: got %v %v, want offline at %d", change, ok, due)
			}
			if change, ok := d.Tick(due + 6000); ok || d.Due() != 0 {
				t.Errorf("second tick: got %v, due %d, want none", change, d.Due())
			}
			d.Apply(at(4, due+7000, 800), &Limits{}, &out)
			want = []StatusChange{{messages.StatusOnline, due + 7000, 4}}
			if diff := cmp.Diff(want, out.Status); diff != "" {
				t.Errorf("message after offline was told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeviceRefuses(t *testing.T) {
	nan := math.NaN()
	const now = 1_000_000_000
	limits := Limits{MaxFuture: 1000, MaxAge: 2000}
	for _, c := range []struct {
		name    string
		reading messages.Reading
		limits  Limits
		refused bool
	}{
		{"as far ahead as may be", messages.Reading{Time: now + 1000, Values: []float64{1}}, limits, false},
		{"too far ahead", messages.Reading{Time: now + 1001, Values: []float64{1}}, limits, true},
		{"far ahead, no limit", messages.Reading{Time: now + 1e9, Values: []float64{1}}, Limits{}, false},
		{"as old as may be", messages.Reading{Time: now - 2000, Values: []float64{1}}, limits, false},
		{"too old", messages.Reading{Time: now - 2001, Values: []float64{1}}, limits, true},
		{"old, no limit", messages.Reading{Time: -1e12, Values: []float64{1}}, Limits{}, false},
		{"before the year 0", messages.Reading{Time: earliestTime - 1, Values: []float64{1}}, Limits{}, true},
		{"after the year 9999", messages.Reading{Time: latestTime + 1, Values: []float64{1}}, Limits{}, true},
		{"nothing in it", messages.Reading{Time: now}, limits, true},
		{"only omitted values", messages.Reading{Time: now, Values: []float64{nan, nan}}, limits, false},
		{"only a note", messages.Reading{Time: now, Values: []float64{nan}, Note: "n"}, limits, false},
		{"64 values", messages.Reading{Time: now, Values: append(make([]float64, 64), nan)}, limits, false},
		{"65 values", messages.Reading{Time: now, Values: make([]float64, 65)}, limits, true},
		{"an infinity", messages.Reading{Time: now, Values: []float64{1, math.Inf(-1)}}, limits, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDevice(testID, &messages.Settings{})
			in := []Arrived{{Sequence: 1, Arrival: now, Reading: c.reading}}
			var out Outcome
			d.Apply(in, &c.limits, &out)
			if got := in[0].Decision == Refused; got != c.refused {
				t.Errorf("refused: got %v (%s), want %v", got, in[0].Reason, c.refused)
			}
			if got := in[0].Written(); got == c.refused {
				t.Errorf("written: got %v", got)
			}
			if got := in[0].Reason != ""; got != c.refused {
				t.Errorf("reason: got %q", in[0].Reason)
			}
			// Of a message that memory has seen already it is still refused, and not counted again.
			d.Apply(in, &c.limits, &out)
			if got := in[0].Decision == Refused; got != c.refused || d.State().Counts.Received != 1 {
				t.Errorf("again: got %v, counts %+v", in[0].Decision, d.State().Counts)
			}
		})
	}
}

func TestDeviceLastOfEqualTimesInAMessageWins(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{})
	in := at(1, 9000, 3000, 2000, 3000, 2000, 3000)
	for i := range in {
		in[i].Reading.Values[0] = float64(i)
	}
	var out Outcome
	d.Apply(in, &Limits{}, &out)
	if got, want := decisions(in), "duplicate, duplicate, duplicate, in order, in order"; got != want {
		t.Errorf("decisions: got %s, want %s", got, want)
	}
	for i, want := range []bool{false, false, false, true, true} {
		if got := in[i].Written(); got != want {
			t.Errorf("reading %d written: got %v, want %v", i, got, want)
		}
	}
	if got := d.State().Hour.Channels[0]; got.Sum != 7 || got.Count != 2 {
		t.Errorf("hour: got %+v, want the last two", got)
	}
}

func TestDeviceAssignsTimes(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{})
	var out Outcome
	for i, c := range []struct{ arrival, want int64 }{{5000, 5000}, {5000, 5001}, {5001, 5002}, {9000, 9000}, {8000, 9001}} {
		in := at(uint64(i+1), c.arrival, 1)
		in[0].Reading.Time = messages.NoTime
		d.Apply(in, &Limits{}, &out)
		if row := in[0].Row(); row.Time != c.want || row.Flags != persistence.FlagAssigned {
			t.Errorf("message %d: got time %d flags %d, want %d and assigned", i, row.Time, row.Flags, c.want)
		}
	}
	in := at(2, 5000, 1)
	in[0].Reading.Time = messages.NoTime
	d.Apply(in, &Limits{}, &out)
	if in[0].Decision != AlreadyApplied || in[0].Written() {
		t.Errorf("an old message without time: got %v, written %v, want already applied and not written", in[0].Decision, in[0].Written())
	}
}

func TestDeviceKeepsNothingOfItsInput(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{})
	note := []byte("note")
	in := []Arrived{{Sequence: 1, Arrival: 1000, Reading: messages.Reading{Time: 1000, Values: []float64{1, 2}, Quality: []uint8{0, 3}, Note: string(note)}}}
	var out Outcome
	d.Apply(in, &Limits{}, &out)
	in[0].Reading.Values[1], in[0].Reading.Quality[1] = 9, 9
	var got, again messages.Newest
	d.ReadNewest(&got)
	got.Reading.Values[0] = 7 // nor can an answer change it
	want := messages.Sample{Reading: messages.Reading{Time: 1000, Values: []float64{1, 2}, Quality: []uint8{0, 3}, Note: "note"}, Sequence: 1}
	if d.ReadNewest(&again); !again.HasReading || !cmp.Equal(again.Reading, want) {
		t.Errorf("newest: got %+v, want %+v", again, want)
	}
}

func TestDeviceSaysWhenItIsSeenFirst(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{})
	var out Outcome
	d.Apply(append(at(3, 1000, 500), at(4, 1100, 600)...), &Limits{}, &out)
	if len(out.Records) != 1 || out.Records[0].Sequence != 3 || out.Records[0].WriteTime != 1_000_000 {
		t.Fatalf("records: got %+v, want one of message 3", out.Records)
	}
	got, err := DecodeDeviceRecord(out.Records[0].Payload)
	if want := (DeviceRecord{Kind: RecordSeen, FirstSeen: 1000}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("record: got %+v %v, want %+v", got, err, want)
	}
	d.Apply(at(5, 1200, 700), &Limits{}, &out)
	if len(out.Records) != 0 {
		t.Errorf("second pull: got records %+v, want none", out.Records)
	}
}

func TestDeviceRecordOfAnotherVersionIsInvalid(t *testing.T) {
	for _, payload := range []string{"", "{", `{"v":2,"kind":"seen"}`, `{"kind":"seen"}`} {
		if _, err := DecodeDeviceRecord([]byte(payload)); !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("%q: got %v, want invalid", payload, err)
		}
		if _, err := NewRebuild(testID, []persistence.Record{{Sequence: 1, Payload: []byte(payload)}}, 1, &messages.Settings{}); !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("rebuild with %q: got %v, want invalid", payload, err)
		}
	}
}

func TestDeviceWindowAnswers(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{WindowCount: 5})
	var out Outcome
	d.Apply(at(1, 9000, 1000, 2000, 3000, 4000, 5000, 6000), &Limits{}, &out)
	for _, c := range []struct {
		from, to int64
		limit    int
		want     []int64
	}{
		{0, 9000, 0, []int64{2000, 3000, 4000, 5000, 6000}},
		{9000, 0, 0, []int64{6000, 5000, 4000, 3000, 2000}},
		{3000, 5000, 0, []int64{3000, 4000, 5000}},
		{5000, 3000, 2, []int64{5000, 4000}},
		{3001, 4999, 0, []int64{4000}},
		{math.MinInt64, math.MaxInt64, 1, []int64{2000}},
		{7000, 8000, 0, nil},
		{4000, 4000, 0, []int64{4000}},
	} {
		var got []int64
		for _, s := range d.Window(c.from, c.to, c.limit) {
			got = append(got, s.Time)
			if s.Values[0] != float64(s.Time/1000) {
				t.Errorf("reading of %d: got value %v", s.Time, s.Values)
			}
		}
		if !cmp.Equal(got, c.want) {
			t.Errorf("from %d to %d limit %d: got %v, want %v", c.from, c.to, c.limit, got, c.want)
		}
	}
}

func TestDeviceSummary(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{})
	in := at(1, 9000, 1000, 2000, 3000, 4000)
	for i, v := range []float64{1e9 + 2, 1e9 + 4, math.NaN(), 1e9 + 6} {
		in[i].Reading.Values = []float64{math.NaN(), v}
		in[i].Reading.Note = "n"
	}
	var out Outcome
	d.Apply(in, &Limits{}, &out)
	want := []messages.Summary{{}, {Count: 3, Min: 1e9 + 2, Max: 1e9 + 6, Mean: 1e9 + 4, Stddev: math.Sqrt(8.0 / 3)}}
	if got := d.Summary(); !cmp.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDeviceMinutesFollowTheExpectedInterval(t *testing.T) {
	base := &messages.Settings{}
	d := NewDevice(testID, base)
	var out Outcome
	d.Apply(at(1, 90_000, 61_000, 62_000), &Limits{}, &out)
	slow := &messages.Settings{ExpectedInterval: 30_000}
	result := d.ApplyControl(2, 90_001, 5, messages.Control{Settings: slow}, base)
	if len(result.Rollups) != 1 || result.Rollups[0].Step != messages.Minute || result.Rollups[0].Count != 2 || result.Rollups[0].Sequence != 2 {
		t.Errorf("switched off: got %+v, want the open minute", result.Rollups)
	}
	d.Apply(at(3, 190_000, 121_000, 181_000), &Limits{}, &out)
	if len(out.Rollups) != 0 || len(out.Dirty) != 0 {
		t.Errorf("while off: got %v %v, want no rollups", out.Rollups, out.Dirty)
	}
	d.ApplyControl(4, 190_001, 5, messages.Control{Settings: &messages.Settings{}}, base)
	d.Apply(at(5, 290_000, 182_000, 241_000), &Limits{}, &out)
	if len(out.Rollups) != 1 || out.Rollups[0].Count != 2 || out.Rollups[0].Start != 180_000 || out.Rollups[0].Sequence != 5 {
		t.Errorf("on again: got %+v, want the minute with what it had", out.Rollups)
	}
	if got := d.ApplyControl(5, 0, 0, messages.Control{Delete: true}, base); got.Applied {
		t.Errorf("a command of an old sequence: got %+v, want not applied", got)
	}
}

func TestDeviceStaleReadingSpoilsItsBucket(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{WindowCount: 2})
	var out Outcome
	d.Apply(at(1, 9000, 1000, 2000, 3000, 4000), &Limits{}, &out)
	d.Apply(at(2, 9000, 1000), &Limits{}, &out) // it had this one: the window has forgotten it
	if s := d.State(); s.Hour != nil || s.Minute != nil {
		t.Errorf("open rollups: got %+v %+v, want none", s.Hour, s.Minute)
	}
	rows, dirty := d.OpenRollups()
	want := []Dirty{{messages.Minute, 0, 2, 9_000_000}, {messages.Hour, 0, 2, 9_000_000}}
	if diff := cmp.Diff(want, dirty); diff != "" || len(rows) != 0 {
		t.Errorf("open rollups: got rows %v, dirty (-want +got):\n%s", rows, diff)
	}
	d.Apply(at(3, 70_000, 61_000), &Limits{}, &out)
	want = []Dirty{{messages.Minute, 0, 3, 70_000_000}}
	if diff := cmp.Diff(want, out.Dirty); diff != "" || len(out.Rollups) != 0 {
		t.Errorf("closing: got rows %v, dirty (-want +got):\n%s", out.Rollups, diff)
	}
}

func TestDeviceMakesABucketAnewOnlyFromAllItsReadings(t *testing.T) {
	for _, c := range []struct {
		window int
		whole  bool
	}{{3, true}, {2, false}} {
		d := NewDevice(testID, &messages.Settings{WindowCount: c.window})
		var out Outcome
		d.Apply(at(1, 9000, 0, 1000, 2000), &Limits{}, &out) // the first at the very start of the bucket
		again := at(2, 9000, 2000)
		again[0].Reading.Values[0] = 0.5 // it was the maximum
		d.Apply(again, &Limits{}, &out)
		hour := d.State().Hour
		if got := hour != nil; got != c.whole {
			t.Fatalf("window of %d: hour %+v, want it whole: %v", c.window, hour, c.whole)
		}
		if c.whole && (hour.Channels[0].Max != 1 || hour.Channels[0].Last != 0.5 || hour.Channels[0].Sum != 1.5) {
			t.Errorf("hour: got %+v", hour.Channels[0])
		}
	}
}

func TestRebuildFindsTimesAssignedBeforeTheHour(t *testing.T) {
	const hour = int64(messages.Hour)
	base := &messages.Settings{WindowCount: 1}
	rebuild, err := NewRebuild(testID, nil, 3, base)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []persistence.Row{
		{Time: hour + 2000, Sequence: 3, Values: []float64{3}},
		{Time: hour - 2000, Sequence: 2, Values: []float64{2}},
		{Time: hour - 4000, Sequence: 1, Values: []float64{1}, Flags: persistence.FlagAssigned},
	} {
		if !rebuild.Add(&row) {
			t.Fatalf("enough after the row of %d", row.Time)
		}
	}
	if rebuild.Add(&persistence.Row{Time: -hour, Sequence: 1, Values: []float64{1}}) {
		t.Error("not enough after an hour before")
	}
	d, in, out := rebuild.Finish(), at(4, hour-4000, 1), Outcome{}
	in[0].Reading.Time = messages.NoTime
	d.Apply(in, &Limits{}, &out)
	if got := in[0].Reading.Time; got != hour-3999 {
		t.Errorf("next assigned time: got %d, want %d", got, hour-3999)
	}
}

func TestDeviceSettingsOfTheSiteRaiseTheFloorOnce(t *testing.T) {
	d := NewDevice(testID, &messages.Settings{WindowCount: 2})
	var out Outcome
	d.Apply(at(1, 9000, 1000, 2000, 3000, 4000), &Limits{}, &out)
	wide := &messages.Settings{WindowCount: 10}
	if !d.SetSettings(wide, nil) {
		t.Error("a growing window that has dropped readings: floor was not raised")
	}
	if floor := d.Record().Floor; floor == nil || *floor != 2000 {
		t.Errorf("record: got %+v, want floor 2000", d.Record())
	}
	if d.SetSettings(wide, nil) {
		t.Error("the same settings again raised the floor")
	}
	d.Apply(at(2, 9000, 1500), &Limits{}, &out)
	if out.Counts.Stale != 1 {
		t.Errorf("below the floor: got %+v, want stale", out.Counts)
	}
}

// TestRebuildRaisesTheFloorOfTheSiteAgain: a window that is rebuilt from what was not replaced since can hold more old
// readings than it did; when the site's settings come again they drop as much of it as they did the first time.
func TestRebuildRaisesTheFloorOfTheSiteAgain(t *testing.T) {
	base, floor := &messages.Settings{WindowCount: 2}, int64(2000)
	records := []persistence.Record{{Sequence: 3, Payload: EncodeDeviceRecord(DeviceRecord{Kind: RecordRules, Floor: &floor})}}
	rebuild, err := NewRebuild(testID, records, 2, base)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []persistence.Row{ // 3000 was replaced by a message after 3
		{Time: 4000, Sequence: 2, Values: []float64{4}},
		{Time: 2000, Sequence: 1, Values: []float64{2}},
	} {
		rebuild.Add(&row)
	}
	d := rebuild.Finish()
	raised, record := applySettings(d, 3, &messages.Settings{WindowCount: 10})
	if got := d.Window(0, 9000, 0); !raised || len(got) != 1 || got[0].Time != 4000 {
		t.Errorf("raised %v, window %+v; want only the reading of 4000", raised, got)
	}
	if r, err := DecodeDeviceRecord(record); err != nil || r.Floor == nil || *r.Floor != floor {
		t.Errorf("record %s, %v; want floor %d", record, err, floor)
	}
}

func TestDeviceInOrderAllocatesNothing(t *testing.T) {
	d := benchDevices(1, 200)[0]
	in := make([]Arrived, 1)
	values := make([]float64, 4)
	var out Outcome
	limits := Limits{MaxFuture: 600_000}
	k := 220 // not at a minute's end
	got := testing.AllocsPerRun(15, func() {
		benchReading(&in[0], k, 0, values)
		d.Apply(in, &limits, &out)
		k++
	})
	if got != 0 || out.Counts.InOrder != 1 {
		t.Errorf("got %v allocations (%+v), want none", got, out.Counts)
	}
}
