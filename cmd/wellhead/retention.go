package main

import (
	"time"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/persistence/pebble"
)

// classes are the configured retention classes. cassandra.retention is the default class where that is not named.
func classes(cfg *config.Config) persistence.Classes {
	out := persistence.Classes{}
	if cfg.Archive == "cassandra" {
		age := persistence.Age{Readings: cfg.Cassandra.Retention, Rollups: cfg.Cassandra.RollupRetention}
		if age.Rollups == 0 {
			age.Rollups = age.Readings
		}
		out[persistence.DefaultClass] = age
	}
	for name, kept := range cfg.Retention {
		out[name] = persistence.Age{Readings: kept}
	}
	for name, kept := range cfg.RollupRetention {
		out[name] = persistence.Age{Readings: out[name].Readings, Rollups: kept}
	}
	return out
}

// expireEvery is the time between two passes over the embedded archive. What is too old is not found
// before, so only the disk waits for it.
const expireEvery = time.Minute

// expireWith drops what is older than its class from the embedded archive (nil: another one is in use,
// which expires by itself), a bounded round at a time, until the node ends.
func (n *node) expireWith(archive *pebble.Archive) {
	if archive == nil {
		return
	}
	for class, devices := range archive.Unconfigured() {
		n.log.Warn("devices name a retention class that is not configured: they are kept as those of the default class; configure it under retention, or name another in their settings", "class", class, "devices", devices)
	}
	n.metrics.Count(
		telemetry.Counter{Name: "expired_chunks_total", Help: "Chunks of readings that the embedded archive dropped, all of them older than their retention class.", Read: func() uint64 { chunks, _ := archive.Expired(); return chunks }},
		telemetry.Counter{Name: "expired_rollups_total", Help: "Rollups that the embedded archive dropped, older than their retention class.", Read: func() uint64 { _, rollups := archive.Expired(); return rollups }},
	)
	n.serving.Go(func() {
		wait := time.NewTimer(expireEvery)
		defer wait.Stop()
		for {
			select {
			case <-wait.C:
			case <-n.ctx.Done():
				return
			}
			pause := expireEvery
			if done, err := archive.Expire(n.ctx); err != nil && n.ctx.Err() == nil {
				n.log.Warn("dropping what is older than its retention class failed; it is tried again", "error", err)
			} else if !done {
				pause = 100 * time.Millisecond
			}
			wait.Reset(pause)
		}
	})
}
