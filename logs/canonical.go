package logs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of an event's content.
const maxDepth = 128

var errNotCanonical = errors.New("not canonical JSON (RFC 8785)")

// canonical walks over JSON that must be in RFC 8785 form already: one way to
// write each value, so that it has one digest. It allocates nothing, whatever
// it is given; jcs.Transform, which writes that form, builds a tree of many
// times the size.
type canonical struct {
	b  []byte
	at int
}

func (c *canonical) value(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("JSON nested more than %d deep", maxDepth)
	}
	rest := c.b[c.at:]
	switch {
	case len(rest) == 0:
		return errNotCanonical
	case rest[0] == '{':
		return c.members(func(key []byte) error { return c.value(depth + 1) })
	case rest[0] == '[':
		return c.elements(depth)
	case rest[0] == '"':
		_, err := c.str()
		return err
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(rest, []byte(word)) {
			c.at += len(word)
			return nil
		}
	}
	return c.number()
}

func (c *canonical) take(want byte) bool {
	if c.at < len(c.b) && c.b[c.at] == want {
		c.at++
		return true
	}
	return false
}

// members calls value at each member's value; it must consume it. Keys are
// given as they stand, without quotes. They must be sorted by UTF-16 code
// units, which leaves no place for duplicates.
func (c *canonical) members(value func(key []byte) error) error {
	c.at++ // {
	if c.take('}') {
		return nil
	}
	var last []byte
	for first := true; ; first = false {
		key, err := c.str()
		if err != nil {
			return err
		}
		if !first && compareKeys(last, key) >= 0 {
			return fmt.Errorf("%w: members out of order or twice", errNotCanonical)
		}
		last = key
		if !c.take(':') {
			return errNotCanonical
		}
		if err := value(key); err != nil {
			return err
		}
		if c.take('}') {
			return nil
		}
		if !c.take(',') {
			return errNotCanonical
		}
	}
}

func (c *canonical) elements(depth int) error {
	c.at++ // [
	if c.take(']') {
		return nil
	}
	for {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if c.take(']') {
			return nil
		}
		if !c.take(',') {
			return errNotCanonical
		}
	}
}

// str consumes a string and gives what stands between its quotes.
func (c *canonical) str() ([]byte, error) {
	if !c.take('"') {
		return nil, errNotCanonical
	}
	start := c.at
	for c.at < len(c.b) {
		if b := c.b[c.at]; b == '"' {
			c.at++
			return c.b[start : c.at-1], nil
		} else if b >= ' ' && b < utf8.RuneSelf && b != '\\' {
			c.at++ // stands for itself
			continue
		}
		_, n := character(c.b[c.at:])
		if n == 0 {
			return nil, fmt.Errorf("%w: string", errNotCanonical)
		}
		c.at += n
	}
	return nil, errNotCanonical
}

// character reads one character of a string's inside as it must be written;
// n is 0 where it isn't.
func character(b []byte) (r rune, n int) {
	if b[0] != '\\' {
		r, n = utf8.DecodeRune(b)
		if b[0] < ' ' || b[0] == '"' || r == utf8.RuneError && n <= 1 {
			return 0, 0
		}
		return r, n
	}
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 't':
		return '\t', 2
	case 'n':
		return '\n', 2
	case 'f':
		return '\f', 2
	case 'r':
		return '\r', 2
	}
	if len(b) < 6 || !bytes.HasPrefix(b, []byte(`\u00`)) || (b[4] != '0' && b[4] != '1') {
		return 0, 0
	}
	low := bytes.IndexByte([]byte("0123456789abcdef"), b[5])
	r = rune(b[4]-'0')<<4 | rune(low)
	if low < 0 || bytes.IndexByte([]byte("\b\t\n\f\r"), byte(r)) >= 0 {
		return 0, 0
	}
	return r, 6
}

// compareKeys compares what two keys mean, by UTF-16 code units.
func compareKeys(a, b []byte) int {
	for len(a) > 0 && len(b) > 0 {
		ra, na := character(a)
		rb, nb := character(b)
		if ra != rb {
			ua, ub := firstUnit(ra), firstUnit(rb)
			if ua != ub {
				return int(ua) - int(ub)
			}
			return int(ra) - int(rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

func firstUnit(r rune) rune {
	if r < 0x10000 {
		return r
	}
	return 0xD800 + (r-0x10000)>>10
}

// number consumes a number, written as ECMAScript writes an IEEE double.
func (c *canonical) number() error {
	start := c.at
	for c.at < len(c.b) && bytes.IndexByte([]byte("0123456789.eE+-"), c.b[c.at]) >= 0 {
		c.at++
	}
	token := c.b[start:c.at]
	f, err := strconv.ParseFloat(string(token), 64)
	var buf [32]byte
	if err != nil || !bytes.Equal(appendNumber(buf[:0], f), token) {
		return fmt.Errorf("%w: number", errNotCanonical)
	}
	return nil
}

// appendNumber writes f as ECMAScript does (RFC 8785 section 3.2.2.3).
func appendNumber(b []byte, f float64) []byte {
	if f == 0 {
		return append(b, '0')
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); n >= 4 && b[n-2] == '0' && (b[n-3] == '-' || b[n-3] == '+') {
		b = append(b[:n-2], b[n-1]) // Go writes two digits of exponent at least
	}
	return b
}
