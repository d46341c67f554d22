package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// OperatorLimits are the limits that an operator may change while members run.
type OperatorLimits interface {
	// Limits returns the limits and what is used of them on this member.
	Limits(context.Context) (LimitsState, error)
	// SetLimits replaces what operators have set, for all members. persistence.ErrConflict when the revision is
	// not the newest; 0 = whatever there is.
	SetLimits(ctx context.Context, l messages.Limits, revision uint64) error
}

// LimitsState is the limits and what is used of them.
type LimitsState struct {
	Revision uint64          `json:"revision" doc:"Of what operators have set; 0 = nothing was ever set."`
	Own      messages.Limits `json:"own" doc:"What operators have set, for all members."`
	Limits   messages.Limits `json:"limits" doc:"In force on this member: what operators have set over its configuration. Bytes."`
	InFlight int64           `json:"inFlight" doc:"Bytes that this member has pulled and not yet stored."`
	// InFlightLimit differs from Limits.InFlight when this member has one of its own.
	InFlightLimit int64          `json:"inFlightLimit" doc:"Most of them, for this member."`
	Sites         []SiteUnstored `json:"sites" doc:"What each site has on its way to the archive through this member's HTTP face."`
}

// SiteUnstored is what a site has on its way to the archive.
type SiteUnstored struct {
	Site     string `json:"site"`
	Limit    int64  `json:"limit" doc:"Bytes."`
	Unstored int64  `json:"unstored" doc:"Bytes sent and not known to be stored yet."`
}

type putLimitsInput struct {
	Revision uint64 `query:"revision" doc:"Of the limits that these shall replace; left out: whatever there is."`
	Body     messages.Limits
}

// addOperatorLimits registers the limits.
func (s *server) addOperatorLimits() {
	if s.Operator == nil {
		return
	}
	const path = base + "/limits"
	ask(s, huma.Operation{
		OperationID: "getLimits", Path: path, Summary: "The limits and what is used of them", Tags: []string{"member"},
	},
		"ask for the limits", func(ctx context.Context, _ *struct{}) (LimitsState, error) { return s.Operator.Limits(ctx) })
	huma.Register(s.api, huma.Operation{
		OperationID: "putLimits", Method: http.MethodPut, Path: path, Summary: "Replace the limits", Tags: []string{"commands"},
		Description: "What operators have set is replaced whole, for all members, and outlives a restart; what is 0 or left out is as configured. " +
			"It holds at once on this member and within 10 seconds on all others.",
	}, func(ctx context.Context, in *putLimitsInput) (*body[LimitsState], error) {
		ctx, cancel := context.WithTimeout(ctx, s.Limits.Query)
		defer cancel()
		err := messages.CheckLimits(in.Body)
		if err == nil {
			err = s.Operator.SetLimits(ctx, in.Body, in.Revision)
		}
		if errors.Is(err, persistence.ErrConflict) {
			return nil, newProblem(http.StatusConflict, "Somebody else has changed the limits meanwhile. Ask for them again, and send what you want with their revision.")
		}
		var now LimitsState
		if err == nil {
			now, err = s.Operator.Limits(ctx)
		}
		if err != nil {
			return nil, s.failure(ctx, "change the limits", err)
		}
		return &body[LimitsState]{now}, nil
	})
}
