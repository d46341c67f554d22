package verify

import (
	"fmt"
	"io"
)

// maxDifferences is how many differences a report names.
const maxDifferences = 10

// Report is what was found.
type Report struct {
	Devices    int64   `json:"devices"`
	Sent       int64   `json:"sent"`       // distinct (device, event time)
	Stored     int64   `json:"stored"`     // found between each device's first and last
	Checked    int64   `json:"checked"`    // sent and stored, so compared
	Missing    int64   `json:"missing"`    // sent, not stored
	Different  int64   `json:"different"`  // stored with other values or another note
	Unexpected int64   `json:"unexpected"` // stored, not sent
	Duplicate  int64   `json:"duplicate"`  // sent again with the same identity; of these the last counts
	Rollups    *Checks `json:"rollups,omitempty"`
	Windows    *Checks `json:"windows,omitempty"`

	Differences []string `json:"differences"` // the first ten
	Seconds     float64  `json:"seconds"`
	Rate        float64  `json:"readingsPerSecond"` // checked in a second
}

// Checks counts what else was compared.
type Checks struct {
	Checked int64 `json:"checked"`
	Wrong   int64 `json:"wrong"`
}

// Clean tells whether everything is as it was sent.
func (r *Report) Clean() bool {
	return r.Missing == 0 && r.Different == 0 && r.Unexpected == 0 &&
		(r.Rollups == nil || r.Rollups.Wrong == 0) && (r.Windows == nil || r.Windows.Wrong == 0)
}

func (r *Report) add(o Report) {
	r.Devices += o.Devices
	r.Sent += o.Sent
	r.Stored += o.Stored
	r.Checked += o.Checked
	r.Missing += o.Missing
	r.Different += o.Different
	r.Unexpected += o.Unexpected
	r.Duplicate += o.Duplicate
	r.Rollups = addChecks(r.Rollups, o.Rollups)
	r.Windows = addChecks(r.Windows, o.Windows)
	for _, d := range o.Differences {
		r.name(d)
	}
}

func addChecks(a, b *Checks) *Checks {
	if b == nil {
		return a
	}
	if a == nil {
		a = &Checks{}
	}
	return &Checks{Checked: a.Checked + b.Checked, Wrong: a.Wrong + b.Wrong}
}

// name keeps one difference for people to read.
func (r *Report) name(difference string) {
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, difference)
	}
}

// counts is what changes while a server catches up.
func (r *Report) counts() [6]int64 {
	c := [6]int64{r.Stored, r.Missing, r.Different, r.Unexpected}
	if r.Rollups != nil {
		c[4] = r.Rollups.Wrong
	}
	if r.Windows != nil {
		c[5] = r.Windows.Wrong
	}
	return c
}

// Write says the report in words.
func (r *Report) Write(w io.Writer) error {
	verdict := "good: everything that was sent is stored, and nothing else"
	if !r.Clean() {
		verdict = "NOT GOOD: what is stored is not what was sent"
	}
	text := fmt.Sprintf("%s\n  devices %d, readings sent %d, stored %d, checked %d\n  missing %d, different %d, unexpected %d, duplicate %d\n",
		verdict, r.Devices, r.Sent, r.Stored, r.Checked, r.Missing, r.Different, r.Unexpected, r.Duplicate)
	if r.Rollups != nil {
		text += fmt.Sprintf("  rollups checked %d, wrong %d\n", r.Rollups.Checked, r.Rollups.Wrong)
	}
	if r.Windows != nil {
		text += fmt.Sprintf("  windows checked %d, wrong %d\n", r.Windows.Checked, r.Windows.Wrong)
	}
	text += fmt.Sprintf("  in %.1f s, %.0f readings/s\n", r.Seconds, r.Rate)
	for _, d := range r.Differences {
		text += "  " + d + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}
