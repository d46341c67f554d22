package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// auditFlags say what is to be proved.
type auditFlags struct {
	server   string
	site     string
	producer string
	since    string
	shards   bool
	from, to string
	devices  bool
	asJSON   bool
}

func newAuditCommand() *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show what became of the batches of each producer, or count a period in the archive",
		Long: `Shows, for each producer and run, how many batches were received and stored, how many came again, and
which are missing. Runs that have ended are shown as well: the archive keeps their accounts.
Exit code 0: there are no open gaps. 1: there are. 3: the server could not be reached.

With --from and --to it counts what the archive has of a period instead: readings, values, omitted
values, and the first and last event time of each site. Exit code 0: counted. 3: unreachable, or broken off.`,
		Example: "  wellhead audit --site demo\n" +
			"  wellhead audit --site demo --producer agent-1 --shards\n" +
			"  wellhead audit --from 2026-01-02T00:00:00Z --to 2026-01-02T23:59:59.999Z --site demo --devices",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runAudit(c, &f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "http://127.0.0.1:8080", "where the HTTP face is")
	flags.StringVar(&f.site, "site", "", "only this site (default all)")
	flags.StringVar(&f.producer, "producer", "", "only this producer of the site")
	flags.StringVar(&f.since, "since", "", "only runs whose newest batch arrived at this `TIME` or later")
	flags.BoolVar(&f.shards, "shards", false, "a line for each shard, not only for those with gaps")
	flags.StringVar(&f.from, "from", "", "count from this event `TIME`, RFC 3339 or Unix ms")
	flags.StringVar(&f.to, "to", "", "count to this event `TIME`, included")
	flags.BoolVar(&f.devices, "devices", false, "with --from and --to: a line for each device too")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON document on standard output")
	return c
}

// check finds mistakes in the flags.
func (f *auditFlags) check() error {
	counts := f.from != "" || f.to != ""
	switch {
	case counts && (f.from == "" || f.to == ""):
		return errors.New("--from and --to are needed together")
	case counts && (f.producer != "" || f.since != "" || f.shards):
		return errors.New("--from and --to count readings, which have no producer: leave out --producer, --since and --shards")
	case !counts && f.devices:
		return errors.New("--devices needs --from and --to")
	case f.producer != "" && f.site == "":
		return errors.New("--producer needs --site: producers of different sites may have one name")
	}
	names := []struct{ what, name string }{{"site", f.site}, {"producer", f.producer}}
	for _, n := range names {
		if n.name != "" {
			if err := messages.CheckName(n.what, n.name); err != nil {
				return fmt.Errorf("--%s: %w", n.what, err)
			}
		}
	}
	times := []struct{ what, text string }{{"from", f.from}, {"to", f.to}, {"since", f.since}}
	var parsed [3]int64
	for i, t := range times {
		if t.text == "" {
			continue
		}
		var err error
		if parsed[i], err = messages.ParseTime(t.text); err != nil {
			return fmt.Errorf("--%s: %w", t.what, err)
		}
	}
	if counts && parsed[0] > parsed[1] {
		return fmt.Errorf("--from %s is later than --to %s", f.from, f.to)
	}
	return nil
}

func runAudit(c *cobra.Command, f *auditFlags) error {
	if err := f.check(); err != nil {
		return wrongUse(err)
	}
	client, err := verify.NewClient(f.server)
	if err != nil {
		return wrongUse(fmt.Errorf("--server: %w", err))
	}
	defer client.Close()
	if err := client.Reach(c.Context()); err != nil {
		return err
	}
	if f.from != "" {
		return f.recount(c, client)
	}
	return f.producers(c, client)
}

// auditedRun is one producer's run, as HTTP tells of it.
type auditedRun struct {
	Site       string         `json:"site"`
	Producer   string         `json:"producer"`
	Run        string         `json:"run"`
	Received   uint64         `json:"received"`
	Stored     uint64         `json:"stored"`
	Readings   uint64         `json:"readings"`
	Duplicates uint64         `json:"duplicates"`
	Missing    uint64         `json:"missing"`
	OpenGaps   int            `json:"openGaps"`
	First      string         `json:"first"`
	Last       string         `json:"last"`
	Retired    bool           `json:"retired"`
	Shards     []auditedShard `json:"shards"`
}

type auditedShard struct {
	Shard       int         `json:"shard"`
	Received    uint64      `json:"received"`
	Stored      uint64      `json:"stored"`
	Readings    uint64      `json:"readings"`
	Duplicates  uint64      `json:"duplicates"`
	Unaccounted uint64      `json:"unaccounted,omitempty"`
	Through     uint64      `json:"through"`
	Highest     uint64      `json:"highest"`
	Missing     uint64      `json:"missing"`
	OpenGaps    int         `json:"openGaps"`
	Gaps        [][2]uint64 `json:"gaps"`
	Retired     bool        `json:"retired"`
}

// audited is what `wellhead audit --json` prints.
type audited struct {
	Producers []auditedRun `json:"producers"`
	OpenGaps  int          `json:"openGaps"`
	Missing   uint64       `json:"missing"`
}

func (f *auditFlags) producers(c *cobra.Command, client *verify.Client) error {
	all := audited{Producers: []auditedRun{}}
	query := url.Values{"limit": {"200"}}
	for name, value := range map[string]string{"site": f.site, "producer": f.producer, "since": f.since} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for {
		var page struct {
			Producers []auditedRun
			Cursor    string
		}
		if err := client.Get(c.Context(), "/audit/producers", query, &page); err != nil {
			return err
		}
		for _, r := range page.Producers {
			all.OpenGaps += r.OpenGaps
			all.Missing += r.Missing
		}
		all.Producers = append(all.Producers, page.Producers...)
		if page.Cursor == "" {
			break
		}
		query.Set("cursor", page.Cursor)
	}
	print := func() error { return f.table(c.OutOrStdout(), &all) }
	if f.asJSON {
		print = func() error { return writeJSON(c.OutOrStdout(), all) }
	}
	if err := print(); err != nil {
		return err
	}
	if all.OpenGaps > 0 {
		return errNo
	}
	return nil
}

// table prints a line for each run, and below it one for each shard with gaps.
func (f *auditFlags) table(w io.Writer, all *audited) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "site\tproducer\trun\tshard\treceived\tstored\treadings\tduplicates\tthrough\tmissing\tgaps\tlast batch")
	for _, r := range all.Producers {
		last := r.Last
		if r.Retired {
			last += " (retired)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\tall %d\t%d\t%d\t%d\t%d\t\t%d\t%d\t%s\n",
			r.Site, r.Producer, r.Run, len(r.Shards), r.Received, r.Stored, r.Readings, r.Duplicates, r.Missing, r.OpenGaps, last)
		for _, s := range r.Shards {
			if f.shards || s.OpenGaps > 0 {
				fmt.Fprintf(table, "\t\t\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n",
					s.Shard, s.Received, s.Stored, s.Readings, s.Duplicates, s.Through, s.Missing, gapList(s.Gaps, s.OpenGaps))
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d runs, %d batches missing in %d open gaps\n", len(all.Producers), all.Missing, all.OpenGaps)
	return err
}

// gapList prints the first gaps: 3, 7-9, and 12 more.
func gapList(gaps [][2]uint64, all int) string {
	const shown = 4
	text := ""
	for i, g := range gaps[:min(len(gaps), shown)] {
		if i > 0 {
			text += ", "
		}
		text += strconv.FormatUint(g[0], 10)
		if g[1] > g[0] {
			text += "-" + strconv.FormatUint(g[1], 10)
		}
	}
	if all > shown {
		text += fmt.Sprintf(", and %d more", all-shown)
	}
	return text
}

// countLine is one line of HTTP's answer to a count.
type countLine struct {
	Progress *struct{ Readings int64 }
	Error    string
	End      bool
	Devices  int64
	countedLine
}

// countedLine is what was counted of a site, a device or all.
type countedLine struct {
	Site     string `json:"site,omitempty"`
	Device   string `json:"device,omitempty"`
	Readings int64  `json:"readings"`
	Values   int64  `json:"values"`
	Omitted  int64  `json:"omitted"`
	First    string `json:"first,omitempty"`
	Last     string `json:"last,omitempty"`
}

type countedSite struct {
	countedLine
	DeviceCount int64 `json:"devices"`
}

// counts is what a count prints with --json.
type counts struct {
	Sites    []countedSite `json:"sites"`
	Devices  []countedLine `json:"devices,omitempty"`
	Readings int64         `json:"readings"`
	Values   int64         `json:"values"`
	Omitted  int64         `json:"omitted"`
}

func (f *auditFlags) recount(c *cobra.Command, client *verify.Client) error {
	query := url.Values{"from": {f.from}, "to": {f.to}}
	if f.site != "" {
		query.Set("site", f.site)
	}
	if f.devices {
		query.Set("devices", "true")
	}
	body, err := client.Stream(c.Context(), "/audit/readings", query, "application/x-ndjson")
	if err != nil {
		return err
	}
	defer body.Close()
	shown := newProgress(c.ErrOrStderr(), "counted", 0)
	sum, err := readCounts(body, shown.set)
	shown.end()
	switch {
	case c.Context().Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return err
	case f.asJSON:
		return writeJSON(c.OutOrStdout(), sum)
	}
	table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "site\tdevice\treadings\tvalues\tomitted\tfirst\tlast")
	for _, d := range sum.Devices {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", d.Site, d.Device, d.Readings, d.Values, d.Omitted, d.First, d.Last)
	}
	for _, s := range sum.Sites {
		fmt.Fprintf(table, "%s\tall %d\t%d\t%d\t%d\t%s\t%s\n", s.Site, s.DeviceCount, s.Readings, s.Values, s.Omitted, s.First, s.Last)
	}
	fmt.Fprintf(table, "all\t\t%d\t%d\t%d\t\t\n", sum.Readings, sum.Values, sum.Omitted)
	return table.Flush()
}

// readCounts reads all lines; an answer without the last one is broken off.
func readCounts(body io.Reader, progress func(int64)) (counts, error) {
	sum := counts{Sites: []countedSite{}}
	lines := json.NewDecoder(bufio.NewReader(body))
	for {
		var l countLine
		if err := lines.Decode(&l); err != nil {
			return sum, fmt.Errorf("%w: the count broke off: %w", verify.ErrUnreachable, err)
		}
		switch {
		case l.Error != "":
			return sum, fmt.Errorf("%w: the count broke off: %s", verify.ErrUnreachable, l.Error)
		case l.Progress != nil:
			progress(l.Progress.Readings)
		case l.End:
			sum.Readings, sum.Values, sum.Omitted = l.Readings, l.Values, l.Omitted
			return sum, nil
		case l.Device != "":
			sum.Devices = append(sum.Devices, l.countedLine)
		default:
			sum.Sites = append(sum.Sites, countedSite{l.countedLine, l.Devices})
		}
	}
}
