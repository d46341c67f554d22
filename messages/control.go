package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of Control and what is in it, in wellhead.proto.
const (
	controlVersion, controlBy, controlSettings, controlTrim, controlDelete = 1, 2, 3, 4, 5

	settingsCount, settingsAge, settingsInterval, settingsOffline, settingsChannels, settingsRetention = 1, 2, 3, 4, 5, 6

	channelName, channelUnit = 1, 2

	trimBefore = 1
)

// AppendControl appends c as protobuf. It does not check it: see CheckControl.
func AppendControl(dst []byte, c Control) []byte {
	if c.By != "" {
		dst = appendText(dst, controlBy, c.By)
	}
	switch {
	case c.Settings != nil:
		dst = appendBytes(dst, controlSettings, appendSettings(nil, c.Settings))
	case c.Trim != nil:
		dst = appendBytes(dst, controlTrim, appendNumber(nil, trimBefore, c.Trim.Before))
	case c.Delete:
		dst = appendBytes(dst, controlDelete, nil)
	}
	return dst
}

func appendSettings(dst []byte, s *Settings) []byte {
	dst = appendNumber(dst, settingsCount, int64(s.WindowCount))
	dst = appendNumber(dst, settingsAge, s.WindowAge)
	dst = appendNumber(dst, settingsInterval, s.ExpectedInterval)
	dst = appendNumber(dst, settingsOffline, s.OfflineAfter)
	for _, c := range s.Channels {
		var channel []byte
		if c.Name != "" {
			channel = appendText(channel, channelName, c.Name)
		}
		if c.Unit != "" {
			channel = appendText(channel, channelUnit, c.Unit)
		}
		dst = appendBytes(dst, settingsChannels, channel)
	}
	if s.Retention != "" {
		dst = appendText(dst, settingsRetention, s.Retention)
	}
	return dst
}

func appendNumber(dst []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(v))
}

func appendText(dst []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

// DecodeControl decodes a command from protobuf, or from JSON such as
// {"by":"ann","settings":{"windowCount":100}}, {"trim":{"before":"2026-01-02T03:04:05Z"}} or
// {"delete":{}}; content type and first byte tell them apart as for readings. Nothing of what it
// returns shares data's memory. Errors wrap ErrInvalid.
func DecodeControl(contentType string, data []byte) (Control, error) {
	if len(data) == 0 || len(data) > MaxMessage {
		return Control{}, fmt.Errorf("%w: a command has 1 to %d bytes, this one %d", ErrInvalid, MaxMessage, len(data))
	}
	var c Control
	var err error
	if isJSON(contentType, data) {
		c, err = controlFromJSON(data)
	} else {
		c, err = controlFromProtobuf(data)
	}
	if err == nil {
		err = CheckControl(c)
	}
	if err != nil {
		return Control{}, err
	}
	return c, nil
}

// CheckControl returns an error that wraps ErrInvalid unless c is exactly one command that can be carried out.
func CheckControl(c Control) error {
	commands := 0
	for _, is := range []bool{c.Settings != nil, c.Trim != nil, c.Delete} {
		if is {
			commands++
		}
	}
	if commands != 1 {
		return fmt.Errorf("%w: a command is exactly one of settings, trim and delete, not %d of them", ErrInvalid, commands)
	}
	if len(c.By) > MaxNote || !utf8.ValidString(c.By) {
		return fmt.Errorf("%w: who asked (by) must be UTF-8 of at most %d bytes", ErrInvalid, MaxNote)
	}
	if c.Settings != nil {
		return CheckSettings(*c.Settings)
	}
	return nil
}

// controlJSON is Control as it is written in JSON.
type controlJSON struct {
	By       string    `json:"by"`
	Settings *Settings `json:"settings"`
	Trim     *struct {
		Before timeJSON `json:"before"`
	} `json:"trim"`
	Delete *struct{} `json:"delete"`
}

// timeJSON is a time as RFC 3339 or Unix milliseconds.
type timeJSON int64

func (t *timeJSON) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	v, err := ParseTime(strings.Trim(string(data), `"`))
	*t = timeJSON(v)
	return err
}

func controlFromJSON(data []byte) (Control, error) {
	var in controlJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&in)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	switch {
	case errors.Is(err, ErrInvalid):
		return Control{}, err
	case err != nil:
		return Control{}, fmt.Errorf("%w: command: %s", ErrInvalid, err)
	}
	c := Control{By: in.By, Settings: in.Settings, Delete: in.Delete != nil}
	if in.Trim != nil {
		c.Trim = &Trim{Before: int64(in.Trim.Before)}
	}
	return c, nil
}

func controlFromProtobuf(data []byte) (c Control, err error) {
	err = eachField(data, func(field protowire.Number, v uint64, p []byte) error {
		switch {
		case field == controlVersion && p == nil:
			if uint32(v) > 1 {
				return fmt.Errorf("%w: the command has schema version %d, known are up to 1: a newer Wellhead is needed here", ErrInvalid, uint32(v))
			}
		case p == nil:
		case field == controlBy:
			c.By = string(p)
		case field == controlSettings:
			// one command: in a oneof the last of different ones counts, several of one kind are merged
			if c.Settings == nil {
				c = Control{By: c.By, Settings: &Settings{}}
			}
			return c.Settings.decode(p)
		case field == controlTrim:
			if c.Trim == nil {
				c = Control{By: c.By, Trim: &Trim{}}
			}
			return eachField(p, func(field protowire.Number, v uint64, p []byte) error {
				if field == trimBefore && p == nil {
					c.Trim.Before = int64(v)
				}
				return nil
			})
		case field == controlDelete:
			c = Control{By: c.By, Delete: true}
			return eachField(p, func(protowire.Number, uint64, []byte) error { return nil })
		}
		return nil
	})
	return c, err
}

func (s *Settings) decode(data []byte) error {
	return eachField(data, func(field protowire.Number, v uint64, p []byte) error {
		switch {
		case field == settingsChannels && p != nil:
			var c Channel
			err := eachField(p, func(field protowire.Number, _ uint64, p []byte) error {
				switch {
				case p == nil:
				case field == channelName:
					c.Name = string(p)
				case field == channelUnit:
					c.Unit = string(p)
				}
				return nil
			})
			if len(s.Channels) > MaxChannels {
				return CheckSettings(*s)
			}
			s.Channels = append(s.Channels, c)
			return err
		case field == settingsRetention && p != nil:
			s.Retention = string(p)
		case p != nil:
		case field == settingsCount:
			s.WindowCount = int(uint32(v))
		case field == settingsAge:
			s.WindowAge = int64(v)
		case field == settingsInterval:
			s.ExpectedInterval = int64(v)
		case field == settingsOffline:
			s.OfflineAfter = int64(v)
		}
		return nil
	})
}

// eachField calls fn for each varint field (p is nil then) and each field of bytes (p is not nil), and skips others.
func eachField(data []byte, fn func(field protowire.Number, v uint64, p []byte) error) error {
	for i := 0; i < len(data); {
		number, kind, n := protowire.ConsumeTag(data[i:])
		if n < 0 || !number.IsValid() {
			return fmt.Errorf("%w: not a Control of wellhead.proto, nor JSON: malformed at byte %d", ErrInvalid, i)
		}
		at := i + n
		var err error
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(data[at:]); n >= 0 {
				err = fn(number, v, nil)
			}
		case protowire.BytesType:
			var p []byte
			if p, n = protowire.ConsumeBytes(data[at:]); n >= 0 {
				if p == nil {
					p = []byte{}
				}
				err = fn(number, 0, p)
			}
		default:
			n = protowire.ConsumeFieldValue(number, kind, data[at:])
		}
		if n < 0 {
			return fmt.Errorf("%w: not a Control of wellhead.proto, nor JSON: field %d is malformed at byte %d", ErrInvalid, number, at)
		}
		if err != nil {
			return err
		}
		i = at + n
	}
	return nil
}
