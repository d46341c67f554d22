package cassandra

import (
	"strings"
	"testing"
)

func TestOneCenter(t *testing.T) {
	for _, test := range []struct {
		center, consistency string
		centers             []string
		want                string // "" = no error
	}{
		{"", "LOCAL_QUORUM", []string{"dc1"}, ""},
		{"dc1", "LOCAL_QUORUM", []string{"dc1"}, ""},
		{"dc2", "LOCAL_QUORUM", []string{"dc1", "dc2"}, ""},
		{"", "LOCAL_QUORUM", []string{"dc1", "dc2"}, "set cassandra.data-center"},
		{"", "local_one", []string{"dc1", "dc2"}, "set cassandra.data-center"},
		{"", "EACH_QUORUM", []string{"dc1", "dc2"}, ""},
		{"dc3", "LOCAL_QUORUM", []string{"dc1", "dc2"}, `none in "dc3"`},
		{"dc3", "QUORUM", []string{"dc1"}, `none in "dc3"`},
	} {
		o := Options{Keyspace: "wellhead", DataCenter: test.center, Consistency: test.consistency}
		err := o.oneCenter(test.centers)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}
