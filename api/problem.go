package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
	"github.com/wellhead/wellhead/persistence"
)

// retryAfter is what a client that is told "not now" should wait, in seconds.
const retryAfter = 1

// newProblem makes the RFC 9457 document of every error. A request that breaks the schema is a 400
// here (the library says 422), and its detail says what is wrong: most people see only that.
func newProblem(status int, detail string, errs ...error) huma.StatusError {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	p := &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
	var said []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		d := &huma.ErrorDetail{Message: err.Error()}
		if e, ok := err.(huma.ErrorDetailer); ok {
			d = e.ErrorDetail()
		}
		p.Errors = append(p.Errors, d)
		if d.Location != "" {
			said = append(said, d.Location+": "+d.Message)
		} else {
			said = append(said, d.Message)
		}
	}
	if len(said) > 0 {
		p.Detail = strings.TrimSuffix(detail, ".") + ": " + strings.Join(said, "; ")
	}
	return p
}

func init() {
	// The library's own extension point: a variable of the package.
	huma.NewError = newProblem
}

// sentence begins with a capital and ends with a point, as the details do that are written here.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.TrimSuffix(strings.ToUpper(s[:1])+s[1:], ".") + "."
}

func badRequest(format string, args ...any) error {
	return newProblem(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// failure turns what a part answered into a problem document; what says what was being done. Causes that are
// ours are logged and not shown.
func (s *server) failure(ctx context.Context, what string, err error) error {
	var status huma.StatusError
	switch {
	case errors.As(err, &status):
		return err
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, "Nothing is known of this device: it has never sent a reading. Check the names, or send one with POST /api/v1/sites/{site}/readings.")
	case errors.Is(err, messages.ErrInvalid):
		return newProblem(http.StatusBadRequest, sentence(reason(err)))
	case errors.Is(err, ErrOverloaded):
		return later(http.StatusTooManyRequests, "The stream takes no more readings now: what is in it has to be stored first. Send the same again after the time in Retry-After.")
	case errors.Is(err, ErrNoRoom):
		return later(http.StatusInsufficientStorage, "The member's disk is nearly full, so it takes no readings until there is room; nothing that it took before is lost. Send the same again later; /readyz tells how much is free.")
	case errors.Is(err, ErrUnavailable):
		return later(http.StatusServiceUnavailable, "The device's shard is starting or moving. Ask again after the time in Retry-After; /readyz tells what is not ready.")
	case errors.Is(err, persistence.ErrUnreachable):
		s.log.Warn("the archive gave no answer", "doing", what, "error", err)
		return later(http.StatusServiceUnavailable, "The archive cannot be reached now; readings go on being taken. Ask again after the time in Retry-After; /readyz tells when it is back.")
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return newProblem(499, "The client went away.")
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return newProblem(http.StatusGatewayTimeout, "No answer in time while trying to "+what+". Try again, ask for less, or look at /readyz.")
	}
	s.log.Error("request failed", "doing", what, "error", err)
	return newProblem(http.StatusInternalServerError, "Could not "+what+". The cause is in the member's log.")
}

// later is a problem with a Retry-After header.
func later(status int, detail string, errs ...error) error {
	return huma.ErrorWithHeaders(newProblem(status, detail, errs...), http.Header{"Retry-After": {strconv.Itoa(retryAfter)}})
}

// writeProblem answers with err's document; for handlers that do not go through huma.
func writeProblem(w http.ResponseWriter, err error) {
	var headers huma.HeadersError
	if errors.As(err, &headers) {
		for k, v := range headers.GetHeaders() {
			w.Header()[k] = v
		}
	}
	var p *huma.ErrorModel
	if !errors.As(err, &p) {
		p = newProblem(http.StatusInternalServerError, err.Error()).(*huma.ErrorModel)
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only types of this package come here
		panic(err)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone; nobody else would hear of it
}
