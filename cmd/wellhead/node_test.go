package main

import (
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/config"
)

func TestOldestKept(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	for _, tt := range []struct {
		archive           string
		maxAge, retention time.Duration
		want              time.Duration
	}{
		{"pebble", 0, 0, 0},
		{"pebble", day, hour, day},
		{"cassandra", 0, 0, 0},
		{"cassandra", 0, day, day},
		{"cassandra", hour, day, hour},
		{"cassandra", day, hour, hour},
		{"cassandra", day, 0, day},
	} {
		cfg := &config.Config{Archive: tt.archive}
		cfg.Limits.MaxAge, cfg.Cassandra.Retention = tt.maxAge, tt.retention
		if got := oldestKept(cfg); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}
