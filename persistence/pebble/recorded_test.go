package pebble

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wellhead/wellhead/internal/recording"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// recorded are the recordings that BenchmarkRecorded stores, without the labels that experts gave them.
var recorded = []struct {
	name, files string
	options     recording.Options
	labels      *regexp.Regexp // what is to be left out of a CSV file to have none; nil = it is compared with its labels only
}{
	{
		"wells", "3w-wells/*.csv.gz",
		recording.Options{TimeColumn: "timestamp", SkipColumns: []string{"class"}, DeviceFromName: regexp.MustCompile(`(WELL-\d+)`)},
		regexp.MustCompile(`(?m),[^,\r\n]*(\r?)$`),
	},
	{
		"pumps", "skab/*.csv",
		recording.Options{
			TimeColumn: "datetime", Separator: ';', SkipColumns: []string{"anomaly", "changepoint"}, DeviceFromName: regexp.MustCompile(`^(.*?)\.csv`),
		},
		nil,
	},
}

// BenchmarkRecorded stores recorded readings and tells what their archive takes on disk once all is compacted, beside what
// zstd -19 makes of each CSV file by itself. Each reading has a stream sequence of its own, as if it were a message. Rollups are
// what minutes and hours add.
func BenchmarkRecorded(b *testing.B) {
	for _, r := range recorded {
		b.Run(r.name, func(b *testing.B) {
			files, err := filepath.Glob(filepath.Join(testenv.Recordings(b), filepath.FromSlash(r.files)))
			if err != nil || len(files) == 0 {
				b.Fatalf("%d files %s, error %v", len(files), r.files, err)
			}
			texts := unpack(b, files)
			devices := loadRows(b, files, r.options)
			rows := float64(countRows(devices))
			var size, with int64
			for b.Loop() {
				size, with = storeRows(b, devices, false), storeRows(b, devices, true)
			}
			b.ReportMetric(float64(size)/rows, "B/reading")
			b.ReportMetric(float64(with-size)/rows, "B-rollups/reading")
			b.ReportMetric(float64(size)/zstdSize(b, texts), "of-zstd-19")
			if r.labels != nil {
				for i := range texts {
					texts[i] = r.labels.ReplaceAll(texts[i], []byte("$1"))
				}
				b.ReportMetric(float64(size)/zstdSize(b, texts), "of-zstd-19-unlabelled")
			}
		})
	}
}

// unpack returns the contents of all files.
func unpack(b *testing.B, files []string) (texts [][]byte) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err == nil && strings.HasSuffix(name, ".gz") {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
				text, err = io.ReadAll(z)
			}
		}
		if err != nil {
			b.Fatalf("unpack %s: %v", name, err)
		}
		texts = append(texts, text)
	}
	return texts
}

// zstdSize returns the bytes of all texts compressed one by one with the zstd command: level 19 of the Go library is
// another one.
func zstdSize(b *testing.B, texts [][]byte) (sum float64) {
	program, err := exec.LookPath("zstd")
	if err != nil {
		testenv.Missing(b, "the zstd command", "apt-get install zstd")
	}
	for _, text := range texts {
		command := exec.CommandContext(b.Context(), program, "-19", "-q", "-c")
		command.Stdin, command.Stderr = bytes.NewReader(text), os.Stderr
		out, err := command.Output()
		if err != nil {
			b.Fatalf("zstd: %v", err)
		}
		sum += float64(len(out))
	}
	return sum
}

// loadRows returns each device's readings by event time.
func loadRows(b *testing.B, files []string, o recording.Options) (out []persistence.DeviceRows) {
	sources, err := recording.Open(files, o)
	if err != nil {
		b.Fatal(err)
	}
	shelf := recording.NewShelf(0)
	for _, source := range sources {
		devices, err := shelf.Load(source)
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range devices {
			rows := persistence.DeviceRows{Device: messages.DeviceID{Site: "recorded", Device: d.Name}}
			for r := range d.Readings() {
				sequence := uint64(len(rows.Rows) + 1)
				rows.Rows = append(rows.Rows, persistence.Row{Time: r.Time, Sequence: sequence, Values: slices.Clone(r.Values)})
			}
			out = append(out, rows)
		}
	}
	return out
}

func countRows(devices []persistence.DeviceRows) (n int) {
	for i := range devices {
		n += len(devices[i].Rows)
	}
	return n
}

// storeRows returns the bytes of an archive's folder when all is compacted and the archive was opened once more, which
// removes the logs that Pebble keeps for its next ones.
func storeRows(b *testing.B, devices []persistence.DeviceRows, rollups bool) int64 {
	dir := b.TempDir()
	a, err := OpenArchive(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for half := range 2 {
		for _, d := range devices {
			middle := len(d.Rows) / 2
			d.Rows = [][]persistence.Row{d.Rows[:middle], d.Rows[middle:]}[half]
			appendRows(b, a, d, rollups)
		}
		flush(b, a)
	}
	compact(b, a)
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	if a, err = OpenArchive(dir, Options{}); err != nil {
		b.Fatal(err)
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	return folderBytes(b, dir)
}

// appendRows appends the device's rows, 50 at a time, and, if so asked, their rollups.
func appendRows(b *testing.B, a *Archive, d persistence.DeviceRows, rollups bool) {
	var parts []persistence.DeviceRows
	for rows := range slices.Chunk(d.Rows, 50) {
		parts = append(parts, persistence.DeviceRows{Device: d.Device, Rows: rows})
	}
	if rollups {
		all := slices.Concat(rollupsOf(d.Rows, messages.Minute), rollupsOf(d.Rows, messages.Hour))
		parts = append(parts, persistence.DeviceRows{Device: d.Device, Rollups: all})
	}
	for i := range parts {
		if err := a.Append(context.Background(), &persistence.Batch{Shard: messages.ShardOf(d.Device, 64), Devices: parts[i : i+1]}); err != nil {
			b.Fatal(err)
		}
	}
}

// rollupsOf returns the rollups of rows that are in order of event time.
func rollupsOf(rows []persistence.Row, step messages.Step) []persistence.RollupRow {
	var out []persistence.RollupRow
	for len(rows) > 0 {
		start := rows[0].Time - rows[0].Time%int64(step)
		n := 1
		for n < len(rows) && rows[n].Time < start+int64(step) {
			n++
		}
		out = append(out, rollupOf(rows[:n], step, start))
		rows = rows[n:]
	}
	return out
}

func rollupOf(rows []persistence.Row, step messages.Step, start int64) persistence.RollupRow {
	last := &rows[len(rows)-1]
	out := persistence.RollupRow{Rollup: messages.Rollup{Step: step, Start: start, Count: int64(len(rows))}, Sequence: last.Sequence}
	for c := range last.Values {
		var channel messages.ChannelRollup
		sum := new(big.Float).SetPrec(2000) // exact, as the shards' are
		for i := range rows {
			v := rows[i].Values[c]
			if v != v {
				continue
			}
			if channel.Count++; channel.Count == 1 {
				channel.First, channel.Min, channel.Max = v, v, v
			}
			channel.Last, channel.Min, channel.Max = v, min(channel.Min, v), max(channel.Max, v)
			sum.Add(sum, big.NewFloat(v))
		}
		channel.Sum, _ = sum.Float64()
		out.Channels = append(out.Channels, channel)
	}
	return out
}

func folderBytes(b *testing.B, dir string) (sum int64) {
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}
