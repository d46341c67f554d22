package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wellhead/wellhead/messages"
)

// Rejects is what the HTTP face asks of the stream of rejects.
type Rejects interface {
	// List lists rejects, oldest first.
	List(ctx context.Context, q RejectQuery) (RejectList, error)
	// Get returns one reject; ErrNotFound when there is none, or no more.
	Get(ctx context.Context, id uint64) (messages.KeptReject, error)
	// Retry publishes a reject again where it came from, with another payload unless it is nil. again: it
	// was retried before, and nothing was published. Errors: ErrNotFound; ErrOverloaded; ErrRetryBusy;
	// ErrRetryUnsure unless force; messages.ErrInvalid.
	Retry(ctx context.Context, id uint64, repaired []byte, contentType string, force bool) (done messages.RejectRetry, again bool, err error)
}

// RejectQuery chooses rejects.
type RejectQuery struct {
	Site    string // empty = all, and what no shard takes
	Reason  string // the reason in a word, or words in its sentence; empty = all
	Retried bool   // also those that were retried
	After   uint64 // only those with a higher ID
	Limit   int    // 1-1000
}

// RejectList is a page of rejects.
type RejectList struct {
	Rejects []messages.KeptReject
	Next    uint64 // ID to go on after, 0 = these are all; a page may be short, or empty, and not be the last
	Newest  uint64 // highest ID given so far
	Kept    uint64 // all that there are
	Lost    uint64 // dropped since the stream was created, because of its bounds or by hand
}

var (
	// ErrRetryBusy means that another retry of the same reject is under way.
	ErrRetryBusy = errors.New("another retry is under way")
	// ErrRetryUnsure means that nobody knows whether an earlier retry arrived.
	ErrRetryUnsure = errors.New("an earlier retry may have arrived")
)

// previewBytes is how much of a payload a list shows.
const previewBytes = 200

type rejectsInput struct {
	Site    string `query:"site" doc:"Only those of this site." example:"demo"`
	Reason  string `query:"reason" maxLength:"200" doc:"The kind of the reason, or words in its sentence." example:"undecodable"`
	Retried bool   `query:"retried" doc:"Also those that were retried."`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor  string `query:"cursor" doc:"Of the page before."`
}

type rejectsAnswer struct {
	Rejects []rejectRow `json:"rejects"`
	Cursor  string      `json:"cursor,omitempty" doc:"For the next page, which may be empty and not be the last; left out on the last."`
	Newest  uint64      `json:"newest" doc:"Highest ID given so far: what has a higher one came after this answer."`
	Kept    uint64      `json:"kept" doc:"Rejects that are kept, of all sites and with those that were retried."`
	Lost    uint64      `json:"lost" doc:"Rejects that are gone because of rejects.max-bytes, rejects.max-age, or a million newer ones."`
}

// rejectRow is a reject in a list.
type rejectRow struct {
	ID       uint64      `json:"id"`
	Arrival  instant     `json:"arrival"`
	Site     string      `json:"site,omitempty"`
	Device   string      `json:"device,omitempty"`
	Shard    *int        `json:"shard,omitempty" doc:"Left out when no shard takes the subject."`
	Sequence uint64      `json:"sequence,omitempty" doc:"Stream sequence of the message."`
	Index    int         `json:"index" doc:"Reading in the message; -1: the message as a whole. From 1000000 on: not decoded, from 2000000 on: refused by the archive."`
	Subject  string      `json:"subject" doc:"Where it was published, mapped."`
	Kind     string      `json:"kind" enum:"other,undecodable,invalid,time,wrong_shard,panic,fatal,archive,stray" doc:"The reason in a word."`
	Reason   string      `json:"reason"`
	Type     string      `json:"type,omitempty" doc:"Content type of the payload."`
	Size     int         `json:"size" doc:"Bytes of the payload."`
	Preview  string      `json:"preview" doc:"How the payload begins: text, or hexadecimal digits after 0x."`
	Retried  *retriedRow `json:"retried,omitempty"`

	Payload  *string  `json:"payload,omitempty" doc:"All of it, as text or hexadecimal digits; not in lists."`
	Encoding string   `json:"encoding,omitempty" enum:"text,hex" doc:"Of payload."`
	Decoded  *decoded `json:"decoded,omitempty" doc:"The payload as far as it can be decoded; not in lists."`
	Problem  string   `json:"problem,omitempty" doc:"Why the payload cannot be decoded."`
}

type retriedRow struct {
	At       instant `json:"at"`
	Subject  string  `json:"subject"`
	Sequence uint64  `json:"sequence,omitempty" doc:"Stream sequence that it got; left out while it is under way, and when it was broken off."`
	Repaired bool    `json:"repaired" doc:"Whether another payload was sent."`
}

type rejectInput struct {
	ID uint64 `path:"id" doc:"As a list says it." example:"17"`
}

// decoded is a payload taken apart.
type decoded struct {
	Command  *commandRow     `json:"command,omitempty"`
	Producer string          `json:"producer,omitempty"`
	Run      string          `json:"run,omitempty"`
	Batch    uint64          `json:"batch,omitempty" doc:"Producer sequence."`
	Devices  []decodedDevice `json:"devices,omitempty"`
	Refused  []string        `json:"refused,omitempty" doc:"Readings that break the rules: block and reading, from 0, and why."`
}

type commandRow struct {
	By       string             `json:"by,omitempty"`
	Settings *messages.Settings `json:"settings,omitempty"`
	Trim     *instant           `json:"trim,omitempty" doc:"Readings before this."`
	Delete   bool               `json:"delete,omitempty"`
}

type decodedDevice struct {
	Device   string  `json:"device"`
	Readings []plain `json:"readings"`
}

// plain is a reading that no stream gave a sequence.
type plain struct{ messages.Reading }

func (r plain) MarshalJSON() ([]byte, error) {
	return messages.AppendReadingJSON(nil, r.Reading), nil
}

// Schema documents plain.
func (plain) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type:     huma.TypeObject,
		Required: []string{"values"},
		Properties: map[string]*huma.Schema{
			"time":    {Type: huma.TypeString, Format: "date-time", Description: "Event time; left out when the sender left it out."},
			"values":  {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeNumber, Nullable: true}},
			"quality": {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeInteger}},
			"note":    {Type: huma.TypeString},
		},
	}
}

type retryInput struct {
	ID          uint64 `path:"id" doc:"As a list says it." example:"17"`
	Force       bool   `query:"force" doc:"Send a command although an earlier retry was broken off and may have arrived."`
	ContentType string `header:"Content-Type" doc:"Of the repaired payload: application/json or application/protobuf; any other: its first byte tells."`
	RawBody     []byte
}

type retryAnswer struct {
	ID       uint64 `json:"id"`
	Subject  string `json:"subject" doc:"Where it was published, mapped."`
	Sequence uint64 `json:"sequence" doc:"Stream sequence that it got."`
	Repaired bool   `json:"repaired" doc:"Whether another payload than the original was sent."`
	Again    bool   `json:"again" doc:"Whether it was retried before: then nothing was sent, and this says what was."`
}

// addRejects registers what shows rejects and sends them again.
func (s *server) addRejects() {
	if s.Rejects == nil {
		return
	}
	tags := []string{"rejects"}
	ask(s, huma.Operation{
		OperationID: "listRejects", Path: base + "/rejects", Summary: "What could not be decoded or applied, oldest first", Tags: tags,
		Description: "Those that were retried are left out unless you ask for them. The oldest of all go when rejects.max-bytes or rejects.max-age is reached.",
	}, "list the rejects", s.rejects)
	ask(s, huma.Operation{
		OperationID: "getReject", Path: base + "/rejects/{id}", Summary: "One reject, whole", Tags: tags,
		Description: "With its payload, and what can be decoded of it.",
	}, "read the reject", func(ctx context.Context, in *rejectInput) (*rejectRow, error) {
		r, err := s.Rejects.Get(ctx, in.ID)
		if err != nil {
			return nil, retryProblem(in.ID, err)
		}
		return wholeReject(&r), nil
	})
	payload := &huma.RequestBody{
		Description: "The repaired payload; nothing: the original.",
		Content:     map[string]*huma.MediaType{"application/json": {}, "application/protobuf": {}, "application/octet-stream": {}},
	}
	huma.Register(s.api, huma.Operation{
		OperationID: "retryReject", Method: http.MethodPost, Path: base + "/rejects/{id}/retry", Summary: "Send a reject again", Tags: tags,
		Description: "The body is the repaired payload, of at most 1 MiB; without one the original is sent again. It is published where it came from, " +
			"and gets a new place in the order of its shard. Answered when the stream has acknowledged it; it is then left out of lists. " +
			"Done twice it is sent once. A reading without a time gets the arrival time of the reject.",
		MaxBodyBytes: messages.MaxMessage, RequestBody: payload,
	}, s.retryReject)
	payload.Required = false // the library requires every raw body
}

func (s *server) retryReject(ctx context.Context, in *retryInput) (*body[retryAnswer], error) {
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Ingest)
	defer cancel()
	var repaired []byte
	contentType := ""
	if len(in.RawBody) > 0 {
		repaired = in.RawBody
		if kind, _, err := mime.ParseMediaType(in.ContentType); err == nil && (kind == messages.TypeJSON || kind == messages.TypeProtobuf) {
			contentType = kind
		}
	}
	done, again, err := s.Rejects.Retry(ctx, in.ID, repaired, contentType, in.Force)
	if err != nil {
		return nil, s.failure(ctx, "retry the reject", retryProblem(in.ID, err))
	}
	return &body[retryAnswer]{retryAnswer{ID: in.ID, Subject: done.Subject, Sequence: done.Sequence, Repaired: done.Repaired, Again: again}}, nil
}

// retryProblem says what only rejects have; other errors are returned as they are.
func retryProblem(id uint64, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, fmt.Sprintf("There is no reject %d: it never was, or it has become too old. GET %s/rejects lists those that are kept.", id, base))
	case errors.Is(err, ErrRetryBusy):
		return later(http.StatusConflict, "Another retry of this reject is under way. Ask again in some seconds.")
	case errors.Is(err, ErrRetryUnsure):
		return newProblem(http.StatusConflict, "An earlier retry was broken off, and whether it arrived cannot be told any more. "+
			"It is a command: look whether it took effect; if it did not, send it again with force=true.")
	}
	return err
}

func (s *server) rejects(ctx context.Context, in *rejectsInput) (rejectsAnswer, error) {
	out := rejectsAnswer{Rejects: []rejectRow{}}
	q := RejectQuery{Site: in.Site, Reason: in.Reason, Retried: in.Retried, Limit: in.Limit}
	if in.Site != "" {
		if err := checkSite(in.Site); err != nil {
			return out, err
		}
	}
	if in.Cursor != "" {
		var err error
		if q.After, err = strconv.ParseUint(in.Cursor, 10, 64); err != nil || q.After == math.MaxUint64 {
			return out, badRequest("cursor=%s: it is not one of an answer. Leave it out for the first page.", in.Cursor)
		}
	}
	list, err := s.Rejects.List(ctx, q)
	if err != nil {
		return out, err
	}
	out.Newest, out.Kept, out.Lost = list.Newest, list.Kept, list.Lost
	for i := range list.Rejects {
		out.Rejects = append(out.Rejects, newRejectRow(&list.Rejects[i]))
	}
	if list.Next > 0 {
		out.Cursor = strconv.FormatUint(list.Next, 10)
	}
	return out, nil
}

func newRejectRow(r *messages.KeptReject) rejectRow {
	row := rejectRow{
		ID: r.ID, Arrival: instant(r.Arrival), Site: r.Device.Site, Device: r.Device.Device,
		Sequence: r.Sequence, Index: r.Index, Subject: r.Subject, Kind: r.Kind.String(), Reason: r.Reason,
		Type: r.Type, Size: len(r.Data), Preview: preview(r.Data),
	}
	if r.Kind != messages.RejectStray {
		shard := int(r.Shard)
		row.Shard = &shard
	}
	if t := r.Retried; t != nil {
		row.Retried = &retriedRow{At: instant(t.At), Subject: t.Subject, Sequence: t.Sequence, Repaired: t.Repaired}
	}
	return row
}

// isText tells whether people can read it.
func isText(data []byte) bool {
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
		data = data[n:]
	}
	return true
}

// preview is how a payload begins.
func preview(data []byte) string {
	if !isText(data) {
		return "0x" + hex.EncodeToString(data[:min(len(data), previewBytes/2)])
	}
	if len(data) > previewBytes {
		data = data[:previewBytes]
		for !utf8.Valid(data) { // not in the middle of a character
			data = data[:len(data)-1]
		}
	}
	return string(data)
}

// wholeReject is a reject with its payload and what can be decoded of it.
func wholeReject(r *messages.KeptReject) *rejectRow {
	row := newRejectRow(r)
	var payload string
	if row.Encoding = "text"; isText(r.Data) {
		payload = string(r.Data)
	} else {
		row.Encoding, payload = "hex", hex.EncodeToString(r.Data)
	}
	row.Payload = &payload
	var err error
	if row.Decoded, err = decode(&r.Reject); err != nil {
		row.Problem = sentence(reason(err))
	}
	return &row
}

// decode takes a reject's payload apart.
func decode(r *messages.Reject) (*decoded, error) {
	subject, err := messages.ParseShardSubject(r.Subject)
	if err != nil {
		return nil, err
	}
	if r.OneReading() { // whatever it came in
		subject = messages.ShardSubject{Shard: subject.Shard, Site: subject.Site, Device: r.Device.Device, Kind: messages.KindReadings}
	}
	if subject.Kind == messages.KindControl || subject.Kind == messages.KindSiteControl {
		c, err := messages.DecodeControl(r.Type, r.Data)
		if err != nil {
			return nil, err
		}
		row := &commandRow{By: c.By, Settings: c.Settings, Delete: c.Delete}
		if c.Trim != nil {
			before := instant(c.Trim.Before)
			row.Trim = &before
		}
		return &decoded{Command: row}, nil
	}
	var dec messages.Decoder
	var b messages.Batch
	if err := dec.Message(r.Type, subject, r.Data, &b); err != nil {
		return nil, err
	}
	out := &decoded{Producer: b.Producer, Batch: b.Sequence}
	if b.Producer != "" {
		out.Run = fmt.Sprintf("%016x", b.Run)
	}
	for _, block := range b.Blocks {
		d := decodedDevice{Device: block.Device, Readings: []plain{}}
		for _, reading := range block.Readings {
			d.Readings = append(d.Readings, plain{reading})
		}
		out.Devices = append(out.Devices, d)
	}
	for _, refused := range dec.Refused() {
		out.Refused = append(out.Refused, fmt.Sprintf("block %d, reading %d: %s", refused.Block, refused.Reading, refused.Reason))
	}
	return out, nil
}
