package telemetry

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAreasNear(t *testing.T) {
	const maps = `00400000-004a5000 r-xp 00000000 fe:00 10027014                           /usr/bin/wellhead
00587000-00592000 rw-p 00187000 fe:00 10027014                           /usr/bin/wellhead
00592000-005c8000 rw-p 00000000 00:00 0 
134dd0000000-134dd2c00000 ---p 00000000 00:00 0 
134dd2c00000-134dec800000 rw-p 00000000 00:00 0 
134dec800000-134df0000000 rw-p 00000000 00:00 0 
134df0000000-134df4000000 ---p 00000000 00:00 0 
7fd045180000-7fd045400000 rw-p 00000000 00:00 0 
7fff80b6b000-7fff80b8c000 rw-p 00000000 00:00 0                          [stack]
`
	got := areasNear(strings.NewReader(maps), 0x134dd2e00000)
	want := []area{{0x134dd2c00000, 0x19c00000}, {0x134dec800000, 0x3800000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(area{})); diff != "" {
		t.Errorf("areas of the heap (-want +got):\n%s", diff)
	}
	if got := areasNear(strings.NewReader("what\n-\n"), 1); got != nil {
		t.Errorf("areas in what is no list: %v", got)
	}
}

// The heap of this very process is among what is found.
func TestHeapAreas(t *testing.T) {
	object := reflect.ValueOf(new([1 << 20]byte)).Pointer()
	for _, a := range heapAreas() {
		if object >= a.start && object < a.start+a.size {
			return
		}
	}
	t.Errorf("no area holds %#x: %v", object, heapAreas())
}
