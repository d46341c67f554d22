package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

func TestAgesTaken(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	type ages = map[string]time.Duration
	for _, tt := range []struct {
		archive           string
		maxAge, retention time.Duration
		classes           ages
		oldest, certain   time.Duration
	}{
		{"pebble", 0, 0, nil, 0, 0},
		{"pebble", day, hour, nil, day, day},
		{"pebble", 0, 0, ages{"default": day, "raw": 5 * hour}, day, 5 * hour},
		{"pebble", 7 * hour, 0, ages{"default": day, "raw": 5 * hour}, 7 * hour, 5 * hour},
		{"pebble", 4 * hour, 0, ages{"default": day, "raw": 5 * hour}, 4 * hour, 4 * hour},
		{"pebble", 0, 0, ages{"raw": 5 * hour}, 0, 5 * hour}, // the default class is for ever
		{"pebble", day, 0, ages{"raw": 0, "default": hour}, day, hour},
		{"cassandra", 0, 0, nil, 0, 0},
		{"cassandra", 0, day, nil, day, day},
		{"cassandra", hour, day, nil, hour, hour},
		{"cassandra", day, hour, nil, hour, hour},
		{"cassandra", day, 0, nil, day, day},
		{"cassandra", 0, day, ages{"raw": hour}, day, hour},
	} {
		cfg := &config.Config{Archive: tt.archive, Retention: tt.classes}
		cfg.Limits.MaxAge, cfg.Cassandra.Retention = tt.maxAge, tt.retention
		if oldest, certain := agesTaken(cfg); oldest != tt.oldest || certain != tt.certain {
			t.Errorf("%+v: got %v, %v", tt, oldest, certain)
		}
	}
}

// TestUnknownClassIsRefused holds that a class is looked at where settings of a device and of a site go out.
func TestUnknownClassIsRefused(t *testing.T) {
	f := &fleet{classes: persistence.Classes{"raw": {}, "short": {}}}
	c := messages.Control{Settings: &messages.Settings{Retention: "rwa"}}
	for _, err := range []error{
		f.Control(t.Context(), messages.DeviceID{Site: "s", Device: "d"}, c), f.SiteControl(t.Context(), "s", c),
	} {
		if want := `there is no retention class "rwa", only default, raw, short`; !errors.Is(err, messages.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, class := range []string{"", "default", "raw"} {
		if err := f.checkClass(messages.Control{Settings: &messages.Settings{Retention: class}}); err != nil {
			t.Errorf("class %q: %v", class, err)
		}
	}
}
