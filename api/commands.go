package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
)

type settingsInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	Body   messages.Settings
}

type siteSettingsInput struct {
	Site string `path:"site" doc:"Name of the site." example:"demo"`
	Body messages.Settings
}

type siteInput struct {
	Site string `path:"site" doc:"Name of the site." example:"demo"`
}

type siteSettingsAnswer struct {
	Site       string            `json:"site"`
	Own        messages.Settings `json:"own" doc:"The site's own."`
	Settings   messages.Settings `json:"settings" doc:"The site's own over the fleet's: in force where a device sets nothing itself. Times in milliseconds."`
	Everywhere bool              `json:"everywhere" doc:"Whether all shards hold these settings. false: a change is on its way; if it stays so, one did not reach all streams, or two were made at once: put the settings again."`
}

type trimInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	Before string `query:"before" doc:"Readings with an event time before this are dropped, RFC 3339 or Unix milliseconds. Left out: all."`
}

// command registers what changes a device or a site: send puts it into the stream.
func command[I any](s *server, op huma.Operation, what string, send func(context.Context, *I) error) {
	op.DefaultStatus = http.StatusAccepted
	op.Tags = []string{"commands"}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		if err := send(ctx, in); err != nil {
			return nil, s.failure(ctx, what, err)
		}
		return nil, nil
	})
}

// deviceCommand registers what changes a device. It answers when the stream has acknowledged the command,
// which then takes effect in the order of the shard's readings.
func deviceCommand[I any](s *server, op huma.Operation, what string, fn func(*I) (messages.DeviceID, messages.Control, error)) {
	op.Description += " Answered when the stream has acknowledged the command; it takes effect in the order of the shard's readings."
	command(s, op, what, func(ctx context.Context, in *I) error {
		id, c, err := fn(in)
		if err != nil {
			return err
		}
		c.By = "http"
		return s.Fleet.Control(ctx, id, c)
	})
}

// addSiteSettings registers the settings of a whole site.
func (s *server) addSiteSettings() {
	const path = base + "/sites/{site}/settings"
	command(s, huma.Operation{
		OperationID: "putSiteSettings", Method: http.MethodPut, Path: path, Summary: "Replace a site's settings",
		Description: "The site's own settings are replaced whole; a field that is 0, empty or left out is as the fleet's. Times are milliseconds. " +
			"They hold for all devices of the site, those to come as well; what a device sets itself comes before them. Answered when the streams of " +
			"all shards have acknowledged the command; it takes effect in each shard in the order of its readings. " +
			"Without an answer, or with an error of 500 and above, some shards may have it: send the same again.",
	},
		"change the site's settings", func(ctx context.Context, in *siteSettingsInput) error {
			err := checkSite(in.Site)
			if err == nil {
				err = messages.CheckSettings(in.Body)
			}
			if err != nil {
				return err
			}
			return s.Fleet.SiteControl(ctx, in.Site, messages.Control{By: "http", Settings: &in.Body})
		})
	ask(s, huma.Operation{
		OperationID: "getSiteSettings", Path: path, Summary: "A site's settings", Tags: []string{"devices"},
		Description: "As the shards hold them now: a change shows when each has come to it in the order of its readings. A site that nothing was set for has empty ones of its own.",
	},
		"ask for the site's settings", func(ctx context.Context, in *siteInput) (siteSettingsAnswer, error) {
			if err := checkSite(in.Site); err != nil {
				return siteSettingsAnswer{}, err
			}
			got, err := s.Fleet.SiteSettings(ctx, in.Site)
			return siteSettingsAnswer{in.Site, got.Own, got.Merged, got.Everywhere}, err
		})
}

// addSiteDelete registers the deletion of a whole site.
func (s *server) addSiteDelete() {
	command(s, huma.Operation{
		OperationID: "deleteSite", Method: http.MethodDelete, Path: base + "/sites/{site}", Summary: "Delete all devices of a site and all they have sent",
		Description: "Windows, rollups and archive, the site's and its devices' settings, and which field of line protocol is which channel. The site's " +
			"credential stays, and readings sent later count again. Answered when the streams of all shards have acknowledged the command; it takes " +
			"effect in each shard in the order of its readings. Without an answer, or with an error of 500 and above, some shards may have it: send the same again.",
	},
		"delete the site", func(ctx context.Context, in *siteInput) error {
			if err := checkSite(in.Site); err != nil {
				return err
			}
			if err := s.Fleet.SiteControl(ctx, in.Site, messages.Control{By: "http", Delete: true}); err != nil {
				return err
			}
			return s.channels.forget(ctx, in.Site)
		})
}

// addCommands registers what changes a device or a site.
func (s *server) addCommands() {
	s.addSiteSettings()
	s.addSiteDelete()
	deviceCommand(s, huma.Operation{
		OperationID: "putSettings", Method: http.MethodPut, Path: devicePath + "/settings", Summary: "Replace a device's settings",
		Description: "The device's own settings are replaced whole; a field that is 0, empty or left out is as the site's, else the fleet's. Times are milliseconds.",
	},
		"change the settings", func(in *settingsInput) (messages.DeviceID, messages.Control, error) {
			id, err := deviceID(in.Site, in.Device)
			if err == nil {
				err = messages.CheckSettings(in.Body)
			}
			return id, messages.Control{Settings: &in.Body}, err
		})
	deviceCommand(s, huma.Operation{
		OperationID: "trimWindow", Method: http.MethodDelete, Path: devicePath + "/window", Summary: "Drop readings from a device's window",
		Description: "The archive keeps them.",
	},
		"trim the window", func(in *trimInput) (messages.DeviceID, messages.Control, error) {
			id, err := deviceID(in.Site, in.Device)
			trim := messages.Trim{}
			if err == nil && in.Before != "" {
				if trim.Before, err = messages.ParseTime(in.Before); err != nil {
					err = badRequest("before=%s: %s.", in.Before, reason(err))
				}
			}
			return id, messages.Control{Trim: &trim}, err
		})
	deviceCommand(s, huma.Operation{
		OperationID: "deleteDevice", Method: http.MethodDelete, Path: devicePath, Summary: "Delete a device and all it has sent",
		Description: "Window, rollups and archive. Readings sent later count again.",
	},
		"delete the device", func(in *deviceInput) (messages.DeviceID, messages.Control, error) {
			id, err := deviceID(in.Site, in.Device)
			return id, messages.Control{Delete: true}, err
		})
}
