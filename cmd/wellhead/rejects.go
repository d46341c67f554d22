package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// newRejectsCommand makes `wellhead rejects`.
func newRejectsCommand() *cobra.Command {
	c := &cobra.Command{Use: "rejects", Short: "Look at what could not be decoded or applied"}
	c.AddCommand(rejectsList())
	return c
}

func rejectsList() *cobra.Command {
	var server, dir, site string
	var after uint64
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List rejects with their reasons, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}, "after": {strconv.FormatUint(after, 10)}, "site": {site}}
			var answer json.RawMessage
			if err := askAdmin(c.Context(), server, dir, http.MethodGet, rejectsPath+"?"+query.Encode(), nil, &answer); err != nil {
				return err
			}
			if asJSON {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", answer)
				return err
			}
			var list struct{ Rejects []stream.KeptReject }
			if err := json.Unmarshal(answer, &list); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "arrived\tdevice\tmessage\treason\tdata")
			for _, r := range list.Rejects {
				fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%.60q\n", messages.FormatTime(r.Arrival), r.Device, r.Sequence, r.Reason, r.Data)
			}
			return table.Flush()
		},
	}
	f := c.Flags()
	f.StringVar(&server, "server", "http://127.0.0.1:8080", "where the member's HTTP face is")
	f.StringVar(&dir, "data", "./data", "the member's data folder: the administrator's token is in it")
	f.StringVar(&site, "site", "", "only those of this site")
	f.Uint64Var(&after, "after", 0, "only those after this place in the list")
	f.IntVar(&limit, "limit", 100, "most rejects, 1 to 1000")
	f.BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	return c
}
