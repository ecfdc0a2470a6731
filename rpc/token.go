package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/json/jsontext"
	"math/bits"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// number reads a number (RFC 8259, section 6).
func (s *scanner) number() error {
	from := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	first := s.peek()
	whole := s.digits()
	if whole == 0 || first == '0' && whole > 1 {
		return s.fail("not a JSON number")
	}
	plain := true
	if s.peek() == '.' {
		plain = false
		s.pos++
		if s.digits() == 0 {
			return s.fail("not a JSON number")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		plain = false
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.fail("not a JSON number")
		}
	}
	// Below 10^15 an integer is its own shortest form; -0 is not.
	if !s.canonical || plain && whole <= 15 && (s.data[from] != '-' || first != '0') {
		return nil
	}
	text := string(s.data[from:s.pos])
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return s.fail("number %s is no IEEE double", clip([]byte(text)))
	}
	if spelled := jsontext.AppendFloat(nil, v, 64); string(spelled) != text {
		return s.fail("number %s is written %s (RFC 8785)", clip([]byte(text)), spelled)
	}
	return nil
}

func (s *scanner) digits() int {
	from := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos - from
}

// text reads a string and returns what stands between the quotes, and
// whether there are escapes in it.
func (s *scanner) text() (raw []byte, escaped bool, err error) {
	s.pos++
	from := s.pos
	for {
		s.pos += unescaped(s.data[s.pos:])
		switch c := s.peek(); {
		case s.pos == len(s.data):
			return nil, false, s.fail("ends in the middle of a string")
		case c == '"':
			s.pos++
			return s.data[from : s.pos-1], escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, s.fail("control character %#02x in a string", c)
		}
	}
}

// unescaped is how many bytes at the head of b stand for themselves, eight at a
// time: a byte below 0x20, a quote or a backslash leaves its highest bit set in
// mask, and what is set above the lowest hit doesn't matter.
func unescaped(b []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote, slash := w^ones*'"', w^ones*'\\'
		mask := ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & high
		if mask != 0 {
			return n + bits.TrailingZeros64(mask)/8
		}
	}
	for n < len(b) && !special[b[n]] {
		n++
	}
	return n
}

// special is what does not stand for itself in a string.
var special = [256]bool{'"': true, '\\': true,
	0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true,
	8: true, 9: true, 10: true, 11: true, 12: true, 13: true, 14: true, 15: true,
	16: true, 17: true, 18: true, 19: true, 20: true, 21: true, 22: true, 23: true,
	24: true, 25: true, 26: true, 27: true, 28: true, 29: true, 30: true, 31: true,
}

// escape reads one escape, or the two of a surrogate pair.
func (s *scanner) escape() error {
	rest := s.data[s.pos:]
	if len(rest) < 2 {
		return s.fail("ends in the middle of an escape")
	}
	switch rest[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case '/':
		if s.canonical {
			return s.fail(`"/" is written without a backslash (RFC 8785)`)
		}
		s.pos += 2
		return nil
	case 'u':
	default:
		return s.fail("unknown escape in a string")
	}
	r, ok := hex4(rest)
	if !ok {
		return s.fail("not four hex digits in an escape")
	}
	if s.canonical && !canonicalEscape(rest[2:6], r) {
		return s.fail("%s is not how RFC 8785 writes that character", rest[:6])
	}
	s.pos += 6
	if utf16.IsSurrogate(r) {
		low, ok := hex4(s.data[s.pos:])
		if !ok || utf16.DecodeRune(r, low) == unicode.ReplacementChar {
			return s.fail("half a surrogate pair in a string")
		}
		s.pos += 6
	}
	return nil
}

// canonicalEscape reports whether RFC 8785, section 3.2.2.2, writes r so.
func canonicalEscape(digits []byte, r rune) bool {
	return r < 0x20 && !bytes.ContainsRune([]byte("\b\t\n\f\r"), r) &&
		bytes.Equal(bytes.ToLower(digits), digits)
}

// hex4 reads `\uXXXX` at the beginning of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(v), err == nil && b[2] != '+' && b[2] != '-'
}

// unescape resolves the escapes of a string that text has accepted.
func unescape(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		if raw[i+1] != 'u' {
			out = append(out, plainEscapes[raw[i+1]])
			i += 2
			continue
		}
		r, _ := hex4(raw[i:])
		i += 6
		if utf16.IsSurrogate(r) {
			low, _ := hex4(raw[i:])
			r = utf16.DecodeRune(r, low)
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

var plainEscapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}
