package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// ErrUnreachable means that the server did not answer, or not now.
var ErrUnreachable = errors.New("cannot be reached")

// errNotFound means that the server knows no such device.
var errNotFound = errors.New("not found")

// errSilent ends an answer that is read as it comes.
var errSilent = fmt.Errorf("nothing came for %v", answerWithin)

const (
	// patience is how long one question is asked again when the server says "not now" or breaks off.
	patience = 30 * time.Second
	// answerWithin bounds one question with its whole answer.
	answerWithin = 60 * time.Second
	// maxAnswer bounds an answer: 10 000 readings of 64 channels in JSON are 16 MB.
	maxAnswer = 64 << 20
	// maxProblem bounds an answer that says what went wrong.
	maxProblem = 1 << 20
)

// Client asks a server's HTTP face. It may be used by many goroutines at once.
type Client struct {
	base string
	http *http.Client
}

// NewClient returns a client for a server such as http://127.0.0.1:8080. Close it afterwards.
func NewClient(server string) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q is not an address like http://127.0.0.1:8080", server)
	}
	return &Client{
		base: strings.TrimSuffix(u.String(), "/"),
		http: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: answerWithin,
			DialContext: (&net.Dialer{Timeout: answerWithin}).DialContext,
		}},
	}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Reach finds out whether there is a server at all, without patience.
func (c *Client) Reach(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/livez", nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%s %w: %w", c.base, ErrUnreachable, err)
	}
	return response.Body.Close()
}

// Stream asks for a path below /api/v1 whose answer is read as it comes. The reader, which must be closed,
// fails when nothing comes for as long as one question may take.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, accept string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var body io.ReadCloser
	err := c.again(ctx, func() (later bool, err error) {
		body, _, later, err = c.open(ctx, c.address(path, query), accept)
		return later, err
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	silent := time.AfterFunc(answerWithin, func() { cancel(errSilent) })
	return &streamed{ctx: ctx, body: body, silent: silent, cancel: cancel}, nil
}

// streamed is an answer that is read as it comes.
type streamed struct {
	ctx    context.Context // of the question
	body   io.ReadCloser
	silent *time.Timer // ends it
	cancel context.CancelCauseFunc
}

func (s *streamed) Read(p []byte) (int, error) {
	s.silent.Reset(answerWithin)
	n, err := s.body.Read(p)
	s.silent.Stop()
	if err != nil && err != io.EOF && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return n, err
}

func (s *streamed) Close() error {
	s.silent.Stop()
	s.cancel(nil)
	return s.body.Close()
}

// Get asks for a path below /api/v1 and decodes the JSON answer into v.
func (c *Client) Get(ctx context.Context, path string, query url.Values, v any) error {
	body, _, err := c.get(ctx, path, query, "application/json", false)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	return nil
}

// IsNotFound tells whether a server answered that there is no such thing.
func IsNotFound(err error) bool { return errors.Is(err, errNotFound) }

// errSlow means that the server had no answer in its time for one question. A smaller one may have one.
var errSlow = errors.New("the server takes too long")

// get asks, again and again within patience while the server says that it cannot answer now. With
// smaller the caller would rather ask for less than again: errSlow comes at once.
func (c *Client) get(ctx context.Context, path string, query url.Values, accept string, smaller bool) (body []byte, header http.Header, err error) {
	err = c.again(ctx, func() (later bool, err error) {
		body, header, later, err = c.once(ctx, c.address(path, query), accept)
		return later && (!smaller || !errors.Is(err, errSlow)), err
	})
	return body, header, err
}

func (c *Client) address(path string, query url.Values) string {
	address := c.base + "/api/v1" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

// again asks within patience until the answer is good, or no other may be hoped for.
func (c *Client) again(ctx context.Context, ask func() (later bool, err error)) error {
	deadline := time.Now().Add(patience)
	pause := 50 * time.Millisecond
	for {
		later, err := ask()
		if err == nil || !later || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// once asks once, for the whole answer; later: it is worth asking again.
func (c *Client) once(ctx context.Context, address, accept string) (body []byte, header http.Header, later bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stream, header, later, err := c.open(ctx, address, accept)
	if err != nil {
		return nil, nil, later, err
	}
	defer stream.Close()
	body, err = io.ReadAll(io.LimitReader(stream, maxAnswer+1))
	if err != nil {
		return nil, nil, true, fmt.Errorf("%s %w: the answer broke off: %w", c.base, ErrUnreachable, err)
	}
	if len(body) > maxAnswer {
		return nil, nil, false, fmt.Errorf("%s: the answer is larger than %d bytes", address, maxAnswer)
	}
	return body, header, false, nil
}

// Send has the server do something at a path below /api/v1, and decodes the JSON answer into v unless v is
// nil. What it asks for must be harmless to do twice: when no answer comes, or "not now", it asks again within patience.
func (c *Client) Send(ctx context.Context, method, path string, query url.Values, contentType string, body []byte, v any) error {
	return c.again(ctx, func() (later bool, err error) {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, method, c.address(path, query), bytes.NewReader(body))
		if err != nil {
			return false, err
		}
		if contentType != "" {
			request.Header.Set("Content-Type", contentType)
		}
		stream, _, later, err := c.do(request)
		if err != nil {
			return later, err
		}
		defer stream.Close()
		answer, err := io.ReadAll(io.LimitReader(stream, maxAnswer))
		if err != nil {
			return true, fmt.Errorf("%s %w: the answer broke off: %w", c.base, ErrUnreachable, err)
		}
		if v == nil {
			return false, nil
		}
		if err := json.Unmarshal(answer, v); err != nil {
			return false, fmt.Errorf("answer to %s: %w", path, err)
		}
		return false, nil
	})
}

// open asks once and returns a good answer, not yet read; later: it is worth asking again.
func (c *Client) open(ctx context.Context, address, accept string) (stream io.ReadCloser, header http.Header, later bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, false, err
	}
	request.Header.Set("Accept", accept)
	return c.do(request)
}

// do is open for any request.
func (c *Client) do(request *http.Request) (stream io.ReadCloser, header http.Header, later bool, err error) {
	response, err := c.http.Do(request)
	if err != nil {
		return nil, nil, true, fmt.Errorf("%s %w: %w", c.base, ErrUnreachable, err)
	}
	if response.StatusCode < 300 {
		return response.Body, response.Header, false, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err != nil {
		return nil, nil, true, fmt.Errorf("%s %w: the answer broke off: %w", c.base, ErrUnreachable, err)
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return nil, nil, false, fmt.Errorf("%w: %s", errNotFound, problem(response, body))
	case http.StatusGatewayTimeout:
		return nil, nil, true, fmt.Errorf("%s %w: %w: %s", c.base, ErrUnreachable, errSlow, problem(response, body))
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway:
		return nil, nil, true, fmt.Errorf("%s %w: %s", c.base, ErrUnreachable, problem(response, body))
	}
	return nil, nil, false, fmt.Errorf("%s: %s", request.URL, problem(response, body))
}

// problem says what a problem document says.
func problem(response *http.Response, body []byte) string {
	var p struct {
		Title, Detail string
	}
	if json.Unmarshal(body, &p) == nil && (p.Title != "" || p.Detail != "") {
		return strings.TrimSpace(p.Title + ": " + p.Detail)
	}
	return response.Status
}

// devicePath is where a device's answers are.
func devicePath(id messages.DeviceID) string {
	return "/sites/" + url.PathEscape(id.Site) + "/devices/" + url.PathEscape(id.Device)
}

// pageSize is the most readings or rollups that the server gives at once.
const pageSize = 10_000

// span asks for event times from first to last, both included.
func span(first, last int64, cursor string, limit int) url.Values {
	q := url.Values{"from": {strconv.FormatInt(first, 10)}, "to": {strconv.FormatInt(last, 10)}, "limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return q
}
