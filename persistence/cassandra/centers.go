package cassandra

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gocql/gocql"
)

// checkCenters refuses what would make quorums that do not overlap. LOCAL_QUORUM is the quorum of the data center of
// the server that is asked: what one data center has stored, another may not have yet. So with copies in several, all
// requests must go to one.
func checkCenters(s *gocql.Session, o Options) error {
	k, err := s.KeyspaceMetadata(o.Keyspace)
	if err != nil {
		return fmt.Errorf("read how keyspace %s is replicated: %w", o.Keyspace, err)
	}
	_, everywhere := k.StrategyOptions["replication_factor"]
	if everywhere || !strings.HasSuffix(k.StrategyClass, "NetworkTopologyStrategy") {
		return nil // data centers are not named
	}
	var centers []string
	for center, copies := range k.StrategyOptions {
		text, _ := copies.(string)
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			centers = append(centers, center)
		}
	}
	slices.Sort(centers)
	return o.oneCenter(centers)
}

// oneCenter tells whether all requests go to one of these data centers, where that matters.
func (o *Options) oneCenter(centers []string) error {
	switch {
	case o.DataCenter != "" && !slices.Contains(centers, o.DataCenter):
		return fmt.Errorf("keyspace %s has copies in data centers %s and none in %q: name one of them in cassandra.data-center, or alter the keyspace",
			o.Keyspace, strings.Join(centers, ", "), o.DataCenter)
	case o.DataCenter == "" && len(centers) > 1 && strings.HasPrefix(strings.ToUpper(o.Consistency), "LOCAL_"):
		return fmt.Errorf("keyspace %s has copies in data centers %s, and %s means another one for each server that is asked: "+
			"set cassandra.data-center to one of them, the same for all members", o.Keyspace, strings.Join(centers, ", "), o.Consistency)
	}
	return nil
}
