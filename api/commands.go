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

type trimInput struct {
	Site   string `path:"site" doc:"Name of the site." example:"demo"`
	Device string `path:"device" doc:"Name of the device." example:"pump-1"`
	Before string `query:"before" doc:"Readings with an event time before this are dropped, RFC 3339 or Unix milliseconds. Left out: all."`
}

// command registers what changes a device. It answers when the stream has acknowledged the command,
// which then takes effect in the order of the shard's readings.
func command[I any](s *server, op huma.Operation, what string, fn func(*I) (messages.DeviceID, messages.Control, error)) {
	op.DefaultStatus = http.StatusAccepted
	op.Tags = []string{"commands"}
	op.Description += " Answered when the stream has acknowledged the command; it takes effect in the order of the shard's readings."
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		id, c, err := fn(in)
		if err == nil {
			c.By = "http"
			err = s.Fleet.Control(ctx, id, c)
		}
		if err != nil {
			return nil, s.failure(ctx, what, err)
		}
		return nil, nil
	})
}

// addCommands registers what changes a device.
func (s *server) addCommands() {
	command(s, huma.Operation{
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
	command(s, huma.Operation{
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
	command(s, huma.Operation{
		OperationID: "deleteDevice", Method: http.MethodDelete, Path: devicePath, Summary: "Delete a device and all it has sent",
		Description: "Window, rollups and archive. Readings sent later count again.",
	},
		"delete the device", func(in *deviceInput) (messages.DeviceID, messages.Control, error) {
			id, err := deviceID(in.Site, in.Device)
			return id, messages.Control{Delete: true}, err
		})
}
