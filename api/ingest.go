package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
)

const (
	ndjson = "application/x-ndjson"
	// lineProtocol is what clients of InfluxDB say of line protocol.
	lineProtocol = "text/plain"
	// sniffed is how many bytes of a body are looked at to tell what it is.
	sniffed = 512
	// firstTaken is what a body takes of the budget at once, at most; bytes. More is taken as it comes.
	firstTaken = 1 << 20
	// toldRefusals is how many refused readings an answer describes; all are counted.
	toldRefusals = 1000
	// maxPosted is how many readings one request may bring.
	maxPosted = 100_000
)

// refusal says why one reading was not taken. Index counts the readings of an array from 0, Line the
// lines of NDJSON and line protocol from 1.
type refusal struct {
	Index  *int   `json:"index,omitempty" doc:"Place in the array, from 0."`
	Line   int    `json:"line,omitempty" doc:"Line of the NDJSON or line protocol, from 1."`
	Device string `json:"device,omitempty"`
	Reason string `json:"reason"`
}

type ingestAnswer struct {
	Accepted     int       `json:"accepted" doc:"Readings that the stream has acknowledged; with wait=stored: that the archive has."`
	Stored       bool      `json:"stored" doc:"Whether the archive is known to have them. They are stored within seconds in any case; ask with wait=stored to hear of it. With it, false means that one is older than a retention class keeps, or grew older than limits.max-age on its way: what is not stored then is in rejects."`
	RefusedCount int       `json:"refusedCount"`
	Refused      []refusal `json:"refused" doc:"The first 1000 of the refused readings. All others in the request were taken."`
	IgnoredTags  []string  `json:"ignoredTags,omitempty" doc:"Tags of line protocol that are not kept: only the tag device is."`
}

// ingestProblem is the document when nothing was taken.
type ingestProblem struct {
	huma.ErrorModel
	RefusedCount int       `json:"refusedCount"`
	Refused      []refusal `json:"refused"`
}

// addIngest registers how readings come in.
func (s *server) addIngest() {
	schemas := s.api.OpenAPI().Components.Schemas
	answer := schemas.Schema(typeOf[ingestAnswer](), true, "ingestAnswer")
	one := &huma.Schema{
		Type: huma.TypeObject, Required: []string{"device", "values"},
		Properties: map[string]*huma.Schema{
			"device": {Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,64}$"},
			"time":   {OneOf: []*huma.Schema{{Type: huma.TypeString, Format: "date-time"}, {Type: huma.TypeInteger, Description: "Unix milliseconds."}}, Description: "Event time. Only a single reading without wait=stored may leave it out: then it is the arrival time."},
			"values": {Type: huma.TypeArray, MaxItems: ptr(messages.MaxChannels), Items: &huma.Schema{Type: huma.TypeNumber, Nullable: true}, Description: "By channel index; null = omitted."},
			"note":   {Type: huma.TypeString, Description: "At most 1024 bytes."},
		},
		Examples: []any{map[string]any{"device": "pump-1", "time": "2026-01-02T03:04:05.678Z", "values": []any{1.5, nil, 3}, "note": "hi"}},
	}
	s.raw(&huma.Operation{
		OperationID: "postReadings", Method: http.MethodPost, Path: base + "/sites/{site}/readings", Summary: "Send readings", Tags: []string{"readings"},
		Description: "One reading, an array of them, one a line (" + ndjson + "), or InfluxDB's line protocol (" + lineProtocol + "; docs/wire.md says how " +
			"its fields become channels); may be packed with gzip. Answered when the stream has acknowledged all that " +
			"is good: such readings survive a crash of everything. What is not good is listed with the reason; the rest of the request is taken nevertheless. " +
			"A reading sent twice is stored once, so a request without an answer can be sent again.",
		Parameters: []*huma.Param{
			{Name: "site", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,64}$"}},
			{Name: "wait", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"stored"}}, Description: "stored: answer when the archive has the readings."},
			{Name: "overload", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"wait", "refuse"}, Default: "wait"}, Description: "What to do when there is no room for more readings now: wait holds the request for as long as limits.ingest before it is refused, refuse answers 429 at once. The header " + overloadHeader + " says the same."},
			{Name: "precision", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"ns", "us", "ms", "s"}, Default: "ns"}, Description: "Unit of the timestamps of line protocol."},
			{Name: "Content-Encoding", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"gzip", "identity"}}},
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{one, {Type: huma.TypeArray, Items: one}}}},
			ndjson:             {Schema: &huma.Schema{Type: huma.TypeString}},
			lineProtocol:       {Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"well,device=pump-1 pressure=210.25,temperature=64.5 1767323045678000000"}}},
		}},
		Responses: map[string]*huma.Response{
			"200": {Description: "At least one reading was taken.", Content: map[string]*huma.MediaType{"application/json": {Schema: answer}}},
			"507": {Description: "The member's disk is nearly full. Send the same again when there is room."},
			"429": {Description: "The site has too much that is not stored yet, the stream is full, or too much is under way. Send the same again after Retry-After seconds."},
		},
	}, s.ingest)
}

func ptr[T any](v T) *T { return &v }

// ingest answers POST readings.
func (s *server) ingest(w http.ResponseWriter, r *http.Request) {
	in, err := s.ingested(w, r)
	if err != nil {
		writeProblem(w, err)
		return
	}
	now := time.Now().UnixMilli()
	s.answerIngest(w, in, in.how.Stored && !in.outgrew(now) && !in.uncertain(now))
}

// ingested takes what a request brings.
func (s *server) ingested(w http.ResponseWriter, r *http.Request) (*intake, error) {
	site := r.PathValue("site")
	if err := checkSite(site); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	for name := range query {
		if name != "wait" && name != "overload" && name != "precision" {
			return nil, badRequest("There is no parameter %q here, only wait=stored, overload=wait or refuse, and precision for line protocol.", name)
		}
	}
	how, err := asked(r)
	if err != nil {
		return nil, err
	}
	in := s.newIntake(how)
	kind, err := contentKind(r)
	if err != nil {
		return nil, err
	}
	body, err := openBody(r)
	if err != nil {
		return nil, err
	}
	if kind == "" {
		kind, body = sniff(body)
	}
	if kind == lineProtocol {
		return in, s.takeLines(w, r, in, site, body)
	}
	return in, s.takeJSON(r, in, site, kind, body)
}

// takeJSON takes a body of JSON or NDJSON, whole.
func (s *server) takeJSON(r *http.Request, in *intake, site, kind string, body io.Reader) error {
	if r.URL.Query().Has("precision") {
		return badRequest("precision is for line protocol; in JSON a time is RFC 3339 or Unix milliseconds.")
	}
	held := s.bodies.hold(site)
	defer held.end()
	data, err := s.readBody(r.Context(), body, r.ContentLength, held, in.how.Refuse)
	if err != nil {
		return err
	}
	if err := s.decode(r.Context(), in, site, kind, data); err != nil || in.accepted == 0 {
		return err
	}
	return s.publish(r.Context(), site, in.devices, in.how)
}

// decode takes JSON or NDJSON when it is the site's turn.
func (s *server) decode(ctx context.Context, in *intake, site, kind string, data []byte) error {
	release, err := s.turns.take(ctx, site)
	if err != nil {
		return s.failure(ctx, "take the readings", err)
	}
	defer release()
	in.arrival = time.Now().UnixMilli()
	if kind == ndjson {
		return in.lines(data)
	}
	return in.document(data)
}

func (s *server) publish(ctx context.Context, site string, devices []DeviceReadings, how How) error {
	limit := s.Limits.Ingest
	if how.Stored {
		limit = s.Limits.Stored
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.published(ctx, s.Ingest.Publish(ctx, site, devices, how), how.Stored)
}

// waitStored waits until what was published before is stored.
func (s *server) waitStored(ctx context.Context, site string) error {
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Stored)
	defer cancel()
	return s.published(ctx, s.Ingest.WaitStored(ctx, site), true)
}

// published turns what came of publishing into what the sender is told.
func (s *server) published(ctx context.Context, err error, stored bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) && stored:
		return newProblem(http.StatusGatewayTimeout, "The readings are not all stored yet; they may be in the stream already and be stored later. Sending them again does no harm: each is stored once.")
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusGatewayTimeout, "The stream did not acknowledge in time, so it is not known what it took. Send the same again: each reading is stored once.")
	}
	return s.failure(ctx, "publish the readings", err)
}

func (s *server) answerIngest(w http.ResponseWriter, in *intake, stored bool) {
	if in.refused == nil {
		in.refused = []refusal{}
	}
	if in.accepted > 0 || in.refusedCount == 0 {
		writeJSON(w, http.StatusOK, "application/json", ingestAnswer{in.accepted, stored, in.refusedCount, in.refused, in.ignoredTags})
		return
	}
	p := ingestProblem{RefusedCount: in.refusedCount, Refused: in.refused}
	p.Status, p.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
	p.Detail = "No reading was taken. The first reason: " + in.refused[0].Reason
	if in.refusedCount > 1 {
		p.Detail = fmt.Sprintf("None of %d readings was taken. The first reason: %s", in.refusedCount, in.refused[0].Reason)
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

// overloadHeader says what the parameter overload says, for those who can only set headers.
const overloadHeader = "Wellhead-Overload"

// asked reads what the sender wants to wait for.
func asked(r *http.Request) (How, error) {
	query := r.URL.Query()
	var how How
	switch wait := query.Get("wait"); wait {
	case "":
	case "stored":
		how.Stored = true
	default:
		return how, badRequest("wait=%s: only wait=stored is known.", wait)
	}
	switch overload := cmpOr(query.Get("overload"), r.Header.Get(overloadHeader)); overload {
	case "", "wait":
	case "refuse":
		how.Refuse = true
	default:
		return how, badRequest("overload=%s is not known: wait holds the request until there is room, refuse answers 429 at once.", overload)
	}
	return how, nil
}

// contentKind tells JSON, NDJSON and line protocol apart by the header, or returns "" where the first
// byte tells: clients of InfluxDB say text/plain or nothing, curl says that -d sends a form, and
// everybody forgets to say otherwise.
func contentKind(r *http.Request) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return "", nil
	}
	kind, _, err := mime.ParseMediaType(header)
	switch {
	case err == nil && (kind == ndjson || kind == "application/ndjson" || kind == "application/jsonl"):
		return ndjson, nil
	case err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")):
		return "application/json", nil
	case err == nil && (kind == lineProtocol || kind == "application/x-www-form-urlencoded"):
		return "", nil
	}
	return "", newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type %q is not known. Send application/json, %s, or %s with line protocol.", header, ndjson, lineProtocol))
}

// sniff tells JSON from line protocol by the first byte that is not white space. A body without one is
// JSON.
func sniff(body io.Reader) (kind string, same io.Reader) {
	in := bufio.NewReaderSize(body, sniffed)
	head, _ := in.Peek(sniffed) // an error comes again when the body is read
	head = bytes.TrimLeft(head, " \t\r\n")
	if len(head) == 0 || head[0] == '{' || head[0] == '[' {
		return "application/json", in
	}
	return lineProtocol, in
}

// openBody returns the body unpacked.
func openBody(r *http.Request) (io.Reader, error) {
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, badRequest("The body is not gzip, though Content-Encoding says so: %v.", err)
		}
		return z, nil
	default:
		return nil, newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Encoding %q is not known. Use gzip or none.", encoding))
	}
}

// readBody reads the whole of an unpacked body into memory that held takes of the budget that all bodies
// share. length is what the header says, -1 = unknown. Until there is room for the first of it the body stays with
// the sender, unless it shall be refused.
func (s *server) readBody(ctx context.Context, body io.Reader, length int64, held *holding, refuse bool) ([]byte, error) {
	tooLarge := newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("The body has more than %d bytes (unpacked). Send it in several requests.", s.Limits.Body))
	if length > s.Limits.Body {
		return nil, tooLarge
	}
	buf := make([]byte, 0)
	for {
		if len(buf) == cap(buf) {
			more := max(int64(cap(buf)), min(max(length+1, 4<<10), 64<<10))
			if len(buf) == 0 {
				more = max(more, min(length+1, firstTaken))
			}
			if err := s.takeBody(ctx, held, more, refuse); err != nil {
				return nil, err
			}
			grown := make([]byte, len(buf), int64(cap(buf))+more)
			copy(grown, buf)
			buf = grown
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > s.Limits.Body {
			return nil, tooLarge
		}
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, badRequest("The body ended too soon or is damaged: %v. Nothing was taken.", err)
		}
	}
}

// takeBody takes memory for a request. Only one that holds nothing yet waits for it, so that none waits for
// another that waits.
func (s *server) takeBody(ctx context.Context, held *holding, n int64, refuse bool) error {
	if held.take(n) {
		return nil
	}
	if refuse || held.bytes > 0 || n > held.of.total {
		return tooBusy()
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Ingest)
	defer cancel()
	if err := held.wait(ctx, n); err != nil {
		return tooBusy()
	}
	return nil
}

func tooBusy() error {
	return later(http.StatusTooManyRequests, "Too many readings are on their way into this member. Send the same again after the time in Retry-After.")
}

// intake sorts what came into good readings by device, and refusals.
type intake struct {
	arrival      int64 // of the request, ms; event times are measured against it
	maxFuture    int64 // ms an event time may be ahead of it; 0 = no limit
	maxAge       int64 // ms an event time may be behind it; 0 = no limit
	certainAge   int64 // ms an event time may be behind so that no device refuses it; 0 = as maxAge
	oldest       int64 // event time among the accepted
	how          How
	decoder      messages.Decoder
	devices      []DeviceReadings
	at           map[string]int // index in devices
	accepted     int
	refused      []refusal
	refusedCount int
	ignoredTags  []string // of line protocol
}

func (s *server) newIntake(how How) *intake {
	return &intake{
		arrival: time.Now().UnixMilli(), maxFuture: s.Limits.MaxFuture.Milliseconds(), maxAge: s.Limits.MaxAge.Milliseconds(),
		certainAge: s.Limits.CertainAge.Milliseconds(), oldest: Latest, how: how,
	}
}

// untimely returns why the device would refuse this event time, "" if it would not.
func (in *intake) untimely(t int64) string {
	if t == messages.NoTime {
		return ""
	}
	if err := messages.CheckTime(t, in.arrival, in.maxFuture, in.maxAge); err != nil {
		return reason(err)
	}
	return ""
}

// outgrew tells that a reading was young enough when it came, and no longer now, so that the device may
// have refused it: it arrives at the device after it arrived here.
func (in *intake) outgrew(now int64) bool { return in.maxAge > 0 && in.oldest <= now-in.maxAge }

// uncertain tells that a reading is so old that its device's retention class decides whether it is stored or
// goes to rejects.
func (in *intake) uncertain(now int64) bool {
	return in.certainAge > 0 && in.oldest <= now-in.certainAge
}

func (in *intake) refuse(r refusal) {
	in.refusedCount++
	if len(in.refused) < toldRefusals {
		in.refused = append(in.refused, r)
	}
}

// take decodes one reading. single: it may leave out its time.
func (in *intake) take(data []byte, single bool, where refusal) error {
	if in.accepted+in.refusedCount >= maxPosted {
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("More than %d readings. Send them in several requests; nothing was taken.", maxPosted))
	}
	device, r, err := in.decoder.JSONWithDevice(data)
	where.Device = device
	switch {
	case err != nil:
		where.Reason = reason(err)
	case r.Time == messages.NoTime && !single:
		where.Reason = "it has no time: only a request with a single reading may leave it out"
	case r.Time == messages.NoTime && in.how.Stored:
		where.Reason = "it has no time: with wait=stored it must have one, because only what bears its own identity can be waited for"
	default:
		where.Reason = in.untimely(r.Time)
	}
	if where.Reason != "" {
		in.refuse(where)
		return nil
	}
	in.add(device, r)
	return nil
}

// add takes a good reading.
func (in *intake) add(device string, r messages.Reading) {
	i, ok := in.at[device]
	if !ok {
		if in.at == nil {
			in.at = make(map[string]int)
		}
		i = len(in.devices)
		in.at[device] = i
		in.devices = append(in.devices, DeviceReadings{Device: device})
	}
	in.devices[i].Readings = append(in.devices[i].Readings, r)
	in.accepted++
	if r.Time != messages.NoTime {
		in.oldest = min(in.oldest, r.Time)
	}
}

// reason is what a complaint says without the word that all of them begin with.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), messages.ErrInvalid.Error()+": ")
}

// lines takes NDJSON. Empty lines are nothing.
func (in *intake) lines(data []byte) error {
	single := bytes.Count(bytes.TrimSpace(data), []byte("\n")) == 0
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := in.take(line, single, refusal{Line: number}); err != nil {
			return err
		}
	}
	return nil
}

// document takes one reading or an array of them.
func (in *intake) document(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return badRequest(`The body is empty. Send {"device":"pump-1","values":[1.5]}, or an array of such.`)
	}
	if data[0] != '[' {
		return in.take(data, true, refusal{Index: ptr(0)})
	}
	elements, err := splitArray(data)
	if err != nil {
		return err
	}
	for i, e := range elements {
		if err := in.take(e, false, refusal{Index: ptr(i)}); err != nil {
			return err
		}
	}
	return nil
}

// splitArray finds the elements of a JSON array, so that a bad one spoils only itself. It looks at
// strings and brackets only; what is between is for the decoder to judge.
func splitArray(data []byte) ([][]byte, error) {
	var out [][]byte
	depth, start := 0, 1
	inString := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		if inString {
			switch c {
			case '\\':
				i++
			case '"':
				inString = false
			}
			continue
		}
		switch c {
		case '"':
			inString = true
		case '[', '{':
			depth++
		case ']', '}':
			depth--
			if depth > 0 {
				continue
			}
			last := bytes.TrimSpace(data[start:i])
			if rest := bytes.TrimSpace(data[i+1:]); len(rest) > 0 {
				return nil, badRequest("Something follows the array, at byte %d. Nothing was taken.", i+1)
			}
			if c != ']' {
				return nil, badRequest("The array ends with } at byte %d. Nothing was taken.", i)
			}
			if len(last) > 0 || len(out) > 0 {
				out = append(out, last)
			}
			return out, nil
		case ',':
			if depth == 1 {
				out = append(out, bytes.TrimSpace(data[start:i]))
				start = i + 1
				if len(out) > maxPosted {
					return out, nil // take refuses the request as a whole
				}
			}
		}
	}
	return nil, badRequest("The array is not closed: the body ends in the middle of it. Nothing was taken.")
}
