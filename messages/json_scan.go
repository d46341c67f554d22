package messages

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// powers are those of ten that float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number scans a number; bad says that float64 cannot hold it. Of at most 15 digits, and without an
// exponent, it is exact to divide the digits by a power of ten (both are exact, so the quotient is
// rounded once); strconv does the rest.
func (s *scanner) number() (v float64, bad, err error) {
	p, from := s.data, s.at
	i := from
	if i < len(p) && p[i] == '-' {
		i++
	}
	first, digits := i, uint64(0)
	for ; i < len(p) && p[i]-'0' < 10; i++ {
		digits = digits*10 + uint64(p[i]-'0')
	}
	whole := i - first
	if whole == 0 || whole > 1 && p[first] == '0' {
		return 0, nil, s.unexpected("a number or null")
	}
	decimals, simple := 0, true
	if i < len(p) && p[i] == '.' {
		point := i
		for i++; i < len(p) && p[i]-'0' < 10; i++ {
			digits = digits*10 + uint64(p[i]-'0')
		}
		if decimals = i - point - 1; decimals == 0 {
			s.at = i
			return 0, nil, s.unexpected("a digit after the point")
		}
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		simple = false
		if i++; i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		exponent := i
		for i < len(p) && p[i]-'0' < 10 {
			i++
		}
		if i == exponent {
			s.at = i
			return 0, nil, s.unexpected("a digit in the exponent")
		}
	}
	s.at = i
	if simple && whole+decimals <= 15 {
		v = float64(digits) / powers[decimals]
		if p[from] == '-' {
			v = -v
		}
		return v, nil, nil
	}
	v, parseErr := strconv.ParseFloat(text(p[from:i]), 64)
	if parseErr != nil {
		return 0, fmt.Errorf("%w: number %s at byte %d is too large for a float64", ErrInvalid, cut(p[from:i]), from), nil
	}
	return v, nil, nil
}

// text scans a string. Without escapes it shares the memory of the data.
func (s *scanner) text() (string, error) {
	from := s.at + 1
	for i := from; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.at = i + 1
			return text(s.data[from:i]), nil
		case c == '\\':
			return s.escaped(from, i)
		case c < ' ':
			return "", s.complain(i, "a control character inside quotes: write it as an escape such as \\n")
		}
	}
	return "", s.complain(from-1, "quotes that are not closed")
}

// escaped goes on with a string whose first escape is at i.
func (s *scanner) escaped(from, i int) (string, error) {
	b := append(make([]byte, 0, 2*(i-from)+32), s.data[from:i]...)
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			s.at = i + 1
			return text(b), nil
		case c < ' ':
			return "", s.complain(i, "a control character inside quotes: write it as an escape such as \\n")
		case c != '\\':
			b = append(b, c)
			i++
			continue
		}
		if i+1 == len(s.data) {
			break
		}
		switch e := s.data[i+1]; e {
		case '"', '\\', '/':
			b = append(b, e)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, n := s.unicode(i)
			if n == 0 {
				return "", s.complain(i, `an escape that is not \u and four hexadecimal digits`)
			}
			b = utf8.AppendRune(b, r)
			i += n
			continue
		default:
			return "", s.complain(i, "an escape that JSON does not have")
		}
		i += 2
	}
	return "", s.complain(from-1, "quotes that are not closed")
}

// unicode reads the escape at i, of two parts for what is beyond 16 bits, and returns its length; 0 if
// it is malformed. A half of two parts that stands alone becomes U+FFFD.
func (s *scanner) unicode(i int) (rune, int) {
	high, ok := s.hex(i)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(high) {
		if low, ok := s.hex(i + 6); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return high, 6
}

// hex reads \uXXXX at i.
func (s *scanner) hex(i int) (rune, bool) {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(text(s.data[i+2:i+6]), 16, 16)
	return rune(v), err == nil
}

// null takes a null if there is one.
func (s *scanner) null() bool {
	if p := s.data[s.at:]; len(p) >= 4 && string(p[:4]) == "null" {
		s.at += 4
		return true
	}
	return false
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) space() { s.at = skipSpace(s.data, s.at) }

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// end complains unless nothing but white space is left.
func (s *scanner) end() error {
	s.space()
	if s.at < len(s.data) {
		return s.unexpected("the end: one reading, or one array of them, is a message")
	}
	return nil
}

func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.data) {
		return fmt.Errorf("%w JSON at byte %d: it ends, expected %s", ErrInvalid, s.at, want)
	}
	_, n := utf8.DecodeRune(s.data[s.at:])
	return fmt.Errorf("%w JSON at byte %d: found %q, expected %s", ErrInvalid, s.at, s.data[s.at:s.at+n], want)
}

func (s *scanner) complain(at int, what string) error {
	return fmt.Errorf("%w JSON at byte %d: %s", ErrInvalid, at, what)
}
