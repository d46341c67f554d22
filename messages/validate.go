package messages

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// The event times that a reading may have: the years 1 to 9999, which is what RFC 3339 can say.
const (
	minTime int64 = -62_135_596_800_000
	maxTime int64 = 253_402_300_799_999
)

// maxWindow is the most readings that a window may be set to hold.
const maxWindow = 100_000

// CheckReading returns an error that wraps ErrInvalid unless r could be sent: a time in the years 1 to
// 9999 or NoTime, 1 to 64 finite or omitted values (none if there is a note), and a note of at most
// 1024 bytes of UTF-8.
func CheckReading(r Reading) error {
	if r.Time != NoTime {
		if err := checkRange(r.Time); err != nil {
			return err
		}
	}
	for i, v := range r.Values {
		if math.IsInf(v, 0) {
			return infinite(i)
		}
	}
	if len(r.Quality) > len(r.Values) {
		return fmt.Errorf("%w: %d quality numbers for %d values", ErrInvalid, len(r.Quality), len(r.Values))
	}
	return checkShape(len(r.Values), r.Note)
}

// checkShape checks what does not depend on single values.
func checkShape(channels int, note string) error {
	if channels > MaxChannels {
		return fmt.Errorf("%w: the reading has %d values, at most %d are allowed", ErrInvalid, channels, MaxChannels)
	}
	if channels == 0 && note == "" {
		return fmt.Errorf("%w: the reading has no values and no note", ErrInvalid)
	}
	if len(note) > MaxNote {
		return fmt.Errorf("%w: the note has %d bytes, at most %d are allowed", ErrInvalid, len(note), MaxNote)
	}
	if !utf8.ValidString(note) {
		return fmt.Errorf("%w: the note is not UTF-8", ErrInvalid)
	}
	return nil
}

func infinite(channel int) error {
	return fmt.Errorf("%w: value %d is infinite or not a number: omit it instead", ErrInvalid, channel)
}

func checkRange(t int64) error {
	if t < minTime || t > maxTime {
		return fmt.Errorf("%w: event time %d is not in the years 1 to 9999: it is milliseconds since 1970 UTC", ErrInvalid, t)
	}
	return nil
}

// CheckTime returns an error that wraps ErrInvalid when eventTime is more than maxFuture ahead of, or
// more than maxAge behind, the arrival time. All are milliseconds; a limit of 0 is no limit.
func CheckTime(eventTime, arrival, maxFuture, maxAge int64) error {
	if maxFuture > 0 && eventTime > arrival && uint64(eventTime)-uint64(arrival) > uint64(maxFuture) {
		return fmt.Errorf("%w: event time %s is %d ms ahead of its arrival at %s, more than max_future (%d ms): check the clock that set it",
			ErrInvalid, FormatTime(eventTime), uint64(eventTime)-uint64(arrival), FormatTime(arrival), maxFuture)
	}
	if maxAge > 0 && eventTime < arrival && uint64(arrival)-uint64(eventTime) > uint64(maxAge) {
		return fmt.Errorf("%w: event time %s is %d ms behind its arrival at %s, more than max_age (%d ms)",
			ErrInvalid, FormatTime(eventTime), uint64(arrival)-uint64(eventTime), FormatTime(arrival), maxAge)
	}
	return nil
}

// CheckSettings returns an error that wraps ErrInvalid unless the settings can be in force.
func CheckSettings(s Settings) error {
	if s.WindowCount < 0 || s.WindowCount > maxWindow {
		return fmt.Errorf("%w: windowCount is %d, it must be 0 (as the level above) to %d", ErrInvalid, s.WindowCount, maxWindow)
	}
	for _, age := range []struct {
		name string
		ms   int64
	}{{"windowAge", s.WindowAge}, {"expectedInterval", s.ExpectedInterval}, {"offlineAfter", s.OfflineAfter}} {
		if age.ms < 0 {
			return fmt.Errorf("%w: %s is %d ms, it must be 0 (as the level above) or more", ErrInvalid, age.name, age.ms)
		}
	}
	if len(s.Channels) > MaxChannels {
		return fmt.Errorf("%w: %d channels are named, a reading has at most %d values", ErrInvalid, len(s.Channels), MaxChannels)
	}
	if s.Retention != "" {
		if err := CheckName("retention class", s.Retention); err != nil {
			return err
		}
	}
	for i, c := range s.Channels {
		if len(c.Name) > MaxName || len(c.Unit) > MaxName {
			return fmt.Errorf("%w: name or unit of channel %d has more than %d bytes", ErrInvalid, i, MaxName)
		}
		if !utf8.ValidString(c.Name) || !utf8.ValidString(c.Unit) {
			return fmt.Errorf("%w: name or unit of channel %d is not UTF-8", ErrInvalid, i)
		}
	}
	return nil
}
