package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

var anyName = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)

// TestHashVectors holds what docs/wire.md tells authors of clients.
func TestHashVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/hash_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Site, Device string
		Shards       int
		Shard        Shard
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 8 {
		t.Fatalf("%d vectors, want at least 8", len(vectors))
	}
	for _, v := range vectors {
		if got := ShardOf(DeviceID{v.Site, v.Device}, v.Shards); got != v.Shard {
			t.Errorf("ShardOf(%s/%s, %d) = %d, want %d", v.Site, v.Device, v.Shards, got, v.Shard)
		}
	}
}

// TestMappingsAgainstServer runs the server's own mapping on what clients publish, and takes the result apart.
func TestMappingsAgainstServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 1024).Draw(t, "shards")
		id := DeviceID{Site: anyName.Draw(t, "site"), Device: anyName.Draw(t, "device")}
		shard := ShardOf(id, shards)
		tests := []struct {
			subject, mapped string
			want            ShardSubject
		}{
			{ReadingsSubject(id), ShardReadingsSubject(shard, id), ShardSubject{shard, id.Site, id.Device, KindReadings}},
			{BatchSubject(id.Site, shard), ShardBatchSubject(shard, id.Site), ShardSubject{shard, id.Site, "", KindBatch}},
			{ControlSubject(id), ShardControlSubject(shard, id), ShardSubject{shard, id.Site, id.Device, KindControl}},
		}
		for i, mapping := range Mappings(shards) {
			transform, err := server.NewSubjectTransform(mapping.From, mapping.To)
			if err != nil {
				t.Fatal(err)
			}
			mapped, err := transform.Match(tests[i].subject)
			if err != nil || mapped != tests[i].mapped {
				t.Fatalf("the server maps %s to %q, %v, want %s", tests[i].subject, mapped, err, tests[i].mapped)
			}
			got, err := ParseShardSubject(mapped)
			if diff := cmp.Diff(tests[i].want, got); err != nil || diff != "" {
				t.Fatalf("ParseShardSubject(%s): %v (-want +got):\n%s", mapped, err, diff)
			}
		}
		siteControl, err := ParseShardSubject(SiteControlSubject(shard, id.Site))
		if want := (ShardSubject{shard, id.Site, "", KindSiteControl}); err != nil || siteControl != want {
			t.Fatalf("site control is %v, %v, want %v", siteControl, err, want)
		}
		site := DeviceID{Site: id.Site}
		if got, kind, err := ParseEventSubject(EventSubject(site, "rejected")); err != nil || got != site || kind != "rejected" {
			t.Fatalf("%v: got %v %q, %v", site, got, kind, err)
		}
		gotID, kind, err := ParseEventSubject(EventSubject(id, "online"))
		if gotID != id || kind != "online" || err != nil {
			t.Fatalf("event is of %v, %q, %v", gotID, kind, err)
		}
	})
}

func TestSubjectsThatAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "shard", "shard.", "shard.1", "shard.1.", "shard..a", "shard.x.a", "shard.-1.a", "shard.+1.a", "shard.01.a", "shard.65536.a",
		"shard.1.a.", "shard.1.a b", "shard.1.a.b.c", "shard.1.a.b.control.x", "shard.1.a.@site", "shard.1.@site.b.control",
		"readings.a.b", "shard.1.a.b.", "shard.1.a.*", "shard.1.a.é", "shard.1." + strings.Repeat("a", MaxName+1), "xshard.1.a",
	} {
		if got, err := ParseShardSubject(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseShardSubject(%q) = %v, %v, want an error that wraps ErrInvalid", s, got, err)
		}
	}
	for _, s := range []string{"", "events.a.b", "events.a.b.c.d", "event.a.b.c", "events.a..c", "events.a b.c.d", "events.a.b."} {
		if id, kind, err := ParseEventSubject(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseEventSubject(%q) = %v %q, %v, want an error that wraps ErrInvalid", s, id, kind, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "A-z_0", strings.Repeat("x", MaxName)} {
		if err := CheckName("device", name); err != nil {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"": "the device has no name", "a.b": `"."`, "a b": `" "`, "é": `position 0`, "a*": `"*"`, "ok>": `">"`, "a\x00": `position 1`,
		strings.Repeat("x", MaxName+1): "65 characters",
	} {
		if err := CheckName("device", name); !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("CheckName(%q) = %v, want an error about %s that wraps ErrInvalid", name, err, want)
		}
	}
}

func TestParseShardSubjectAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseShardSubject("shard.63.site-1.device-1.control") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParseShardSubject(f *testing.F) {
	for _, s := range []string{"shard.1.a", "shard.63.a.b", "shard.0.a.b.control", "shard.7.a.@site.control", "shard.01.a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseShardSubject(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || p != (ShardSubject{}) {
				t.Fatalf("%v, error %v", p, err)
			}
			return
		}
		id := DeviceID{p.Site, p.Device}
		again := map[SubjectKind]string{
			KindBatch: ShardBatchSubject(p.Shard, p.Site), KindReadings: ShardReadingsSubject(p.Shard, id),
			KindControl: ShardControlSubject(p.Shard, id), KindSiteControl: SiteControlSubject(p.Shard, p.Site),
		}[p.Kind]
		if again != s {
			t.Fatalf("%q was taken apart to %v, which makes %q", s, p, again)
		}
	})
}

func BenchmarkParseShardSubject(b *testing.B) {
	for b.Loop() {
		if _, err := ParseShardSubject("shard.63.site-1.device-0001"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkShardOf(b *testing.B) {
	id := DeviceID{Site: "site-1", Device: "device-0001"}
	for b.Loop() {
		ShardOf(id, 64)
	}
}
