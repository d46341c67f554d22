package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// fleetSizes are the numbers of devices between which the cost of a reading is compared.
var fleetSizes = []int{1_000, 10_000, 100_000, 1_000_000}

// What each fleet sends: some readings of each device first, at most a window, then those that count.
const (
	sizesFill  = 6_000_000
	sizesCount = 10_000_000
)

// devices measures the rate of fleets of different sizes, one after the other on members of their own.
func devices(ctx context.Context, b *bench) ([]figure, error) {
	var figures []figure
	for _, n := range fleetSizes {
		f := figure{Case: "devices", What: fmt.Sprintf("%d devices, batches of 100 devices", n), Unit: "readings/s", Revision: b.revision}
		var micros []float64
		for range b.runs {
			got, err := b.filled(ctx, n, max(1, min(fleetReadings, int(sizesFill*b.scale)/n)), max(1, int(sizesCount*b.scale)/n))
			if err != nil {
				return figures, fmt.Errorf("%d devices: %w", n, err)
			}
			f.Runs, micros = append(f.Runs, got.rate()), append(micros, got.cpu*1e6/float64(got.readings))
			f.CPU, f.PeakMiB, f.Load = got.cpu/got.seconds, max(f.PeakMiB, got.peak), got.load
			f.Checked += got.checked
		}
		f.Value, f.Micros = median(f.Runs), median(micros)
		figures = append(figures, f)
		fmt.Fprintf(os.Stderr, "devices: %s: %.0f readings/s, %.2f µs of CPU each, %.0f MiB\n", f.What, f.Value, f.Micros, f.PeakMiB)
	}
	if b.plot == "" {
		return figures, nil
	}
	return figures, os.WriteFile(b.plot, []byte(drawSizes(figures)), 0o644)
}

// filled measures what a fleet on a member of its own sends as fast as it is taken, count readings of each device, after fill of each.
func (b *bench) filled(ctx context.Context, devices, fill, count int) (outcome, error) {
	m, err := b.start(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer m.remove()
	start := fleetStart
	flags := []string{"--devices", strconv.Itoa(devices), "--interval", "1s", "--start", start.Format(time.RFC3339)}
	s, err := m.simulate(ctx, append(flags, "--readings", strconv.Itoa(fill), "--rate", "max")...)
	if err != nil {
		return outcome{}, err
	}
	fmt.Fprintf(os.Stderr, "%d devices until the clock starts: %.0f readings/s\n", devices, s.StoredRate)
	flags[len(flags)-1] = start.Add(time.Duration(fill) * time.Second).Format(time.RFC3339)
	return m.simulated(ctx, append(flags, "--readings", strconv.Itoa(count))...)
}

// drawSizes draws rate and memory over the number of devices.
func drawSizes(figures []figure) string {
	const width, height, left, top = 640, 220, 90, 30
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+40, 2*(top+height)+40)
	fmt.Fprintln(&s, `<rect width="100%" height="100%" fill="white"/>`)
	for k, panel := range []struct {
		title, unit string
		of          func(figure) float64
	}{
		{"readings a second, until stored", "/s", func(f figure) float64 { return f.Value }},
		{"memory of the member (VmHWM)", " MiB", func(f figure) float64 { return f.PeakMiB }},
	} {
		y0 := top + k*(height+top+10)
		most := 0.0
		for _, f := range figures {
			most = max(most, panel.of(f))
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left, y0-8, panel.title)
		fmt.Fprintf(&s, `<path d="M%d %dV%dH%d" fill="none" stroke="#888"/>`+"\n", left, y0, y0+height, left+width)
		var line []string
		for i, f := range figures {
			x := float64(left) + float64(width)*(math.Log10(float64(fleetSizes[i]))-3)/3
			y := float64(y0) + float64(height)*(1-panel.of(f)/most*0.9)
			line = append(line, fmt.Sprintf("%.0f,%.0f", x, y))
			fmt.Fprintf(&s, `<circle cx="%.0f" cy="%.0f" r="4" fill="#2a6fb0"/><text x="%.0f" y="%.0f" text-anchor="middle">%.0f%s</text>`+"\n", x, y, x, y-8, panel.of(f), panel.unit)
			fmt.Fprintf(&s, `<text x="%.0f" y="%d" text-anchor="middle">%d</text>`+"\n", x, y0+height+16, fleetSizes[i])
		}
		fmt.Fprintf(&s, `<polyline points="%s" fill="none" stroke="#2a6fb0" stroke-width="2"/>`+"\n", strings.Join(line, " "))
	}
	fmt.Fprintln(&s, "</svg>")
	return s.String()
}
