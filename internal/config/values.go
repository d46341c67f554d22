package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type dur = time.Duration

const minute = time.Minute

type setter = func(*Config, string) error

func text(p func(*Config) *string) setter {
	return func(c *Config, s string) error { *p(c) = s; return nil }
}

func required(set setter) setter {
	return func(c *Config, s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("it must not be empty")
		}
		return set(c, s)
	}
}

func choice(p func(*Config) *string, allowed ...string) setter {
	return func(c *Config, s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("%q is not one of %s", s, strings.Join(allowed, ", "))
		}
		*p(c) = s
		return nil
	}
}

func truth(p func(*Config) *bool) setter {
	return func(c *Config, s string) error {
		switch strings.ToLower(s) {
		case "true", "yes", "on", "1":
			*p(c) = true
		case "false", "no", "off", "0":
			*p(c) = false
		default:
			return fmt.Errorf("%q is neither true nor false", s)
		}
		return nil
	}
}

func count(p func(*Config) *int, least, most int) setter {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		if n < least || n > most {
			return fmt.Errorf("%d is not between %d and %d", n, least, most)
		}
		*p(c) = n
		return nil
	}
}

func list(p func(*Config) *[]string) setter {
	return func(c *Config, s string) error {
		*p(c) = nil
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p(c) = append(*p(c), part)
			}
		}
		return nil
	}
}

func numbers(p func(*Config) *map[string]int) setter {
	return func(c *Config, s string) error {
		*p(c) = nil
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			name, number, ok := strings.Cut(part, "=")
			n, err := strconv.Atoi(number)
			if !ok || err != nil || n < 1 {
				return fmt.Errorf("%q: write name=number, with a number from 1 on", part)
			}
			if *p(c) == nil {
				*p(c) = make(map[string]int)
			}
			(*p(c))[name] = n
		}
		return nil
	}
}

// shortestKept is what a retention class keeps at least: the running hour and the one before it.
const shortestKept = 2 * time.Hour

var className = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func durations(p func(*Config) *map[string]dur) setter {
	return func(c *Config, s string) error {
		*p(c) = nil
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			name, length, ok := strings.Cut(part, "=")
			d, err := parseDuration(length)
			switch {
			case !ok || name == "":
				return fmt.Errorf("%q: write name=duration, like raw=90d", part)
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			case d < 0 || d > 0 && d < shortestKept:
				return fmt.Errorf("%s: %s: write 0 (for ever), or at least 2h: the rollup of the running hour is made anew from its readings where a snapshot is missing", name, length)
			}
			if !className.MatchString(name) {
				return fmt.Errorf("%q: a class has a name of 1 to 64 letters, digits, _ and -", name)
			}
			if *p(c) == nil {
				*p(c) = make(map[string]dur)
			}
			(*p(c))[name] = d
		}
		return nil
	}
}

func address(p func(*Config) *string) setter {
	return func(c *Config, s string) error {
		if s != "" {
			_, port, err := net.SplitHostPort(s)
			if err != nil {
				return fmt.Errorf("%q is not an address: write host:port, like 127.0.0.1:8080", s)
			}
			if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
				return fmt.Errorf("%q: the port must be a number up to 65535", s)
			}
		}
		*p(c) = s
		return nil
	}
}

func duration(p func(*Config) *dur) setter { return durationFrom(p, 0) }

func durationFrom(p func(*Config) *dur, least dur) setter {
	return func(c *Config, s string) error {
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		if d < least {
			if least == 1 {
				return fmt.Errorf("%s: it must be longer than 0", s)
			}
			return fmt.Errorf("%s: it must be at least %s", s, least)
		}
		*p(c) = d
		return nil
	}
}

// parseDuration knows days besides what Go knows: retention is said in them.
func parseDuration(s string) (dur, error) {
	if s == "0" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && math.Abs(n) < 100_000 {
			return dur(n * 24 * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write a number with its unit, like 500ms, 10s, 15m, 1h or 30d", s)
	}
	return d, nil
}

func size(p func(*Config) *int64) setter { return sizeFrom(p, 0) }

// sizeOr0 takes 0 as well as sizes from least on.
func sizeOr0(p func(*Config) *int64, least int64) setter {
	return func(c *Config, s string) error {
		n, err := ParseSize(s)
		if err == nil && n != 0 && n < least {
			err = fmt.Errorf("%s: it must be 0, or at least %d bytes", s, least)
		}
		if err == nil {
			*p(c) = n
		}
		return err
	}
}

// durationOr0 takes 0 as well as durations from least on.
func durationOr0(p func(*Config) *dur, least dur) setter {
	return func(c *Config, s string) error {
		d, err := parseDuration(s)
		if err == nil && d != 0 && d < least {
			err = fmt.Errorf("%s: it must be 0, or at least %s", s, least)
		}
		if err == nil {
			*p(c) = d
		}
		return err
	}
}

func sizeFrom(p func(*Config) *int64, least int64) setter {
	return func(c *Config, s string) error {
		n, err := ParseSize(s)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("%s: it must be at least %d bytes", s, least)
		}
		*p(c) = n
		return nil
	}
}

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
	{"", 1},
}

func ParseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n >= 0) || n*u.bytes > math.MaxInt64/2 {
			break
		}
		return int64(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is not a size: write a number of bytes, or with a unit, like 256KiB, 16MiB or 1GB", s)
}

func streamServer(c *Config, s string) error {
	if s != "embedded" {
		for part := range strings.SplitSeq(s, ",") {
			u, err := url.Parse(strings.TrimSpace(part))
			if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
				return fmt.Errorf("%q: write embedded, or nats://host:port", part)
			}
		}
	}
	c.Stream.Server = s
	return nil
}

func streamSync(c *Config, s string) error {
	if s == "always" {
		c.Stream.Sync = 0
		return nil
	}
	return durationFrom(func(c *Config) *dur { return &c.Stream.Sync }, time.Millisecond)(c, s)
}

// Loopback tells whether an address to listen on is reached from this machine only. An empty host
// means every interface. A name other than localhost is not trusted to stay on this machine.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// exposed finds addresses that others could reach while nobody has to prove who he is.
func (c *Config) exposed() []Problem {
	var out []Problem
	for _, l := range []struct {
		key, addr string
		guarded   bool
		remedy    string
	}{
		{"http", c.HTTP, c.HTTPAnonymous, "or put a proxy that asks for a password before it and set http-anonymous: true"},
		{"nats", c.NATS, c.Credentials, siteRemedy},
		{"mqtt", c.MQTT, c.Credentials, siteRemedy},
		{"nats-ws", c.WebSocket, c.Credentials, siteRemedy},
	} {
		if l.addr != "" && !l.guarded && !Loopback(l.addr) {
			out = append(out, Problem{Key: l.key, Message: fmt.Sprintf(
				"%s can be reached from other machines, and anybody there could read and write everything; listen on 127.0.0.1, %s", l.addr, l.remedy)})
		}
	}
	return out
}

const siteRemedy = "or make credentials with `wellhead site add` and set credentials: true"
