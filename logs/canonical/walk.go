package canonical

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"strconv"
	"unicode"
)

// A walker goes once over a JSON text and refuses what json/v2 would let pass.
type walker struct {
	d        *jsontext.Decoder
	max      int  // depth
	spelled  bool // strings and numbers must be spelled as RFC 8785 spells them
	anyNames bool // names may differ in case alone

	anyNumbers bool // numbers may be such as no double holds
}

// walk reads one value of that shape, and nothing after it.
func (w *walker) walk(text []byte, s *shape) error {
	w.d = jsontext.NewDecoder(bytes.NewBuffer(text))
	if err := w.value(s); err != nil {
		return explain(err)
	}
	if _, err := w.d.ReadToken(); err != io.EOF {
		return &Error{Offset: int(w.d.InputOffset()), Reason: "must end after the value"}
	}
	return nil
}

// wrong is about the value or the name that was read last.
func (w *walker) wrong(format string, args ...any) error {
	return w.wrongAt(w.d.StackPointer(), format, args...)
}

func (w *walker) wrongAt(p jsontext.Pointer, format string, args ...any) error {
	return &Error{Offset: int(w.d.InputOffset()), Member: member(p), Reason: fmt.Sprintf(format, args...)}
}

// inside is the object or array that is being read.
func (w *walker) inside() jsontext.Pointer {
	if _, n := w.d.StackIndex(w.d.StackDepth()); n > 0 {
		return w.d.StackPointer().Parent()
	}
	return w.d.StackPointer()
}

// next is the value that comes next.
func (w *walker) next() jsontext.Pointer {
	if k, n := w.d.StackIndex(w.d.StackDepth()); k == jsontext.KindBeginArray {
		return w.inside().AppendToken(strconv.FormatInt(n, 10))
	}
	return w.d.StackPointer()
}

func (w *walker) value(s *shape) error {
	k := w.d.PeekKind()
	if k != jsontext.KindInvalid && !s.kind.admits(k) {
		return w.wrongAt(w.next(), "%s", s.kind.must())
	}
	switch k {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		if w.d.StackDepth() >= w.max {
			return w.wrongAt(w.next(), "must nest at most %d deep", w.max)
		}
		if _, err := w.d.ReadToken(); err != nil {
			return err
		}
		if k == jsontext.KindBeginObject {
			return w.object(s)
		}
		for w.d.PeekKind() != jsontext.KindEndArray {
			if err := w.value(s.inner()); err != nil {
				return err
			}
		}
		_, err := w.d.ReadToken()
		return err
	}
	raw, err := w.d.ReadValue()
	if err != nil {
		return err
	}
	return w.scalar(k, raw, s)
}

// inner is the shape of elements and of members with any name.
func (s *shape) inner() *shape {
	if s.element != nil {
		return s.element
	}
	return anything
}

func (w *walker) scalar(k jsontext.Kind, raw jsontext.Value, s *shape) error {
	switch {
	case k == jsontext.KindString && w.spelled:
		if err := w.spelling(raw); err != nil {
			return err
		}
	case k == jsontext.KindNumber && !w.anyNumbers && !isDouble(raw):
		return w.wrong("must be a number that an IEEE double holds")
	case k == jsontext.KindNumber && w.spelled:
		if form := canonicalForm(raw); !bytes.Equal(form, raw) {
			return w.wrong("must be written %s (RFC 8785)", form)
		}
	}
	switch {
	case s.kind == base64Text && !isTight(raw), s.kind == integer && !isInteger(raw):
		return w.wrong("%s", s.kind.must())
	}
	return nil
}

// isDouble reports whether a double holds a number: it does not overflow, and no
// digit of an integer is lost.
func isDouble(raw []byte) bool {
	whole := !bytes.ContainsAny(raw, ".eE")
	if whole && len(raw) <= 15 {
		return true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !whole {
		return err == nil
	}
	var digits [320]byte
	return string(strconv.AppendFloat(digits[:0], f, 'f', 0, 64)) == string(raw) ||
		string(strconv.AppendFloat(digits[:0], f, 'f', -1, 64)) == string(raw)
}

// isInteger reports whether a number is in plain digits.
func isInteger(raw []byte) bool {
	return !bytes.ContainsAny(raw, ".eE") && string(raw) != "-0"
}

// isTight reports whether a string, if it is base64, leaves no bits unused that
// aren't 0 (RFC 4648, section 3.5), and has no escapes.
func isTight(raw []byte) bool {
	text := raw[1 : len(raw)-1]
	body := bytes.TrimRight(text, "=")
	switch last := body[max(0, len(body)-1):]; {
	case len(last) == 0:
		return len(text) == 0
	case bytes.IndexByte(raw, '\\') >= 0:
		return false
	case len(text)-len(body) == 1:
		return bytes.Contains([]byte("AEIMQUYcgkosw048"), last)
	case len(text)-len(body) == 2:
		return bytes.Contains([]byte("AQgw"), last)
	}
	return true
}

// spelling refuses a string that RFC 8785, section 3.2.2.2, would escape otherwise.
func (w *walker) spelling(raw jsontext.Value) error {
	if bytes.IndexByte(raw, '\\') < 0 {
		return nil
	}
	if form := canonicalForm(raw); !bytes.Equal(form, raw) {
		return w.wrong("must escape a character as RFC 8785 does")
	}
	return nil
}

// canonicalForm writes a string or a number that JSON's grammar allows.
func canonicalForm(raw jsontext.Value) []byte {
	form := raw.Clone()
	if form.Canonicalize() != nil {
		return nil
	}
	return form
}

// object reads the members of an object, and its end.
func (w *walker) object(s *shape) error {
	var seen uint64
	var unknown map[string]bool // names, folded
	for w.d.PeekKind() != jsontext.KindEndObject {
		raw, err := w.d.ReadValue()
		if err != nil {
			return err
		}
		if w.spelled {
			if err := w.spelling(raw); err != nil {
				return err
			}
		}
		name := raw[1 : len(raw)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, raw); err != nil {
				return err
			}
		}
		inner := s.inner()
		if i := s.find(name); i >= 0 {
			seen |= 1 << i
			inner = s.members[i].shape
		} else if err := w.unknown(s, name); err != nil {
			return err
		} else if !w.anyNames && s.kind != dictionary {
			if unknown == nil {
				unknown = make(map[string]bool)
			}
			key := fold(name)
			if unknown[key] {
				return w.wrong("must not stand next to a name that differs in case alone")
			}
			unknown[key] = true
		}
		if err := w.value(inner); err != nil {
			return err
		}
	}
	if missing := s.required &^ seen; missing != 0 {
		return w.missing(s, missing)
	}
	_, err := w.d.ReadToken()
	return err
}

func (s *shape) find(name []byte) int {
	for i := range s.members {
		if s.members[i].name == string(name) {
			return i
		}
	}
	return -1
}

// unknown judges a member that the shape does not have.
func (w *walker) unknown(s *shape, name []byte) error {
	for i := range s.members {
		if bytes.EqualFold(name, []byte(s.members[i].name)) {
			return w.wrong("must be written %q", s.members[i].name)
		}
	}
	if s.kind == object && !s.open {
		return w.wrong("is not known here")
	}
	return nil
}

// missing names the first member that is not there, before the end of an object.
func (w *walker) missing(s *shape, bits uint64) error {
	for i := range s.members {
		if bits&(1<<i) == 0 {
			continue
		}
		return w.wrongAt(w.inside().AppendToken(s.members[i].name), "must be there")
	}
	return nil
}

// fold maps names that differ in case alone (as bytes.EqualFold sees it) to one
// string.
func fold(name []byte) string {
	return string(bytes.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name))
}
