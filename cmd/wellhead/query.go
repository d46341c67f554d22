package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// queried is what query prints as JSON: the two answers of the server as they are. It has readings or rollups.
type queried struct {
	State    json.RawMessage `json:"state"`
	Readings json.RawMessage `json:"readings,omitempty"`
	Rollups  json.RawMessage `json:"rollups,omitempty"`
}

// queriedState is what query says of a state.
type queriedState struct {
	Site, Device, Status string
	Shard                int
	LastSeen             string
	InWindow             int
	Counts               messages.Counts
	Latest               *queriedReading // in the window: it may not be in the archive yet
}

// queriedReading is a reading in an answer.
type queriedReading struct {
	Time     string
	Values   []*float64
	Note     string
	Sequence uint64
}

// queriedRollup is a rollup in an answer.
type queriedRollup struct {
	Start    string
	Count    int64
	Channels []struct{ Min, Max, Sum, First, Last *float64 }
}

// line is the note on one line.
func (r *queriedReading) line() string { return strings.ReplaceAll(r.Note, "\n", " ") }

func newQueryCommand() *cobra.Command {
	var server, from, to, rollups string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:     "query SITE DEVICE",
		Short:   "Show a device's state and its readings",
		Long:    "Shows what a device says of itself, and its readings from the archive, or its rollups: the newest ones, or those between two times (from later than to: newest first).",
		Example: "  wellhead query demo pump-1 --limit 5\n  wellhead query demo pump-1 --rollups 1d --limit 365",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			id := messages.DeviceID{Site: args[0], Device: args[1]}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if rollups != "" {
				if _, err := messages.ParseStep(rollups); err != nil {
					return wrongUse(fmt.Errorf("--rollups: %w", err))
				}
				query.Set("step", rollups)
			}
			for name, value := range map[string]string{"from": from, "to": to} {
				if value == "" {
					continue
				}
				if _, err := messages.ParseTime(value); err != nil {
					return wrongUse(fmt.Errorf("--%s: %w", name, err))
				}
				query.Set(name, value)
			}
			return runQuery(c, server, id, query, asJSON)
		},
	}
	flags := c.Flags()
	flags.StringVar(&server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	flags.StringVar(&from, "from", "", "event `TIME` of the first reading, RFC 3339 or Unix ms")
	flags.StringVar(&to, "to", "", "event `TIME` of the last reading, included")
	flags.IntVar(&limit, "limit", 10, "most readings or rollups, at most 10000")
	flags.StringVar(&rollups, "rollups", "", "minutes (1m), hours (1h) or days (1d) instead of readings")
	flags.BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	return c
}

func runQuery(c *cobra.Command, server string, id messages.DeviceID, query url.Values, asJSON bool) error {
	if err := messages.CheckName("site", id.Site); err != nil {
		return wrongUse(err)
	}
	if err := messages.CheckName("device", id.Device); err != nil {
		return wrongUse(err)
	}
	client, err := verify.NewClient(server)
	if err != nil {
		return wrongUse(fmt.Errorf("--server: %w", err))
	}
	defer client.Close()
	ctx := c.Context()
	if err := client.Reach(ctx); err != nil {
		return err
	}
	path := "/sites/" + id.Site + "/devices/" + id.Device
	var out queried
	if err := client.Get(ctx, path, nil, &out.State); err != nil {
		return err
	}
	list := "/readings"
	if query.Has("step") {
		list = "/rollups"
	}
	var page struct{ Readings, Rollups json.RawMessage }
	if err := client.Get(ctx, path+list, query, &page); err != nil {
		return err
	}
	out.Readings, out.Rollups = page.Readings, page.Rollups
	if asJSON {
		return writeJSON(c.OutOrStdout(), out)
	}
	return out.write(c.OutOrStdout())
}

// write says it in words.
func (q *queried) write(w io.Writer) error {
	var state queriedState
	if err := json.Unmarshal(q.State, &state); err != nil {
		return fmt.Errorf("the server's state of the device: %w", err)
	}
	n := state.Counts
	seen := "never seen"
	if state.LastSeen != "" {
		seen = "last seen " + state.LastSeen
	}
	fmt.Fprintf(w, "%s/%s is %s, %s, shard %d\n", state.Site, state.Device, state.Status, seen, state.Shard)
	fmt.Fprintf(w, "received %s readings: in order %s, late %s, stale %s, duplicate %s, refused %s; %d in the window\n\n",
		count(n.Received), count(n.InOrder), count(n.Late), count(n.Stale), count(n.Duplicate), count(n.Refused), state.InWindow)
	if r := state.Latest; r != nil {
		fmt.Fprintf(w, "newest: %s  %s  %s\n\nin the archive:\n", r.Time, valuesText(r.Values), r.line())
	}
	if q.Rollups != nil {
		return q.writeRollups(w)
	}
	var readings []queriedReading
	if err := json.Unmarshal(q.Readings, &readings); err != nil {
		return fmt.Errorf("the server's readings: %w", err)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "time\tvalues\tnote\tsequence")
	for _, r := range readings {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\n", r.Time, valuesText(r.Values), r.line(), r.Sequence)
	}
	return table.Flush()
}

// writeRollups writes a line for each channel of a rollup.
func (q *queried) writeRollups(w io.Writer) error {
	var rollups []queriedRollup
	if err := json.Unmarshal(q.Rollups, &rollups); err != nil {
		return fmt.Errorf("the server's rollups: %w", err)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "start\treadings\tchannel\tmin\tmax\tsum\tfirst\tlast")
	for _, r := range rollups {
		for i, c := range r.Channels {
			fmt.Fprintf(table, "%s\t%d\t%d", r.Start, r.Count, i)
			for _, v := range []*float64{c.Min, c.Max, c.Sum, c.First, c.Last} {
				fmt.Fprint(table, "\t", valuesText([]*float64{v}))
			}
			fmt.Fprintln(table)
		}
		if len(r.Channels) == 0 {
			fmt.Fprintf(table, "%s\t%d\n", r.Start, r.Count)
		}
	}
	return table.Flush()
}

func count(n uint64) string { return grouped(int64(n)) }

// valuesText writes values side by side, a dash for an omitted one.
func valuesText(values []*float64) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = "-"
		if v != nil {
			list[i] = float(*v)
		}
	}
	return strings.Join(list, "  ")
}
