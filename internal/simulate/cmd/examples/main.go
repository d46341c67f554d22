// Command examples writes examples/data: small recordings that nobody recorded, in the dialects that
// loggers and historians write. What is in them comes from the simulator, so a run changes nothing.
package main

import (
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/messages"
)

// example is one file's dialect and contents.
type example struct {
	name      string
	header    string
	separator string
	newline   string
	open      bool   // no newline at the end
	time      string // layout
	interval  time.Duration
	rows      int
	channels  int
	device    int // of the fleet
	omitted   string
	format    byte // of numbers
	gaps      bool // every 20th row is left out whole
	label     string
}

var examples = []example{
	{
		name: "wells/WELL-1_20260102.csv", header: "timestamp,P-PDG,P-TPT,T-TPT,QGL,class", separator: ",", newline: "\r\n", open: true,
		time: "2006-01-02 15:04:05.000000", interval: time.Second, rows: 900, channels: 4, device: 0, format: 'e', label: "0",
	},
	{
		name: "wells/WELL-2_20260102.csv", header: "timestamp,P-PDG,P-TPT,T-TPT,QGL,class", separator: ",", newline: "\n",
		time: "2006-01-02 15:04:05.000000", interval: time.Second, rows: 900, channels: 4, device: 1, format: 'e', label: "0",
	},
	{
		name: "pump/pump-1.csv", header: "datetime;Accelerometer RMS;Current;Pressure;Volume Flow RateRMS", separator: ";", newline: "\r\n",
		time: "2006-01-02 15:04:05", interval: time.Second, rows: 900, channels: 4, device: 2, format: 'f', gaps: true,
	},
	{
		name: "river/station-1.csv", header: "datetime,temp,cond,ph,turb", separator: ",", newline: "\n",
		time: "2006-01-02 15:04:05.000", interval: 15 * time.Minute, rows: 960, channels: 4, device: 3, omitted: "NULL", format: 'f',
	},
	{
		name: "meters/building_b1_electricity.csv", header: "datetime,equipment load [kWh]", separator: ",", newline: "\n",
		time: "2006-01-02 15:04:05", interval: time.Hour, rows: 1440, channels: 1, device: 4, format: 'f',
	},
	{
		name: "meters/building_b1_gas.csv", header: "datetime,heating load [kWh]", separator: ",", newline: "\n",
		time: "2006-01-02 15:04:05", interval: time.Hour, rows: 1440, channels: 1, device: 5, format: 'f',
	},
	{
		name: "weather/weather-1.csv", header: ",Ambient Temperature,\"Wind, mean\",Humidity", separator: ",", newline: "\n",
		time: "1/2/2006 15:04", interval: 5 * time.Minute, rows: 864, channels: 3, device: 6, format: 'f',
	},
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: examples FOLDER")
	}
	for _, e := range examples {
		path := filepath.Join(os.Args[1], filepath.FromSlash(e.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			log.Fatal(err)
		}
		text, err := e.text()
		if err != nil {
			log.Fatalf("%s: %v", e.name, err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

func (e *example) text() (string, error) {
	omitted := 0.02
	if e.channels == 1 {
		omitted = 0
	}
	f, err := simulate.New(simulate.Options{
		Site: "example", Devices: e.device + 1, Interval: e.interval, Channels: e.channels, Seed: 7,
		Start: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), Readings: e.rows, Omitted: omitted, Batch: 1,
	})
	if err != nil {
		return "", err
	}
	lines := []string{e.header}
	row := 0
	for r := range f.Expected(e.device) {
		if row++; e.gaps && row%20 == 0 {
			continue
		}
		lines = append(lines, e.line(r))
	}
	text := strings.Join(lines, e.newline)
	if !e.open {
		text += e.newline
	}
	return text, nil
}

func (e *example) line(r messages.Reading) string {
	fields := []string{time.UnixMilli(r.Time).UTC().Format(e.time)}
	for _, v := range r.Values {
		switch {
		case math.IsNaN(v):
			fields = append(fields, e.omitted)
		case e.format == 'e':
			fields = append(fields, strconv.FormatFloat(v, 'e', 6, 64))
		default:
			fields = append(fields, fmt.Sprint(v))
		}
	}
	if e.label != "" {
		fields = append(fields, e.label)
	}
	return strings.Join(fields, e.separator)
}
