package cassandra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"pgregory.net/rapid"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

func TestPlanKeepsPartitionsSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0, 2e6).Draw(t, "rate")
		shards := rapid.IntRange(1, 1024).Draw(t, "shards")
		groups, bucket := Plan(rate, shards)
		if groups < 1 || bucket < time.Hour || bucket > 24*time.Hour {
			t.Fatalf("Plan = %d, %v", groups, bucket)
		}
		bytes := rate / float64(shards) / float64(groups) * bucket.Seconds() * rowBytes
		if bytes > partitionBytes*1.001 {
			t.Fatalf("Plan = %d groups, %v: partitions of %.0f bytes", groups, bucket, bytes)
		}
		if _, err := (Options{Hosts: []string{"h"}, Shards: shards, Groups: groups, Bucket: bucket}).complete(); err != nil {
			t.Fatal(err)
		}
	})
	if groups, bucket := Plan(90*64, 64); groups != 2 || bucket != time.Hour {
		t.Errorf("Plan for 90 readings/s a shard = %d, %v, want 2 groups and an hour", groups, bucket)
	}
}

// The group must have nothing to do with the hash that made the shard: FNV-1a-32 of the names, mod N.
func TestGroupsAreEvenWithinAShard(t *testing.T) {
	a := &Archive{options: Options{Groups: 8}}
	counts := make([]int, 8)
	total := 0
	for i := range 200_000 {
		id := messages.DeviceID{Site: "site1", Device: fmt.Sprintf("device%06d", i)}
		h := uint32(2166136261)
		for _, c := range []byte(id.Site + id.Device) {
			h = (h ^ uint32(c)) * 16777619
		}
		if h%64 == 5 {
			counts[a.group(id)]++
			total++
		}
	}
	for group, n := range counts {
		if want := total / 8; n < want*8/10 || n > want*12/10 {
			t.Errorf("group %d of shard 5 has %d devices, want about %d: %v", group, n, want, counts)
		}
	}
}

// Where a device's rows are must never change: these are from the first version.
func TestGroupIsFixed(t *testing.T) {
	a := &Archive{options: Options{Groups: 1000}}
	for name, want := range map[string]int16{"a": 336, "well-17": 16} {
		if got := a.group(messages.DeviceID{Site: "north", Device: name}); got != want {
			t.Errorf("group of north/%s = %d, want %d", name, got, want)
		}
	}
}

func TestBucketOfIsFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		time := rapid.Int64Range(-maxTime, maxTime).Draw(t, "time")
		length := rapid.Int64Range(1, 1<<40).Draw(t, "length")
		b := bucketOf(time, length)
		if start := b * length; start > time || time-start >= length {
			t.Fatalf("bucketOf(%d, %d) = %d", time, length, b)
		}
	})
	for _, length := range []int64{1000, 3_600_000} { // the ends of all time are asked for
		if lowest, highest := bucketOf(math.MinInt64, length), bucketOf(math.MaxInt64, length); lowest >= bucketOf(-maxTime, length) || highest <= bucketOf(maxTime, length) {
			t.Errorf("length %d: buckets %d to %d are not all", length, lowest, highest)
		}
	}
}

func TestTTL(t *testing.T) {
	const arrival = 1_767_322_800_000
	for _, test := range []struct {
		retention time.Duration
		age       time.Duration
		seconds   int
		ok        bool
	}{
		{0, 1000 * time.Hour, 0, true},
		{time.Hour, 0, 3600, true},
		{time.Hour, 10 * time.Minute, 3000, true},
		{time.Hour, -10 * time.Minute, 4200, true},
		{time.Hour, time.Hour - time.Millisecond, 1, true},
		{time.Hour, time.Hour, 0, false},
		{time.Hour, 400 * 24 * time.Hour, 0, false},
		{time.Hour, -200 * 365 * 24 * time.Hour, maxTTL, true},
	} {
		seconds, ok := ttl(test.retention, arrival-test.age.Milliseconds(), arrival*1000)
		if seconds != test.seconds || ok != test.ok {
			t.Errorf("ttl(%v, age %v) = %d, %v, want %d, %v", test.retention, test.age, seconds, ok, test.seconds, test.ok)
		}
	}
	if s, ok := ttl(time.Hour, -maxTime, 1); ok || s != 0 {
		t.Errorf("the oldest time is kept for %d s", s)
	}
	if s, ok := ttl(time.Hour, maxTime, 1<<62); !ok || s != maxTTL {
		t.Errorf("the latest time is kept for %d s, %v", s, ok)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Hosts: []string{"127.0.0.1"}}
	if _, err := good.complete(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"hosts":       func(o *Options) { o.Hosts = nil },
		"keyspace":    func(o *Options) { o.Keyspace = "x; DROP KEYSPACE y" },
		"shards":      func(o *Options) { o.Shards = 40_000 },
		"groups":      func(o *Options) { o.Groups = -1 },
		"bucket":      func(o *Options) { o.Bucket = 1500 * time.Millisecond },
		"retention":   func(o *Options) { o.Retention = 21 * 365 * 24 * time.Hour },
		"in flight":   func(o *Options) { o.MaxInFlight = -1 },
		"replication": func(o *Options) { o.Replication = map[string]int{"dc1'}": 3} },
	} {
		o := good
		change(&o)
		if _, err := o.complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v", want, err)
		}
	}
	bad := good
	bad.Consistency = "MANY"
	if bad, err := bad.complete(); err != nil {
		t.Fatal(err)
	} else if _, err := bad.cluster(); err == nil {
		t.Error("consistency MANY is taken")
	}
	o := Options{Replication: map[string]int{"dc2": 2, "dc1": 3}}
	if got, want := o.replication(), `{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 2}`; got != want {
		t.Errorf("replication = %s, want %s", got, want)
	}
}

func onWire(doubles []float64) []byte {
	v := &values{}
	v.doubles(doubles)
	return *v.args[0].(*value)
}

func TestDoublesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Float64()).Draw(t, "values")
		b := onWire(values)
		// The driver's own reading of the type must agree.
		list := gocql.CollectionType{NativeType: gocql.NewNativeType(4, gocql.TypeList, ""), Elem: gocql.NewNativeType(4, gocql.TypeDouble, "")}
		var drivers []float64
		if err := gocql.Unmarshal(list, b, &drivers); err != nil || !slices.Equal(drivers, values) {
			t.Fatalf("the driver reads %v, %v, want %v", drivers, err, values)
		}
		got := doubles{1, 2, 3}
		if err := got.UnmarshalCQL(nil, b); err != nil || !slices.Equal(got, values) {
			t.Fatalf("got %v, %v, want %v", got, err, values)
		}
	})
}

func FuzzDoubles(f *testing.F) {
	b := onWire([]float64{1, math.NaN()})
	f.Add(b)
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d doubles
		if err := d.UnmarshalCQL(nil, b); err == nil && len(b) > 0 && len(b) != 4+doubleOnWire*len(d) {
			t.Errorf("%d bytes made %d values", len(b), len(d))
		}
	})
}

// TestUnreachable tells errors of servers that gave no answer from those that say something.
func TestUnreachable(t *testing.T) {
	for _, err := range []error{
		gocql.ErrConnectionClosed, gocql.ErrNoConnections, gocql.ErrTimeoutNoResponse, io.EOF,
		&gocql.RequestErrReadTimeout{}, &gocql.RequestErrUnavailable{}, &net.OpError{Op: "read", Err: syscall.ECONNRESET},
	} {
		if got := unreachable(fmt.Errorf("read: %w", err)); !errors.Is(got, persistence.ErrUnreachable) || !errors.Is(got, err) {
			t.Errorf("%v became %v, want ErrUnreachable and the cause", err, got)
		}
	}
	for _, err := range []error{nil, context.DeadlineExceeded, context.Canceled, gocql.ErrNotFound, errors.New("corrupt")} {
		if got := unreachable(err); !errors.Is(got, err) || errors.Is(got, persistence.ErrUnreachable) {
			t.Errorf("%v became %v", err, got)
		}
	}
}
