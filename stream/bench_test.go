package stream

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wellhead/wellhead/messages"
)

// benchStreams opens streams large enough for a benchmark.
func benchStreams(b *testing.B, shards int, tcp bool) (*Streams, *Client) {
	quiet := slog.New(slog.DiscardHandler)
	server := startServer(b, b.TempDir(), func(o *ServerOptions) { o.Shards, o.Logger = shards, quiet })
	s := openStreams(b, server, func(o *Options) { o.MaxBytes, o.Logger = 16<<30, quiet })
	var c *Client
	var err error
	if tcp {
		c, err = Dial(b.Context(), DialOptions{URL: server.ClientURL(), Logger: quiet})
	} else {
		c, err = s.Client("bench")
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return s, c
}

// drain reads n messages from all shards and counts them.
func drain(b *testing.B, s *Streams, n int64) *sync.WaitGroup {
	var left atomic.Int64
	left.Store(n)
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	for shard := range s.Shards() {
		f, err := s.Log().Open(ctx, messages.Shard(shard), 1)
		if err != nil {
			b.Fatal(err)
		}
		group.Go(func() {
			defer f.Close()
			for {
				got, err := f.Pull(ctx, 4<<20)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					b.Error(err)
					return
				}
				if left.Add(-int64(len(got))) <= 0 {
					cancel()
				}
			}
		})
	}
	b.Cleanup(cancel)
	return &group
}

// cpu returns the processor time that this process has used, ns: other work on the machine does not count.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func connections() []string { return []string{"in-process", "tcp"} }

func BenchmarkBatches(b *testing.B) {
	blocks := make([]messages.Block, 100)
	for i := range blocks {
		blocks[i] = messages.Block{Device: fmt.Sprintf("device-%04d", i), Readings: []messages.Reading{{Time: 1_700_000_000_000 + int64(i), Values: []float64{1.5, 2.25, 3.125, 4}}}}
	}
	for _, shards := range []int{8, 64} {
		for _, how := range connections() {
			b.Run(fmt.Sprintf("shards=%d/%s", shards, how), func(b *testing.B) {
				s, c := benchStreams(b, shards, how == "tcp")
				p, err := c.NewPublisher(PublisherOptions{Producer: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				b.ResetTimer()
				used := cpu(b)
				group := drain(b, s, int64(b.N))
				for i := range b.N {
					if err := p.Publish(b.Context(), "site", messages.Shard(i%shards), blocks); err != nil {
						b.Fatal(err)
					}
				}
				if err := p.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				group.Wait()
				b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "readings/s")
				b.ReportMetric((cpu(b)-used)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func BenchmarkSingleReadings(b *testing.B) {
	payload := []byte(`{"time":1700000000000,"values":[1.5,2.25,3.125,4]}`)
	ids := make([]messages.DeviceID, 1000)
	for i := range ids {
		ids[i] = messages.DeviceID{Site: "site", Device: fmt.Sprintf("device-%04d", i)}
	}
	for _, how := range connections() {
		for _, read := range []bool{false, true} {
			b.Run(fmt.Sprintf("shards=64/%s/read=%v", how, read), func(b *testing.B) {
				s, c := benchStreams(b, 64, how == "tcp")
				p, err := c.NewPublisher(PublisherOptions{})
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				b.ReportAllocs()
				b.ResetTimer()
				used := cpu(b)
				var group sync.WaitGroup
				if read {
					group.Add(1)
					inner := drain(b, s, int64(b.N))
					go func() { inner.Wait(); group.Done() }()
				}
				for i := range b.N {
					if err := p.PublishReading(b.Context(), ids[i%len(ids)], payload); err != nil {
						b.Fatal(err)
					}
				}
				if err := p.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "readings/s")
				b.ReportMetric((cpu(b)-used)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
