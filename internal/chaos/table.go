package chaos

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Row is what came of a step.
type Row struct {
	Step      Step
	At        time.Duration   // since the run began
	Answers   []time.Duration // of each shard: longest time without an answer, from the step's begin to its end
	Stored    []time.Duration // of each shard: longest time in which nothing new was stored
	Recovered time.Duration   // from the undoing of the last fault until all was well
	Moved     int             // shards that had another owner at the end than at the begin
	Replayed  int             // readings that were taken in again
	Wrong     string          // empty = nothing
}

// WriteTable prints the rows.
func WriteTable(w io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "at\tfault\tno answer p50 / p99 / max\tnothing stored p50 / p99 / max\twell after\tmoved\treplayed\t")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", seconds(r.At), r.Step, three(r.Answers), three(r.Stored),
			seconds(r.Recovered), r.Moved, r.Replayed, r.Wrong)
	}
	return table.Flush()
}

func three(all []time.Duration) string {
	return fmt.Sprintf("%s / %s / %s", seconds(Quantile(all, .5)), seconds(Quantile(all, .99)), seconds(Quantile(all, 1)))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// Quantile returns the value that a share of all does not exceed; 0 of none.
func Quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// LongestGap returns the longest time between two of these moments, in order, that touches the span from begin to end; the
// span counts as ended by a moment at its end.
func LongestGap(moments []time.Time, begin, end time.Time) time.Duration {
	longest, before := time.Duration(0), begin
	for _, m := range moments {
		if !m.After(begin) {
			continue
		}
		if m.After(end) {
			break
		}
		longest, before = max(longest, m.Sub(before)), m
	}
	return max(longest, end.Sub(before))
}
