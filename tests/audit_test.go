package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/wellhead/wellhead/internal/testenv"
	"github.com/wellhead/wellhead/messages"
)

// account is what a test compares of one producer's run.
type account struct {
	Received, Stored, Readings, Duplicates, Missing uint64
	OpenGaps                                        int
	Retired                                         bool
	Shards                                          []accountShard
}

type accountShard struct {
	Shard            int
	Through, Highest uint64
	Gaps             [][2]uint64
}

// bookkeeper publishes batches with sequences of its choice, and asks what became of them.
type bookkeeper struct {
	t    *testing.T
	m    *member
	nc   *nats.Conn
	site string
}

func newBookkeeper(t *testing.T, m *member, site string) *bookkeeper {
	nc, err := nats.Connect(m.nats, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &bookkeeper{t, m, nc, site}
}

const auditShard = 28 // of audit/pump-1

const auditStart = int64(1_767_225_600_000) // 2026-01-01T00:00:00Z

// send publishes a batch of two readings, one of them with an omitted value, and wants an acknowledgement.
func (b *bookkeeper) send(producer string, run, sequence uint64) {
	b.t.Helper()
	id := messages.DeviceID{Site: b.site, Device: "pump-1"}
	at := auditStart + int64(run)*3_600_000 + int64(sequence)*1000
	data := messages.AppendBatch(nil, &messages.Batch{
		Producer: producer, Run: run, Sequence: sequence,
		Blocks: []messages.Block{{Device: id.Device, Readings: []messages.Reading{{Time: at, Values: []float64{1, 2}}, {Time: at + 500, Values: []float64{3}}}}},
	})
	testenv.Eventually(b.t, 30*time.Second, func() error {
		answer, err := b.nc.Request(messages.BatchSubject(id.Site, messages.ShardOf(id, 64)), data, 2*time.Second)
		var ack struct {
			Seq   uint64
			Error any
		}
		if err == nil {
			err = json.Unmarshal(answer.Data, &ack)
		}
		if err == nil && ack.Seq == 0 {
			err = fmt.Errorf("not taken: %v", ack.Error)
		}
		return err
	})
}

// want waits until HTTP tells that of the run.
func (b *bookkeeper) want(when, producer string, run uint64, want account) {
	b.t.Helper()
	diff := ""
	testenv.Eventually(b.t, 30*time.Second, func() error {
		var page struct {
			Producers []struct {
				Run string
				account
			}
		}
		if err := b.m.get("/api/v1/audit/producers?site="+b.site+"&producer="+producer, &page); err != nil {
			return err
		}
		for _, p := range page.Producers {
			if p.Run != fmt.Sprintf("%016x", run) {
				continue
			}
			if diff = cmp.Diff(want, p.account); diff != "" {
				return fmt.Errorf("%s: run %d (-want +got):\n%s", when, run, diff)
			}
			return nil
		}
		return fmt.Errorf("%s: run %d is not shown", when, run)
	})
}

// news are what stored.{site}.{producer} and query.stored say.
type news struct {
	Shard            int
	Run              string
	Through, Highest uint64
	Gaps             [][2]uint64
}

func (b *bookkeeper) stored(producer, request string) []news {
	b.t.Helper()
	var list []news
	testenv.Eventually(b.t, 30*time.Second, func() error {
		answer, err := b.nc.Request("query.stored."+b.site+"."+producer, []byte(request), 5*time.Second)
		if err != nil {
			return err
		}
		list = nil
		return json.Unmarshal(answer.Data, &list)
	})
	return list
}

// TestAudit sends with a gap, a duplicate and a second run, and wants the same account after every kind of end.
func TestAudit(t *testing.T) {
	config := filepath.Join(t.TempDir(), "wellhead.yaml")
	if err := os.WriteFile(config, []byte("work:\n  retire-after: 1ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	audit(t, startMember(t, t.TempDir(), "--config", config))
}

// TestAuditCassandraRedis is the same on real Cassandra and Redis.
func TestAuditCassandraRedis(t *testing.T) {
	config := outsideStores(t)
	file, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("work:\n  retire-after: 1ms\n"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	audit(t, startMember(t, t.TempDir(), "--config", config))
}

func audit(t *testing.T, m *member) {
	b := newBookkeeper(t, m, "audit")
	heard, err := b.nc.SubscribeSync("stored.audit.agent")
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{1, 2, 4, 5, 2} { // 3 is left out, 2 comes again
		b.send("agent", 1, sequence)
	}
	first := account{
		Received: 5, Stored: 4, Readings: 8, Duplicates: 1, Missing: 1, OpenGaps: 1,
		Shards: []accountShard{{Shard: auditShard, Through: 2, Highest: 5, Gaps: [][2]uint64{{3, 3}}}},
	}
	told := news{Shard: auditShard, Run: "0000000000000001", Through: 2, Highest: 5, Gaps: [][2]uint64{{3, 3}}}
	b.want("at first", "agent", 1, first)
	testenv.Eventually(t, 10*time.Second, func() error {
		message, err := heard.NextMsg(5 * time.Second)
		var n news
		if err == nil {
			err = json.Unmarshal(message.Data, &n)
		}
		if diff := cmp.Diff(told, n); err == nil && diff != "" {
			err = fmt.Errorf("told (-want +got):\n%s", diff)
		}
		return err
	})
	m.kill()
	m.start()
	b.want("after kill -9", "agent", 1, first)
	m.stop()
	m.start()
	b.want("after a restart", "agent", 1, first)
	if _, code := run(t, "audit", "--server", m.http, "--site", "audit"); code != 1 {
		t.Errorf("wellhead audit with an open gap: exit %d, want 1", code)
	}

	for sequence := range uint64(3) {
		b.send("agent", 2, sequence+1)
	}
	second := account{Received: 3, Stored: 3, Readings: 6, Shards: []accountShard{{Shard: auditShard, Through: 3, Highest: 3, Gaps: [][2]uint64{}}}}
	first.Retired = true
	for _, when := range []string{"with a second run", "with a second run, after kill -9"} {
		b.want(when, "agent", 2, second)
		b.want(when, "agent", 1, first)
		if diff := cmp.Diff([]news{told}, b.stored("agent", `{"run":"0000000000000001"}`)); diff != "" {
			t.Errorf("%s: query.stored of the retired run (-want +got):\n%s", when, diff)
		}
		if got := b.stored("agent", ""); len(got) != 1 || got[0].Run != "0000000000000002" {
			t.Errorf("%s: query.stored: got %v, want the second run only", when, got)
		}
		m.kill()
		m.start()
	}

	b.send("agent", 1, 3) // the retired run comes again
	b.want("when the gap is closed", "agent", 1, account{
		Received: 6, Stored: 5, Readings: 10, Duplicates: 1,
		Shards: []accountShard{{Shard: auditShard, Through: 5, Highest: 5, Gaps: [][2]uint64{}}},
	})
	told = news{Shard: auditShard, Run: told.Run, Through: 5, Highest: 5}
	testenv.Eventually(t, 20*time.Second, func() error {
		message, err := heard.NextMsg(5 * time.Second)
		var n news
		if err == nil {
			err = json.Unmarshal(message.Data, &n)
		}
		if diff := cmp.Diff(told, n); err == nil && diff != "" {
			err = fmt.Errorf("told when the gap is closed (-want +got):\n%s", diff)
		}
		return err
	})
	if out, code := run(t, "audit", "--server", m.http, "--json"); code != 0 {
		t.Errorf("wellhead audit without gaps: exit %d: %s", code, out)
	}
	recount(t, m)
}

// recount counts what audit has sent: 8 different batches of 2 readings, 3 values.
func recount(t *testing.T, m *member) {
	var sum struct {
		Readings, Values, Omitted int64
		Sites                     []struct {
			Site        string
			Devices     int
			First, Last string
		}
		Devices []struct {
			Device   string
			Readings int64
		}
	}
	out, code := run(t, "audit", "--server", m.http, "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T02:00:03.500Z", "--devices", "--json")
	if err := json.Unmarshal([]byte(out), &sum); err != nil || code != 0 {
		t.Fatalf("wellhead audit --from: exit %d, %v: %s", code, err, out)
	}
	if sum.Readings != 16 || sum.Values != 24 || len(sum.Sites) != 1 || sum.Sites[0].First != "2026-01-01T01:00:01.000Z" || sum.Sites[0].Last != "2026-01-01T02:00:03.500Z" {
		t.Errorf("counted %+v, want 16 readings with 24 values of one site", sum)
	}
	if len(sum.Devices) != 1 || sum.Devices[0].Readings != 16 {
		t.Errorf("counted devices %+v, want one with 16 readings", sum.Devices)
	}
	if out, code := run(t, "audit", "--server", m.http, "--from", "2026-01-01T02:00:03.500Z", "--to", "2026-01-01T03:00:00Z", "--site", "audit", "--json"); code != 0 || json.Unmarshal([]byte(out), &sum) != nil || sum.Readings != 1 {
		t.Errorf("the last reading alone: exit %d, %d readings", code, sum.Readings)
	}
	if _, code := run(t, "audit", "--server", "http://127.0.0.1:1"); code != 3 {
		t.Errorf("wellhead audit without a server: exit %d, want 3", code)
	}
	if _, code := run(t, "audit", "--from", "2026-01-01T02:00:03.500Z"); code != 2 {
		t.Errorf("wellhead audit without --to: exit %d, want 2", code)
	}
}
