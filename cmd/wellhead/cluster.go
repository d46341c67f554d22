package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/api"
	"github.com/wellhead/wellhead/cluster"
	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// adminClusterPath is where a member takes orders to the cluster.
const adminClusterPath = "/api/v1/admin/cluster"

// clusterOrder is an order to the cluster.
type clusterOrder struct {
	Do     string `json:"do"` // drain, undrain, move, token
	Member string `json:"member,omitempty"`
	Shard  int    `json:"shard,omitempty"`
}

// joinToken answers the order token.
type joinToken struct {
	Token string `json:"token"`
}

// order carries out an order.
func (a *admin) order(ctx context.Context, r *http.Request) (any, error) {
	var o clusterOrder
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&o); err != nil {
		return nil, fmt.Errorf("%w: the request is no JSON object: %v", messages.ErrInvalid, err)
	}
	if a.cluster == nil {
		return nil, fmt.Errorf("%w: this member is alone; it meets others when it is started with --cluster", messages.ErrInvalid)
	}
	var err error
	switch o.Do {
	case "drain", "undrain":
		err = a.cluster.members.SetDrained(ctx, o.Member, o.Do == "drain")
	case "move":
		err = a.cluster.members.Pin(ctx, messages.Shard(o.Shard), o.Member)
	case "token":
		token, err := a.joinToken()
		return joinToken{token}, err
	default:
		err = fmt.Errorf("%w: drain, undrain, move and token are known here, not %q", messages.ErrInvalid, o.Do)
	}
	if errors.Is(err, cluster.ErrInvalid) {
		err = fmt.Errorf("%w: %v", messages.ErrInvalid, err)
	}
	return struct{}{}, err
}

// newClusterCommand makes `wellhead cluster`.
func newClusterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Show the members and their shards; drain a member; move a shard",
	}
	var server, dir string
	c.PersistentFlags().StringVar(&server, "server", "http://127.0.0.1:8080", "where the HTTP face of any member is")
	c.PersistentFlags().StringVar(&dir, "data", "./data", "that member's data folder: the administrator's token is in it")
	order := func(o *clusterOrder, done string) func(*cobra.Command) error {
		return func(c *cobra.Command) error {
			if err := askAdmin(c.Context(), server, dir, http.MethodPost, adminClusterPath, o, &struct{}{}); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), done)
			return nil
		}
	}
	c.AddCommand(
		newClusterStatus(&server),
		newClusterToken(&server, &dir),
		&cobra.Command{
			Use: "drain MEMBER", Short: "Take all shards from a member, until undrain; it goes on answering", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				return order(&clusterOrder{Do: "drain", Member: args[0]}, args[0]+" hands its shards over; `wellhead cluster status` shows it")(c)
			},
		},
		&cobra.Command{
			Use: "undrain MEMBER", Short: "Let a member have shards again", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				return order(&clusterOrder{Do: "undrain", Member: args[0]}, args[0]+" gets shards again")(c)
			},
		},
		&cobra.Command{
			Use: "move SHARD [MEMBER]", Short: "Move a shard to a member and keep it there; without a member: go by the balance again", Args: cobra.RangeArgs(1, 2),
			Long: "Move a shard to a member, and keep it there while that member takes shards. The shares stay balanced: if the\n" +
				"member has its share already, it gives another shard away.",
			RunE: func(c *cobra.Command, args []string) error {
				shard, err := strconv.Atoi(args[0])
				if err != nil || shard < 0 {
					return wrongUse(fmt.Errorf("%q is not the number of a shard", args[0]))
				}
				o := &clusterOrder{Do: "move", Shard: shard}
				done := fmt.Sprintf("shard %d goes by the balance again", shard)
				if len(args) > 1 {
					o.Member, done = args[1], fmt.Sprintf("shard %d goes to %s", shard, args[1])
				}
				return order(o, done)(c)
			},
		},
	)
	return c
}

func newClusterToken(server, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "token", Short: "Print the token by which another member joins: wellhead serve --join TOKEN", Args: cobra.NoArgs,
		Long: "Print the token by which another member joins this one's cluster: wellhead serve --join TOKEN. It has the id and the\n" +
			"secret of the cluster and all settings that members share, with passwords and the contents of the files that they\n" +
			"name: keep it as you keep those. It holds as long as they do.",
		RunE: func(c *cobra.Command, _ []string) error {
			var answer joinToken
			if err := askAdmin(c.Context(), *server, *dir, http.MethodPost, adminClusterPath, &clusterOrder{Do: "token"}, &answer); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), answer.Token)
			if j, err := config.ParseJoin(answer.Token); err == nil {
				for key, text := range j.Settings {
					if strings.Contains(text, "127.0.0.1") || strings.Contains(text, "localhost") {
						fmt.Fprintf(c.ErrOrStderr(), "%s is %s, so this token is good on this machine only\n", key, text)
					}
				}
			}
			return nil
		},
	}
}

func newClusterStatus(server *string) *cobra.Command {
	var watch, asJSON, shards bool
	c := &cobra.Command{
		Use: "status", Short: "Show the members, their shards and how far behind they are", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if watch && asJSON {
				return wrongUse(errors.New("--json prints one document; leave --watch out"))
			}
			client, err := verify.NewClient(*server)
			if err != nil {
				return wrongUse(fmt.Errorf("--server: %w", err))
			}
			defer client.Close()
			if err := client.Reach(c.Context()); err != nil {
				return err
			}
			for {
				var s api.Cluster
				if err := client.Get(c.Context(), "/cluster", nil, &s); err != nil {
					return err
				}
				if asJSON {
					return writeJSON(c.OutOrStdout(), s)
				}
				if watch {
					fmt.Fprint(c.OutOrStdout(), "\x1b[H\x1b[2J")
				}
				if err := writeCluster(c.OutOrStdout(), &s, shards); err != nil || !watch {
					return err
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "show it anew each second, until Ctrl-C")
	c.Flags().BoolVar(&shards, "shards", false, "show each shard too")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	return c
}

// writeCluster says it as a table, and if so asked with one for the shards.
func writeCluster(w io.Writer, s *api.Cluster, shards bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "member\tstate\tversion\taddress\tshards\tstarting\tdevices\treadings\tlag\tin flight\tof\toldest unstored")
	for _, m := range s.Members {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%d KiB\t%s\t%.1f s\n", m.Name, m.State, m.Version, m.Address,
			len(m.Shards), m.Starting, grouped(int64(m.Devices)), count(m.Readings), count(m.Lag), m.InFlight>>10, mebibytes(m.InFlightLimit), m.OldestUnstoredSeconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d of %d shards are owned; lag: messages in the streams that are not stored yet\n", s.Shards-len(s.Unowned), s.Shards)
	var pins []string
	for _, p := range s.Pins {
		pins = append(pins, fmt.Sprintf("%d at %s", p.Shard, p.Member))
	}
	if len(pins) > 0 {
		fmt.Fprintf(w, "moved by an operator: %s\n", strings.Join(pins, ", "))
	}
	if !shards {
		return nil
	}
	fmt.Fprintln(w)
	fmt.Fprintln(table, "shard\towner\tstate\tdevices\tlag\tin flight\toldest unstored")
	for _, o := range s.Of {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%d KiB\t%.1f s\n", o.Shard, cmp.Or(o.Member, "–"), o.State,
			grouped(int64(o.Devices)), count(o.Lag), o.InFlight>>10, o.OldestUnstoredSeconds)
	}
	return table.Flush()
}

func mebibytes(n int64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
