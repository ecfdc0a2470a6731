package rpc

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// maxDepth is how deep objects and arrays may nest.
const maxDepth = 32

// A scanner reads JSON (RFC 8259) and refuses what two readers could take
// for two things: a member twice, or beside a case variant of itself, half a
// surrogate pair. The caller has checked that data is UTF-8.
type scanner struct {
	data []byte
	pos  int

	// canonical refuses strings and numbers that RFC 8785 would spell
	// otherwise.
	canonical bool
}

func (s *scanner) fail(format string, args ...any) error {
	return &MalformedError{Offset: s.pos, Reason: fmt.Sprintf(format, args...)}
}

// all reads one value and nothing behind it; the members of an object go
// into the list that is given.
func (s *scanner) all(into *members) error {
	if !utf8.Valid(s.data) {
		for s.pos < len(s.data) {
			r, n := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			s.pos += n
		}
		return s.fail("not UTF-8")
	}
	s.space()
	if into != nil && s.peek() != '{' {
		return s.fail("not an object")
	}
	if err := s.value(0, into); err != nil {
		return err
	}
	s.space()
	if s.pos < len(s.data) {
		return s.fail("something stands behind the value")
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end (which is no byte of JSON either).
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) value(depth int, into *members) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth+1, into)
	case c == '[':
		return s.array(depth+1, nil)
	case c == '"':
		_, _, err := s.text()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	case s.pos >= len(s.data):
		return s.fail("ends where a value should stand")
	}
	return s.fail("no JSON value begins with %q", s.peek())
}

func (s *scanner) word(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.fail("not a JSON value")
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) object(depth int, into *members) error {
	if depth > maxDepth {
		return s.fail("nested deeper than %d", maxDepth)
	}
	var seen nameSet
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		name, err := s.name(&seen)
		if err != nil {
			return err
		}
		from := s.pos
		if err := s.value(depth, nil); err != nil {
			return err
		}
		if into != nil {
			into.add(name, s.data[from:s.pos])
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			return nil
		default:
			return s.fail("an object goes on with a comma or ends")
		}
	}
}

// name reads a member's name, the colon and the space round it.
func (s *scanner) name(seen *nameSet) ([]byte, error) {
	at := s.pos
	if s.peek() != '"' {
		return nil, s.fail("a member begins with its name")
	}
	name, escaped, err := s.text()
	if err != nil {
		return nil, err
	}
	if escaped {
		name = unescape(name)
	}
	if other, ok := seen.add(name); !ok {
		reason := fmt.Sprintf("member %q appears twice", clip(name))
		if !bytes.Equal(other, name) {
			reason = fmt.Sprintf("member %q stands beside %q", clip(name), clip(other))
		}
		return nil, &MalformedError{Offset: at, Member: clip(name), Reason: reason}
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.fail("a colon follows a member's name")
	}
	s.pos++
	s.space()
	return name, nil
}

// array reads an array; each gets the elements' bytes, where it is given.
func (s *scanner) array(depth int, each func(element []byte) error) error {
	if depth > maxDepth {
		return s.fail("nested deeper than %d", maxDepth)
	}
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		from := s.pos
		if err := s.value(depth, nil); err != nil {
			return err
		}
		if each != nil {
			if err := each(s.data[from:s.pos]); err != nil {
				return err
			}
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.pos++
			return nil
		default:
			return s.fail("an array goes on with a comma or ends")
		}
	}
}

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
	if spelled, err := jcs.NumberToJSON(v); err != nil || spelled != text {
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
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[from : s.pos-1], escaped, nil
		case c < 0x20:
			return nil, false, s.fail("control character %#02x in a string", c)
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		default:
			s.pos++
		}
	}
	return nil, false, s.fail("ends in the middle of a string")
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
