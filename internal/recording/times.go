package recording

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// timeParser turns a field into Unix milliseconds; what is finer is cut.
type timeParser func(field string) (int64, error)

var errTime = errors.New(`cannot be read as a time: say its form with --time-format, as '%d.%m.%Y %H:%M'`)

func newTimeParser(format string, zone *time.Location) (timeParser, error) {
	switch {
	case format == "":
		return func(s string) (int64, error) { return parsePlain(s, zone) }, nil
	case format == "rfc3339":
		return func(s string) (int64, error) {
			t, err := time.Parse(time.RFC3339, s)
			return t.UnixMilli(), err
		}, nil
	case format == "unix":
		return parseUnix, nil
	case format == "unix_ms":
		return func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }, nil
	case strings.Contains(format, "%"):
		directives, err := compile(format)
		if err != nil {
			return nil, fmt.Errorf("time format %q: %w", format, err)
		}
		return func(s string) (int64, error) { return parseDirectives(s, directives, zone) }, nil
	}
	return nil, fmt.Errorf("time format %q is none of rfc3339, unix, unix_ms, nor a strftime format such as %%d.%%m.%%Y %%H:%%M", format)
}

// parseUnix reads seconds with up to any number of decimals, without the rounding of a float64.
func parseUnix(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > math.MaxInt64/1000-1 || seconds < math.MinInt64/1000+1 {
		return 0, errTime
	}
	nanos, rest, ok := readFraction(fraction)
	if fraction != "" && (!ok || rest != "") {
		return 0, errTime
	}
	ms := nanos / 1e6
	if strings.HasPrefix(s, "-") {
		// cut towards the past, as for every other form
		ms = -((nanos + 1e6 - 1) / 1e6)
	}
	return seconds*1000 + int64(ms), nil
}

// moment is a time while it is read.
type moment struct {
	year, month, day, yearDay  int
	hour, minute, second, nano int
	afternoon, twelve          bool
	offset                     int // seconds east
	zoned                      bool
}

// milli turns it into Unix milliseconds.
func (m *moment) milli(zone *time.Location) (int64, error) {
	if m.yearDay > 0 {
		m.month, m.day = 1, m.yearDay
	}
	if m.twelve {
		if m.hour < 1 || m.hour > 12 {
			return 0, errTime
		}
		m.hour %= 12
		if m.afternoon {
			m.hour += 12
		}
	}
	if m.month < 1 || m.month > 12 || m.hour > 23 || m.minute > 59 || m.second > 60 {
		return 0, errTime
	}
	if m.zoned {
		zone = time.UTC
	}
	t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.second, m.nano, zone)
	if m.yearDay == 0 && (m.day < 1 || m.day > 28) {
		last := time.Date(m.year, time.Month(m.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
		if m.day < 1 || m.day > last {
			return 0, errTime
		}
	}
	return t.UnixMilli() - int64(m.offset)*1000, nil
}

// parsePlain reads 2006-01-02 15:04[:05[.9…]][zone], with a space or a T between.
func parsePlain(s string, zone *time.Location) (int64, error) {
	var m moment
	var ok bool
	next := func(n *int, digits int, after byte) bool {
		if *n, s, ok = readNumber(s, digits, digits); !ok {
			return false
		}
		if after == 0 {
			return true
		}
		if s == "" || s[0] != after && (after != ' ' || s[0] != 'T') {
			return false
		}
		s = s[1:]
		return true
	}
	if !next(&m.year, 4, '-') || !next(&m.month, 2, '-') || !next(&m.day, 2, ' ') || !next(&m.hour, 2, ':') || !next(&m.minute, 2, 0) {
		return 0, errTime
	}
	if strings.HasPrefix(s, ":") {
		s = s[1:]
		if !next(&m.second, 2, 0) {
			return 0, errTime
		}
		if strings.HasPrefix(s, ".") {
			if m.nano, s, ok = readFraction(s[1:]); !ok {
				return 0, errTime
			}
		}
	}
	if s != "" {
		if m.offset, s, ok = readZone(s); !ok || s != "" {
			return 0, errTime
		}
		m.zoned = true
	}
	return m.milli(zone)
}

func readNumber(s string, least, most int) (n int, rest string, ok bool) {
	i := 0
	for i < len(s) && i < most && s[i] >= '0' && s[i] <= '9' {
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, s[i:], i >= least
}

// readFraction reads the decimals of a second as nanoseconds; finer ones are cut.
func readFraction(s string) (nanos int, rest string, ok bool) {
	i, unit := 0, 100_000_000
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		nanos += int(s[i]-'0') * unit
		unit /= 10
		i++
	}
	return nanos, s[i:], i > 0
}

// readZone reads Z, +01:00, +0100 or +01, also after a space, as seconds east.
func readZone(s string) (offset int, rest string, ok bool) {
	s = strings.TrimPrefix(s, " ")
	if strings.HasPrefix(s, "Z") {
		return 0, s[1:], true
	}
	if s == "" || s[0] != '+' && s[0] != '-' {
		return 0, s, false
	}
	sign := 1
	if s[0] == '-' {
		sign = -1
	}
	hours, s, ok := readNumber(s[1:], 2, 2)
	if !ok || hours > 23 {
		return 0, s, false
	}
	minutes := 0
	if s != "" {
		minutes, s, ok = readNumber(strings.TrimPrefix(s, ":"), 2, 2)
		if !ok || minutes > 59 {
			return 0, s, false
		}
	}
	return sign * (hours*3600 + minutes*60), s, true
}

// directive is one piece of a strftime format: a literal, or what follows a %.
type directive struct {
	kind    byte // 0 = literal
	literal string
}

var months = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}

func compile(format string) ([]directive, error) {
	format = strings.NewReplacer("%%", "%%", "%T", "%H:%M:%S", "%F", "%Y-%m-%d", "%R", "%H:%M", "%D", "%m/%d/%y").Replace(format)
	var list []directive
	for format != "" {
		literal, rest, found := strings.Cut(format, "%")
		if literal != "" {
			list = append(list, directive{literal: literal})
		}
		if !found {
			break
		}
		// %-d and %e are what some write for a number without a leading zero
		rest = strings.TrimPrefix(rest, "-")
		if rest == "" {
			return nil, errors.New("ends with %")
		}
		switch kind := rest[0]; {
		case kind == '%':
			list = append(list, directive{literal: "%"})
		case strings.IndexByte("YymdeHIMSfzZpbBhjk", kind) >= 0:
			list = append(list, directive{kind: kind})
		default:
			return nil, fmt.Errorf("%%%c is not known here; known are %%Y %%y %%m %%b %%d %%j %%H %%I %%p %%M %%S %%f %%z %%F %%T %%R %%D", kind)
		}
		format = rest[1:]
	}
	return list, nil
}

func parseDirectives(s string, list []directive, zone *time.Location) (int64, error) {
	m := moment{month: 1, day: 1}
	for _, d := range list {
		var ok bool
		if s, ok = m.read(s, d); !ok {
			return 0, errTime
		}
	}
	if s != "" {
		return 0, errTime
	}
	return m.milli(zone)
}

func (m *moment) read(s string, d directive) (rest string, ok bool) {
	switch d.kind {
	case 0:
		return strings.CutPrefix(s, d.literal)
	case 'Y':
		m.year, s, ok = readNumber(s, 4, 4)
	case 'y':
		m.year, s, ok = readNumber(s, 2, 2)
		// POSIX: 69-99 are the 20th century
		if m.year += 2000; m.year >= 2069 {
			m.year -= 100
		}
	case 'm':
		m.month, s, ok = readNumber(s, 1, 2)
	case 'b', 'B', 'h':
		m.month, s, ok = readMonth(s)
	case 'd', 'e':
		m.day, s, ok = readNumber(strings.TrimPrefix(s, " "), 1, 2)
	case 'j':
		m.yearDay, s, ok = readNumber(s, 1, 3)
		ok = ok && m.yearDay >= 1 && m.yearDay <= 366
	case 'H', 'k':
		m.hour, s, ok = readNumber(strings.TrimPrefix(s, " "), 1, 2)
	case 'I':
		m.hour, s, ok = readNumber(s, 1, 2)
		m.twelve = true
	case 'p':
		ok = len(s) >= 2 && (strings.EqualFold(s[:2], "am") || strings.EqualFold(s[:2], "pm"))
		if ok {
			m.afternoon = s[0] == 'p' || s[0] == 'P'
			s = s[2:]
		}
	case 'M':
		m.minute, s, ok = readNumber(s, 1, 2)
	case 'S':
		m.second, s, ok = readNumber(s, 1, 2)
	case 'f':
		m.nano, s, ok = readFraction(s)
	case 'z', 'Z':
		m.offset, s, ok = readZone(s)
		m.zoned = true
	}
	return s, ok
}

// readMonth reads an English month, whole or its first three letters.
func readMonth(s string) (month int, rest string, ok bool) {
	for i, name := range months {
		for _, form := range []string{name, name[:3]} {
			if len(s) >= len(form) && strings.EqualFold(s[:len(form)], form) {
				return i + 1, s[len(form):], true
			}
		}
	}
	return 0, s, false
}
