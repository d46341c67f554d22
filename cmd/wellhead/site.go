package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// newSiteCommand makes `wellhead site`.
func newSiteCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "site",
		Short: "Say which sites may send, and with which credential; delete all that one has sent",
		Long: "As long as there is no credential, whoever reaches the stream may send for any site, and the member\n" +
			"listens on this machine only. With the first credential that ends: each site then needs its own.",
	}
	var server, dir string
	c.PersistentFlags().StringVar(&server, "server", "http://127.0.0.1:8080", "where the member's HTTP face is")
	c.PersistentFlags().StringVar(&dir, "data", "./data", "the member's data folder: the administrator's token is in it")
	c.AddCommand(siteAdd(&server, &dir), siteRemove(&server, &dir), siteList(&server, &dir), siteDelete(&server))
	return c
}

func siteAdd(server, dir *string) *cobra.Command {
	var replace bool
	var file string
	c := &cobra.Command{
		Use:   "add SITE",
		Short: "Make a site's credential and write it to a file",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			site := args[0]
			if file == "" {
				file = site + ".creds"
			}
			if _, err := os.Stat(file); err == nil && !replace {
				return wrongUse(fmt.Errorf("%s is there already: name another file with --out, or use --replace", file))
			}
			var answer credentialAnswer
			if err := askAdmin(c.Context(), *server, *dir, http.MethodPost, adminPath, &credentialRequest{Site: site, Replace: replace}, &answer); err != nil {
				return err
			}
			f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return fmt.Errorf("write the credential: %w; make it again with --replace", err)
			}
			defer f.Close()
			if err := stream.WriteCredentialFile(f, site, answer.Password); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "site %s may send with %s; for MQTT and other clients: user %s, password %s\n", site, file, site, answer.Password)
			return nil
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "make another credential; the old one ends")
	c.Flags().StringVar(&file, "out", "", "file to write (default SITE.creds)")
	return c
}

func siteRemove(server, dir *string) *cobra.Command {
	var open bool
	c := &cobra.Command{
		Use:   "remove SITE",
		Short: "Take a site's credential away; its readings stay",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var answer credentialAnswer
			if err := askAdmin(c.Context(), *server, *dir, http.MethodDelete, adminPath, &credentialRequest{Site: args[0], Open: open}, &answer); err != nil {
				return err
			}
			if open {
				fmt.Fprintf(c.OutOrStdout(), "site %s has no credential any more\n", args[0])
			} else {
				fmt.Fprintf(c.OutOrStdout(), "site %s may not send any more\n", args[0])
			}
			return nil
		},
	}
	c.Flags().BoolVar(&open, "open", false, "take the last one away too: then anybody on this machine may send for any site")
	return c
}

func siteList(server, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the sites that have a credential",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer struct{ Sites []string }
			if err := askAdmin(c.Context(), *server, *dir, http.MethodGet, adminPath, nil, &answer); err != nil {
				return err
			}
			for _, site := range answer.Sites {
				fmt.Fprintln(c.OutOrStdout(), site)
			}
			return nil
		},
	}
}

func siteDelete(server *string) *cobra.Command {
	var readings, yes bool
	c := &cobra.Command{
		Use:   "delete SITE --readings",
		Short: "Delete all devices of a site and all they have sent, for good",
		Long: `Deletes windows, rollups, readings and settings of all devices of a site, and the site's own settings. The
site's credential stays: readings that it sends later count again. Each shard does it in the order of its
readings, soon after this command has ended.`,
		Example: "  wellhead site delete demo --readings",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			site := args[0]
			if err := messages.CheckName("site", site); err != nil {
				return wrongUse(err)
			}
			if !readings {
				return wrongUse(errors.New("this deletes all readings of the site: say so with --readings; `wellhead site remove` only takes its credential away"))
			}
			client, err := reach(c, *server)
			if err != nil {
				return err
			}
			defer client.Close()
			if !yes {
				if err := confirm(c, site); err != nil {
					return err
				}
			}
			if err := client.Send(c.Context(), http.MethodDelete, "/sites/"+site, nil, "", nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "site %s: all shards were told to delete its devices and readings\n", site)
			return nil
		},
	}
	c.Flags().BoolVar(&readings, "readings", false, "the readings, really")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask for the site's name once more")
	return c
}

// confirm asks for a name to be typed once more.
func confirm(c *cobra.Command, name string) error {
	fmt.Fprintf(c.ErrOrStderr(), "This deletes everything that site %s has sent. It cannot be undone. Type the site's name to go on: ", name)
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation: %w", err)
	}
	if strings.TrimSpace(line) != name {
		return wrongUse(errors.New("that is not the site's name: nothing was deleted; scripts use --yes"))
	}
	return nil
}
