package stream

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/wellhead/wellhead/messages"
)

const (
	// unstoredCost is what a message counts beside its payload.
	unstoredCost = 64
	// forgetAfter is when a message of which no shard tells counts as unstored no more: its site was deleted,
	// or its stream went back. What the archive takes longer for is bounded by the streams.
	forgetAfter = 10 * time.Minute
	// askWindow is how often a member is asked for it.
	askWindow = 5 * time.Second
)

// unstored is what a publisher has published of a site and does not know to be stored. Publisher.mu guards it.
type unstored struct {
	bytes int64
	room  chan struct{} // closed when there is less; nil = nobody waits
	news  chan struct{} // closed when a stored message of the site came; nil = nobody waits
}

// sent is one message of a counter that is not known to be stored.
type sent struct {
	sequence uint64
	bytes    int64
	at       int64 // Unix seconds
}

// less takes bytes off.
func (u *unstored) less(n int64) {
	if u.bytes -= n; n > 0 {
		u.wake()
	}
}

// wake has those look again who wait for room.
func (u *unstored) wake() {
	if u.room != nil {
		close(u.room)
		u.room = nil
	}
}

// unstoredOf returns a site's; p.mu is held.
func (p *Publisher) unstoredOf(site string) *unstored {
	u := p.sites[site]
	if u == nil {
		u = &unstored{}
		p.sites[site] = u
	}
	return u
}

// Unstored returns the bytes that were published of each site and are not known to be stored.
func (p *Publisher) Unstored() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]int64, len(p.sites))
	for site, u := range p.sites {
		out[site] = u.bytes
	}
	return out
}

// admit waits until a message of about n bytes fits into the site's window of unstored bytes, and takes
// them. A site with nothing unstored may always send one. refuse: ErrOverloaded instead of waiting.
func (p *Publisher) admit(ctx context.Context, site string, n int64, refuse bool) error {
	if p.options.Producer == "" {
		return nil // nobody tells what of it is stored
	}
	if err := p.hear(site); err != nil {
		return err
	}
	var ask *time.Timer
	for {
		window := p.window(site)
		p.mu.Lock()
		u := p.unstoredOf(site)
		if u.bytes <= 0 || window <= 0 || u.bytes+n <= window {
			u.bytes += n
			p.mu.Unlock()
			return nil
		}
		if refuse {
			p.mu.Unlock()
			p.ask(site)
			return ErrOverloaded
		}
		if u.room == nil {
			u.room = make(chan struct{})
		}
		room := u.room
		p.mu.Unlock()
		if ask == nil {
			ask = time.NewTimer(askStored)
			defer ask.Stop()
		}
		select {
		case <-room:
		case <-ask.C: // stored messages may be lost, and the window may have been changed
			p.ask(site)
			ask.Reset(askStored)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// window is the site's, 0 = no limit. Without a way to know it the members are asked, now and then.
func (p *Publisher) window(site string) int64 {
	if p.options.Window != nil {
		return p.options.Window(site)
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.granted[site] // 0 until a member has told it
	if !p.closed && now.Sub(g.asked) > askWindow {
		g.asked = now
		p.granted[site] = g
		p.asking.Go(func() { p.askGranted(site) })
	}
	return g.bytes
}

// granted is a site's window as a member told it.
type granted struct {
	bytes int64
	asked time.Time
}

// askGranted asks a member for a site's window. Without an answer it stays.
func (p *Publisher) askGranted(site string) {
	ctx, cancel := context.WithTimeout(p.life, attempt)
	defer cancel()
	data, err := p.client.Ask(ctx, QueryLimits, messages.DeviceID{Site: site}, nil)
	var answer struct{ Unstored int64 }
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	if err != nil {
		p.client.logger.Debug("the site's window is not known", "site", site, "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.granted[site]
	g.bytes = answer.Unstored
	p.granted[site] = g
	p.unstoredOf(site).wake()
}

// note puts down that a sequence was published with so many bytes, of which a guess was taken before.
func (p *Publisher) note(key counterKey, sequence uint64, guess, bytes int64) {
	if p.options.Producer == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters[key]
	p.unstoredOf(key.site).less(guess - bytes)
	c.sent = append(c.sent, sent{sequence: sequence, bytes: bytes, at: time.Now().Unix()})
}

// unnote takes back what note put down: no stream has it.
func (p *Publisher) unnote(key counterKey, sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(key, func(s sent) bool { return s.sequence == sequence })
}

// settle lets go of the messages that are done; p.mu is held.
func (p *Publisher) settle(key counterKey, done func(sent) bool) {
	c := p.counters[key]
	if c == nil || len(c.sent) == 0 {
		return
	}
	freed := int64(0)
	c.sent = slices.DeleteFunc(c.sent, func(s sent) bool {
		if !done(s) {
			return false
		}
		freed += s.bytes
		return true
	})
	p.unstoredOf(key.site).less(freed)
}

// ask asks, in the background and at most once in askStored, what of a site is stored.
func (p *Publisher) ask(site string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || now.Sub(p.asked[site]) < askStored {
		return
	}
	p.asked[site] = now
	old := now.Add(-forgetAfter).Unix()
	for key := range p.counters {
		if key.site == site {
			p.settle(key, func(s sent) bool { return s.at < old })
		}
	}
	p.asking.Go(func() {
		ctx, cancel := context.WithTimeout(p.life, attempt)
		defer cancel()
		p.askStored(ctx, map[counterKey][]uint64{{site: site}: nil})
	})
}

// guess is about how many bytes a batch takes.
func guess(blocks []messages.Block) int64 {
	n := unstoredCost
	for _, b := range blocks {
		n += len(b.Device) + 16
		for i := range b.Readings {
			n += 16 + 10*len(b.Readings[i].Values) + len(b.Readings[i].Note)
		}
	}
	return int64(n)
}
