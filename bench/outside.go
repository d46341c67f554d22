package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/internal/pace"
	"github.com/wellhead/wellhead/internal/simulate"
	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// What the outside servers of these benchmarks know their users by. They listen on loopback only.
const (
	outsideSite     = "bench"
	outsidePassword = "bench"
)

// outside is a NATS server of its own process, with the configuration that `wellhead config nats` prints.
type outside struct {
	bench   *bench
	server  *testenv.NATSServer
	dir     string
	url     string // with the members' user
	monitor string // address of its monitoring
	creds   string // file of the site's credential
	shards  int
}

// startOutside starts a server for so many shards. Its streams are made by the first member that comes.
func (b *bench) startOutside(ctx context.Context, shards int) (*outside, error) {
	ports, err := testenv.FreePorts("127.0.0.1", 2)
	if err != nil {
		return nil, err
	}
	address, monitor := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
	dir, err := os.MkdirTemp(b.dir, "nats-")
	if err != nil {
		return nil, err
	}
	o := &outside{
		bench: b, dir: dir, monitor: monitor, shards: shards,
		url: "nats://member:" + outsidePassword + "@" + address, creds: filepath.Join(dir, "site.creds"),
	}
	if err := os.WriteFile(o.creds, fmt.Appendf(nil, "site: %s\npassword: %s\n", outsideSite, outsidePassword), 0o600); err != nil {
		return nil, err
	}
	printed, err := exec.CommandContext(ctx, b.binary, "config", "nats", "--sites", outsideSite, "--shards", strconv.Itoa(shards),
		"--listen", address, "--store", filepath.Join(dir, "store")).Output()
	if err != nil {
		return nil, fmt.Errorf("wellhead config nats: %w", err)
	}
	head := fmt.Sprintf("NATS_SYS_PASSWORD: %[1]q\nWELLHEAD_MEMBER_PASSWORD: %[1]q\nWELLHEAD_SITE_BENCH: %[1]q\nhttp: %[2]q\n", outsidePassword, monitor)
	o.server, err = testenv.StartNATS(ctx, nil, dir, address, head+string(printed))
	return o, err
}

// remove ends the server and removes its data.
func (o *outside) remove() {
	if o.server != nil {
		_ = o.server.Kill() // nothing of it is kept
	}
	_ = os.RemoveAll(o.dir)
}

// settings are those of a member on this server. It publishes no events: the peer publishes none either.
func (o *outside) settings() string {
	return fmt.Sprintf("stream: \"nats://%s\"\nstream.user: member\nstream.password: %s\nstream.max-bytes: %dMiB\nshards: %d\nevents: none\n",
		o.server.Addr, outsidePassword, 4096/o.shards, o.shards)
}

// member starts a member on this server, with more settings and flags.
func (o *outside) member(ctx context.Context, settings string, flags ...string) (*member, error) {
	file := filepath.Join(o.dir, "member.yaml")
	if err := os.WriteFile(file, []byte(o.settings()+settings), 0o600); err != nil {
		return nil, err
	}
	return o.bench.start(ctx, append([]string{"--config", file}, flags...)...)
}

// waiting is a fleet whose readings wait in the streams: each once, in order and with all values.
func (o *outside) waiting(devices, readings int) simulate.Options {
	start := time.Now().UTC().Truncate(time.Second).Add(-time.Duration(readings) * time.Second)
	return simulate.Options{Site: outsideSite, Devices: devices, Readings: readings, Interval: time.Second, Channels: 4, Seed: 1, Start: start, Batch: 100, Gather: true}
}

// flagsOf are those that simulate and verify know such a fleet by.
func flagsOf(f simulate.Options) []string {
	return []string{
		"--site", f.Site, "--devices", strconv.Itoa(f.Devices), "--readings", strconv.Itoa(f.Readings), "--interval", f.Interval.String(),
		"--channels", strconv.Itoa(f.Channels), "--seed", strconv.FormatUint(f.Seed, 10), "--start", f.Start.Format(time.RFC3339),
		"--out-of-order", "0", "--duplicates", "0", "--omitted", "0",
	}
}

// fillBatches publishes the fleet's readings as our own producers do, 100 in a message.
func (o *outside) fillBatches(ctx context.Context, devices, readings int) (s sent, err error) {
	args := append([]string{
		"simulate", "--server", "nats://" + o.server.Addr, "--creds", o.creds, "--shards", strconv.Itoa(o.shards), "--batch", "100", "--rate", "max", "--json",
	}, flagsOf(o.waiting(devices, readings))...)
	err = o.bench.command(ctx, args, &s)
	return s, err
}

// fillJSON publishes each of the fleet's readings as a JSON message of its own, all of them acknowledged.
func (o *outside) fillJSON(ctx context.Context, devices, readings int) (sent, error) {
	options := o.waiting(devices, readings)
	fleet, err := simulate.New(options)
	if err != nil {
		return sent{}, err
	}
	client, err := stream.Dial(ctx, stream.DialOptions{URL: "nats://" + o.server.Addr, CredsFile: o.creds, Name: "bench fill"})
	if err != nil {
		return sent{}, err
	}
	defer client.Close()
	publisher, err := client.NewPublisher(stream.PublisherOptions{})
	if err != nil {
		return sent{}, err
	}
	defer publisher.Close()
	asFastAsPossible, err := pace.ParseRate("max")
	if err != nil {
		return sent{}, err
	}
	s := sent{Verify: strings.Join(append([]string{"wellhead", "verify", "simulate", "--server", o.url}, flagsOf(options)...), " ")}
	count := func(n int) { s.Sent += int64(n) }
	err = fleet.Publish(ctx, o.shards, asFastAsPossible, &singles{Publisher: publisher}, count)
	return s, err
}

// singles publishes each reading as JSON.
type singles struct {
	*stream.Publisher
	text []byte
}

// Publish implements simulate.Publisher.
func (p *singles) Publish(ctx context.Context, site string, _ messages.Shard, blocks []messages.Block) error {
	for _, b := range blocks {
		for _, r := range b.Readings {
			p.text = messages.AppendReadingJSON(p.text[:0], r)
			if err := p.PublishReading(ctx, messages.DeviceID{Site: site, Device: b.Device}, p.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// consumed asks the server how many messages of the consumer it has delivered, and up to which all are acknowledged.
func (o *outside) consumed(ctx context.Context, consumer string) (delivered, acknowledged int64, err error) {
	var answer struct {
		Accounts []struct {
			Streams []struct {
				Consumers []struct {
					Name      string `json:"name"`
					Delivered struct {
						Sequence int64 `json:"stream_seq"`
					} `json:"delivered"`
					AckFloor struct {
						Sequence int64 `json:"stream_seq"`
					} `json:"ack_floor"`
				} `json:"consumer_detail"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := httpGet(ctx, "http://"+o.monitor+"/jsz?accounts=true&streams=true&consumers=true")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return 0, 0, fmt.Errorf("the NATS server's monitoring: %w", err)
	}
	for _, a := range answer.Accounts {
		for _, s := range a.Streams {
			for _, c := range s.Consumers {
				if c.Name == consumer {
					return c.Delivered.Sequence, c.AckFloor.Sequence, nil
				}
			}
		}
	}
	return 0, 0, nil // not there yet
}
