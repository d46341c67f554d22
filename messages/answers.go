package messages

import (
	"fmt"
	"slices"
)

// Status tells whether a device is heard of.
type Status string

// The three states a device can be in. Unknown: it was configured, or known from the archive only, and has not sent since.
const (
	StatusUnknown Status = "unknown"
	StatusOnline  Status = "online"
	StatusOffline Status = "offline"
)

// Counts says what became of a device's, or a shard's, readings. Each reading is counted in
// Received and in exactly one of the other five; all but Refused are stored.
type Counts struct {
	Received  uint64 `json:"received"`
	InOrder   uint64 `json:"inOrder"`
	Late      uint64 `json:"late"`
	Stale     uint64 `json:"stale"`
	Duplicate uint64 `json:"duplicate"`
	Refused   uint64 `json:"refused"`
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Received += o.Received
	c.InOrder += o.InOrder
	c.Late += o.Late
	c.Stale += o.Stale
	c.Duplicate += o.Duplicate
	c.Refused += o.Refused
}

// Settings are what people set for a device, a site or the fleet. A zero field means: as the level
// above says (device <- site <- fleet).
type Settings struct {
	WindowCount      int       `json:"windowCount,omitempty"`      // most readings in the window; fleet default 60
	WindowAge        int64     `json:"windowAge,omitempty"`        // ms from the newest event time; fleet default 0 = no limit
	ExpectedInterval int64     `json:"expectedInterval,omitempty"` // ms between readings; fleet default 0 = unknown
	OfflineAfter     int64     `json:"offlineAfter,omitempty"`     // ms of silence; 0 = 3 x ExpectedInterval, or 180 000 when unknown
	Channels         []Channel `json:"channels,omitempty"`
	Retention        string    `json:"retention,omitempty"` // name of a retention class of the configuration; fleet default "default"
}

// Channel names one index in a reading's values.
type Channel struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
}

// Over returns s with its zero fields taken from base.
func (s Settings) Over(base Settings) Settings {
	if s.WindowCount == 0 {
		s.WindowCount = base.WindowCount
	}
	if s.WindowAge == 0 {
		s.WindowAge = base.WindowAge
	}
	if s.ExpectedInterval == 0 {
		s.ExpectedInterval = base.ExpectedInterval
	}
	if s.OfflineAfter == 0 {
		s.OfflineAfter = base.OfflineAfter
	}
	if len(s.Channels) == 0 {
		s.Channels = base.Channels
	}
	if s.Retention == "" {
		s.Retention = base.Retention
	}
	return s
}

// Equal tells whether two levels say the same.
func (s Settings) Equal(o Settings) bool {
	return s.WindowCount == o.WindowCount && s.WindowAge == o.WindowAge && s.ExpectedInterval == o.ExpectedInterval &&
		s.OfflineAfter == o.OfflineAfter && s.Retention == o.Retention && slices.Equal(s.Channels, o.Channels)
}

// SiteSettings are a site's settings as its shards hold them.
type SiteSettings struct {
	Own    Settings // the site's own level, zero = none were set
	Merged Settings // over the fleet's: what is in force where a device sets nothing itself
	// Everywhere is false while some shards hold other settings than those above: a change has not
	// reached them yet, or never will, because it was not acknowledged by all streams.
	Everywhere bool
}

// Sample is a reading as an answer gives it: with the stream sequence it came with.
type Sample struct {
	Reading
	Sequence uint64
}

// State is what a device says of itself, as of one stream sequence.
type State struct {
	Device     DeviceID
	Shard      Shard
	Sequence   uint64 // highest stream sequence in this state
	Status     Status
	FirstSeen  int64 // arrival time of the first message, 0 = never
	LastSeen   int64 // arrival time of the newest message, 0 = never
	Newest     int64 // newest event time, valid when HasReading
	HasReading bool
	InWindow   int
	Counts     Counts
	Settings   Settings  // in force, all levels merged
	Own        Settings  // the device's own level
	Minute     *Rollup   // running minute, nil = none held
	Hour       *Rollup   // running hour, nil = none held
	Latest     Sample    // valid when HasReading
	Statistics []Summary // over the window, by channel
	Partial    bool      // the device could not be asked: only Device, Shard, Settings and the newest stored reading are known
}

// Newest is a device's newest reading, and whether the device is heard of.
type Newest struct {
	Status     Status
	LastSeen   int64 // arrival time of the newest message, 0 = never
	HasReading bool
	Reading    Sample // valid when HasReading
	Partial    bool   // the device could not be asked: only the newest stored reading is known
}

// Summary is the statistics of one channel over a window.
type Summary struct {
	Count    int     `json:"count"`
	Min, Max float64 `json:"-"`
	Mean     float64 `json:"-"`
	Stddev   float64 `json:"-"` // of the population; 0 for one value
}

// Step is the length of a rollup's bucket in milliseconds.
type Step int64

// The steps there are. Minutes and hours are kept; days, of UTC, are made of hours when they are asked for.
const (
	Minute Step = 60_000
	Hour   Step = 3_600_000
	Day    Step = 86_400_000
)

// ParseStep reads what StepName writes. Errors wrap ErrInvalid.
func ParseStep(name string) (Step, error) {
	for _, s := range []Step{Minute, Hour, Day} {
		if name == StepName(s) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: step %q is none of 1m, 1h and 1d", ErrInvalid, name)
}

// Start returns the start of the bucket that holds event time t (also for t before 1970).
func (s Step) Start(t int64) int64 {
	start := t - t%int64(s)
	if start > t {
		start -= int64(s)
	}
	return start
}

// Rollup is what one minute, hour or day of a device came to, as absolute values.
type Rollup struct {
	Start    int64
	Step     Step
	Count    int64 // readings in the bucket
	Channels []ChannelRollup
}

// ChannelRollup is one channel of a rollup. With Count 0 the other fields are 0.
// Sum is the exact sum of all values, rounded once: it does not depend on their order. A day's is the exact sum
// of its hours' sums, rounded once more.
type ChannelRollup struct {
	Count                      int64
	Min, Max, Sum, First, Last float64
}

// DeviceRow is one line of a site's list of devices, from the shard's column table: no actor is woken for it.
type DeviceRow struct {
	Device   DeviceID
	Status   Status
	LastSeen int64 // arrival time, ms, 0 = never
	Newest   int64 // newest event time, ms
	Values   []float64
	Counts   Counts
}

// DeviceWidth names a device of a site and says how many values its newest readings have; 0 = not known.
type DeviceWidth struct {
	Device   string
	Channels int
}
