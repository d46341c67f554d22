package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// base is where the API lives.
const base = "/api/v1"

type server struct {
	Options
	log       *slog.Logger
	mux       *http.ServeMux
	api       huma.API
	bodies    *budget
	turns     turns
	channels  channelLists
	listeners atomic.Int64
	exports   atomic.Int64
}

// New returns the handler of everything that Wellhead answers over HTTP. It does not start anything;
// see NewServer for a server with time limits.
func New(o Options) http.Handler {
	if o.Fleet == nil || o.Ingest == nil || o.Live == nil || o.Health == nil {
		panic("api.New: Fleet, Ingest, Live and Health must be set")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Limits = o.Limits.withDefaults()
	s := &server{Options: o, log: o.Logger, mux: http.NewServeMux()}
	s.bodies = newBudget(o.Limits.Bodies)
	s.channels.registry, s.channels.fleet = o.Registry, o.Fleet

	config := huma.DefaultConfig("Wellhead", cmpOr(o.Version, "dev"))
	config.Info.Description = "Readings of fleets of devices: send them, ask for them, watch them. " +
		"Times come in as RFC 3339 or Unix milliseconds and go out as RFC 3339 with milliseconds. " +
		"Names of sites and devices are 1-64 characters of [A-Za-z0-9_-]. Errors are RFC 9457 problem documents."
	config.OpenAPIPath = base + "/openapi"
	config.DocsPath = ""    // the library's page fetches its code from elsewhere
	config.SchemasPath = "" // and no $schema member in answers
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	s.api = humago.New(s.mux, config)

	s.addQuestions()
	s.addCommands()
	s.addReadings()
	s.addExport()
	s.addAudit()
	s.addIngest()
	s.addChannels()
	s.addRejects()
	s.addOperatorLimits()
	s.addInflux()
	s.addLive()
	s.addHealth()
	s.addPage()

	// A browser sends a stranger's page's requests with the user's rights: only safe ones may pass.
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusForbidden, "This request comes from a page of another origin. Send it from a program, or from Wellhead's own page."))
	}))
	return s.guard(foreign.Handler(s.mux))
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// guard is around everything: panics, headers, host names, and the record of what was answered.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.Error("panic in a request", "route", r.Pattern, "panic", fmt.Sprint(p))
				if rec.status == 0 {
					writeProblem(rec, newProblem(http.StatusInternalServerError, "This request hit a mistake in the program. The member's log has more; please report it."))
				}
			}
			if s.Observe != nil {
				s.Observe(r.Pattern, rec.status, time.Since(begin))
			}
		}()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if strings.HasPrefix(r.URL.Path, base) {
			h.Set("Cache-Control", "no-store")
		}
		if !s.hostAllowed(r.Host) {
			writeProblem(rec, newProblem(http.StatusForbidden, "This member does not answer under the name "+fmt.Sprintf("%q", r.Host)+". Use its address, or add the name to http.hosts."))
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// recorder notes the status for Observe.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// raw adds a handler that reads or writes its own bytes, with its documentation.
func (s *server) raw(op *huma.Operation, handle func(http.ResponseWriter, *http.Request)) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	if op.Responses["default"] == nil {
		problem := huma.SchemaFromType(s.api.OpenAPI().Components.Schemas, typeOf[huma.ErrorModel]())
		op.Responses["default"] = &huma.Response{
			Description: "What went wrong, and what to do.",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		}
	}
	s.api.OpenAPI().AddOperation(op)
	s.mux.HandleFunc(op.Method+" "+op.Path, handle)
}

// addHealth adds what watches the process, the metrics, and the answer to everything unknown.
func (s *server) addHealth() {
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		reasons := s.Health.Ready(ctx)
		if len(reasons) == 0 {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("ready\n"))
			return
		}
		var details []error
		for _, reason := range reasons {
			details = append(details, errors.New(reason))
		}
		writeProblem(w, later(http.StatusServiceUnavailable, "Not ready", details...))
	})
	if s.Metrics != nil {
		s.mux.Handle("GET /metrics", s.Metrics)
	}
}

// addPage adds the page and the answer to everything unknown.
func (s *server) addPage() {
	var page http.Handler
	if s.Page != nil {
		page = http.FileServerFS(s.Page)
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if allowed := s.methodsOf(r); len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			writeProblem(w, newProblem(http.StatusMethodNotAllowed, r.URL.Path+" takes "+strings.Join(allowed, ", ")+"."))
			return
		}
		if page != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) && s.isFile(r.URL.Path) {
			w.Header().Set("Cache-Control", "no-cache")
			if name := pageFile(r.URL.Path); name != strings.TrimPrefix(r.URL.Path, "/") && r.URL.Path != "/" {
				http.ServeFileFS(w, r, s.Page, name)
				return
			}
			page.ServeHTTP(w, r)
			return
		}
		writeProblem(w, newProblem(http.StatusNotFound, "Nothing is here. "+base+"/openapi.json lists every address."))
	})
}

// pageFile is the file that a path shows: /audit is audit.html.
func pageFile(path string) string {
	switch path {
	case "/":
		return "index.html"
	case "/audit":
		return "audit.html"
	}
	return strings.TrimPrefix(path, "/")
}

func (s *server) isFile(path string) bool {
	info, err := fs.Stat(s.Page, pageFile(path))
	return err == nil && info.Mode().IsRegular()
}

// methodsOf returns the methods that the request's path would answer to.
func (s *server) methodsOf(r *http.Request) []string {
	var out []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := s.mux.Handler(other); pattern != "" && pattern != "/" {
			out = append(out, m)
		}
	}
	return out
}
