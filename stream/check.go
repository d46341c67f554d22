package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wellhead/wellhead/messages"
)

const (
	// awaitJetStream bounds the wait for a leader: a cluster that has just started has none yet.
	awaitJetStream = 30 * time.Second
	// probeWait bounds the wait for one probe.
	probeWait = 5 * time.Second
	// probeDevices is how many devices' mapping is tried: another number of shards than ours would have to
	// put all of them where we do (at worst, twice as many shards, by chance 1 of 2^48). They are of several
	// sites: the hash of one name can be such that hashing it before or after another makes no difference.
	probeDevices = 48
	probeSites   = 8
	// oldestServer is the first version that takes keys with a time-to-live.
	oldestServer = "2.11.0"
)

// ErrServerConfig means that the outside server answers but is not configured for us.
var ErrServerConfig = errors.New("the NATS server is not configured for Wellhead")

// unfit is an ErrServerConfig with what to do.
func unfit(what, do string) error {
	return fmt.Errorf("%w: %s: %s", ErrServerConfig, what, do)
}

// showConfig is what to do when the server's configuration is wrong as a whole.
func (s *Streams) showConfig() string {
	return fmt.Sprintf("`wellhead config nats --shards %d` prints a configuration that has it", s.options.Shards)
}

// checkOutside finds out whether an outside server can serve: version, payload, JetStream, permissions,
// mapping. Nothing of it is stored. Storage and replicas show when the streams are created.
func (s *Streams) checkOutside(ctx context.Context) error {
	nc := s.main.nc
	if v := nc.ConnectedServerVersion(); olderThan(v, oldestServer) {
		return unfit("it is nats-server "+v, "2.11 or later is needed")
	}
	if got := nc.MaxPayload(); got < messages.MaxMessage+maxHeader {
		return unfit(fmt.Sprintf("its max_payload is %d bytes", got), fmt.Sprintf("set it to %d or more", messages.MaxMessage+maxHeader))
	}
	if err := s.checkJetStream(ctx); err != nil {
		return err
	}
	p, err := s.openProbe()
	if err != nil {
		return err
	}
	defer p.nc.Close()
	if err := p.permissions(ctx); err != nil {
		return err
	}
	return p.mapping(ctx)
}

// olderThan compares versions like 2.15.2; what cannot be read is not older.
func olderThan(version, than string) bool {
	have, want := strings.Split(version, "."), strings.Split(than, ".")
	for i := range want {
		if i >= len(have) {
			return false
		}
		h, err1 := strconv.Atoi(have[i])
		w, err2 := strconv.Atoi(want[i])
		if err1 != nil || err2 != nil || h > w {
			return false
		}
		if h < w {
			return true
		}
	}
	return false
}

// checkJetStream waits until JetStream answers.
func (s *Streams) checkJetStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, awaitJetStream)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, probeWait)
		_, err := s.js.AccountInfo(once)
		done()
		var api *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
			return unfit(fmt.Sprintf("JetStream is off (%v)", err), "set jetstream, for the server and for the account; "+s.showConfig())
		case errors.Is(s.main.nc.LastError(), nats.ErrPermissionViolation):
			return unfit(fmt.Sprintf("the member's user may not use JetStream (%v)", s.main.nc.LastError()), "let it publish $JS.API.> and subscribe to "+memberInbox+".>")
		case errors.As(err, &api) && api.Code != 503:
			return fmt.Errorf("ask for JetStream: %w", err)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return unfit(fmt.Sprintf("JetStream gives no answer within %v (%v)", awaitJetStream, err),
				"a cluster needs a majority of its servers; see the server's log")
		}
	}
}

// probe tries the server out on a connection of its own, under the name of a site that nobody has.
type probe struct {
	streams *Streams
	nc      *nats.Conn
	site    string
	got     chan *nats.Msg
}

func (s *Streams) openProbe() (*probe, error) {
	nc, err := s.Connect(nats.Name(s.options.Name+" check"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, err
	}
	return &probe{streams: s, nc: nc, site: "probe-" + rand.Text(), got: make(chan *nats.Msg, 4*probeDevices)}, nil
}

// publish sends a message that no stream keeps: it asks for a stream that there is not.
func (p *probe) publish(subject string) error {
	m := nats.NewMsg(subject)
	m.Header.Set(jetstream.ExpectedStreamHeader, "none")
	return p.nc.PublishMsg(m)
}

// allowed does something and returns the server's complaint about permissions, if it has one.
func (p *probe) allowed(ctx context.Context, do func() error) error {
	before := p.nc.LastError()
	if err := do(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	if err := p.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	// The complaint comes before the answer to the flush.
	if after := p.nc.LastError(); after != before && errors.Is(after, nats.ErrPermissionViolation) {
		return after
	}
	return nil
}

// permissions tries all that a member publishes and subscribes to.
func (p *probe) permissions(ctx context.Context) error {
	listen := []string{
		memberInbox + "." + p.site, "query." + p.site, "$SRV.PING." + p.site, "events." + p.site + ".>", "stored." + p.site + ".>",
		"shard.*." + p.site, "shard.*." + p.site + ".>", "readings." + p.site + ".>", "batches." + p.site + ".>", "control." + p.site + ".>",
	}
	for _, subject := range listen {
		err := p.allowed(ctx, func() error {
			_, err := p.nc.ChanSubscribe(subject, p.got)
			return err
		})
		if err != nil {
			return p.forbidden("subscribe to", subject, err)
		}
	}
	id := messages.DeviceID{Site: p.site, Device: "probe"}
	say := []string{
		"_INBOX." + p.site, SiteInbox(p.site) + ".x", memberInbox + "." + p.site, "$JS.API.INFO", "$KV." + bucketPrefix + BucketLeases + "." + p.site,
		"rejects." + p.site, messages.EventSubject(id, "probe"), messages.StoredSubject(p.site, "probe"),
		messages.SiteControlSubject(0, p.site), messages.ReadingsSubject(id), messages.BatchSubject(p.site, 0), messages.ControlSubject(id),
	}
	for _, subject := range say {
		if err := p.allowed(ctx, func() error { return p.publish(subject) }); err != nil {
			return p.forbidden("publish to", subject, err)
		}
	}
	for len(p.got) > 0 { // what was just said, and heard
		<-p.got
	}
	return nil
}

func (p *probe) forbidden(what, subject string, err error) error {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("check the NATS server's permissions: %w", err)
	}
	return unfit(fmt.Sprintf("the member's user may not %s %s (%v)", what, subject, err),
		"a member needs all subjects of its account, so give its user no permissions block; "+p.streams.showConfig())
}

// mapping publishes to the subjects that everybody uses and wants each at the shard that we compute.
func (p *probe) mapping(ctx context.Context) error {
	shards := p.streams.options.Shards
	type step struct{ from, want string }
	steps := []step{{messages.BatchSubject(p.site, 0), messages.ShardBatchSubject(0, p.site)}}
	for i := range probeDevices {
		id := messages.DeviceID{Site: p.site + strconv.Itoa(i%probeSites), Device: "d" + strconv.Itoa(i)}
		shard := messages.ShardOf(id, shards)
		steps = append(steps,
			step{messages.ReadingsSubject(id), messages.ShardReadingsSubject(shard, id)},
			step{messages.ControlSubject(id), messages.ShardControlSubject(shard, id)})
	}
	for i := range probeSites {
		for _, kind := range []string{"shard.*.", "readings.", "control."} {
			if _, err := p.nc.ChanSubscribe(kind+p.site+strconv.Itoa(i)+".>", p.got); err != nil {
				return fmt.Errorf("check the NATS server's mapping: %w", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	for _, step := range steps {
		if err := p.publish(step.from); err != nil {
			return fmt.Errorf("check the NATS server's mapping: %w", err)
		}
		select {
		case m := <-p.got:
			switch m.Subject {
			case step.want:
			case step.from:
				return unfit(fmt.Sprintf("%s is not mapped: it should arrive at %s", step.from, step.want),
					"set the subject mapping in the account that the members use; "+p.streams.showConfig())
			default:
				return unfit(fmt.Sprintf("%s is mapped to %s and not to %s, so it is a mapping for another number of shards than %d", step.from, m.Subject, step.want, shards),
					"set shards to what the mapping says, or the mapping to shards; "+p.streams.showConfig())
			}
		case <-ctx.Done():
			return unfit(fmt.Sprintf("%s arrives nowhere: it should at %s", step.from, step.want), p.streams.showConfig())
		}
	}
	return nil
}

// explainCreate says why a stream or bucket cannot be made, and what to do.
func (s *Streams) explainCreate(what string, err error) error {
	const (
		noStorage, noAccountStorage       = 10047, 10002 // of the server; of the account
		noPeers, noCluster, tooManyCopies = 10005, 10074, 10013
	)
	var api *jetstream.APIError
	if s.options.Server != nil || !errors.As(err, &api) {
		return fmt.Errorf("create %s: %w", what, err)
	}
	var do string
	switch api.ErrorCode {
	case noStorage, noAccountStorage:
		do = fmt.Sprintf("it has no room to reserve: all %d shards together ask for %d times stream.max-bytes, on each of %d servers; "+
			"set stream.max-bytes lower, or jetstream.max_file_store (or the account's limit) higher", s.options.Shards, s.options.Shards, s.options.Replicas)
	case noPeers, noCluster, tooManyCopies:
		do = fmt.Sprintf("%d copies need a cluster of at least %d NATS servers with JetStream and room: start them, or set stream.replicas lower",
			s.options.Replicas, s.options.Replicas)
		if strings.Contains(api.Description, "storage") {
			do += ", or set stream.max-bytes lower"
		}
	default:
		return fmt.Errorf("create %s: %w", what, err)
	}
	return unfit(fmt.Sprintf("create %s: %v", what, err), do)
}
