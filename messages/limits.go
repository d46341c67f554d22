package messages

import (
	"fmt"
	"maps"
)

// The least that a limit may be: a largest message must fit.
const (
	// MinInFlight is the least of Limits.InFlight: 64 shards own one largest message each.
	MinInFlight = 128 << 20
	// MinUnstored is the least of a site's unstored bytes.
	MinUnstored = 1 << 20
)

// Limits bound how much may be on its way to the archive; bytes. They may be changed while members run, and
// hold for all of them.
type Limits struct {
	// InFlight is what a member has pulled and not yet stored; at least 128 MiB, 0 = as configured. Above:
	// nothing more is pulled until something is stored.
	InFlight int64 `json:"inFlight,omitempty" doc:"Bytes that a member has pulled and not yet stored, at least 134217728. 0 or left out: as configured (limits.in-flight)."`
	// Members holds the members, by name, that have another InFlight: those with more or less memory.
	Members map[string]int64 `json:"members,omitempty" doc:"The same for single members, by name."`
	// SiteUnstored is what a site has sent and is not yet stored; at least 1 MiB, 0 = as configured. Above:
	// who sends for it waits or is refused, as he chose; a connection that does not keep to it is cut.
	SiteUnstored int64 `json:"siteUnstored,omitempty" doc:"Bytes that a site has sent and that are not yet stored, at least 1048576. 0 or left out: as configured (limits.site-unstored)."`
	// Sites holds the sites that have another SiteUnstored.
	Sites map[string]int64 `json:"sites,omitempty" doc:"The same for single sites, by name."`
}

// Unstored is the limit of one site's unstored bytes; 0 = none is known.
func (l *Limits) Unstored(site string) int64 {
	if own, ok := l.Sites[site]; ok {
		return own
	}
	return l.SiteUnstored
}

// Pulled is the limit of what one member has pulled and not yet stored.
func (l *Limits) Pulled(member string) int64 {
	if own, ok := l.Members[member]; ok {
		return own
	}
	return l.InFlight
}

// Over returns these limits, and where they say nothing those below.
func (l Limits) Over(below Limits) Limits {
	if l.InFlight == 0 {
		l.InFlight = below.InFlight
	}
	if l.SiteUnstored == 0 {
		l.SiteUnstored = below.SiteUnstored
	}
	if len(below.Members) > 0 {
		members := maps.Clone(below.Members)
		maps.Copy(members, l.Members)
		l.Members = members
	}
	if len(below.Sites) > 0 {
		sites := maps.Clone(below.Sites)
		maps.Copy(sites, l.Sites)
		l.Sites = sites
	}
	return l
}

// maxLimitedSites and maxLimitedMembers bound the sites and members with a limit of their own.
const (
	maxLimitedSites   = 10_000
	maxLimitedMembers = 1_000
)

// CheckLimits refuses what cannot be a limit. Errors wrap ErrInvalid.
func CheckLimits(l Limits) error {
	if l.InFlight != 0 && l.InFlight < MinInFlight {
		return fmt.Errorf("%w: inFlight %d: must be %d or more, or 0 for what is configured", ErrInvalid, l.InFlight, MinInFlight)
	}
	if l.SiteUnstored != 0 && l.SiteUnstored < MinUnstored {
		return fmt.Errorf("%w: siteUnstored %d: must be %d or more, or 0 for what is configured", ErrInvalid, l.SiteUnstored, MinUnstored)
	}
	if len(l.Sites) > maxLimitedSites {
		return fmt.Errorf("%w: %d sites have a limit of their own: at most %d can", ErrInvalid, len(l.Sites), maxLimitedSites)
	}
	if len(l.Members) > maxLimitedMembers {
		return fmt.Errorf("%w: %d members have a limit of their own: at most %d can", ErrInvalid, len(l.Members), maxLimitedMembers)
	}
	for member, n := range l.Members {
		if err := CheckName("member", member); err != nil {
			return err
		}
		if n < MinInFlight {
			return fmt.Errorf("%w: members.%s %d: must be %d or more; leave the member out for inFlight", ErrInvalid, member, n, MinInFlight)
		}
	}
	for site, n := range l.Sites {
		if err := CheckName("site", site); err != nil {
			return err
		}
		if n < MinUnstored {
			return fmt.Errorf("%w: sites.%s %d: must be %d or more; leave the site out for siteUnstored", ErrInvalid, site, n, MinUnstored)
		}
	}
	return nil
}
