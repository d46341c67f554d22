package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
	"github.com/wellhead/wellhead/stream"
)

// adminPath is where a member takes what only its administrator may ask. Who may read the data folder
// is the administrator: the token is in it.
const adminPath = "/api/v1/admin/credentials"

// tokenFile is the token's name in the data folder.
const tokenFile = "admin.token"

// adminToken returns the data folder's token, made when there is none.
func adminToken(dir string) (string, error) {
	path := filepath.Join(dir, tokenFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		token := rand.Text()
		return token, os.WriteFile(path, []byte(token+"\n"), 0o600)
	}
	return strings.TrimSpace(string(text)), err
}

// credentialRequest asks for a site's credential to be made or, with DELETE, taken away.
type credentialRequest struct {
	Site    string `json:"site"`
	Replace bool   `json:"replace,omitempty"`
	Open    bool   `json:"open,omitempty"` // the last credential may be taken away
}

// credentialAnswer brings a new credential's password, which is kept nowhere else.
type credentialAnswer struct {
	Site     string `json:"site"`
	Password string `json:"password,omitempty"`
}

// admin answers at adminPath: GET lists the sites with a credential, POST makes one, DELETE takes it away.
type admin struct {
	token    string
	closed   bool // the stream wants a credential even when there is none
	outside  bool // the stream is an outside server's: its configuration says who may connect
	registry persistence.Registry
	cluster  *meeting // nil: this member is alone
	// joinToken makes a token for another member; not called when this one is alone.
	joinToken func() (string, error)
	next      http.Handler // answers everything else
}

func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != adminPath && r.URL.Path != adminClusterPath {
		a.next.ServeHTTP(w, r)
		return
	}
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(given), []byte(a.token)) != 1 {
		problem(w, http.StatusUnauthorized, "the administrator's token is missing or wrong: it stands in "+tokenFile+" in the member's data folder")
		return
	}
	answer, err := a.do(r)
	switch {
	case errors.Is(err, messages.ErrInvalid):
		problem(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, persistence.ErrConflict):
		problem(w, http.StatusConflict, "the site has a credential already: use --replace to make another, which ends the old one")
	case errors.Is(err, cluster.ErrNoMember):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, persistence.ErrNotFound):
		problem(w, http.StatusNotFound, "the site has no credential")
	case err != nil:
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (a *admin) do(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	if r.URL.Path == adminClusterPath {
		return a.order(ctx, r)
	}
	if r.Method == http.MethodGet {
		entries, err := a.registry.List(ctx, stream.KindCredentials)
		sites := make([]string, len(entries))
		for i, e := range entries {
			sites[i] = e.Key
		}
		return map[string][]string{"sites": sites}, err
	}
	var q credentialRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&q); err != nil {
		return nil, fmt.Errorf("%w: the request is no JSON object with a site: %v", messages.ErrInvalid, err)
	}
	if err := messages.CheckName("site", q.Site); err != nil {
		return nil, err
	}
	if a.outside {
		return nil, fmt.Errorf("%w: the stream is an outside NATS server, and who may send is said in its configuration, not here. "+
			"Put this into the users of the members' account (`wellhead config nats --sites %s` prints all of it) or take it out, and have the server "+
			"reload its configuration; then --creds takes a file with the lines 'site: %s' and 'password: …'\n%s",
			messages.ErrInvalid, q.Site, q.Site, stream.SiteUser(q.Site))
	}
	switch r.Method {
	case http.MethodPost:
		password, err := stream.AddCredential(ctx, a.registry, q.Site, "cli", time.Now(), q.Replace)
		return credentialAnswer{Site: q.Site, Password: password}, err
	case http.MethodDelete:
		if err := a.mayRemove(ctx, &q); err != nil {
			return nil, err
		}
		return credentialAnswer{Site: q.Site}, stream.RemoveCredential(ctx, a.registry, q.Site)
	}
	return nil, fmt.Errorf("%w: method %s is not known here", messages.ErrInvalid, r.Method)
}

// mayRemove refuses to take the last credential away without being told that this opens the stream.
func (a *admin) mayRemove(ctx context.Context, q *credentialRequest) error {
	if a.closed || q.Open {
		return nil
	}
	entries, err := a.registry.List(ctx, stream.KindCredentials)
	if err != nil {
		return err
	}
	if len(entries) == 1 && entries[0].Key == q.Site {
		return fmt.Errorf("%w: this is the last credential, and without one anybody on this machine may send for any site: "+
			"use --open if that is what you want, or run the member with credentials: true", messages.ErrInvalid)
	}
	return nil
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// askAdmin asks a member at this path, with the token from its data folder.
func askAdmin(ctx context.Context, server, dir, method, path string, q, answer any) error {
	token, err := os.ReadFile(filepath.Join(dir, tokenFile))
	if err != nil {
		return wrongUse(fmt.Errorf("read the administrator's token: %w; give the running member's data folder with --data", err))
	}
	var body bytes.Buffer
	if q != nil {
		if err := json.NewEncoder(&body).Encode(q); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(server, "/")+path, &body)
	if err != nil {
		return wrongUse(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return unreachable(fmt.Errorf("no member answers at %s: %w", server, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var p struct{ Detail string }
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p) != nil || p.Detail == "" {
			p.Detail = resp.Status
		}
		return errors.New(p.Detail)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
