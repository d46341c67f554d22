package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func anySettings(t *rapid.T) *Settings {
	age := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, math.MaxInt64))
	s := &Settings{
		WindowCount: rapid.IntRange(0, maxWindow).Draw(t, "count"), WindowAge: age.Draw(t, "age"),
		ExpectedInterval: age.Draw(t, "interval"), OfflineAfter: age.Draw(t, "offline"),
	}
	for range rapid.OneOf(rapid.IntRange(0, 3), rapid.Just(MaxChannels)).Draw(t, "channels") {
		s.Channels = append(s.Channels, Channel{Name: rapid.StringN(0, 10, MaxName).Draw(t, "name"), Unit: rapid.SampledFrom([]string{"", "°C", "m³/h"}).Draw(t, "unit")})
	}
	return s
}

func anyControl(t *rapid.T) Control {
	c := Control{By: rapid.StringN(0, 20, 80).Draw(t, "by")}
	switch rapid.IntRange(0, 2).Draw(t, "command") {
	case 0:
		c.Settings = anySettings(t)
	case 1:
		c.Trim = &Trim{Before: anyTime.Draw(t, "before")}
	case 2:
		c.Delete = true
	}
	return c
}

func TestControlRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyControl(t)
		got, err := DecodeControl("", AppendControl(nil, want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("error %v (-want +got):\n%s", err, diff)
		}
		in := map[string]any{"by": want.By}
		switch {
		case want.Settings != nil:
			in["settings"] = want.Settings
		case want.Trim != nil:
			in["trim"] = map[string]any{"before": FormatTime(want.Trim.Before)}
		case want.Delete:
			in["delete"] = struct{}{}
		}
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err = DecodeControl(TypeJSON, data)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%s: error %v (-want +got):\n%s", data, err, diff)
		}
	})
}

func TestControlJSON(t *testing.T) {
	for data, want := range map[string]Control{
		`{"by":"ann","settings":{"windowCount":100}}`: {By: "ann", Settings: &Settings{WindowCount: 100}},
		`{"settings":{}}`:                   {Settings: &Settings{}},
		`{"trim":{"before":1767323045678}}`: {Trim: &Trim{Before: 1767323045678}},
		`{"trim":{}}`:                       {Trim: &Trim{}},
		`{"delete":{},"trim":null}`:         {Delete: true},
	} {
		got, err := DecodeControl("", []byte(data))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: error %v (-want +got):\n%s", data, err, diff)
		}
	}
}

func TestControlIsRefused(t *testing.T) {
	for data, want := range map[string]string{
		"":                                 "1 to 1048576 bytes",
		`{}`:                               "exactly one",
		`{"delete":{},"trim":{}}`:          "not 2",
		`{"delete":{}}{}`:                  "more than one JSON value",
		`{"remove":{}}`:                    "remove",
		`{"settings":{"window":1}}`:        "window",
		`{"settings":{"windowCount":-1}}`:  "windowCount is -1",
		`{"settings":{"windowCount":1e9}}`: "windowCount",
		`{"settings":{"windowAge":-5}}`:    "windowAge is -5 ms",
		`{"trim":{"before":"yesterday"}}`:  "RFC 3339",
		`[]`:                               "command",
		"hello":                            "nor JSON",
		string(AppendControl(nil, Control{Settings: &Settings{Channels: make([]Channel, MaxChannels+1)}})): "channels",
		string(AppendControl(nil, Control{Settings: &Settings{ExpectedInterval: -1}})):                     "expectedInterval",
		string(AppendControl(nil, Control{By: strings.Repeat("x", MaxNote+1), Delete: true})):              "who asked",
		string(wire{}.varint(1, 2).bytes(5, nil)):                                                          "version 2",
		string(wire{}.varint(2, 2)): "not 0",
		string(wire{0x1a, 0x05}):    "field 3",
	} {
		got, err := DecodeControl("", []byte(data))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, error %v, want one about %q that wraps ErrInvalid", data, got, err, want)
		}
	}
}

func TestControlMergesAsProtobufSays(t *testing.T) {
	data := wire{}.bytes(4, wire{}.varint(1, 5)).bytes(3, wire{}.varint(1, 7)).bytes(3, wire{}.varint(2, 9)).double(9, 1).bytes(99, []byte("x"))
	got, err := DecodeControl(TypeProtobuf, data)
	want := Control{Settings: &Settings{WindowCount: 7, WindowAge: 9}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestCheckReading(t *testing.T) {
	for name, r := range map[string]Reading{
		"values": {Time: 1, Values: []float64{1, Omitted()}}, "note": {Time: NoTime, Note: "n"},
		"oldest": {Time: minTime, Values: []float64{1}}, "64 values": {Time: maxTime, Values: make([]float64, MaxChannels)},
	} {
		if err := CheckReading(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]Reading{
		"nothing": {Time: 1}, "infinity": {Values: []float64{1, math.Inf(1)}}, "65 values": {Values: make([]float64, MaxChannels+1)},
		"too old": {Time: minTime - 1, Note: "n"}, "too new": {Time: maxTime + 1, Note: "n"}, "long note": {Note: strings.Repeat("x", MaxNote+1)},
		"not UTF-8": {Note: "\xff"}, "quality of nothing": {Note: "n", Quality: []uint8{1}},
	} {
		if err := CheckReading(r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error = %v, want one that wraps ErrInvalid", name, err)
		}
	}
}

func TestCheckTime(t *testing.T) {
	const now = 1_000_000
	tests := []struct {
		event, future, age int64
		ok                 bool
	}{
		{now, 1, 1, true},
		{now + 10, 10, 0, true},
		{now + 11, 10, 0, false},
		{now + 1e9, 0, 10, true},
		{now - 10, 0, 10, true},
		{now - 11, 0, 10, false},
		{minTime, 10, 0, true},
		{maxTime, 10, 10, false},
		{math.MaxInt64, math.MaxInt64, 0, true},
		{math.MinInt64 + 1, 0, math.MaxInt64 - 1, false},
	}
	for _, test := range tests {
		err := CheckTime(test.event, now, test.future, test.age)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("CheckTime(%d, %d, %d, %d) = %v, want ok %v", test.event, now, test.future, test.age, err, test.ok)
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add("", []byte(`{"by":"ann","settings":{"windowCount":100,"channels":[{"name":"p","unit":"bar"}]}}`))
	f.Add("", []byte(`{"trim":{"before":"2026-01-02T03:04:05Z"}}`))
	f.Add("", AppendControl(nil, Control{By: "ann", Settings: &Settings{WindowCount: 5, Channels: []Channel{{Name: "p"}, {}}}}))
	f.Add(TypeProtobuf, AppendControl(nil, Control{Delete: true}))
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		c, err := DecodeControl(contentType, data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		again, err := DecodeControl(TypeProtobuf, AppendControl(nil, c))
		if diff := cmp.Diff(c, again, same); err != nil || diff != "" {
			t.Fatalf("error %v, after another round (-want +got):\n%s", err, diff)
		}
	})
}
