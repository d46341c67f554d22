// Serve shows the page over a fleet in memory whose devices move, for the browser's tests and for
// working on the page. It prints its address and ends with its input.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/api/apitest"
	"github.com/wellhead/wellhead/messages"
)

func main() {
	addr := flag.String("http", "127.0.0.1:0", "address to listen on")
	devices := flag.Int("devices", 120, "devices that move; 0 shows the empty page")
	page := flag.String("page", "web", "folder of the page")
	flag.Parse()
	if err := run(*addr, *page, *devices); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func run(addr, page string, devices int) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	f := apitest.New()
	f.Set(func(f *apitest.Fleet) { f.Accounts = accounts() })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if devices > 0 {
		go move(ctx, f, devices)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	h := api.New(api.Options{Fleet: f, Ingest: f, Live: f, Health: f, Totals: f.Totals, Cluster: threeMembers, Operator: limits{}, Page: os.DirFS(page), Logger: log, Version: "test"})
	server := api.NewServer(h, log)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	fmt.Printf("http://%s\n", l.Addr())
	if err := server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// accounts are of two producers, one of which has left out batches.
func accounts() []messages.ProducerAccount {
	now := time.Now().UnixMilli()
	return []messages.ProducerAccount{
		{
			ProducerRun: messages.ProducerRun{Site: "demo", Producer: "agent-1", Run: 1<<63 + 7},
			Shards:      []messages.ShardAccount{{Shard: 3, Received: 900, Stored: 899, Readings: 89_900, Duplicates: 1, Through: 899, Highest: 899, First: now - 60_000, Last: now}},
		},
		{
			ProducerRun: messages.ProducerRun{Site: "demo", Producer: "agent-2", Run: 9},
			Shards: []messages.ShardAccount{{
				Shard: 5, Received: 100, Stored: 100, Readings: 10_000, Through: 41, Highest: 103, Missing: 3,
				Gaps: [][2]uint64{{42, 42}, {77, 78}}, First: now - 60_000, Last: now, Retired: true,
			}},
		},
	}
}

// move sends a reading of every device each second, each device at its own moment, after a minute of history.
func move(ctx context.Context, f *apitest.Fleet, n int) {
	begin := time.Now().Add(-time.Minute).Truncate(time.Second)
	const slices = 10
	for tick := 0; ctx.Err() == nil; tick++ {
		at := begin.Add(time.Duration(tick) * time.Second / slices)
		if wait := time.Until(at); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		var in []api.DeviceReadings
		for d := tick % slices; d < n; d += slices {
			if d == n-1 && tick > 60*slices { // one goes silent
				continue
			}
			in = append(in, api.DeviceReadings{Device: fmt.Sprintf("well-%03d", d), Readings: []messages.Reading{sample(d, at)}})
		}
		if err := f.Publish(ctx, "demo", in, api.How{}); err != nil {
			return
		}
	}
}

func sample(d int, at time.Time) messages.Reading {
	t := float64(at.UnixMilli())/1000 + float64(d)*7
	noise := func(k float64) float64 { return math.Sin(t*k*12.9898) * math.Cos(t*k*4.1414) }
	r := messages.Reading{Time: at.UnixMilli(), Values: []float64{
		round(210 + 18*math.Sin(t/9) + 2*noise(1)),
		round(64 + 6*math.Sin(t/23+1) + .4*noise(2)),
		round(42 + 9*math.Cos(t/14) + noise(3)),
		round(12 + 3*math.Sin(t/5)*math.Sin(t/31) + .2*noise(4)),
	}}
	if at.Unix()%17 == 0 {
		r.Values[1] = messages.Omitted()
	}
	return r
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

// threeMembers is a cluster of which the last shards are on their way.
func threeMembers(context.Context) (api.Cluster, error) {
	const shards = 64
	c := api.Cluster{ID: "test", Shards: shards, Unowned: []int{}, Pins: []api.ClusterPin{{Shard: 17, Member: "m3"}}}
	for i, name := range []string{"m1", "m2", "m3"} {
		m := api.ClusterMember{Name: name, ID: name, Address: "127.0.0.1:4300", Version: "test", State: "alive", Self: i == 0, Devices: 40, Readings: uint64(time.Now().UnixMilli() / 25), InFlightLimit: 256 << 20}
		m.InFlight, m.Lag, m.OldestUnstoredSeconds = 3<<20, 120, 0.8
		for shard := i; shard < shards; shard += 3 {
			m.Shards = append(m.Shards, shard)
		}
		c.Members = append(c.Members, m)
	}
	for shard := range shards {
		s := api.ClusterShard{Shard: shard, Member: c.Members[shard%3].Name, State: "running", Devices: 2}
		s.InFlight, s.Lag, s.OldestUnstoredSeconds = 140<<10, 6, 0.8
		c.Of = append(c.Of, s)
	}
	return c, nil
}

// limits are those of a member on which nobody has set any.
type limits struct{}

func (limits) Limits(context.Context) (api.LimitsState, error) {
	return api.LimitsState{Limits: messages.Limits{InFlight: 256 << 20, SiteUnstored: 64 << 20}, InFlightLimit: 256 << 20, Sites: []api.SiteUnstored{}}, nil
}

func (limits) SetLimits(context.Context, messages.Limits, uint64) error { return nil }
