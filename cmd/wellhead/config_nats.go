package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// configNATS makes `wellhead config nats`.
func configNATS() *cobra.Command {
	var o stream.ServerConfigOptions
	c := &cobra.Command{
		Use:   "nats",
		Short: "Print the configuration of an outside NATS server: mapping, users, permissions",
		Long: "Print the configuration of an outside NATS server: JetStream, the subject mapping for the number of shards,\n" +
			"a user for the members and one for each site. It holds no secret: passwords are variables of the server's environment.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := stream.ServerConfig(o)
			if errors.Is(err, messages.ErrInvalid) {
				return wrongUse(err)
			}
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&o.Shards, "shards", 64, "number of shards, as the members have it")
	f.StringSliceVar(&o.Sites, "sites", nil, "sites that get a user, separated by commas")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:4222", "address for clients")
	f.StringVar(&o.StoreDir, "store", "./nats-data", "folder of JetStream's files")
	f.StringSliceVar(&o.Cluster, "cluster", nil, "host:port of each server's routes, for three or five servers")
	f.StringVar(&o.ClusterListen, "cluster-listen", "", "address for routes (default 0.0.0.0 and the port of --cluster)")
	f.BoolVar(&o.TLS, "tls", false, "TLS with server.crt, server.key and ca.crt, in the folder that the server runs in")
	return c
}
