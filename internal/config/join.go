package config

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Join is what a join token says: all that a new member must know to join a cluster, and cannot choose. It holds
// passwords and keys.
type Join struct {
	Cluster  string            `json:"cluster"`          // its id
	Settings map[string]string `json:"settings"`         // by key, as they would be written
	Files    map[string]string `json:"files,omitempty"`  // what is in the files that these keys name
	Secret   string            `json:"secret,omitempty"` // cluster.secret
}

const (
	joinPrefix = "wellhead-join-1."
	// joinFolder and joinFile are, in the data folder, where a member keeps the files of its token, and the token.
	joinFolder = "join"
	joinFile   = "token"
	// joinBytes bounds what a token may unpack to.
	joinBytes = 1 << 20
)

// ownKeys are settings that each member has for itself; all others are the cluster's, and go into a token.
var ownKeys = []string{
	"name", "data", "http", "http-hosts", "nats", "mqtt", "nats-ws", "credentials", "http-anonymous", "debug-pprof",
	"cluster", "cluster.secret", "join", "advertise", "log.format", "log.level",
}

// fileKeys are settings that name files.
var fileKeys = []string{
	"stream.creds", "stream.tls.ca", "stream.tls.cert", "stream.tls.key", "cassandra.tls.ca", "cassandra.tls.cert", "cassandra.tls.key",
	"redis.tls.ca", "redis.tls.cert", "redis.tls.key",
}

// JoinFor returns what another member needs to join the cluster of that id, to which c belongs.
func (c *Config) JoinFor(cluster, secret string) (*Join, error) {
	j := &Join{Cluster: cluster, Secret: secret, Settings: map[string]string{}, Files: map[string]string{}}
	for key, text := range c.given {
		switch {
		case slices.Contains(ownKeys, key) || text == "":
		case slices.Contains(fileKeys, key):
			data, err := os.ReadFile(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			j.Files[key] = string(data)
		default:
			j.Settings[key] = text
		}
	}
	return j, nil
}

// Token returns it as one word.
func (j *Join) Token() (string, error) {
	data, err := json.Marshal(j)
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(data) // a buffer takes everything
	if err := w.Close(); err != nil {
		return "", err
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(packed.Bytes()), nil
}

// ParseJoin reads a token.
func ParseJoin(token string) (*Join, error) {
	damaged := func(err error) (*Join, error) {
		return nil, fmt.Errorf("the token is damaged (%w): copy all of what `wellhead cluster token` prints", err)
	}
	body, ok := strings.CutPrefix(strings.TrimSpace(token), joinPrefix)
	if !ok {
		return nil, fmt.Errorf("this is no join token, which begins with %s: `wellhead cluster token` prints one", joinPrefix)
	}
	packed, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return damaged(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return damaged(err)
	}
	data, err := io.ReadAll(io.LimitReader(r, joinBytes))
	if err != nil {
		return damaged(err)
	}
	var j Join
	if err := json.Unmarshal(data, &j); err != nil {
		return damaged(err)
	}
	if j.Cluster == "" {
		return damaged(errors.New("it names no cluster"))
	}
	return &j, nil
}

// layer returns the token's settings. Files are said to be in the data folder, where KeepFiles puts them.
func (j *Join) layer(data string) layer {
	l := layer{}
	where := Problem{Key: "join"}
	for key, text := range j.Settings {
		if keyOf(key) != nil { // of a newer version
			l[key] = value{text: text, from: where}
		}
	}
	for key := range j.Files {
		if slices.Contains(fileKeys, key) {
			l[key] = value{text: j.path(data, key), from: where}
		}
	}
	if j.Secret != "" {
		l["cluster.secret"] = value{text: j.Secret, from: where}
	}
	return l
}

// path is where a file of the token is kept.
func (j *Join) path(data, key string) string {
	return filepath.Join(data, joinFolder, strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, j.Cluster), key)
}

// KeepFiles writes the files of the token by which this member joins into the data folder, readable for its owner only.
func (c *Config) KeepFiles() error {
	if c.Joins == nil {
		return nil
	}
	for key, text := range c.Joins.Files {
		if !slices.Contains(fileKeys, key) {
			continue
		}
		path := c.Joins.path(c.Data, key)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep the files of the join token: %w", err)
		}
	}
	return nil
}

// KeepToken keeps the token by which this member has joined in the data folder: from then on it needs neither file nor
// flag to be in its cluster.
func (c *Config) KeepToken() error {
	if c.Joins == nil {
		return nil
	}
	token, err := c.Joins.Token()
	if err == nil {
		err = os.MkdirAll(filepath.Join(c.Data, joinFolder), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.Data, joinFolder, joinFile), []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the join token: %w", err)
	}
	return nil
}

// joinLayer finds the token among the layers, or in the data folder that they name, and returns what it
// says; nil when there is none.
func joinLayer(layers []layer) (*Join, layer, *Problem) {
	last := func(key string) (value, bool) {
		for i := len(layers) - 1; i >= 0; i-- {
			if v, ok := layers[i][key]; ok {
				return v, true
			}
		}
		return value{}, false
	}
	data, ok := last("data")
	if !ok {
		data.text = keyOf("data").Default
	}
	token, given := last("join")
	if !given {
		path := filepath.Join(data.text, joinFolder, joinFile)
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, nil
		}
		token = value{text: string(text), from: Problem{File: path}}
		if err != nil {
			token.from.Message = "cannot be read: " + cause(err)
			return nil, nil, &token.from
		}
	}
	if strings.TrimSpace(token.text) == "" {
		return nil, nil, nil
	}
	j, err := ParseJoin(token.text)
	if err != nil {
		token.from.Message = err.Error()
		return nil, nil, &token.from
	}
	l := j.layer(data.text)
	l["join"] = token
	return j, l, nil
}
