package stream

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// KindCredentials is the registry's kind for sites' credentials; the key is the site.
const KindCredentials = "credentials"

// hashCost is bcrypt's least. A slow hash protects passwords that people choose; these have 130 random
// bits and cannot be guessed. At the default cost a check took longer than the 2 s that clients wait
// for a connection, on a machine that was busy (measured).
const hashCost = bcrypt.MinCost

// Credential is what lets a site write, as the registry keeps it.
type Credential struct {
	Site    string `json:"site"`
	Hash    string `json:"hash"`    // bcrypt of the password
	Created int64  `json:"created"` // Unix ms
	By      string `json:"by,omitempty"`
}

// AddCredential makes a site's credential and returns its password, which is kept nowhere. With
// replace an older one is replaced; without, persistence.ErrConflict when the site has one.
func AddCredential(ctx context.Context, r persistence.Registry, site, by string, now time.Time, replace bool) (password string, err error) {
	if err := messages.CheckName("site", site); err != nil {
		return "", err
	}
	password = rand.Text() // 130 bits
	hash, err := bcrypt.GenerateFromPassword([]byte(password), hashCost)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	value, err := json.Marshal(Credential{Site: site, Hash: string(hash), Created: now.UnixMilli(), By: by})
	if err != nil {
		return "", fmt.Errorf("encode the credential: %w", err)
	}
	revision := uint64(0)
	if replace {
		entry, err := r.Get(ctx, KindCredentials, site)
		if err != nil && !errors.Is(err, persistence.ErrNotFound) {
			return "", err
		}
		revision = entry.Revision
	}
	if _, err := r.Put(ctx, KindCredentials, site, value, revision); err != nil {
		return "", fmt.Errorf("credential of site %s: %w", site, err)
	}
	return password, nil
}

// RemoveCredential takes a site's credential away; its connections are closed.
func RemoveCredential(ctx context.Context, r persistence.Registry, site string) error {
	entry, err := r.Get(ctx, KindCredentials, site)
	if err != nil {
		return err
	}
	return r.Delete(ctx, KindCredentials, site, entry.Revision)
}

// WriteCredentialFile writes what `--creds` reads.
func WriteCredentialFile(w io.Writer, site, password string) error {
	_, err := fmt.Fprintf(w, "# Wellhead: lets site %s write. Keep it secret.\nsite: %s\npassword: %s\n", site, site, password)
	return err
}

// ReadCredentialFile reads a file of WriteCredentialFile.
func ReadCredentialFile(r io.Reader) (site, password string, err error) {
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(name) {
		case "site":
			site = strings.TrimSpace(value)
		case "password":
			password = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return "", "", fmt.Errorf("read credential file: %w", err)
	}
	if site == "" || password == "" {
		return "", "", fmt.Errorf("read credential file: it must have the lines 'site: …' and 'password: …': %w", messages.ErrInvalid)
	}
	return site, password, nil
}

// Credentials is this member's copy of the sites' credentials. All methods may be called by many
// goroutines at once.
type Credentials struct {
	logger *slog.Logger

	mu       sync.RWMutex
	required bool
	loaded   bool
	hashes   map[string]string            // by site
	verified map[string][sha256.Size]byte // by site: sum of the password that its hash was checked with
	servers  map[*Server]struct{}

	checking sync.Mutex // one slow check at a time: a guesser may not use up the machine
}

// NewCredentials returns an empty copy. Until it is loaded nobody but members may connect.
func NewCredentials(logger *slog.Logger) *Credentials {
	if logger == nil {
		logger = slog.Default()
	}
	return &Credentials{
		logger: logger, hashes: map[string]string{}, verified: map[string][sha256.Size]byte{}, servers: map[*Server]struct{}{},
	}
}

// Open tells whether there is no credential at all and none is required: then whoever can connect may
// do everything.
func (c *Credentials) Open() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.loaded && !c.required && len(c.hashes) == 0
}

// Require has everybody show a credential, also while there is none. Call it before a server starts.
func (c *Credentials) Require() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.required = true
}

// Check tells whether the password lets the site write.
func (c *Credentials) Check(site, password string) bool {
	sum := sha256.Sum256([]byte(password))
	_, known, ok := c.lookup(site, sum)
	if ok || !known {
		return ok
	}
	c.checking.Lock()
	defer c.checking.Unlock()
	// somebody else may have checked the same meanwhile
	hash, known, ok := c.lookup(site, sum)
	if ok || !known {
		return ok
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hashes[site] != hash {
		return false // replaced while we were looking
	}
	c.verified[site] = sum
	return true
}

// lookup answers from what was checked before.
func (c *Credentials) lookup(site string, sum [sha256.Size]byte) (hash string, known, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	hash, known = c.hashes[site]
	verified, seen := c.verified[site]
	return hash, known, seen && subtle.ConstantTimeCompare(verified[:], sum[:]) == 1
}

// Sites lists the sites that have a credential, in no order.
func (c *Credentials) Sites() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]string, 0, len(c.hashes))
	for site := range c.hashes {
		out = append(out, site)
	}
	return out
}

// set replaces the whole copy, and closes the connections that have lost their right.
func (c *Credentials) set(hashes map[string]string) {
	c.mu.Lock()
	var gone []string
	for site, hash := range c.hashes {
		if hashes[site] != hash {
			gone = append(gone, site)
			delete(c.verified, site)
		}
	}
	closed := len(c.hashes) == 0 && len(hashes) > 0 && c.loaded
	c.hashes, c.loaded = hashes, true
	servers := make([]*Server, 0, len(c.servers))
	for s := range c.servers {
		servers = append(servers, s)
	}
	c.mu.Unlock()
	for _, s := range servers {
		if closed {
			s.kick(func(user, _ string) bool { return user != memberUser })
			continue
		}
		for _, site := range gone {
			s.kick(func(user, _ string) bool { return user == site })
		}
	}
}

func (c *Credentials) attach(s *Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[s] = struct{}{}
}

func (c *Credentials) detach(s *Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, s)
}

// Load fills the copy from the registry, once.
func (c *Credentials) Load(ctx context.Context, r persistence.Registry) error {
	entries, err := r.List(ctx, KindCredentials)
	if err != nil {
		return fmt.Errorf("load credentials: %w", err)
	}
	hashes := make(map[string]string, len(entries))
	for _, e := range entries {
		var credential Credential
		if err := json.Unmarshal(e.Value, &credential); err != nil || credential.Hash == "" {
			c.logger.Error("credential cannot be read and is ignored", "site", e.Key, "error", err)
			continue
		}
		hashes[e.Key] = credential.Hash
	}
	c.set(hashes)
	return nil
}

// Follow keeps the copy up to date until ctx ends: it is told of each change, and reads the whole
// registry every 10 s too. Call Load first.
func (c *Credentials) Follow(ctx context.Context, r *Registry) {
	r.follow(ctx, KindCredentials, c.logger, func(ctx context.Context) error { return c.Load(ctx, r) })
}
