package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

const (
	// kindChannels is the registry's kind for the names that line protocol gave a site's channels; the
	// key is the site.
	kindChannels = "channels"
	// addTries bounds how often a list is read again because another member changed it meanwhile.
	addTries = 20
	// keptLists is how many sites' lists are held in memory; beyond it all are read again.
	keptLists = 1024
)

// channelNames says which channel a field is. It is never changed: a name keeps its index for ever,
// and a list only grows.
type channelNames struct {
	Names []string `json:"names"` // by channel index; empty = none
	index map[string]int
}

func newChannelNames(names []string) *channelNames {
	c := &channelNames{Names: names, index: make(map[string]int, len(names))}
	for i, name := range names {
		if _, twice := c.index[name]; name != "" && !twice {
			c.index[name] = i
		}
	}
	return c
}

// lacks returns those of the names that have no channel, each once and sorted.
func (c *channelNames) lacks(names []string) []string {
	var out []string
	for _, name := range names {
		if _, ok := c.index[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// channelLists holds the lists of all sites, which the registry keeps. Many goroutines may use it.
type channelLists struct {
	registry persistence.Registry // nil: no name has a channel
	fleet    Fleet                // knows the names in a site's settings, which a new list begins with

	mu    sync.Mutex
	sites map[string]*channelNames
}

// of returns what is known of a site without asking the registry: perhaps an older, shorter list.
func (l *channelLists) of(site string) *channelNames {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.sites[site]; c != nil {
		return c
	}
	return newChannelNames(nil)
}

func (l *channelLists) keep(site string, c *channelNames) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sites) >= keptLists || l.sites == nil {
		l.sites = make(map[string]*channelNames)
	}
	l.sites[site] = c
}

// read asks the registry for a site's list.
func (l *channelLists) read(ctx context.Context, site string) (*channelNames, uint64, error) {
	if l.registry == nil {
		return newChannelNames(nil), 0, nil
	}
	entry, err := l.registry.Get(ctx, kindChannels, site)
	if errors.Is(err, persistence.ErrNotFound) {
		return newChannelNames(nil), 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var list channelNames
	if err := json.Unmarshal(entry.Value, &list); err != nil || len(list.Names) > messages.MaxChannels {
		return nil, 0, fmt.Errorf("channels of site %s in the registry are damaged (%d names, %v)", site, len(list.Names), err)
	}
	return newChannelNames(list.Names), entry.Revision, nil
}

// begin returns the list that a site begins with: the channels that its settings name.
func (l *channelLists) begin(ctx context.Context, site string) (*channelNames, error) {
	settings, err := l.fleet.SiteSettings(ctx, site)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range settings.Merged.Channels {
		names = append(names, c.Name)
	}
	return newChannelNames(names), nil
}

// add gives channels to those of the names that have none, in alphabetical order, and returns the list.
// Names that do not fit are not in it, and then none was added.
func (l *channelLists) add(ctx context.Context, site string, names []string) (*channelNames, error) {
	if known := l.of(site); l.registry == nil || len(known.Names)+len(known.lacks(names)) > messages.MaxChannels {
		return known, nil
	}
	for range addTries {
		list, revision, err := l.read(ctx, site)
		if err == nil && revision == 0 {
			list, err = l.begin(ctx, site)
		}
		if err != nil {
			return nil, err
		}
		missing := list.lacks(names)
		if len(missing) > 0 && len(list.Names)+len(missing) <= messages.MaxChannels {
			list = newChannelNames(append(slices.Clone(list.Names), missing...))
			value, err := json.Marshal(list)
			if err != nil { // strings only
				panic(err)
			}
			_, err = l.registry.Put(ctx, kindChannels, site, value, revision)
			if errors.Is(err, persistence.ErrConflict) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		l.keep(site, list)
		return list, nil
	}
	return nil, fmt.Errorf("channels of site %s: changed by others %d times in a row", site, addTries)
}

// forget removes a site's list: what it named is deleted. Other members may go by theirs until they end.
func (l *channelLists) forget(ctx context.Context, site string) error {
	if l.registry == nil {
		return nil
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.sites, site)
	}()
	for range addTries {
		entry, err := l.registry.Get(ctx, kindChannels, site)
		if err == nil {
			err = l.registry.Delete(ctx, kindChannels, site, entry.Revision)
		}
		switch {
		case err == nil, errors.Is(err, persistence.ErrNotFound):
			return nil
		case !errors.Is(err, persistence.ErrConflict):
			return err
		}
	}
	return fmt.Errorf("channels of site %s: changed by others %d times in a row", site, addTries)
}

type channelsAnswer struct {
	Channels []string `json:"channels" doc:"The n-th name is that of channel n, from 0; an empty one is none." example:"[\"pressure\",\"temperature\"]"`
}

// addChannels registers the question which field of line protocol is which channel.
func (s *server) addChannels() {
	huma.Register(s.api, huma.Operation{
		OperationID: "getChannels", Method: http.MethodGet, Path: base + "/sites/{site}/channels", Tags: []string{"readings"},
		Summary: "Which channel each field of line protocol became",
		Description: "A field gets the next free channel of its site when it comes for the first time, and keeps it. The channels that the site's " +
			"settings name at that time keep their places. At most 64.",
	}, func(ctx context.Context, in *struct {
		Site string `path:"site" doc:"Name of the site." example:"demo"`
	},
	) (*struct{ Body channelsAnswer }, error) {
		if err := checkSite(in.Site); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		list, _, err := s.channels.read(ctx, in.Site)
		if err != nil {
			return nil, s.failure(ctx, "read the names of the channels", err)
		}
		return &struct{ Body channelsAnswer }{channelsAnswer{append([]string{}, list.Names...)}}, nil
	})
}
