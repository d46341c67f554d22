// Command bench measures how fast the whole program is: it starts the built binary as a member with a
// data folder of its own, drives it with `wellhead simulate`, reads everything back with `wellhead
// verify`, and prints one table and one JSON document. What is measured and how: docs/benchmarks.md.
//
//	go run ./bench [flags] CASE…
//
// A run after which anything is missing or different has no figure and ends the program with 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// scenario is one thing that is measured.
type scenario struct {
	name, what string
	run        func(ctx context.Context, b *bench) ([]figure, error)
}

var scenarios = []scenario{
	{"batch", "batches of 100 devices, nobody listens", batchOf100},
	{"heard", "the same, one listener to the site's events", heard},
	{"device", "batches of 100 readings of one device", oneDevice},
	{"single", "one reading a message, acknowledged", single},
	{"cassandra", "Cassandra and Redis, batches of 100, after a warm-up", onCassandra},
	{"cassandra-chunks", "the same with layout chunks", chunksOnCassandra},
	{"headline", "31 145 914 readings to Cassandra, each checked, and counted by audit", headline},
	{"latency", "publish → event at a subscriber, p50, p99 and most", latency},
	{"half", "the same, and latest by HTTP, while -background readings come a second", half},
	{"devices", "1 000 to 1 000 000 devices as fast as possible; -plot=FILE draws it", devices},
	{"fleet", "100 000 devices: memory, and restart after kill -9", largeFleet},
	{"million", "1 000 000 devices, one reading a minute: memory, share of a core, restart", million},
	{"members", "three members beside one, batches of 100 to rows of Cassandra", members},
	{"benthos", "beside Benthos: JSON messages of one reading into rows of Cassandra", benthos},
	{"flink-rows", "beside Apache Flink: 10 000 devices into Cassandra", flinkRows},
	{"flink-million", "beside Apache Flink: windows and aggregates of 1 000 000 devices", flinkMillion},
}

// figure is one result.
type figure struct {
	Case     string    `json:"case"`
	What     string    `json:"what"`
	Value    float64   `json:"value"` // the median of Runs
	Unit     string    `json:"unit"`
	Runs     []float64 `json:"runs"`
	CPU      float64   `json:"memberCores"` // CPU seconds of the member ÷ wall time
	PeakMiB  float64   `json:"memberPeakMiB"`
	Micros   float64   `json:"microsPerReading,omitempty"` // CPU of the process that is measured
	Load     string    `json:"loadAverage"`                // when the last run began
	Checked  int64     `json:"checked"`                    // readings read back, in all runs
	Revision string    `json:"revision"`
}

// bench is what all cases are run with.
type bench struct {
	binary   string
	dir      string
	serve    []string // more flags of the member
	runs     int
	scale    float64 // of the number of readings
	readings int     // of headline
	layout   string  // of readings in Cassandra
	peers    string  // folder of what bench/peers/build has built
	warmUp   time.Duration
	load     int       // readings a second that come beside what is measured
	plot     string    // file to draw into
	progress io.Writer // gets what commands say while they work; nil = nobody
	revision string
}

func main() { os.Exit(run()) }

func run() int {
	b := &bench{}
	flag.StringVar(&b.binary, "binary", "bin/wellhead", "the program to measure")
	flag.StringVar(&b.dir, "dir", "", "folder for data, emptied after each run (default a temporary one)")
	flag.IntVar(&b.runs, "runs", 3, "runs of each case; the median counts")
	flag.Float64Var(&b.scale, "scale", 1, "share of the readings to send: 0.01 to try the program out")
	flag.IntVar(&b.readings, "readings", headlineReadings, "readings that headline sends")
	flag.StringVar(&b.layout, "layout", "rows", "how Cassandra keeps readings")
	flag.StringVar(&b.peers, "peers", ".cache/peers", "folder where bench/peers/build has put what Wellhead is compared with")
	flag.DurationVar(&b.warmUp, "warm-up", warmUp, "load on Cassandra before a figure counts")
	flag.IntVar(&b.load, "background", 300_000, "readings a second that half has come beside what it measures")
	flag.StringVar(&b.plot, "plot", "", "SVG `FILE` that devices draws")
	flag.Func("serve", "one more `FLAG` of the member, such as --config=FILE", func(s string) error {
		b.serve = append(b.serve, s)
		return nil
	})
	flag.Usage = usage
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "wellhead-bench-"); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 3
		}
		defer func() { _ = os.RemoveAll(b.dir) }()
	}
	b.revision = b.version(ctx)
	var figures []figure
	status := 0
	for _, s := range chosen {
		got, err := s.run(ctx, b)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.name, err)
			status = 1
			continue
		}
		figures = append(figures, got...)
	}
	if err := report(figures); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 3
	}
	return status
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: go run ./bench [flags] CASE…\n\ncases:")
	for _, s := range scenarios {
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", s.name, s.what)
	}
	fmt.Fprintln(os.Stderr, "\nflags:")
	flag.PrintDefaults()
}

func choose(names []string) ([]scenario, error) {
	if len(names) == 0 {
		return nil, errors.New("which case? -help lists them")
	}
	var chosen []scenario
	for _, name := range names {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no case %q: -help lists them", name)
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// report prints the table to standard error and the document to standard output.
func report(figures []figure) error {
	w := tabwriter.NewWriter(os.Stderr, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "case\twhat\tmedian\tunit\truns\tcores\tµs/reading\tpeak\tload")
	for _, f := range figures {
		var runs []string
		for _, r := range f.Runs {
			runs = append(runs, round(r))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%.0f MiB\t%s\n",
			f.Case, f.What, round(f.Value), f.Unit, strings.Join(runs, " "), f.CPU, optional(f.Micros), f.PeakMiB, f.Load)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(figures)
}

func round(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// optional is empty where nothing was measured.
func optional(v float64) string {
	if v == 0 {
		return ""
	}
	return round(v)
}

// median returns the middle one of values, of an even number the lower.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
