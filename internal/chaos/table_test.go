package chaos

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	step := Step{Faults: []Fault{{Kind: KillMember, Target: 2}, {Kind: StopRedis, Hold: 3 * time.Second}}}
	var b strings.Builder
	err := WriteTable(&b, []Row{{
		Step: step, At: 90 * time.Second, Answers: []time.Duration{time.Second, 3 * time.Second, 2 * time.Second},
		Recovered: 2500 * time.Millisecond, Moved: 5, Replayed: 120,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"90.0 s", "kill -9 member (2) + Redis stopped for 3s", "2.0 s / 3.0 s / 3.0 s", "0.0 s / 0.0 s / 0.0 s", "2.5 s", "  5      120"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table does not have %q:\n%s", want, b.String())
		}
	}
}

func TestLongestGap(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(s ...int) (out []time.Time) {
		for _, n := range s {
			out = append(out, begin.Add(time.Duration(n)*time.Second))
		}
		return out
	}
	for _, test := range []struct {
		moments []time.Time
		want    time.Duration
	}{
		{nil, 10 * time.Second},
		{at(-1, 11), 10 * time.Second},
		{at(1, 2, 7, 9), 5 * time.Second},
		{at(4, 5), 5 * time.Second},
		{at(-3, 6, 7, 8, 9, 20), 6 * time.Second},
	} {
		if got := LongestGap(test.moments, begin, begin.Add(10*time.Second)); got != test.want {
			t.Errorf("%v: got %v, want %v", test.moments, got, test.want)
		}
	}
}
