package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// rejected is a reject in an answer.
type rejected struct {
	ID            uint64
	Arrival       string
	Site, Device  string
	Shard         *int
	Sequence      uint64
	Index         int
	Subject       string
	Kind, Reason  string
	Type, Preview string
	Size          int
	Retried       *struct {
		At       string
		Subject  string
		Sequence uint64
		Repaired bool
	}
	Payload  *string
	Encoding string
	Decoded  json.RawMessage
	Problem  string
}

// rejectsPage is a page of a list as the server gives it.
type rejectsPage struct {
	Rejects []json.RawMessage `json:"rejects"`
	Cursor  string            `json:"cursor,omitempty"`
	Kept    uint64            `json:"kept"`
	Lost    uint64            `json:"lost"`
}

// retried is what a retry answers.
type retried struct {
	ID       uint64 `json:"id"`
	Subject  string `json:"subject"`
	Sequence uint64 `json:"sequence"`
	Repaired bool   `json:"repaired"`
	Again    bool   `json:"again"`
}

// newRejectsCommand makes `wellhead rejects`.
func newRejectsCommand() *cobra.Command {
	c := &cobra.Command{Use: "rejects", Short: "Look at what could not be decoded or applied, and send it again"}
	var server string
	var asJSON bool
	c.PersistentFlags().StringVar(&server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	c.AddCommand(rejectsList(&server, &asJSON), rejectsShow(&server, &asJSON), rejectsRetry(&server, &asJSON))
	return c
}

// reach makes a client and finds out whether there is a server.
func reach(c *cobra.Command, server string) (*verify.Client, error) {
	client, err := verify.NewClient(server)
	if err != nil {
		return nil, wrongUse(fmt.Errorf("--server: %w", err))
	}
	if err := client.Reach(c.Context()); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func rejectsList(server *string, asJSON *bool) *cobra.Command {
	var site, reason, cursor string
	var limit int
	var all bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List rejects with their reasons, oldest first",
		Example: "  wellhead rejects list --site demo --reason undecodable",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return wrongUse(fmt.Errorf("--limit %d: must be 1 or more", limit))
			}
			client, err := reach(c, *server)
			if err != nil {
				return err
			}
			defer client.Close()
			query := rejectsQuery(site, reason, all)
			query.Set("cursor", cursor)
			out := rejectsPage{Rejects: []json.RawMessage{}}
			for left := limit; left > 0; left = limit - len(out.Rejects) {
				query.Set("limit", strconv.Itoa(min(left, 1000)))
				var page rejectsPage
				if err := client.Get(c.Context(), "/rejects", query, &page); err != nil {
					return err
				}
				out.Rejects, out.Cursor = append(out.Rejects, page.Rejects...), page.Cursor
				out.Kept, out.Lost = page.Kept, page.Lost
				if page.Cursor == "" {
					break
				}
				query.Set("cursor", page.Cursor)
			}
			if *asJSON {
				return writeJSON(c.OutOrStdout(), out)
			}
			return out.write(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&site, "site", "", "only those of this site")
	f.StringVar(&reason, "reason", "", "only those with this `REASON`: its kind, or words in its sentence")
	f.IntVar(&limit, "limit", 100, "most rejects")
	f.StringVar(&cursor, "cursor", "", "go on after this place, which the page before told")
	f.BoolVar(&all, "retried", false, "also those that were retried")
	return c
}

func rejectsQuery(site, reason string, retried bool) url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"site": site, "reason": reason} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if retried {
		query.Set("retried", "true")
	}
	return query
}

// write says it in a table.
func (p *rejectsPage) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "id\tarrived\torigin\tkind\treason\tbytes\tpayload")
	for _, raw := range p.Rejects {
		var r rejected
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("the server's list: %w", err)
		}
		origin := r.Subject
		if r.Device != "" {
			origin = r.Site + "/" + r.Device
		}
		kind := r.Kind
		if r.Retried != nil {
			kind += " (retried)"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%d\t%.60q\n", r.ID, r.Arrival, origin, kind, r.Reason, r.Size, r.Preview)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if p.Lost > 0 {
		fmt.Fprintf(w, "%d are gone: they were too many or too old (rejects.max-bytes, rejects.max-age)\n", p.Lost)
	}
	if p.Cursor == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "there may be more: --cursor %s\n", p.Cursor)
	return err
}

func rejectsShow(server *string, asJSON *bool) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one reject whole: where it came from, why it is here, its payload",
		Example: "  wellhead rejects show 17\n  wellhead rejects show 17 --out payload.json     # to repair it",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := rejectID(args[0])
			if err != nil {
				return err
			}
			client, err := reach(c, *server)
			if err != nil {
				return err
			}
			defer client.Close()
			var answer json.RawMessage
			if err := client.Get(c.Context(), "/rejects/"+id, nil, &answer); err != nil {
				return err
			}
			var r rejected
			if err := json.Unmarshal(answer, &r); err != nil {
				return fmt.Errorf("the server's reject: %w", err)
			}
			if file != "" {
				if err := r.save(file); err != nil {
					return err
				}
			}
			if *asJSON {
				return writeJSON(c.OutOrStdout(), answer)
			}
			return r.write(c.OutOrStdout(), file == "")
		},
	}
	c.Flags().StringVar(&file, "out", "", "write the payload, byte by byte, to this `FILE` instead of printing it")
	return c
}

// rejectID checks what a user gave as an ID.
func rejectID(text string) (string, error) {
	if id, err := strconv.ParseUint(text, 10, 64); err != nil || id == 0 {
		return "", wrongUse(fmt.Errorf("%q is no ID of a reject: a number, as `wellhead rejects list` says it", text))
	}
	return text, nil
}

// save writes the payload to a file.
func (r *rejected) save(file string) error {
	if r.Payload == nil {
		return errors.New("the server's reject has no payload")
	}
	data := []byte(*r.Payload)
	if r.Encoding == "hex" {
		var err error
		if data, err = hex.DecodeString(*r.Payload); err != nil {
			return fmt.Errorf("the server's payload: %w", err)
		}
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write the payload: %w", err)
	}
	return nil
}

// write says it in words.
func (r *rejected) write(w io.Writer, payload bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	line("id", strconv.FormatUint(r.ID, 10))
	line("arrived", r.Arrival)
	line("subject", r.Subject)
	line("site", r.Site)
	line("device", r.Device)
	if r.Shard != nil {
		line("shard", strconv.Itoa(*r.Shard))
		line("sequence", strconv.FormatUint(r.Sequence, 10))
	}
	if r.Index >= 0 {
		line("reading", strconv.Itoa(r.Index))
	}
	line("kind", r.Kind)
	line("reason", r.Reason)
	if t := r.Retried; t != nil {
		text := t.At + " as message " + strconv.FormatUint(t.Sequence, 10) + " of " + t.Subject
		if t.Sequence == 0 {
			text = t.At + ", broken off or under way"
		}
		if t.Repaired {
			text += ", repaired"
		}
		line("retried", text)
	}
	line("type", r.Type)
	line("bytes", strconv.Itoa(r.Size))
	line("decoded", string(r.Decoded))
	line("not decoded", r.Problem)
	if err := table.Flush(); err != nil || !payload || r.Payload == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\npayload (%s):\n%s\n", r.Encoding, *r.Payload)
	return err
}

func rejectsRetry(server *string, asJSON *bool) *cobra.Command {
	var f retryFlags
	c := &cobra.Command{
		Use:   "retry (ID | --all --reason REASON)",
		Short: "Send rejects again to where they came from",
		Long: `Sends the original payload again, or with --with a repaired one. It gets a new place in the order of its
shard. What was retried is left out of lists; retried twice it is sent once. A reading without a time gets the
time at which it arrived at first. Exit code 1: something could not be sent.`,
		Example: "  wellhead rejects retry 17 --with repaired.json\n  wellhead rejects retry --all --reason panic",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return wrongUse(err)
			}
			client, err := reach(c, *server)
			if err != nil {
				return err
			}
			defer client.Close()
			if f.all {
				return f.retryAll(c, client, *asJSON)
			}
			id, err := rejectID(args[0])
			if err != nil {
				return err
			}
			done, err := f.retry(c, client, id)
			if err != nil {
				return err
			}
			if *asJSON {
				return writeJSON(c.OutOrStdout(), done)
			}
			text := "sent again"
			if done.Again {
				text = "was sent again before, and is not twice:"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "reject %d %s as message %d of %s\n", done.ID, text, done.Sequence, done.Subject)
			return err
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.with, "with", "", "send the repaired payload in this `FILE`")
	flags.BoolVar(&f.all, "all", false, "all with this reason that are there now")
	flags.StringVar(&f.reason, "reason", "", "of --all: the `REASON`'s kind, or words in its sentence")
	flags.StringVar(&f.site, "site", "", "of --all: only those of this site")
	flags.BoolVar(&f.force, "force", false, "send a command although an earlier retry was broken off and may have arrived")
	return c
}

// retryFlags say what is sent again.
type retryFlags struct {
	with, reason, site string
	all, force         bool

	repaired []byte
}

func (f *retryFlags) check(args []string) error {
	switch {
	case f.all && (len(args) > 0 || f.with != ""):
		return errors.New("--all goes without an ID and without --with")
	case f.all && f.reason == "":
		return errors.New("--all needs --reason")
	case !f.all && (f.reason != "" || f.site != ""):
		return errors.New("--reason and --site go with --all")
	case !f.all && len(args) == 0:
		return errors.New("give the ID of a reject, or --all --reason REASON")
	case f.with == "":
		return nil
	}
	file, err := os.Open(f.with)
	if err != nil {
		return fmt.Errorf("--with: %w", err)
	}
	defer file.Close()
	if f.repaired, err = io.ReadAll(io.LimitReader(file, messages.MaxMessage+1)); err != nil {
		return fmt.Errorf("--with: %w", err)
	}
	if len(f.repaired) == 0 || len(f.repaired) > messages.MaxMessage {
		return fmt.Errorf("--with: %s must have 1 to %d bytes", f.with, messages.MaxMessage)
	}
	return nil
}

func (f *retryFlags) retry(c *cobra.Command, client *verify.Client, id string) (done retried, err error) {
	query := url.Values{}
	if f.force {
		query.Set("force", "true")
	}
	contentType := ""
	if f.with != "" {
		contentType = "application/octet-stream" // its first byte tells
	}
	err = client.Send(c.Context(), http.MethodPost, "/rejects/"+id+"/retry", query, contentType, f.repaired, &done)
	return done, err
}

// retryAll sends all again that are there now: what comes to rejects because of it is left alone.
func (f *retryFlags) retryAll(c *cobra.Command, client *verify.Client, asJSON bool) error {
	var out struct {
		Retried int      `json:"retried"`
		Failed  []uint64 `json:"failed"`
	}
	out.Failed = []uint64{}
	query := rejectsQuery(f.site, f.reason, false)
	query.Set("limit", "1000")
	newest := uint64(math.MaxUint64)
	for more := true; more; {
		var page struct {
			Rejects []rejected
			Cursor  string
			Newest  uint64
		}
		if err := client.Get(c.Context(), "/rejects", query, &page); err != nil {
			return err
		}
		newest = min(newest, page.Newest)
		for _, r := range page.Rejects {
			if r.ID > newest {
				break
			}
			if _, err := f.retry(c, client, strconv.FormatUint(r.ID, 10)); err != nil {
				if errors.Is(err, verify.ErrUnreachable) || c.Context().Err() != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "reject %d: %v\n", r.ID, err)
				out.Failed = append(out.Failed, r.ID)
				continue
			}
			out.Retried++
		}
		cursor, err := strconv.ParseUint(page.Cursor, 10, 64)
		more = err == nil && cursor < newest
		query.Set("cursor", page.Cursor)
	}
	if asJSON {
		if err := writeJSON(c.OutOrStdout(), out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.OutOrStdout(), "%d sent again, %d could not be\n", out.Retried, len(out.Failed))
	}
	if len(out.Failed) > 0 {
		return errNo
	}
	return nil
}
