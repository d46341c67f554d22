package messages

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendReadingJSON appends r as JSON that Decoder.JSON reads back: time (left out if NoTime), values,
// quality and note (left out if they say nothing). An infinity, which no valid reading has, becomes null.
func AppendReadingJSON(dst []byte, r Reading) []byte {
	dst = appendHead(dst, &r)
	if r.Note != "" {
		dst = append(dst, `,"note":`...)
		dst = AppendText(dst, r.Note)
	}
	return append(dst, '}')
}

// AppendSampleJSON appends s as {"time":"2026-01-02T03:04:05.678Z","values":[1.5,null],"note":"","sequence":7}.
// Quality follows the values when it is not all good.
func AppendSampleJSON(dst []byte, s Sample) []byte {
	dst = appendHead(dst, &s.Reading)
	dst = append(dst, `,"note":`...)
	dst = AppendText(dst, s.Note)
	dst = append(dst, `,"sequence":`...)
	dst = strconv.AppendUint(dst, s.Sequence, 10)
	return append(dst, '}')
}

// appendHead appends time, values and quality of an object that is not closed yet.
func appendHead(dst []byte, r *Reading) []byte {
	if r.Time != NoTime {
		dst = append(dst, `{"time":"`...)
		dst = AppendTime(dst, r.Time)
		dst = append(dst, `","values":[`...)
	} else {
		dst = append(dst, `{"values":[`...)
	}
	for i, v := range r.Values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendNumber(dst, v)
	}
	dst = append(dst, ']')
	if someBad(r.Quality) != nil {
		dst = append(dst, `,"quality":[`...)
		for i, q := range r.Quality {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, uint64(q), 10)
		}
		dst = append(dst, ']')
	}
	return dst
}

// AppendNumber appends v as JSON in the shortest form that reads back as v; null for NaN and infinities.
func AppendNumber(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

// AppendText appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func AppendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
