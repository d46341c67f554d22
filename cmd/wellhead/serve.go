package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wellhead/wellhead/internal/config"
	"github.com/wellhead/wellhead/internal/telemetry"
	"github.com/wellhead/wellhead/stream"
)

// newServeCommand makes `wellhead serve`.
func newServeCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a member: take readings in, keep them, answer questions",
		Long: "Run a member. Without flags everything is embedded and kept in ./data.\n\n" +
			"Configuration comes from --config FILE, then the environment (WELLHEAD_…), then flags; the later wins.\n" +
			"`wellhead config check FILE` explains mistakes in a file.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(file, os.Environ(), given(c.Flags()))
			if err != nil {
				return wrongUse(err)
			}
			log, err := telemetry.NewLogger(c.ErrOrStderr(), cfg.Log.Format, cfg.Log.Level)
			if err != nil {
				return wrongUse(err)
			}
			if os.Getenv("GOGC") == "" { // the environment goes first
				go telemetry.TuneGarbage(c.Context())
			}
			go telemetry.UseHugePages(c.Context())
			return serve(c.Context(), c.OutOrStdout(), cfg, log)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	serveFlags(c.Flags())
	return c
}

// serveFlags adds the flags that are keys of the configuration.
func serveFlags(f *pflag.FlagSet) {
	f.String("data", "", "folder for everything that is kept on this machine (default ./data)")
	f.String("http", "", "address of the HTTP API and the page (default 127.0.0.1:8080; port 0: a free one)")
	f.String("nats", "", "address of the embedded NATS server (default 127.0.0.1:4222)")
	f.String("mqtt", "", "address of the embedded MQTT listener (default 127.0.0.1:1883)")
	f.String("nats-ws", "", "address of the embedded WebSocket listener (default off)")
	f.String("name", "", "name of this member (default the host's name)")
	f.String("cluster", "", "address where this member meets the others")
	f.String("join", "", "join token of wellhead cluster token: this member joins that cluster (or WELLHEAD_JOIN, which no list of processes shows)")
	f.String("debug-pprof", "", "loopback address where profiles of the program are served (default off)")
	f.String("advertise", "", "host name under which the others reach this member")
}

// given returns the flags that stand on the command line and are keys of the configuration.
func given(f *pflag.FlagSet) map[string]string {
	flags := map[string]string{}
	f.Visit(func(flag *pflag.Flag) {
		if flag.Name != "config" {
			flags[flag.Name] = flag.Value.String()
		}
	})
	return flags
}

// serve runs a member until ctx ends.
func serve(ctx context.Context, out io.Writer, cfg *config.Config, log *slog.Logger) error {
	for _, name := range cfg.Unknown {
		log.Warn("this variable of the environment is no setting of ours", "name", name)
	}
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return explain(err)
	}
	printAddresses(out, n)
	<-ctx.Done()
	log.Info("handing over and ending")
	n.close()
	return nil
}

// explain adds to an error of the start what to do about it.
func explain(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program listens there, perhaps another member; choose other addresses with --http, --nats and --mqtt (port 0 picks a free one)", err)
	}
	if errors.Is(err, stream.ErrUnreachable) || errors.Is(err, stream.ErrDenied) {
		return unreachable(err)
	}
	return err
}

func printAddresses(out io.Writer, n *node) {
	var lines []string
	add := func(what, address string) {
		if address != "" {
			lines = append(lines, fmt.Sprintf("  %-6s %s", what, address))
		}
	}
	add("page", n.pageURL())
	if n.server != nil {
		add("NATS", n.server.ClientURL())
		add("WS", n.server.WebSocketURL())
		add("MQTT", n.server.MQTTAddress())
	} else {
		add("NATS", stream.BareURLs(n.cfg.Stream.Server)+" (outside)")
	}
	if n.cluster != nil {
		add("members", n.cluster.address)
	}
	add("data", n.cfg.Data)
	fmt.Fprintf(out, "wellhead %s\n%s\n", version, strings.Join(lines, "\n"))
}

// pageURL is the address to open in a browser, empty when HTTP is off.
func (n *node) pageURL() string {
	if n.listener == nil {
		return ""
	}
	return "http://" + n.listener.Addr().String()
}
