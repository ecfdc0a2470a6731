package canonical

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// A former goes once over a text and takes the one spelling that RFC 8785 has. It makes
// no second text to compare with: each byte is either the only one that may stand there
// or part of a string or number whose spelling is known.
type former struct {
	text  []byte
	at    int    // the next byte; where the text is refused, close to what is wrong
	depth int    // how much deeper it may nest
	twice []byte // the name, as it is spelled, for which it was refused
}

// CheckForm reports whether text is what RFC 8785 writes, byte for byte, nested at
// most depth deep.
func CheckForm(text []byte, depth int) error {
	f := former{text: text, depth: depth}
	if f.value() && f.at == len(text) {
		return nil
	}
	return f.why(depth)
}

// Members calls each with name and value of each member of text, which is an object as
// CheckForm wants it: the name without its quotes, the value as it stands. It ends with
// the first error of each.
func Members(text []byte, depth int, each func(name, value []byte) error) error {
	f := former{text: text, depth: depth}
	var wrong error
	ok := f.is('{') && f.object(func(name, value []byte) bool {
		wrong = each(name, value)
		return wrong == nil
	})
	switch {
	case wrong != nil:
		return wrong
	case ok && f.at == len(text):
		return nil
	}
	if err := f.why(depth); len(text) == 0 || text[0] == '{' || CheckForm(text, depth) != nil {
		return err
	}
	return &Error{Reason: "must be an object"}
}

// why explains a refusal: the text is no JSON or nests too deep, or it is spelled
// otherwise.
func (f *former) why(depth int) error {
	if err := walk(f.text, anything, rules{depth: depth, anyNames: true, anyNumbers: true}); err != nil {
		return err
	}
	if f.twice != nil {
		return &Error{Offset: f.at, Reason: fmt.Sprintf("member %q appears twice", Clip(string(f.twice), 64))}
	}
	return &Error{Offset: f.at, Reason: "must be canonical JSON (RFC 8785)"}
}

// is takes the byte c, if it comes next.
func (f *former) is(c byte) bool {
	if f.at < len(f.text) && f.text[f.at] == c {
		f.at++
		return true
	}
	return false
}

func (f *former) value() bool {
	if f.at == len(f.text) {
		return false
	}
	switch c := f.text[f.at]; c {
	case '{':
		f.at++
		return f.object(nil)
	case '[':
		f.at++
		return f.array()
	case '"':
		f.at++
		_, ok := f.string()
		return ok
	case 't':
		return f.word("true")
	case 'f':
		return f.word("false")
	case 'n':
		return f.word("null")
	}
	return f.number()
}

func (f *former) word(w string) bool {
	if !bytes.HasPrefix(f.text[f.at:], []byte(w)) {
		return false
	}
	f.at += len(w)
	return true
}

// array reads what follows "[".
func (f *former) array() bool {
	if f.depth--; f.depth < 0 {
		return false
	}
	for first := true; !f.is(']'); first = false {
		if !first && !f.is(',') || !f.value() {
			return false
		}
	}
	f.depth++
	return true
}

// object reads what follows "{". Names stand in the order of their UTF-16 units, each
// once.
func (f *former) object(each func(name, value []byte) bool) bool {
	if f.depth--; f.depth < 0 {
		return false
	}
	var last []byte
	lastPlain := true
	for first := true; !f.is('}'); first = false {
		if !first && !f.is(',') || !f.is('"') {
			return false
		}
		from := f.at
		plain, ok := f.string()
		name := f.text[from:max(from, f.at-1)]
		if !ok || !first && !before(last, name, lastPlain && plain) {
			if ok && bytes.Equal(last, name) {
				f.twice = name
			}
			return false
		}
		if last, lastPlain = name, plain; !f.is(':') {
			return false
		}
		from = f.at
		if !f.value() || each != nil && !each(name, f.text[from:f.at:f.at]) {
			return false
		}
	}
	f.depth++
	return true
}

// before compares two names, as they are spelled, by their UTF-16 units. Those of plain
// ASCII are their bytes.
func before(a, b []byte, plain bool) bool {
	if plain {
		return bytes.Compare(a, b) < 0
	}
	return slices.Compare(units(a), units(b)) < 0
}

func units(spelled []byte) []uint16 {
	name, err := jsontext.AppendUnquote(nil, slices.Concat([]byte{'"'}, spelled, []byte{'"'}))
	if err != nil {
		return nil // string has taken it
	}
	return utf16.Encode([]rune(string(name)))
}

// string reads what follows a quote, and the quote that ends it. plain says that it is
// ASCII and escapes nothing.
func (f *former) string() (plain, ok bool) {
	plain = true
	text := f.text
	for i := f.at; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			f.at = i + 1
			return plain, true
		case c == '\\':
			n := escaped(text[i:])
			if n == 0 {
				f.at = i
				return false, false
			}
			i, plain = i+n, false
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && n == 1 {
				f.at = i
				return false, false
			}
			i, plain = i+n, false
		case c < ' ':
			f.at = i
			return false, false
		default:
			i++
		}
	}
	f.at = len(text)
	return false, false
}

// escaped is the length of the escape that a text begins with, 0 where RFC 8785 would
// write it otherwise: a letter for those that have one, else "\u00" and lower-case hex.
func escaped(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2
	}
	if len(text) < 6 || string(text[1:4]) != "u00" {
		return 0
	}
	c := int(text[4]-'0') << 4
	switch low := text[5]; {
	case low >= '0' && low <= '9':
		c += int(low - '0')
	case low >= 'a' && low <= 'f':
		c += int(low-'a') + 10
	default:
		return 0
	}
	if text[4] > '1' || text[4] < '0' || bytes.IndexByte([]byte("\b\f\n\r\t"), byte(c)) >= 0 {
		return 0
	}
	return 6
}

// number reads a number: whole ones of few digits by themselves, others by what RFC 8785
// makes of them.
func (f *former) number() bool {
	from := f.at
	end := from
	for end < len(f.text) && bytes.IndexByte([]byte("+-.0123456789Ee"), f.text[end]) >= 0 {
		end++
	}
	raw := f.text[from:end]
	if isPlainWhole(raw) {
		f.at = end
		return true
	}
	if len(raw) > maxSpelled || !jsontext.Value(raw).IsValid() {
		return false
	}
	form := canonicalForm(raw)
	same := commonPrefix(form, raw)
	f.at += same
	return same == max(len(form), len(raw))
}

// maxSpelled is more than RFC 8785 needs for any number.
const maxSpelled = 32

// isPlainWhole reports whether raw is a whole number of at most 15 digits, as RFC 8785
// writes it.
func isPlainWhole(raw []byte) bool {
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if len(digits) == 0 || len(digits) > 15 || digits[0] == '0' && len(raw) > 1 {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
