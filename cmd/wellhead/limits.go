package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// asConfigured is what is written for a limit that nobody shall have set.
const asConfigured = "default"

// newLimitsCommand makes `wellhead limits`.
func newLimitsCommand() *cobra.Command {
	var server string
	var asJSON bool
	c := &cobra.Command{
		Use:   "limits",
		Short: "Show how much may be on its way to the archive, and change it while members run",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := reach(c, server)
			if err != nil {
				return err
			}
			defer client.Close()
			var state api.LimitsState
			if err := client.Get(c.Context(), "/limits", nil, &state); err != nil {
				return err
			}
			return printLimits(c.OutOrStdout(), &state, asJSON)
		},
	}
	c.PersistentFlags().StringVar(&server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	c.AddCommand(limitsSet(&server, &asJSON))
	return c
}

func limitsSet(server *string, asJSON *bool) *cobra.Command {
	var inFlight, unstored string
	var sites, members []string
	c := &cobra.Command{
		Use:   "set",
		Short: "Change limits, for all members, without a restart; what is not named stays",
		Example: "  wellhead limits set --in-flight 512MiB --site-unstored 32MiB --site plant=8MiB\n" +
			"  wellhead limits set --in-flight default --site plant=default\n" +
			"  wellhead limits set --member m2=1GiB",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if inFlight == "" && unstored == "" && len(sites) == 0 && len(members) == 0 {
				return wrongUse(errors.New("nothing to set: give --in-flight, --member, --site-unstored or --site"))
			}
			client, err := reach(c, *server)
			if err != nil {
				return err
			}
			defer client.Close()
			var state api.LimitsState
			if err := client.Get(c.Context(), "/limits", nil, &state); err != nil {
				return err
			}
			if err := changeLimits(&state.Own, inFlight, unstored, sites, members); err != nil {
				return wrongUse(err)
			}
			if state, err = putLimits(c, client, &state); err != nil {
				return err
			}
			return printLimits(c.OutOrStdout(), &state, *asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&inFlight, "in-flight", "", "most bytes that a member has pulled and not yet stored: a `SIZE` such as 512MiB, or default")
	f.StringVar(&unstored, "site-unstored", "", "most bytes that a site has sent and that are not yet stored: a `SIZE`, or default")
	f.StringArrayVar(&members, "member", nil, "--in-flight for one member: `NAME=SIZE`, or NAME=default; may be given again")
	f.StringArrayVar(&sites, "site", nil, "the same for one site: `NAME=SIZE`, or NAME=default; may be given again")
	return c
}

// changeLimits puts what was given on the command line into the limits.
func changeLimits(l *messages.Limits, inFlight, unstored string, sites, members []string) error {
	for _, one := range []struct {
		flag, text string
		to         *int64
	}{{"--in-flight", inFlight, &l.InFlight}, {"--site-unstored", unstored, &l.SiteUnstored}} {
		if one.text == "" {
			continue
		}
		n, err := limitOf(one.text)
		if err != nil {
			return fmt.Errorf("%s: %w", one.flag, err)
		}
		*one.to = n
	}
	if err := changeEach("--site", sites, &l.Sites); err != nil {
		return err
	}
	if err := changeEach("--member", members, &l.Members); err != nil {
		return err
	}
	return messages.CheckLimits(*l)
}

// changeEach puts limits of single sites or members, NAME=SIZE, among those there are.
func changeEach(flag string, given []string, to *map[string]int64) error {
	for _, text := range given {
		name, size, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("%s %s: write NAME=SIZE, such as NAME=256MiB", flag, text)
		}
		n, err := limitOf(size)
		if err != nil {
			return fmt.Errorf("%s %s: %w", flag, text, err)
		}
		if *to == nil {
			*to = map[string]int64{}
		}
		(*to)[name] = n
		if n == 0 {
			delete(*to, name)
		}
	}
	return nil
}

func limitOf(text string) (int64, error) {
	if text == asConfigured {
		return 0, nil
	}
	return config.ParseSize(text)
}

// putLimits sends the limits that were changed.
func putLimits(c *cobra.Command, client *verify.Client, state *api.LimitsState) (now api.LimitsState, err error) {
	query := url.Values{}
	if state.Revision != 0 {
		query.Set("revision", strconv.FormatUint(state.Revision, 10))
	}
	data, err := json.Marshal(state.Own)
	if err != nil {
		return now, err
	}
	err = client.Send(c.Context(), http.MethodPut, "/limits", query, "application/json", data, &now)
	return now, err
}

func printLimits(w io.Writer, s *api.LimitsState, asJSON bool) error {
	if asJSON {
		return writeJSON(w, s)
	}
	from := func(own int64) string {
		if own == 0 {
			return "as configured"
		}
		return "set"
	}
	own := s.Own.InFlight
	if s.InFlightLimit != s.Limits.InFlight { // by its name
		own = s.InFlightLimit
	}
	fmt.Fprintf(w, "in flight, this member: %s of %s bytes (%s)\n", grouped(s.InFlight), grouped(s.InFlightLimit), from(own))
	for _, member := range slices.Sorted(maps.Keys(s.Own.Members)) {
		fmt.Fprintf(w, "in flight, %s: %s bytes (set)\n", member, grouped(s.Own.Members[member]))
	}
	fmt.Fprintf(w, "unstored, each site: %s bytes (%s)\n", grouped(s.Limits.SiteUnstored), from(s.Own.SiteUnstored))
	rows := map[string]api.SiteUnstored{}
	for site, limit := range s.Limits.Sites {
		rows[site] = api.SiteUnstored{Limit: limit}
	}
	for _, site := range s.Sites {
		rows[site.Site] = site
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "site\tunstored by HTTP\tlimit\t")
	for _, site := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", site, grouped(rows[site].Unstored), grouped(rows[site].Limit), from(s.Own.Sites[site]))
	}
	return table.Flush()
}
