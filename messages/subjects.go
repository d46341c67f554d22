package messages

import (
	"fmt"
	"strconv"
	"strings"
)

// SubjectKind says what a message in a shard's stream brings.
type SubjectKind uint8

// The kinds of mapped subjects.
const (
	KindBatch       SubjectKind = iota + 1 // shard.{n}.{site}: a batch of many devices
	KindReadings                           // shard.{n}.{site}.{device}: readings of one device
	KindControl                            // shard.{n}.{site}.{device}.control: a command to one device
	KindSiteControl                        // shard.{n}.{site}.@site.control: a command to a site's devices in the shard
)

// siteToken stands in the device's place in a command to a whole site. No device can have this name.
const siteToken = "@site"

// ShardSubject is a mapped subject taken apart.
type ShardSubject struct {
	Shard  Shard
	Site   string
	Device string // empty for KindBatch and KindSiteControl
	Kind   SubjectKind
}

// CheckName returns an error that wraps ErrInvalid unless name has 1-64 characters of [A-Za-z0-9_-].
// kind ("site", "device", …) says in the error what it was to be the name of.
func CheckName(kind, name string) error {
	if name == "" {
		return fmt.Errorf("%w: the %s has no name", ErrInvalid, kind)
	}
	if len(name) > MaxName {
		return fmt.Errorf("%w: the %s name has %d characters, at most %d are allowed", ErrInvalid, kind, len(name), MaxName)
	}
	for i := range len(name) {
		if !nameByte[name[i]] {
			return fmt.Errorf("%w: the %s name %q has %q at position %d: only letters, digits, _ and - are allowed", ErrInvalid, kind, name, name[i:i+1], i)
		}
	}
	return nil
}

// nameByte tells which bytes a name may have.
var nameByte = func() (ok [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-" {
		ok[c] = true
	}
	return ok
}()

// ShardOf returns the shard of a device among n > 0: FNV-1a-32 of site and device joined without a
// separator, modulo n. It is what the server's mapping partition(n, site, device) computes.
func ShardOf(id DeviceID, n int) Shard {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(id.Site) {
		h = (h ^ uint32(id.Site[i])) * prime
	}
	for i := range len(id.Device) {
		h = (h ^ uint32(id.Device[i])) * prime
	}
	return Shard(h % uint32(n))
}

// ReadingsSubject is where anyone publishes readings of one device.
func ReadingsSubject(id DeviceID) string { return "readings." + id.Site + "." + id.Device }

// BatchSubject is where producers publish batches of one site and shard.
func BatchSubject(site string, shard Shard) string {
	return "batches." + site + "." + strconv.Itoa(int(shard))
}

// ControlSubject is where members publish commands to one device.
func ControlSubject(id DeviceID) string { return "control." + id.Site + "." + id.Device }

// SiteControlSubject is where members publish a command to a site's devices in one shard. It is not mapped.
func SiteControlSubject(shard Shard, site string) string {
	return shardPrefix(shard) + site + "." + siteToken + ".control"
}

// ShardBatchSubject is BatchSubject after mapping.
func ShardBatchSubject(shard Shard, site string) string { return shardPrefix(shard) + site }

// ShardReadingsSubject is ReadingsSubject after mapping.
func ShardReadingsSubject(shard Shard, id DeviceID) string {
	return shardPrefix(shard) + id.Site + "." + id.Device
}

// ShardControlSubject is ControlSubject after mapping.
func ShardControlSubject(shard Shard, id DeviceID) string {
	return ShardReadingsSubject(shard, id) + ".control"
}

func shardPrefix(shard Shard) string { return "shard." + strconv.Itoa(int(shard)) + "." }

// StreamName is the name of a shard's stream; it captures shard.{n}.>.
func StreamName(shard Shard) string { return "READINGS_" + strconv.Itoa(int(shard)) }

// ParseShardSubject takes a mapped subject apart. The parts are parts of s: nothing is allocated.
// Errors wrap ErrInvalid.
func ParseShardSubject(s string) (ShardSubject, error) {
	rest, ok := strings.CutPrefix(s, "shard.")
	number, rest, found := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 16)
	if !ok || !found || err != nil || len(number) > 1 && number[0] == '0' {
		return ShardSubject{}, fmt.Errorf("%w: subject %q is not shard.{n}.{site}…", ErrInvalid, s)
	}
	out := ShardSubject{Shard: Shard(n), Kind: KindBatch}
	var more bool
	out.Site, rest, more = strings.Cut(rest, ".")
	if err := CheckName("site", out.Site); err != nil {
		return ShardSubject{}, err
	}
	if !more {
		return out, nil
	}
	out.Kind = KindReadings
	out.Device, rest, more = strings.Cut(rest, ".")
	if more {
		if rest != "control" {
			return ShardSubject{}, fmt.Errorf("%w: subject %q ends in %q: it may end in .control or with the device", ErrInvalid, s, rest)
		}
		out.Kind = KindControl
		if out.Device == siteToken {
			out.Kind, out.Device = KindSiteControl, ""
			return out, nil
		}
	}
	if err := CheckName("device", out.Device); err != nil {
		return ShardSubject{}, err
	}
	return out, nil
}

// Announcement is an event that is kept for a while: a device went online or offline.
type Announcement struct {
	Subject string // see EventSubject
	ID      string // tells a repeat
	Data    []byte // JSON
}

// EventSubject is where a device's actor says something: kind is "reading", "online", "offline", "rejected".
// Without a device, which only "rejected" may be, @site stands in its place.
func EventSubject(id DeviceID, kind string) string {
	if id.Device == "" {
		id.Device = siteToken
	}
	return "events." + id.Site + "." + id.Device + "." + kind
}

// ParseEventSubject takes an event's subject apart; the device is empty where @site stands. Errors wrap ErrInvalid.
func ParseEventSubject(s string) (id DeviceID, kind string, err error) {
	rest, ok := strings.CutPrefix(s, "events.")
	id.Site, rest, _ = strings.Cut(rest, ".")
	id.Device, kind, _ = strings.Cut(rest, ".")
	if ok && id.Device == siteToken && validName(id.Site) && validName(kind) {
		return DeviceID{Site: id.Site}, kind, nil
	}
	if !ok || !validName(id.Site) || !validName(id.Device) || !validName(kind) {
		return DeviceID{}, "", fmt.Errorf("%w: subject %q is not events.{site}.{device}.{kind}", ErrInvalid, s)
	}
	return id, kind, nil
}

// StoredSubject is where shards tell a producer how far it is stored.
func StoredSubject(site, producer string) string { return "stored." + site + "." + producer }

// Mapping is one line of the server's subject mapping.
type Mapping struct{ From, To string }

// Mappings returns the subject mapping that an account needs for n shards: it spreads devices over
// the shards' streams. The embedded server has it built in; for an outside server it goes into its configuration.
func Mappings(n int) []Mapping {
	device := fmt.Sprintf("shard.{{partition(%d,1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}", n)
	return []Mapping{
		{"readings.*.*", device},
		{"batches.*.*", "shard.{{wildcard(2)}}.{{wildcard(1)}}"},
		{"control.*.*", device + ".control"},
	}
}
