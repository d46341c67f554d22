package main

import (
	"errors"
	"net/http"
	"testing"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/stream"
)

// TestQuestionsTakeParameters holds that a question's JSON object reaches the HTTP face, and that
// anything else is told, not passed over.
func TestQuestionsTakeParameters(t *testing.T) {
	q := &queries{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.URL.String()))
	})}
	id := messages.DeviceID{Site: "plant", Device: "pump"}
	for _, c := range []struct{ request, want string }{
		{"", "http://localhost/api/v1/sites/plant/devices/pump/window"},
		{" \n", "http://localhost/api/v1/sites/plant/devices/pump/window"},
		{`{"limit":10,"order":"a b"}`, "http://localhost/api/v1/sites/plant/devices/pump/window?limit=10&order=a+b"},
	} {
		got, err := q.Answer(t.Context(), stream.QueryWindow, id, []byte(c.request))
		if err != nil || string(got) != c.want {
			t.Errorf("%q: %s, %v; want %s", c.request, got, err, c.want)
		}
	}
	for _, request := range []string{"10", `{"limit":`, "[1]", "limit=10"} {
		for _, what := range []string{stream.QueryWindow, stream.QueryDevices} {
			if got, err := q.Answer(t.Context(), what, id, []byte(request)); !errors.Is(err, messages.ErrInvalid) {
				t.Errorf("%s with %q: %s, %v; want an error that is ErrInvalid", what, request, got, err)
			}
		}
	}
}
