//go:build !linux

package telemetry

import "context"

// UseHugePages does nothing here.
func UseHugePages(context.Context) {}
