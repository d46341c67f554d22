package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wellhead/wellhead/actors"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/stream"
)

// meeting is how this member meets the others of its cluster.
type meeting struct {
	members *cluster.Membership
	remote  *cluster.Remote
	pinger  cluster.Pinger
	keeper  *cluster.Keeper
	member  atomic.Pointer[actors.Member] // nil until it is made
	address string
	whole   atomic.Bool // all that was assigned was there at some time

	end  context.CancelFunc
	done chan struct{}
}

// clusterFile is the name, in the data folder, of the file with the id of the member's cluster.
const clusterFile = "cluster.id"

// openCluster finds the cluster and listens for its members; nothing is done when this member is alone.
func (n *node) openCluster(ctx context.Context) error {
	cfg := n.cfg
	if cfg.Joins != nil && cfg.Cluster == "" {
		address, err := towards(ctx, cfg.Stream.Server)
		if err != nil {
			return err
		}
		cfg.Cluster = address
	}
	if cfg.Cluster == "" {
		return nil
	}
	members, err := n.streams.Keys(stream.BucketMembers)
	if err != nil {
		return err
	}
	leases, err := n.streams.Keys(stream.BucketLeases)
	if err != nil {
		return err
	}
	listen, advertised, err := cluster.Listen(cfg.Cluster, cfg.Advertise)
	if err != nil {
		return err
	}
	known, err := n.knownCluster()
	if err != nil {
		return err
	}
	c := &meeting{address: advertised, done: make(chan struct{})}
	c.members, err = cluster.Find(ctx, cluster.Options{
		Name: serverName(cfg.Name), Address: advertised, Version: version, Shards: cfg.Shards,
		Members: through[cluster.Store](n.wiring.members, members), Leases: through[cluster.Store](n.wiring.leases, leases),
		Probe: c.pinger.Ping, Figures: n.clusterFigures, Clock: n.wiring.clock,
		Cluster: known, Secret: cfg.Secret, Logger: n.log,
	})
	if err != nil {
		return err
	}
	of := c.members.Cluster()
	if err := os.WriteFile(filepath.Join(cfg.Data, clusterFile), []byte(of.ID+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the cluster's id: %w", err)
	}
	if err := cfg.KeepToken(); err != nil {
		return err
	}
	c.remote, err = cluster.StartRemote(listen, advertised, of, c.answer, n.log)
	if err != nil {
		return err
	}
	n.closing(c.remote.Close)
	n.cluster = c
	return nil
}

// knownCluster is the id of the cluster that this member belongs to: by its data folder, or by its token.
func (n *node) knownCluster() (string, error) {
	text, err := os.ReadFile(filepath.Join(n.cfg.Data, clusterFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the cluster's id: %w", err)
	}
	known := strings.TrimSpace(string(text))
	if n.cfg.Joins == nil {
		return known, nil
	}
	if token := n.cfg.Joins.Cluster; known != "" && known != token {
		return "", fmt.Errorf("%w: the token is for cluster %s, and the data folder belongs to cluster %s: give it another data folder, or a token of its own cluster", cluster.ErrRefused, token, known)
	}
	return n.cfg.Joins.Cluster, nil
}

// towards is an address of this machine with a free port, on the way to the first of the stream's servers: where a
// member that joins by a token meets the others when nobody says where.
func towards(ctx context.Context, urls string) (string, error) {
	first, _, _ := strings.Cut(urls, ",")
	u, err := url.Parse(first)
	if err != nil {
		return "", fmt.Errorf("find the address to meet the other members at: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // for a name's lookup
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222"))) // sends nothing
	if err != nil {
		return "", fmt.Errorf("find the address to meet the other members at (or set cluster): %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return net.JoinHostPort(host, "0"), err
}

// token is what another member joins with.
func (n *node) token() (string, error) {
	join, err := n.cfg.JoinFor(n.cluster.members.Cluster().ID, n.cfg.Secret)
	if err != nil {
		return "", fmt.Errorf("make a join token: %w", err)
	}
	return join.Token()
}

// shared is what the member's actors are told of the others; nil when this member is alone.
func (n *node) shared() *actors.Shared {
	c := n.cluster
	if c == nil {
		return nil
	}
	s := &actors.Shared{
		Identity: c.members.Self, May: c.members.May, Changed: c.members.Poke, HandedOver: n.metrics.HandedOver,
		Peers: peers{&cluster.Peers{Remote: c.remote, View: c.members.View, Self: c.members.Self}},
	}
	if n.wiring.shared != nil {
		n.wiring.shared(s)
	}
	return s
}

// joinCluster makes this member known, and has it take what is assigned to it.
func (n *node) joinCluster(ctx context.Context) error {
	c := n.cluster
	if c == nil {
		return nil
	}
	c.member.Store(n.member)
	if err := c.members.Join(ctx); err != nil {
		return err
	}
	life, end := context.WithCancel(context.Background())
	c.end = end
	c.keeper = cluster.NewKeeper(life, c.members, n.member)
	go func() {
		defer close(c.done)
		c.members.Run(life, c.see, c.keeper.Lost)
	}()
	return nil
}

// see acts on a view.
func (c *meeting) see(v *cluster.View) {
	addresses := map[string]bool{}
	for _, m := range v.Members {
		addresses[m.Address] = true
	}
	c.pinger.Keep(addresses)
	c.keeper.See(v)
}

// drainCluster has the others take this member's shards.
func (n *node) drainCluster(ctx context.Context) {
	c := n.cluster
	if c == nil || c.end == nil {
		return
	}
	if err := c.members.Drain(ctx); err != nil {
		n.log.Warn("cannot tell the other members that this one ends", "error", err)
		return
	}
	c.members.Poke()
	if c.othersTake() {
		ctx, cancel := context.WithTimeout(ctx, handOver*3/4)
		defer cancel()
		if !c.keeper.Empty(ctx) {
			n.log.Warn("not all shards were handed over in time")
		}
	}
}

// othersTake tells whether another member takes shards.
func (c *meeting) othersTake() bool {
	self, _ := c.members.Self()
	for _, m := range c.members.View().Members {
		if m.ID != self && !m.Dead && !m.Draining && !m.Drained {
			return true
		}
	}
	return false
}

// leaveCluster removes this member's key.
func (n *node) leaveCluster(ctx context.Context) {
	c := n.cluster
	if c == nil || c.end == nil {
		return
	}
	c.end()
	<-c.done
	c.keeper.Wait()
	c.pinger.Keep(nil)
	if err := c.members.Leave(ctx); err != nil {
		n.log.Warn("this member's key stays until it ends by itself", "error", err)
	}
}

// ready tells what is not ready.
func (c *meeting) ready(member *actors.Member) []string {
	var not []string
	if !c.members.May() {
		not = append(not, "the member could not renew its key in the cluster, and stands still")
	}
	if c.whole.Load() {
		return not
	}
	self, _ := c.members.Self()
	assigned, held := c.members.View().Assigned(self), member.Held()
	missing := len(member.Starting())
	for _, shard := range assigned {
		if _, ok := held[shard]; !ok {
			missing++
		}
	}
	if missing > 0 {
		return append(not, fmt.Sprintf("%d of the %d shards that are assigned to this member are not here yet", missing, len(assigned)))
	}
	if c.members.View().Member(self) != nil {
		c.whole.Store(true)
	}
	return not
}

// clusterFigures are this member's, for the others.
func (n *node) clusterFigures() cluster.Figures {
	if n.cluster.member.Load() == nil {
		return cluster.Figures{}
	}
	return n.figures()
}

// figures are this member's. Shards that are too busy to answer have those that they gave last.
func (n *node) figures() (f cluster.Figures) {
	ctx, cancel := context.WithTimeout(n.ctx, time.Second/2)
	defer cancel()
	for _, s := range n.member.Status(ctx) {
		f.Shards++
		if !s.Known() {
			f.Starting++
		}
		f.Devices += s.Stats.Devices
		if s.Known() {
			f.Of = append(f.Of, cluster.ShardFigures{
				Shard: int(s.Shard), Devices: s.Stats.Devices, InFlight: s.Stats.InFlight,
				Stored: s.Stats.Stored - min(s.Stats.Stored, s.Plan.Checkpoint.Offset), Oldest: ageOf(s.Stats.OldestPending),
			})
		}
		f.Readings += s.Stats.Counts.Received
		f.Oldest = max(f.Oldest, ageOf(s.Stats.OldestPending))
	}
	f.Readings += n.member.Past().Counts.Received
	f.InFlight, f.Limit = n.member.InFlight(), n.inFlightLimit()
	return f
}

// answer answers another member's question.
func (c *meeting) answer(ctx context.Context, question []byte) ([]byte, error) {
	member := c.member.Load()
	if member == nil {
		return nil, cluster.ErrStarting
	}
	data, err := member.Answer(ctx, question)
	return data, translate(err, outbound)
}

// peers asks other members for the actors.
type peers struct{ of *cluster.Peers }

func (p peers) Ask(ctx context.Context, shard messages.Shard, question []byte) ([]byte, error) {
	data, err := p.of.Ask(ctx, shard, question)
	return data, translate(err, inbound)
}

// An error of the actors and what it is between members.
var outbound = [][2]error{
	{actors.ErrNotOwner, cluster.ErrElsewhere},
	{actors.ErrStarting, cluster.ErrStarting},
	{persistence.ErrNotFound, cluster.ErrNotFound},
	{messages.ErrInvalid, cluster.ErrInvalid},
}

var inbound = [][2]error{
	{cluster.ErrElsewhere, actors.ErrNotOwner},
	{cluster.ErrStarting, actors.ErrStarting},
	{cluster.ErrNotFound, persistence.ErrNotFound},
	{cluster.ErrInvalid, messages.ErrInvalid},
	{cluster.ErrUnanswered, actors.ErrUnreached},
}

func translate(err error, by [][2]error) error {
	for _, pair := range by {
		if errors.Is(err, pair[0]) {
			return fmt.Errorf("%w: %w", pair[1], err)
		}
	}
	return err
}

var _ cluster.Shards = (*actors.Member)(nil)
