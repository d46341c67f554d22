package messages

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// FormatTime is an event time as RFC 3339 with milliseconds, UTC.
func FormatTime(t int64) string { return string(AppendTime(make([]byte, 0, 24), t)) }

// AppendTime appends what FormatTime returns, without quotes. A time outside the years 1 to 9999
// (no valid reading has one) comes out as RFC 3339 would have it with a longer or negative year.
func AppendTime(dst []byte, t int64) []byte {
	if t < minTime || t > maxTime {
		return time.UnixMilli(t).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	day, ms := t/86_400_000, int(t%86_400_000)
	if ms < 0 {
		day, ms = day-1, ms+86_400_000
	}
	year, month, date := civil(day)
	s := ms / 1000
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), month, 2)
	dst = appendDigits(append(dst, '-'), date, 2)
	dst = appendDigits(append(dst, 'T'), s/3600, 2)
	dst = appendDigits(append(dst, ':'), s/60%60, 2)
	dst = appendDigits(append(dst, ':'), s%60, 2)
	dst = appendDigits(append(dst, '.'), ms%1000, 3)
	return append(dst, 'Z')
}

func appendDigits(dst []byte, v, width int) []byte {
	switch width {
	case 4:
		dst = append(dst, byte('0'+v/1000), byte('0'+v/100%10))
	case 3:
		dst = append(dst, byte('0'+v/100))
	}
	return append(dst, byte('0'+v/10%10), byte('0'+v%10))
}

// civil returns the date of a day counted from 1970-01-01, in the Gregorian calendar. It counts years
// from 1 March, so that the leap day is a year's last, in cycles of 400 years (146 097 days).
func civil(day int64) (year, month, date int) {
	z := day + 719_468 // from 0000-03-01
	cycle := z / 146_097
	inCycle := z - cycle*146_097
	y := (inCycle - inCycle/1460 + inCycle/36_524 - inCycle/146_096) / 365
	inYear := inCycle - (365*y + y/4 - y/100)
	m := (5*inYear + 2) / 153 // 0 = March
	date = int(inYear - (153*m+2)/5 + 1)
	year, month = int(y+cycle*400), int(m+3)
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, date
}

// dayOf is the inverse of civil.
func dayOf(year, month, date int) int64 {
	y, m := int64(year), int64(month)-3
	if m < 0 {
		y, m = y-1, m+12
	}
	cycle := y / 400
	if y < 0 {
		cycle = -1 // year 0, January and February
	}
	inCycle := y - cycle*400
	inYear := (153*m+2)/5 + int64(date) - 1
	return cycle*146_097 + inCycle*365 + inCycle/4 - inCycle/100 + inYear - 719_468
}

// ParseTime reads an event time: RFC 3339, or Unix milliseconds. What is finer than a millisecond is
// cut. Errors wrap ErrInvalid.
func ParseTime(s string) (int64, error) {
	if len(s) > 5 && s[4] == '-' {
		return parseRFC3339(s)
	}
	return parseMillis(s)
}

func parseMillis(s string) (int64, error) {
	t, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || !(math.Abs(f) < 1<<53) || strings.ContainsAny(s, "xXpP_") {
			return 0, fmt.Errorf("%w: time %q is neither RFC 3339 (2026-01-02T03:04:05.678Z) nor Unix milliseconds", ErrInvalid, s)
		}
		t = int64(math.Floor(f))
	}
	return t, checkRange(t)
}

// parseRFC3339 reads a time such as 2026-01-02T03:04:05.678+01:00. Instead of T there may be a space,
// as RFC 3339 allows.
func parseRFC3339(s string) (int64, error) {
	year, ok0 := digits(s, 0, 4)
	month, ok1 := digits(s, 5, 2)
	date, ok2 := digits(s, 8, 2)
	hour, ok3 := digits(s, 11, 2)
	minute, ok4 := digits(s, 14, 2)
	second, ok5 := digits(s, 17, 2)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' ||
		(s[10] != 'T' && s[10] != 't' && s[10] != ' ') {
		return 0, badTime(s, "it must look like 2026-01-02T03:04:05.678Z")
	}
	if month < 1 || month > 12 || date < 1 || date > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, badTime(s, "there is no such date or time of day")
	}
	t := dayOf(year, month, date)*86_400_000 + int64(hour*3600+minute*60+second)*1000
	rest := s[19:]
	if rest != "" && rest[0] == '.' {
		n := 1
		for ; n < len(rest) && rest[n]-'0' < 10; n++ {
			if n <= 3 {
				t += int64(rest[n]-'0') * [...]int64{100, 10, 1}[n-1]
			}
		}
		if n == 1 {
			return 0, badTime(s, "there are no digits after the point")
		}
		rest = rest[n:]
	}
	if rest == "Z" || rest == "z" {
		return t, checkRange(t)
	}
	offsetHour, ok1 := digits(rest, 1, 2)
	offsetMinute, ok2 := digits(rest, 4, 2)
	if len(rest) != 6 || !ok1 || !ok2 || (rest[0] != '+' && rest[0] != '-') || rest[3] != ':' || offsetHour > 23 || offsetMinute > 59 {
		return 0, badTime(s, "it must end in Z or an offset such as +01:00")
	}
	offset := int64(offsetHour*60+offsetMinute) * 60_000
	if rest[0] == '+' {
		offset = -offset
	}
	return t + offset, checkRange(t + offset)
}

func badTime(s, why string) error {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return fmt.Errorf("%w: time %q: %s", ErrInvalid, s, why)
}

// digits reads the n digits of s that begin at i.
func digits(s string, i, n int) (int, bool) {
	if len(s) < i+n {
		return 0, false
	}
	v := 0
	for _, c := range []byte(s[i : i+n]) {
		if c -= '0'; c > 9 {
			return 0, false
		}
		v = v*10 + int(c)
	}
	return v, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
