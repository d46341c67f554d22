package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	// influxVersion is what clients are told that look for a version: they decide by it which interface
	// they may use.
	influxVersion = "v2.0-wellhead"
	// toldLines and toldText bound how many refusals, and how many bytes of them, a message in the form of InfluxDB tells.
	toldLines = 100
	toldText  = 16 << 10
)

// createDatabase is the one statement that clients of InfluxDB 1 send before they write.
var createDatabase = regexp.MustCompile(`(?i)^\s*create\s+database\s+("[^"]*"|\S+)`)

// addInflux registers what clients of InfluxDB 1 and 2 need in order to write. The addresses and the
// form of errors are InfluxDB's, so they are not in our OpenAPI document. Whoever sends a token or
// password is let in like everybody else: neither is looked at.
func (s *server) addInflux() {
	s.mux.HandleFunc("POST /api/v2/write", func(w http.ResponseWriter, r *http.Request) { s.influxWrite(w, r, influx2{}) })
	s.mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) { s.influxWrite(w, r, influx1{}) })
	for _, path := range []string{"GET /ping", "GET /api/v2/ping"} {
		s.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			influxHeaders(w)
			w.WriteHeader(http.StatusNoContent)
		})
	}
	s.mux.HandleFunc("GET /health", s.influxHealth)
	s.mux.HandleFunc("GET /query", s.influxQuery)
	s.mux.HandleFunc("POST /query", s.influxQuery)
}

func influxHeaders(w http.ResponseWriter) {
	w.Header().Set("X-Influxdb-Version", influxVersion)
	w.Header().Set("X-Influxdb-Build", "Wellhead")
}

// influxDialect is what the versions of InfluxDB do differently.
type influxDialect interface {
	// site is the parameter that says where to write.
	site() string
	// document is the body of an error.
	document(e influxError) any
}

// influxError is an error before it is written in a dialect.
type influxError struct {
	status  int
	message string
	line    int // the first refused line, 0 = none
	in      *intake
}

// influx1 is the interface of InfluxDB 1.
type influx1 struct{}

func (influx1) site() string { return "db" }

func (influx1) document(e influxError) any {
	return struct {
		Error string `json:"error"`
	}{e.message}
}

// influx2 is the interface of InfluxDB 2.
type influx2 struct{}

func (influx2) site() string { return "bucket" }

func (influx2) document(e influxError) any {
	code := map[int]string{
		http.StatusBadRequest: "invalid", http.StatusNotFound: "not found", http.StatusServiceUnavailable: "unavailable",
		http.StatusRequestEntityTooLarge: "request too large", http.StatusUnsupportedMediaType: "unsupported media type",
	}[e.status]
	doc := struct {
		Code         string    `json:"code"`
		Message      string    `json:"message"`
		Line         int       `json:"line,omitempty"`
		Accepted     int       `json:"accepted,omitempty"`
		RefusedCount int       `json:"refusedCount,omitempty"`
		Refused      []refusal `json:"refused,omitempty"`
	}{Code: cmpOr(code, "internal error"), Message: e.message, Line: e.line}
	if e.in != nil {
		doc.Accepted, doc.RefusedCount, doc.Refused = e.in.accepted, e.in.refusedCount, e.in.refused
	}
	return doc
}

// influxWrite takes line protocol the way InfluxDB does: 204 when every line was taken, 400 with the
// refused ones when some were not; the others are taken all the same.
func (s *server) influxWrite(w http.ResponseWriter, r *http.Request, d influxDialect) {
	influxHeaders(w)
	in, err := s.influxTake(w, r, d)
	if err == nil && in.how.Stored && in.outgrew(time.Now().UnixMilli()) {
		err = later(http.StatusServiceUnavailable, "It is not known whether all is stored: one reading grew older than limits.max-age on its way. Send the same again, and what is too old is refused with a reason.")
	}
	if err != nil {
		writeInfluxProblem(w, d, err)
		return
	}
	if in.how.Stored && in.uncertain(time.Now().UnixMilli()) {
		w.Header().Set("Wellhead-Stored", "false") // sending again would not tell more
	}
	if len(in.ignoredTags) > 0 {
		w.Header().Set("Wellhead-Ignored-Tags", strings.Join(in.ignoredTags, ","))
	}
	if in.refusedCount == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	// Clients know these words, and that sending again would not help.
	what := fmt.Sprintf("unable to parse: all lines were refused (%d): ", in.refusedCount)
	if in.accepted > 0 {
		what = fmt.Sprintf("partial write: %d refused, all other lines were taken: ", in.refusedCount)
	}
	writeInflux(w, d, influxError{http.StatusBadRequest, what + linesText(in), in.refused[0].Line, in})
}

func (s *server) influxTake(w http.ResponseWriter, r *http.Request, d influxDialect) (*intake, error) {
	query := r.URL.Query()
	site := query.Get(d.site())
	if err := checkSite(site); err != nil {
		return nil, badRequest("%s=%s: it is the site here, and a site's name has 1 to 64 characters of A-Z a-z 0-9 _ -.", d.site(), site)
	}
	how, err := asked(r)
	if err != nil {
		return nil, err
	}
	body, err := openBody(r)
	if err != nil {
		return nil, err
	}
	in := s.newIntake(how)
	return in, s.takeLines(w, r, in, site, body)
}

// linesText tells the refused lines one after the other.
func linesText(in *intake) string {
	var b strings.Builder
	told := 0
	for _, r := range in.refused {
		if told == toldLines || b.Len() > toldText {
			break
		}
		if told > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "line %d: %s", r.Line, r.Reason)
		told++
	}
	if more := in.refusedCount - told; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// writeInfluxProblem answers with what went wrong with the whole request. What passes by itself is
// 503 with Retry-After: InfluxDB says 429 as well, but Telegraf's output for version 1 throws away what
// was answered with any 4xx.
func writeInfluxProblem(w http.ResponseWriter, d influxDialect, err error) {
	var p *huma.ErrorModel
	if !errors.As(err, &p) {
		p = newProblem(http.StatusInternalServerError, sentence(err.Error())).(*huma.ErrorModel)
	}
	status := p.Status
	if status == http.StatusTooManyRequests || status == http.StatusGatewayTimeout {
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	writeInflux(w, d, influxError{status: status, message: p.Detail})
}

func writeInflux(w http.ResponseWriter, d influxDialect, e influxError) {
	short := e.message
	if len(short) > 1024 {
		short = strings.ToValidUTF8(short[:1024], "") + "…"
	}
	w.Header().Set("X-Influxdb-Error", short)
	writeJSON(w, e.status, "application/json", d.document(e))
}

// influxHealth answers whether the member is ready, in the form of InfluxDB 2.
func (s *server) influxHealth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	influxHeaders(w)
	answer := struct {
		Name    string   `json:"name"`
		Message string   `json:"message"`
		Status  string   `json:"status"`
		Checks  []string `json:"checks"`
		Version string   `json:"version"`
	}{"wellhead", "ready", "pass", []string{}, influxVersion}
	status := http.StatusOK
	if reasons := s.Health.Ready(ctx); len(reasons) > 0 {
		answer.Status, answer.Message, status = "fail", strings.Join(reasons, "; "), http.StatusServiceUnavailable
	}
	writeJSON(w, status, "application/json", answer)
}

// influxQuery answers CREATE DATABASE: a site need not be made, so it is there already.
func (s *server) influxQuery(w http.ResponseWriter, r *http.Request) {
	influxHeaders(w)
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	match := createDatabase.FindStringSubmatch(r.FormValue("q"))
	if match == nil {
		writeInflux(w, influx1{}, influxError{status: http.StatusBadRequest, message: "Wellhead takes line protocol but answers no InfluxQL, only CREATE DATABASE. Ask " + base + "; " + base + "/openapi.json lists every address."})
		return
	}
	name := strings.Trim(match[1], `"`)
	if checkSite(name) != nil {
		writeInflux(w, influx1{}, influxError{status: http.StatusBadRequest, message: fmt.Sprintf("database %q: it is the site here, and a site's name has 1 to 64 characters of A-Z a-z 0-9 _ -", name)})
		return
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"results": []any{map[string]int{"statement_id": 0}}})
}
