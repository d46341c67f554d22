package chunk

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/persistence"
)

// TestPythonReadsChunks has examples/clients/read_chunks.py, which was written from docs/chunks.md, read
// chunks of random rows.
func TestPythonReadsChunks(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		testenv.Missing(t, "python3", "apt-get install python3")
	}
	var all []persistence.Row
	var lines bytes.Buffer
	for i := range 60 {
		rows := rapid.Custom(drawRows).Example(i)
		for j := range rows { // chunks of one device: each has its own stretch of time, and may correct itself
			rows[j].Time = int64(i)*1000 + rows[j].Time&1023%1000
			rows[j].Note = strings.ToValidUTF8(rows[j].Note, "?")
			for c, v := range rows[j].Values {
				if math.IsInf(v, 0) { // JSON has none, and the product refuses them
					rows[j].Values[c] = 1
				}
			}
		}
		all = append(all, rows...)
		lines.WriteString(hex.EncodeToString(encodeRows(Version1+byte(i%3), rows)) + "\n")
	}
	file := filepath.Join(t.TempDir(), "chunks")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	reader := filepath.Join("..", "..", "examples", "clients", "read_chunks.py")
	var complaint strings.Builder
	program := exec.CommandContext(t.Context(), python, reader, "--hex", file)
	program.Stderr = &complaint
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	var got []persistence.Row
	for line := range bytes.Lines(out) {
		var r struct {
			Time     int64
			Sequence uint64
			Values   []*float64
			Note     string
			Quality  []int
			Flags    uint8
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		row := persistence.Row{Time: r.Time, Sequence: r.Sequence, Note: r.Note, Flags: r.Flags}
		for _, q := range r.Quality {
			row.Quality = append(row.Quality, uint8(q))
		}
		for _, v := range r.Values {
			if v == nil {
				v = new(float64)
				*v = math.NaN()
			}
			row.Values = append(row.Values, *v)
		}
		got = append(got, row)
	}
	if diff := cmp.Diff(newestRows(all), got, sameRows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}

	broken := lines.Bytes()
	if broken[40]++; broken[40] == '9'+1 || broken[40] == 'g' { // another hexadecimal digit
		broken[40] = '0'
	}
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), python, reader, "--hex", file).CombinedOutput(); err == nil || !strings.Contains(string(out), "corrupt chunk") {
		t.Errorf("a digit changed: error %v, %s", err, out)
	}
}
