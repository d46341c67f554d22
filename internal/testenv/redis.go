package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// installRedis is what to do when Redis is missing.
const installRedis = "apt-get install redis-server"

// redisDump is the file that a SAVE writes.
const redisDump = "dump.rdb"

// RedisOptions describes a Redis server. The zero value is one for tests.
type RedisOptions struct {
	On     *Machine // nil = this machine
	Host   string   // loopback address to listen on, or On's; "" = 127.0.0.1, or On's
	Port   int      // 0 = a free one
	Append bool     // append-only file, synced each second: a restart loses next to nothing
	Extra  []string // more arguments for redis-server
	// Sentinel has the lines of a sentinel's configuration: the server is one, and keeps nothing.
	Sentinel string
}

// RedisServer is a running Redis, or one that others share (see the package comment).
type RedisServer struct {
	server
	Addr string // host:port
	Dir  string // its data and log, "" when not ours
}

// StartRedis starts a server with its data and log in dir, which keeps both after Stop, and waits until
// it answers. Stop saves its data, Kill does not. ErrMissing when it is not installed.
func StartRedis(ctx context.Context, dir string, o RedisOptions) (*RedisServer, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w; run %s", ErrMissing, installRedis)
	}
	if o.Host == "" {
		o.Host = o.On.address()
	}
	if err := o.On.mayListen(o.Host); err != nil {
		return nil, err
	}
	if o.Port == 0 && o.On != nil {
		o.Port = 6379
	}
	if o.Port == 0 {
		ports, err := FreePorts(o.Host, 1)
		if err != nil {
			return nil, err
		}
		o.Port = ports[0]
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	appendOnly := "no"
	if o.Append {
		appendOnly = "yes"
	}
	// A save point that never comes makes SHUTDOWN save, without background saves meanwhile.
	args := append([]string{
		"--bind", o.Host, "--port", strconv.Itoa(o.Port), "--dir", dir, "--dbfilename", redisDump,
		"--save", "1000000", "1000000", "--appendonly", appendOnly,
	}, o.Extra...)
	if o.Sentinel != "" {
		config := filepath.Join(dir, "sentinel.conf") // a sentinel writes into it
		if err := os.WriteFile(config, []byte(o.Sentinel), 0o600); err != nil {
			return nil, err
		}
		args = append([]string{config, "--sentinel", "--bind", o.Host, "--port", strconv.Itoa(o.Port), "--dir", dir}, o.Extra...)
	}
	if o.On != nil {
		args = append(args, "--protected-mode", "no") // others than loopback may ask; nobody else reaches the machine
	}
	s := &RedisServer{Addr: net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), Dir: dir}
	s.run = func(ctx context.Context) (*process, error) {
		p, err := startProcess(o.On, filepath.Join(dir, "redis.log"), dir, bin, args...)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := p.waitReady(ctx, func() error { return askRedis(ctx, s.Addr, "PING") }); err != nil {
			return nil, errors.Join(err, p.kill())
		}
		return p, nil
	}
	return s, s.Start(ctx)
}

// Flush removes everything from the server (FLUSHALL).
func (s *RedisServer) Flush(ctx context.Context) error {
	if s.run == nil {
		return errNotOurs
	}
	return askRedis(ctx, s.Addr, "FLUSHALL")
}

// SaveCopy keeps a copy of the server's data as of now, for RestoreCopy.
func (s *RedisServer) SaveCopy(ctx context.Context) (path string, err error) {
	if s.run == nil {
		return "", errNotOurs
	}
	if err := askRedis(ctx, s.Addr, "SAVE"); err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(s.Dir, redisDump))
	if err != nil {
		return "", fmt.Errorf("copy redis's data: %w", err)
	}
	path = filepath.Join(s.Dir, Unique("copy")+".rdb")
	return path, os.WriteFile(path, data, 0o644)
}

// RestoreCopy kills the server and starts it with the data of an earlier SaveCopy, as a failover to an
// older replica would look. Not with RedisOptions.Append.
func (s *RedisServer) RestoreCopy(ctx context.Context, path string) error {
	if err := s.Kill(); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the copy of redis's data: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, redisDump), data, 0o644); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Values returns the texts that these keys have, "" for none: at most 30 s. Keys have no spaces in them.
func (s *RedisServer) Values(ctx context.Context, keys ...string) ([]string, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "MGET %s\r\n", strings.Join(keys, " ")); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("*%d\r\n", len(keys)) {
		return nil, fmt.Errorf("redis answers MGET with %q, %w", line, err)
	}
	values := make([]string, len(keys))
	for i := range values {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("the answer of redis broke off: %w", err)
		}
		size, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "$"))
		if err != nil {
			return nil, fmt.Errorf("redis answers MGET with %q", line)
		}
		if size < 0 {
			continue // there is none
		}
		text := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, fmt.Errorf("the answer of redis broke off: %w", err)
		}
		values[i] = string(text[:size])
	}
	return values, nil
}

// askRedis sends one command without arguments and wants a plain answer.
func askRedis(ctx context.Context, addr, command string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("no answer to %s: %w", command, err)
	}
	if !strings.HasPrefix(line, "+") {
		return fmt.Errorf("redis refuses %s: %s", command, strings.TrimSpace(line))
	}
	return nil
}
