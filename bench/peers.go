package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/internal/testenv"
)

// A line is one way to do the work of a comparison.
type line struct {
	what string
	run  func(ctx context.Context) (outcome, error)
	than []int // indexes of the earlier lines that this one is compared with in each round
}

// outcome is one run of a line.
type outcome struct {
	readings int64
	seconds  float64
	cpu      float64 // seconds of the process that is measured
	peak     float64 // MiB, VmHWM
	checked  int64   // readings found in the store afterwards
	load     string
}

func (o outcome) rate() float64 { return float64(o.readings) / o.seconds }

// compare runs all lines in turn, every other round from the last to the first, and gives a figure for each and one for each ratio of two
// lines: the median over the rounds. The first round is thrown away if warm.
func (b *bench) compare(ctx context.Context, name string, lines []line, rounds int, warm bool) ([]figure, error) {
	figures := make([]figure, len(lines))
	micros := make([][]float64, len(lines))
	ratios := map[[2]int]*figure{}
	for i, l := range lines {
		figures[i] = figure{Case: name, What: l.what, Unit: "readings/s", Revision: b.revision}
		for _, j := range l.than {
			ratios[[2]int{i, j}] = &figure{Case: name, What: l.what + " ÷ " + lines[j].what, Unit: "×", Revision: b.revision}
		}
	}
	if warm {
		rounds++
	}
	for n := range rounds {
		rates := make([]float64, len(lines))
		for at := range lines {
			i := at
			if n%2 == 1 {
				i = len(lines) - 1 - at // who comes later finds the machine busier with what the others left
			}
			got, err := lines[i].run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", lines[i].what, err)
			}
			rates[i] = got.rate()
			each := got.cpu * 1e6 / float64(got.readings)
			fmt.Fprintf(os.Stderr, "%s: round %d: %s: %.0f readings/s, %.2f µs of CPU each, %.0f MiB, load %s\n",
				name, n, lines[i].what, got.rate(), each, got.peak, got.load)
			if warm && n == 0 {
				continue
			}
			f := &figures[i]
			f.Runs, micros[i] = append(f.Runs, got.rate()), append(micros[i], each)
			f.Micros, f.CPU, f.PeakMiB, f.Load = median(micros[i]), got.cpu/got.seconds, max(f.PeakMiB, got.peak), got.load
			f.Checked += got.checked
		}
		for pair, ratio := range ratios {
			if !warm || n > 0 {
				ratio.Runs, ratio.Load = append(ratio.Runs, rates[pair[0]]/rates[pair[1]]), figures[pair[0]].Load
			}
		}
	}
	var all []figure
	for i := range lines {
		figures[i].Value = median(figures[i].Runs)
		all = append(all, figures[i])
	}
	for i, l := range lines {
		for _, j := range l.than {
			ratio := ratios[[2]int{i, j}]
			ratio.Value = median(ratio.Runs)
			all = append(all, *ratio)
		}
	}
	return all, nil
}

// cassandraServer is the one that the environment names.
func cassandraServer() (*testenv.CassandraServer, error) {
	address := os.Getenv(testenv.CassandraVariable)
	if address == "" {
		return nil, errNoServers
	}
	return &testenv.CassandraServer{Addr: address}, nil
}

// peerTable makes a keyspace of its own with the table that the peers write to, as their manuals have it: a row
// of a device's hour for each reading. It returns the keyspace.
func peerTable(ctx context.Context, server *testenv.CassandraServer, bucket string) (string, error) {
	keyspace := testenv.Unique("peer")
	for _, statement := range []string{
		"CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE " + keyspace + ".readings (device text, bucket " + bucket + ", ts timestamp, v0 double, v1 double, v2 double, v3 double, " +
			"PRIMARY KEY ((device, bucket), ts)) WITH compaction = {'class': 'TimeWindowCompactionStrategy', " +
			"'compaction_window_unit': 'HOURS', 'compaction_window_size': '1'}",
	} {
		if err := server.Execute(ctx, statement); err != nil {
			return "", err
		}
	}
	return keyspace, nil
}

// tokenRanges is how many questions a count of a table is: few enough rows for one answer in time.
const tokenRanges = 64

// tokenRange is the i-th range of tokens, from its first to its last.
func tokenRange(i int) (from, to int64) {
	const width = math.MaxUint64/tokenRanges + 1
	from = int64(math.MinInt64) + int64(i)*width
	return from, from + (width - 1)
}

// countRows counts the rows of a table with this partition key.
func countRows(ctx context.Context, server *testenv.CassandraServer, table, key string) (int64, error) {
	total := int64(0)
	for i := range tokenRanges {
		from, to := tokenRange(i)
		n, err := server.Count(ctx, fmt.Sprintf("SELECT count(*) FROM %[1]s WHERE token(%[2]s) >= %[3]d AND token(%[2]s) <= %[4]d", table, key, from, to))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// wantRows counts, and wants so many.
func wantRows(ctx context.Context, server *testenv.CassandraServer, table, key string, want int64) error {
	got, err := countRows(ctx, server, table, key)
	if err == nil && got != want {
		err = fmt.Errorf("%s has %d rows, and %d readings were sent: there is no figure", table, got, want)
	}
	return err
}

// peer is the path of something that bench/peers/build has built.
func (b *bench) peer(parts ...string) (string, error) {
	path, err := filepath.Abs(filepath.Join(append([]string{b.peers}, parts...)...))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run bench/peers/build %s", err, b.peers)
	}
	return path, nil
}

// taken asks the member's metrics how many readings it has taken in, and how many messages of them are not stored.
func (m *member) taken(ctx context.Context) (readings, unstored int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := httpGet(ctx, m.http+"/metrics")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = body.Close() }()
	for lines := bufio.NewScanner(body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		name, _, _ = strings.Cut(name, "{")
		if name != "wellhead_readings_total" && name != "wellhead_shard_pending_messages" {
			continue
		}
		n, failed := strconv.ParseFloat(value, 64)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("metric %s: %w", name, failed))
		} else if name == "wellhead_readings_total" {
			readings += int64(n)
		} else {
			unstored += int64(n)
		}
	}
	return readings, unstored, err
}
