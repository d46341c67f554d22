package api

// Cluster is what GET cluster answers: the members, as this one sees them.
type Cluster struct {
	ID      string          `json:"id" doc:"Id of the cluster; empty when this member is its only one."`
	Shards  int             `json:"shards" example:"64"`
	Unowned []int           `json:"unowned" doc:"Shards that no living member owns now: they are moving, or nobody can take them."`
	Pins    []ClusterPin    `json:"pins" doc:"Shards that an operator has moved to a member."`
	Members []ClusterMember `json:"members" doc:"By name."`
	Of      []ClusterShard  `json:"of" doc:"Each shard, by number."`
}

// ClusterShard is one shard. Figures of a shard that runs are up to a second old.
type ClusterShard struct {
	Shard  int    `json:"shard"`
	Member string `json:"member" doc:"Name of its owner; empty when no living member owns it."`
	State  string `json:"state" enum:"running,moving,starting,unowned" doc:"moving: it runs, and another member is to have it. starting: its owner cannot answer for it yet."`
	ClusterBacklog
	Devices int `json:"devices"`
}

// ClusterBacklog is what waits to be stored.
type ClusterBacklog struct {
	Lag      uint64 `json:"lag" doc:"Messages in the stream that are not stored yet, pulled or not."`
	InFlight int    `json:"inFlight" doc:"Bytes pulled and not yet stored."`
	// OldestUnstoredSeconds is 0 when all that came is stored.
	OldestUnstoredSeconds float64 `json:"oldestUnstoredSeconds" doc:"Age of the oldest reading that came in and is not stored yet; of a shard that does not run, by its checkpoint."`
}

// ClusterPin is a shard that an operator wants at a member.
type ClusterPin struct {
	Shard  int    `json:"shard"`
	Member string `json:"member"`
}

// ClusterMember is one member.
type ClusterMember struct {
	Name     string `json:"name"`
	ID       string `json:"id" doc:"New each time that the member joins."`
	Address  string `json:"address" doc:"Where the other members reach it."`
	Version  string `json:"version"`
	Started  string `json:"started" doc:"When it joined."`
	State    string `json:"state" enum:"alive,dead,draining,drained" doc:"dead: the others cannot reach it. draining: it ends. drained: an operator has taken its shards away."`
	Self     bool   `json:"self" doc:"It is the member that answers."`
	Shards   []int  `json:"shards" doc:"That it owns, by the leases."`
	Starting int    `json:"starting" doc:"Shards of those that cannot answer yet."`
	Devices  int    `json:"devices"`
	Readings uint64 `json:"readings" doc:"Readings received since the member started. Ask twice for a rate."`
	ClusterBacklog
	InFlightLimit int64 `json:"inFlightLimit" doc:"With this many bytes in flight it pulls nothing more; 0 = it does not tell."`
}
