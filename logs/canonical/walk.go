package canonical

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"unicode"
)

// rules are what a walk wants besides JSON.
type rules struct {
	depth    int
	spelled  bool // strings and numbers must be spelled as RFC 8785 spells them
	anyNames bool // names may differ in case alone

	anyNumbers bool // numbers may be such as no double holds
}

// A walker goes once over a JSON text and refuses what json/v2 would let pass.
type walker struct {
	rules
	d     *jsontext.Decoder
	in    bytes.Buffer
	text  []byte
	names [][]byte // that no shape has, of the objects that are being read
}

// walkers keep what decoders allocate from one text to the next.
var walkers = sync.Pool{New: func() any { return &walker{d: new(jsontext.Decoder)} }}

// walk reads one value of that shape, and nothing after it.
func walk(text []byte, s *shape, r rules) error {
	w := walkers.Get().(*walker)
	w.rules, w.text, w.in = r, text, *bytes.NewBuffer(text)
	// Each name is looked at here, and duplicates of most by what follows a walk
	// again: that the decoder remembers them all is its greatest cost.
	w.d.Reset(&w.in, jsontext.AllowDuplicateNames(true))
	err := w.whole(s)
	w.text, w.in = nil, bytes.Buffer{}
	w.d.Reset(&w.in)
	if w.names = w.names[:0]; cap(w.names) <= maxKept {
		clear(w.names[:cap(w.names)])
		walkers.Put(w)
	}
	return err
}

// maxKept is how many names a walker has room for between two texts.
const maxKept = 256

func (w *walker) whole(s *shape) error {
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
		return w.wrongAt(w.next(), "%s", s.must())
	}
	switch k {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		if w.d.StackDepth() >= w.depth {
			return &Error{Offset: int(w.d.InputOffset()), Reason: fmt.Sprintf("must nest at most %d deep", w.depth)}
		}
		if _, err := w.d.ReadToken(); err != nil {
			return err
		}
		if k == jsontext.KindBeginObject {
			return w.object(s)
		}
		return w.array(s)
	}
	raw, err := w.d.ReadValue()
	if err != nil {
		return err
	}
	return w.scalar(k, raw, s)
}

// array reads the elements of an array, and its end.
func (w *walker) array(s *shape) error {
	n := 0
	for ; w.d.PeekKind() != jsontext.KindEndArray; n++ {
		if err := w.value(s.inner()); err != nil {
			return err
		}
	}
	if _, err := w.d.ReadToken(); err != nil {
		return err
	}
	return w.length(s, n, "elements")
}

// length holds the length of a value against its limits.
func (w *walker) length(s *shape, n int, of string) error {
	if l := s.limits; l != nil && (int64(n) < l.Min || int64(n) > l.Max) {
		if l.Max == math.MaxInt64 {
			return w.wrong("must have at least %d %s, not %d", l.Min, of, n)
		}
		return w.wrong("must have %d to %d %s, not %d", l.Min, l.Max, of, n)
	}
	return nil
}

// inner is the shape of elements and of members with any name.
func (s *shape) inner() *shape {
	if s.element != nil {
		return s.element
	}
	return anything
}

// object reads the members of an object, and its end.
func (w *walker) object(s *shape) error {
	var seen uint64
	var many map[string][]byte
	var stranger error // about the first unknown name; a member that is missing comes before it,
	var its string     // which this name may have been meant for
	outer := len(w.names)
	for w.d.PeekKind() != jsontext.KindEndObject {
		name, err := w.name()
		if err != nil {
			return err
		}
		inner := s.inner()
		if i := s.find(name); i >= 0 {
			seen |= 1 << i
			inner = s.members[i].shape
		} else if err := w.misspelled(s, name); err != nil {
			return err
		} else {
			if stranger == nil && s.kind == object && !s.open {
				stranger, its = w.wrong("is not known here"), Clip(string(name), 64)
			}
			if !w.anyNames && s.kind != dictionary {
				if other := variant(name, w.names[outer:], &many); other != nil {
					return w.clash(name, other)
				}
				w.names = append(w.names, name)
			}
		}
		if err := w.value(inner); err != nil {
			return err
		}
	}
	w.names = w.names[:outer]
	if missing := s.required &^ seen; missing != 0 {
		return w.missing(s, missing, its)
	}
	if stranger != nil {
		return stranger
	}
	_, err := w.d.ReadToken()
	return err
}

// name reads the name of a member, its escapes resolved.
func (w *walker) name() ([]byte, error) {
	raw, err := w.d.ReadValue()
	if err != nil {
		return nil, err
	}
	if w.spelled {
		if err := w.spelling(raw); err != nil {
			return nil, err
		}
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		return jsontext.AppendUnquote(nil, raw)
	}
	end := int(w.d.InputOffset()) - 1
	return w.text[end+2-len(raw) : end], nil
}

func (w *walker) clash(name, other []byte) error {
	if bytes.Equal(name, other) {
		return w.wrong("member %q appears twice", Clip(string(name), 64))
	}
	return w.wrong("member %q differs from %q in case alone", Clip(string(name), 64), Clip(string(other), 64))
}

// variant is which of the others a name is, or differs from in case alone; nil where
// there is none. Most objects are small: only many names make a set.
func variant(name []byte, others [][]byte, many *map[string][]byte) []byte {
	if len(others) < 16 {
		for _, other := range others {
			if bytes.EqualFold(name, other) {
				return other
			}
		}
		return nil
	}
	if *many == nil {
		*many = make(map[string][]byte)
		for _, other := range others {
			(*many)[fold(other)] = other
		}
	}
	key := fold(name)
	if other, known := (*many)[key]; known {
		return other
	}
	(*many)[key] = name
	return nil
}

func (s *shape) find(name []byte) int {
	for i := range s.members {
		if s.members[i].name == string(name) {
			return i
		}
	}
	return -1
}

// misspelled refuses a name that is one of the shape's in another case.
func (w *walker) misspelled(s *shape, name []byte) error {
	for i := range s.members {
		if bytes.EqualFold(name, []byte(s.members[i].name)) {
			return w.wrong("must be written %q", s.members[i].name)
		}
	}
	return nil
}

// missing names the first member that is not there, before the end of an object, and the first
// that is there and unknown, if any.
func (w *walker) missing(s *shape, bits uint64, unknown string) error {
	for i := range s.members {
		if bits&(1<<i) == 0 {
			continue
		}
		at := w.inside().AppendToken(s.members[i].name)
		if unknown != "" {
			return w.wrongAt(at, "must be there; %q, which is there, is not known here", unknown)
		}
		return w.wrongAt(at, "must be there")
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
