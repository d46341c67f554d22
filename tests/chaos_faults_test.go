package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wellhead/wellhead/internal/chaos"
	"github.com/wellhead/wellhead/internal/testenv"
)

// do does a fault, and undoes it after its time.
func (r *chaosRun) do(ctx context.Context, f chaos.Fault) error {
	p := r.parts
	switch f.Kind {
	case chaos.KillMember:
		p.members[f.Target].signal(syscall.SIGKILL)
		return nil
	case chaos.KillAndBack:
		p.members[f.Target].signal(syscall.SIGKILL)
		hold(ctx, restartAfter+f.Hold)
		p.members[f.Target].signal(syscall.SIGKILL)
		return nil
	case chaos.PauseMember:
		return r.pauseMember(ctx, p.members[f.Target], f.Hold)
	case chaos.KillNATS:
		return killed(ctx, p.nats[f.Target], f.Hold)
	case chaos.KillNATSLeader:
		leader, err := r.keysLeader(ctx)
		if err != nil {
			return err
		}
		return killed(ctx, p.nats[leader], f.Hold)
	case chaos.KillCassandra:
		return killed(ctx, p.cassandra[f.Target], f.Hold)
	case chaos.WipeNATS:
		return r.wipeNATS(ctx, f.Target, f.Hold)
	case chaos.WipeCassandra:
		return r.wipeCassandra(ctx, f.Target)
	case chaos.PauseNATS:
		return paused(ctx, p.nats[f.Target], f.Hold)
	case chaos.PauseCassandra:
		return paused(ctx, p.cassandra[f.Target], f.Hold)
	case chaos.WipeRedis, chaos.RollBackRedis, chaos.StopRedis:
		return r.doRedis(ctx, f)
	case chaos.AddMember:
		return r.addMember(ctx, f.Hold)
	case chaos.RemoveMember:
		return r.removeMember(ctx, p.members[f.Target], f.Hold)
	case chaos.ShiftClock:
		return r.shiftClock(ctx, p.members[f.Target], f)
	case chaos.CutMember, chaos.CutMembers, chaos.CutSide:
		return r.cut(ctx, f)
	}
	return fmt.Errorf("nobody knows how to do %q", f.Kind)
}

// hold lets a fault last.
func hold(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// stoppable is a server of testenv.
type stoppable interface {
	Kill() error
	Start(ctx context.Context) error
	Pause() error
	Resume() error
}

func killed(ctx context.Context, s stoppable, d time.Duration) error {
	if err := s.Kill(); err != nil {
		return err
	}
	hold(ctx, d)
	return s.Start(ctx)
}

func paused(ctx context.Context, s stoppable, d time.Duration) error {
	if err := s.Pause(); err != nil {
		return err
	}
	hold(ctx, d)
	return s.Resume()
}

// wipeNATS has a NATS server lose its disk. It comes back empty, and fetches everything from the others.
func (r *chaosRun) wipeNATS(ctx context.Context, server int, d time.Duration) error {
	if err := r.awaitCopies(ctx); err != nil {
		return err
	}
	if err := r.parts.nats[server].Kill(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.parts.natsData[server]); err != nil {
		return err
	}
	hold(ctx, d)
	if err := r.parts.nats[server].Start(ctx); err != nil {
		return err
	}
	return r.awaitCopies(ctx)
}

// wipeCassandra has a Cassandra node lose its disk, and an empty one take its place. What it fetches it fetches from
// any of the others, so these must agree before, and it with them afterwards.
func (r *chaosRun) wipeCassandra(ctx context.Context, node int) error {
	repair := func(node int) error {
		_, err := r.parts.cassandra[node].Nodetool(ctx, "repair", "-full", r.parts.prefix)
		return err
	}
	other := (node + 1) % chaosServers
	if err := repair(other); err != nil {
		return err
	}
	if err := r.parts.cassandra[node].Replace(ctx, r.parts.cassandra[other].StorageAddr); err != nil {
		return err
	}
	return repair(node)
}

// awaitCopies waits until all copies of all streams are current.
func (r *chaosRun) awaitCopies(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wellWithin)
	defer cancel()
	for {
		err := r.copiesCurrent(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		hold(ctx, 200*time.Millisecond)
	}
}

// copiesCurrent tells which stream has a copy that is behind. Until there is none no other server may be lost.
func (r *chaosRun) copiesCurrent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := r.fences.nc.RequestWithContext(ctx, "$JS.API.STREAM.LIST", nil)
	if err != nil {
		return err
	}
	var list struct {
		Streams []struct {
			Config  struct{ Name string }
			Cluster struct{ Replicas []struct{ Current bool } }
		}
	}
	if err := json.Unmarshal(answer.Data, &list); err != nil {
		return err
	}
	if len(list.Streams) < clusterShards {
		return fmt.Errorf("%d streams are listed", len(list.Streams))
	}
	for _, s := range list.Streams {
		current := 0
		for _, copy := range s.Cluster.Replicas {
			if copy.Current {
				current++
			}
		}
		if current < chaosServers-1 {
			return fmt.Errorf("%d copies of %s are not current", chaosServers-1-current, s.Config.Name)
		}
	}
	return nil
}

// pauseMember has a member stand still. It must do no harm when it wakes.
func (r *chaosRun) pauseMember(ctx context.Context, m *keptMember, d time.Duration) error {
	m.setAway(true)
	m.signal(syscall.SIGSTOP)
	hold(ctx, d)
	m.signal(syscall.SIGCONT)
	m.setAway(false)
	return nil
}

// keysLeader is the number of the NATS server that leads the members' keys.
func (r *chaosRun) keysLeader(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		answer, err := r.fences.nc.RequestWithContext(asking, "$JS.API.STREAM.INFO.KV_wellhead-members", nil)
		cancel()
		if err == nil {
			var info struct{ Cluster struct{ Leader string } }
			leader := -1
			if err = json.Unmarshal(answer.Data, &info); err == nil {
				if _, err = fmt.Sscanf(info.Cluster.Leader, "n%d", &leader); err == nil {
					return leader, nil
				}
			}
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("find the leader of the members' keys: %w", err)
		}
	}
}

func (r *chaosRun) doRedis(ctx context.Context, f chaos.Fault) (err error) {
	redis := r.parts.redis
	r.redisTouched = true
	if f.Kind == chaos.StopRedis {
		if err := redis.Stop(); err != nil { // it saves what it has
			return err
		}
		hold(ctx, f.Hold)
		return redis.Start(ctx)
	}
	var copied string
	if f.Kind == chaos.RollBackRedis {
		if copied, err = redis.SaveCopy(ctx); err != nil {
			return err
		}
		hold(ctx, f.Hold)
	}
	over := r.fences.wiped()
	defer over()
	if f.Kind == chaos.RollBackRedis {
		return redis.RestoreCopy(ctx, copied)
	}
	return redis.Flush(ctx)
}

// addMember has one more member join, and leave when it has had shards for a while.
func (r *chaosRun) addMember(ctx context.Context, d time.Duration) error {
	m := r.spare
	if m == nil {
		m = r.parts.newMember()
		r.spare = m
	}
	m.start()
	if err := r.wantShards(ctx, m); err != nil {
		return errors.Join(err, m.stop())
	}
	hold(ctx, d)
	return m.stop()
}

// removeMember has a member hand over and end, and come back.
func (r *chaosRun) removeMember(ctx context.Context, m *keptMember, d time.Duration) error {
	err := m.stop()
	hold(ctx, d)
	m.start()
	return err
}

// shiftClock has a member run for a while whose clock is wrong.
func (r *chaosRun) shiftClock(ctx context.Context, m *keptMember, f chaos.Fault) error {
	shifted := r.wired("wellhead-shifted") // before it stops: building takes a while
	err := m.stop()
	m.rewire(shifted, "SHIFTED_CLOCK="+f.Shift.String())
	m.start()
	if err := r.wantShards(ctx, m); err != nil {
		return fmt.Errorf("with its clock shifted: %w", err)
	}
	hold(ctx, f.Hold)
	err = errors.Join(err, m.stop())
	m.rewire(r.parts.program)
	m.start()
	return err
}

// wantShards waits until a member that was started has all of its shards.
func (r *chaosRun) wantShards(ctx context.Context, m *keptMember) error {
	ctx, cancel := context.WithTimeout(ctx, wellWithin)
	defer cancel()
	for {
		var s clusterStatus
		err := m.get(ctx, 5*time.Second, "/api/v1/cluster", &s)
		if err == nil {
			err = fmt.Errorf("%s has no shards yet", m.name)
			for _, other := range s.Members {
				if other.Name == m.name && len(other.Shards) > 0 && other.Starting == 0 {
					return nil
				}
			}
		}
		hold(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not get shards within %v: %w", m.name, wellWithin, err)
		}
	}
}

// cut parts the network and heals it.
func (r *chaosRun) cut(ctx context.Context, f chaos.Fault) error {
	p := r.parts
	m := p.members[f.Target]
	var err error
	switch f.Kind {
	case chaos.CutMembers:
		err = p.network.Part(m.on, p.members[f.Other].on)
	default:
		m.setAway(true)
		defer m.setAway(false)
		side := []*testenv.Machine{m.on}
		if f.Kind == chaos.CutSide {
			side = append(side, p.natsOn[f.Target], p.cassandraOn[f.Target])
		}
		err = p.network.CutOff(side...)
	}
	hold(ctx, f.Hold)
	return errors.Join(err, p.network.Heal())
}

// wired is the path of a build of the member with other parts handed in: the tests of cmd/wellhead, under a name of
// theirs.
func (r *chaosRun) wired(name string) string {
	dir := r.wiredDir()
	path := filepath.Join(dir, name)
	if err := os.Symlink(filepath.Join(dir, "wellhead.test"), path); err != nil && !errors.Is(err, os.ErrExist) {
		r.t.Error(err)
	}
	return path
}
