package rpc

import (
	"bytes"
	"fmt"
	"unicode/utf8"
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
