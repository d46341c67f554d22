package verify

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

const (
	protobuf     = "application/x-protobuf"
	cursorHeader = "Wellhead-Cursor"
	// leastPage is the smallest page that a slow server is asked for.
	leastPage = 100
)

// errRefused means that the wire's decoder does not take a stored reading. JSON can say it.
var errRefused = errors.New("a stored reading is not valid")

// pages hands on a device's stored readings between two event times, page by page.
type pages struct {
	client      *Client
	path        string
	first, last int64
	cursor      string
	ended       bool // no page follows
	plain       bool // ask for JSON only
	limit       int  // readings of a page: fewer when the server has taken too long for more; 0 = pageSize
	page        []messages.Reading
	at          int
	decoder     messages.Decoder
}

// next returns the next reading, valid until the one after it; nil after the last.
func (p *pages) next(ctx context.Context) (*messages.Reading, error) {
	for p.at == len(p.page) {
		if p.ended {
			return nil, nil
		}
		if err := p.load(ctx); err != nil {
			return nil, err
		}
	}
	p.at++
	return &p.page[p.at-1], nil
}

func (p *pages) load(ctx context.Context) error {
	accept := protobuf + ", application/json;q=0.5"
	if p.plain {
		accept = "application/json"
	}
	limit := cmp.Or(p.limit, pageSize)
	body, header, err := p.client.get(ctx, p.path, span(p.first, p.last, p.cursor, limit), accept, limit > leastPage)
	if errors.Is(err, errSlow) && limit > leastPage {
		p.limit = max(limit/4, leastPage)
		return p.load(ctx)
	}
	if errors.Is(err, errNotFound) {
		p.page, p.at, p.ended = p.page[:0], 0, true // a device that is not known has no readings
		return nil
	}
	if err != nil {
		return err
	}
	p.page, p.at, p.limit = p.page[:0], 0, min(2*limit, pageSize)
	p.decoder.Reset()
	if strings.HasPrefix(header.Get("Content-Type"), protobuf) {
		err = p.readBatches(body)
		if errors.Is(err, errRefused) && !p.plain {
			p.plain, p.page = true, p.page[:0]
			return p.load(ctx)
		}
		p.cursor = header.Get(cursorHeader)
	} else {
		p.cursor, err = p.readJSON(body)
	}
	if err != nil {
		return fmt.Errorf("answer to %s: %w", p.path, err)
	}
	p.ended = p.cursor == ""
	return nil
}

// readBatches reads batches of the wire, each with its length before it. The readings refer to body and to
// the decoder's memory.
func (p *pages) readBatches(body []byte) error {
	var batch messages.Batch
	for len(body) > 0 {
		size, n := binary.Uvarint(body)
		if n <= 0 || size > uint64(len(body)-n) {
			return errors.New("a batch is cut off")
		}
		if err := p.decoder.Message(messages.TypeProtobuf, messages.ShardSubject{Kind: messages.KindBatch}, body[n:n+int(size)], &batch); err != nil {
			return err
		}
		if refused := p.decoder.Refused(); len(refused) > 0 {
			return fmt.Errorf("%w: %s", errRefused, refused[0].Reason)
		}
		for _, block := range batch.Blocks {
			p.page = append(p.page, block.Readings...)
		}
		body = body[n+int(size):]
	}
	return nil
}

// jsonReading is a reading in a JSON answer.
type jsonReading struct {
	Time     time.Time  `json:"time"`
	Values   []*float64 `json:"values"`
	Quality  []uint8    `json:"quality"`
	Note     string     `json:"note"`
	Sequence uint64     `json:"sequence"`
}

func (j *jsonReading) reading() messages.Reading {
	r := messages.Reading{Time: j.Time.UnixMilli(), Note: j.Note, Values: make([]float64, len(j.Values)), Quality: j.Quality}
	for i, v := range j.Values {
		r.Values[i] = messages.Omitted()
		if v != nil {
			r.Values[i] = *v
		}
	}
	return r
}

func (p *pages) readJSON(body []byte) (cursor string, err error) {
	var answer struct {
		Readings []jsonReading `json:"readings"`
		Cursor   string        `json:"cursor"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", err
	}
	for i := range answer.Readings {
		p.page = append(p.page, answer.Readings[i].reading())
	}
	return answer.Cursor, nil
}
