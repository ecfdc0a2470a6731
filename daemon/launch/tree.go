package launch

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// children are the members of an object, or the elements of an array without names, of
// JSON whose syntax is right. An object may have a name twice.
func children(raw jsontext.Value) iter.Seq2[string, jsontext.Value] {
	return func(yield func(string, jsontext.Value) bool) {
		i := next(raw, 0)
		object := raw[i] == '{'
		for i = next(raw, i+1); raw[i] != '}' && raw[i] != ']'; i = next(raw, i) {
			name := ""
			if object {
				end := valueEnd(raw, i)
				name = string(unescape(raw[i+1 : end-1]))
				i = next(raw, end)
			}
			end := valueEnd(raw, i)
			if !yield(name, raw[i:end]) {
				return
			}
			i = end
		}
	}
}

// next is where the next value or bracket begins.
func next(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == ',' || raw[i] == ':' {
		i++
	}
	return i
}

// valueEnd is where the value that begins at i ends.
func valueEnd(raw []byte, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i // a number or a word before it
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i // likewise
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// found is what a walk over the whole configuration finds: members that are shown as
// they stand, by their paths, and those that the specification does not know.
type found struct {
	members, limits, unknown Members
}

// Bounds of what the specification does not know.
const (
	maxUnknown     = 1024    // members
	maxUnknownText = 8 << 20 // bytes of them
)

// find walks over a configuration. It refuses names that are not UTF-8: every runtime
// reads them in its own way.
func find(raw jsontext.Value) (*found, error) {
	if !raw.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return nil, errors.New("no JSON (RFC 8259)")
	}
	f := &found{Members{}, Members{}, Members{}}
	w := walk{found: f, elements: map[string][]jsontext.Value{}}
	if err := w.at(raw, specification, ""); err != nil {
		return nil, err
	}
	for path, list := range w.elements {
		slices.SortFunc(list, func(a, b jsontext.Value) int { return bytes.Compare(a, b) })
		f.unknown[path] = array(list)
	}
	return f, nil
}

type walk struct {
	*found
	element  jsontext.Value              // of the outermost array that the walk is in, or nil
	elements map[string][]jsontext.Value // those with unknown members, by the members' paths
	count    int                         // of unknown members
	bytes    int                         // of them
}

// at walks over one value.
func (w *walk) at(raw jsontext.Value, s *shape, path string) error {
	if s.row != nil && !isZero(raw) {
		switch s.row.what {
		case asMember:
			w.members[path] = form(raw)
		case asLimit:
			w.limits[path] = form(raw)
		}
	}
	switch kind := raw.Kind(); {
	case kind == 'n':
		return nil
	case kind == '{' && (s.members != nil || s.value != nil):
		return w.object(raw, s, path)
	case kind == '[' && s.element != nil:
		inside := path + "[]"
		for _, element := range children(raw) {
			outermost := w.element == nil
			if outermost {
				w.element = element
			}
			err := w.at(element, s.element, inside)
			if outermost {
				w.element = nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	case s.plain && s.members == nil && s.element == nil && s.value == nil && kind != '{' && kind != '[':
		return nil
	}
	return w.strange(path, raw)
}

// object walks over the members of an object.
func (w *walk) object(raw jsontext.Value, s *shape, path string) error {
	var names []string
	for name, value := range children(raw) {
		if !utf8.ValidString(name) {
			return fmt.Errorf("the name of a member of %q is not UTF-8", path)
		}
		names = append(names, name)
		at, deeper := path+"{}", s.value
		if deeper == nil {
			at, deeper = below(path, name), s.members[name]
		}
		var err error
		if deeper == nil {
			err = w.strange(at, value)
		} else {
			err = w.at(value, deeper, at)
		}
		if err != nil {
			return err
		}
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] != names[i-1] || i > 1 && names[i] == names[i-2] {
			continue
		}
		if err := w.doubled(raw, path, names[i]); err != nil {
			return err
		}
	}
	return nil
}

// doubled notes a member that an object has more than once.
func (w *walk) doubled(raw jsontext.Value, path, name string) error {
	var values []jsontext.Value
	for other, value := range children(raw) {
		if other == name {
			values = append(values, form(value))
		}
	}
	return w.strange("doubled:"+below(path, name), array(values))
}

// below is the path of a member. A name that looks like a part of a path is quoted, so
// that no two members have one path.
func below(path, name string) string {
	if strings.ContainsAny(name, ".:[]{}\"") {
		name = strconv.Quote(name)
	}
	return strings.TrimPrefix(path+"."+name, ".")
}

// strange notes a member that the specification does not know, or not in this form: in
// an array, by the whole element that has it.
func (w *walk) strange(path string, raw jsontext.Value) error {
	shown := raw
	if w.element != nil {
		shown = w.element
	}
	text := form(shown)
	w.count++
	w.bytes += len(text)
	if w.count > maxUnknown || w.bytes > maxUnknownText {
		return fmt.Errorf("more than %d members, or %d bytes, that the specification does not know", maxUnknown, maxUnknownText)
	}
	if w.element == nil {
		w.unknown[path] = text
	} else {
		w.elements[path] = append(w.elements[path], text)
	}
	return nil
}

func array(list []jsontext.Value) jsontext.Value {
	out := []byte("[")
	for i, v := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}
