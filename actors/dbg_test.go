package actors

import (
	"fmt"
	"os"
	"testing"

	"github.com/wellhead/wellhead/messages"
)

func TestDbg(t *testing.T) {
	if *simSeed == 0 {
		t.Skip()
	}
	w := newWorld(t, *simSeed)
	for range 400 + w.rnd.IntN(600) {
		c := w.crashes
		w.step()
		if w.crashes != c && w.host != nil {
			k := w.host.core.saved
			fmt.Println("crash; life", k.Epoch, "gen", k.Generation, "stored", k.Stored, "snapshotted", k.Snapshotted)
		}
	}
	fmt.Println(w.settle(), w.notices, w.crashes)
	dev := os.Getenv("DEV")
	for _, m := range w.sent {
		s, _ := messages.ParseShardSubject(m.Subject)
		if s.Kind == messages.KindSiteControl || s.Kind == messages.KindControl && s.Device == dev {
			c, _ := messages.DecodeControl("", m.Data)
			fmt.Println(m.Sequence, m.Subject, c.Settings, c.Trim, c.Delete)
		}
	}
	r, _ := w.archive.Records(nil, 0, messages.DeviceID{Site: "site", Device: dev})
	for _, r := range r {
		fmt.Println(r.Sequence, string(r.Payload))
	}
}
