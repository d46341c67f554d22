package main

import (
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
	"github.com/wellhead/wellhead/internal/verify"
	"github.com/wellhead/wellhead/messages"
)

// adminClusterPath is where a member takes orders to the cluster.
const adminClusterPath = "/api/v1/admin/cluster"

// clusterOrder is an order to the cluster.
type clusterOrder struct {
	Do     string `json:"do"` // drain, undrain, move
	Member string `json:"member,omitempty"`
	Shard  int    `json:"shard,omitempty"`
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
	default:
		err = fmt.Errorf("%w: drain, undrain and move are known here, not %q", messages.ErrInvalid, o.Do)
	}
	if errors.Is(err, cluster.ErrInvalid) {
		err = fmt.Errorf("%w: %v", messages.ErrInvalid, err)
	}
	return struct{}{}, err
}

// clusterStatus answers GET cluster.
func (n *node) clusterStatus(context.Context) (api.Cluster, error) {
	out := api.Cluster{Shards: n.cfg.Shards, Unowned: []int{}, Pins: []api.ClusterPin{}, Members: []api.ClusterMember{}}
	if n.cluster == nil {
		out.Members = append(out.Members, n.alone())
		return out, nil
	}
	out.ID = n.cluster.members.Cluster().ID
	self, _ := n.cluster.members.Self()
	view := n.cluster.members.View()
	owned := map[string][]int{}
	for shard := range view.Leases {
		if id, _ := view.Owner(messages.Shard(shard)); id != "" {
			owned[id] = append(owned[id], shard)
		} else {
			out.Unowned = append(out.Unowned, shard)
		}
		if name := view.Pins[messages.Shard(shard)]; name != "" {
			out.Pins = append(out.Pins, api.ClusterPin{Shard: shard, Member: name})
		}
	}
	for _, m := range view.Members {
		f := m.Figures
		state := "alive"
		switch {
		case m.Dead:
			state = "dead"
		case m.Draining:
			state = "draining"
		case m.Drained:
			state = "drained"
		}
		out.Members = append(out.Members, api.ClusterMember{
			Name: m.Name, ID: m.ID, Address: m.Address, Version: m.Version, Started: m.Started.Format("2006-01-02T15:04:05.000Z07:00"),
			State: state, Self: m.ID == self, Shards: append([]int{}, owned[m.ID]...), Starting: f.Starting,
			Devices: f.Devices, Readings: f.Readings, InFlight: f.InFlight, OldestUnstoredSeconds: f.Oldest,
		})
	}
	return out, nil
}

// clusterSize returns how many members are alive and how many shards none of them owns, as this one sees it.
func (n *node) clusterSize() (members, unowned int) {
	if n.cluster == nil {
		return 1, n.cfg.Shards - len(n.member.Held())
	}
	view := n.cluster.members.View()
	for _, m := range view.Members {
		if !m.Dead {
			members++
		}
	}
	for shard := range view.Leases {
		if id, _ := view.Owner(messages.Shard(shard)); id == "" {
			unowned++
		}
	}
	return members, unowned
}

// alone is a member without others.
func (n *node) alone() api.ClusterMember {
	m := api.ClusterMember{Name: n.cfg.Name, ID: n.cfg.Name, Version: version, State: "alive", Self: true, Shards: []int{}}
	f, _ := n.figures()
	m.Starting, m.Devices, m.Readings, m.InFlight, m.OldestUnstoredSeconds = f.Starting, f.Devices, f.Readings, f.InFlight, f.Oldest
	for shard := range n.cfg.Shards {
		m.Shards = append(m.Shards, shard)
	}
	return m
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

func newClusterStatus(server *string) *cobra.Command {
	var watch, asJSON bool
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
				if err := writeCluster(c.OutOrStdout(), &s); err != nil || !watch {
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
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	return c
}

// writeCluster says it as a table.
func writeCluster(w io.Writer, s *api.Cluster) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "member\tstate\tversion\taddress\tshards\tstarting\tdevices\treadings\tin flight\toldest unstored")
	for _, m := range s.Members {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%d KiB\t%.1f s\n", m.Name, m.State, m.Version, m.Address,
			len(m.Shards), m.Starting, grouped(int64(m.Devices)), count(m.Readings), m.InFlight>>10, m.OldestUnstoredSeconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	owned := s.Shards - len(s.Unowned)
	fmt.Fprintf(w, "\n%d of %d shards are owned\n", owned, s.Shards)
	var pins []string
	for _, p := range s.Pins {
		pins = append(pins, fmt.Sprintf("%d at %s", p.Shard, p.Member))
	}
	if len(pins) > 0 {
		fmt.Fprintf(w, "moved by an operator: %s\n", strings.Join(pins, ", "))
	}
	return nil
}
