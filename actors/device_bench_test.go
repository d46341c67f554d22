package actors

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/wellhead/wellhead/messages"
)

// benchDevices returns devices that have had n readings each, one a second, 4 decimal channels.
func benchDevices(count, n int) []*Device {
	settings := &messages.Settings{WindowCount: 60}
	devices := make([]*Device, count)
	for i := range devices {
		devices[i] = NewDevice(messages.DeviceID{Site: "site", Device: fmt.Sprintf("device-%07d", i)}, settings)
	}
	var out Outcome
	limits := Limits{MaxFuture: 600_000}
	in := make([]Arrived, 1)
	values := make([]float64, 4)
	for k := range n {
		for i, d := range devices {
			benchReading(&in[0], k, i, values)
			d.Apply(in, &limits, &out)
		}
	}
	return devices
}

func benchReading(a *Arrived, k, device int, values []float64) {
	for c := range values {
		values[c] = math.Round(2000+1000*float64(c)+50*math.Sin(float64(k+device)/10)*float64(c+1)) / 100
	}
	at := int64(plainStart + 1000*k)
	*a = Arrived{Sequence: uint64(k*100 + 1), Arrival: at + 40, WriteTime: at * 1000, Reading: messages.Reading{Time: at, Values: values}}
}

// BenchmarkDeviceApplyInOrder is the common case: one device, one reading a message. The readings are
// made ahead, and moved on in time at each round.
func BenchmarkDeviceApplyInOrder(b *testing.B) {
	for _, pull := range []int{1, 10} {
		b.Run(fmt.Sprintf("pull=%d", pull), func(b *testing.B) {
			const ahead = 1000
			in := make([]Arrived, ahead)
			for k := range in {
				benchReading(&in[k], k, 0, make([]float64, 4))
			}
			d := NewDevice(testID, &messages.Settings{WindowCount: 60})
			var out Outcome
			limits := Limits{MaxFuture: 600_000}
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				if k+pull > ahead {
					k = 0
				}
				batch := in[k : k+pull]
				k += pull
				d.Apply(batch, &limits, &out)
				for i := range batch {
					batch[i].Sequence += ahead * 100
					batch[i].Arrival += ahead * 1000
					batch[i].Reading.Time += ahead * 1000
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*pull), "ns/reading")
		})
	}
}

// BenchmarkDeviceMemory reports the heap a device takes with a full window of 60 readings of 4 channels.
func BenchmarkDeviceMemory(b *testing.B) {
	for _, readings := range []int{1, 60, 200} {
		b.Run(fmt.Sprintf("readings=%d", readings), func(b *testing.B) {
			for b.Loop() {
				const count = 2000
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				devices := benchDevices(count, readings)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/count, "B/device")
				runtime.KeepAlive(devices)
			}
		})
	}
}

func BenchmarkDeviceSnapshot(b *testing.B) {
	d := benchDevices(1, 200)[0]
	data := d.AppendSnapshot(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			data = d.AppendSnapshot(data[:0])
		}
		b.ReportMetric(float64(len(data)), "B")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeSnapshot(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("peek", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := peek(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
